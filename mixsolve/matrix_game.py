"""The small matrix game between the attacks known so far and the classifiers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_PROGRAMME = 1000
"""Attacks up to which one linear programme holds them all; beyond, they are brought in as needed."""

SMALLEST_COEFFICIENT = 1e-9
"""Attacks of a smaller probability are left out of an equilibrium."""

_OPTIONS = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


class Equilibrium(NamedTuple):
    """Strategies of both players; each proves its own bound whatever the accuracy of the other."""

    attack: NDArray[np.int64]
    """(n,) the attacks in use, n <= n_classifiers."""
    coefficient: NDArray[np.float64]
    """(n,) their probabilities, summing to 1."""
    mixture: NDArray[np.float64]
    """(n_classifiers,) the classifiers' answer to all attacks."""
    value: float
    """``min_k sum_r coefficient_r payoff_rk``: a lower bound on the value of the game."""


def solve_matrix_game(
    payoff: NDArray[np.float64], known: NDArray[np.int64] | None = None
) -> Equilibrium | None:
    """Solve ``max_c min_k sum_r c_r payoff[r, k]`` over mixtures c of the attacks r.

    Parameters
    ----------
    payoff : ndarray of float64, (n_attacks, n_classifiers)
        What classifier k loses against attack r.
    known : ndarray of int64, optional
        Attacks to start from, such as those in use in an earlier equilibrium of fewer attacks.

    Returns
    -------
    Equilibrium or None
        None when the linear programme could not be solved.

    Notes
    -----
    The programme is shifted and scaled by a power of two, so that scaling `payoff` by one changes no bit. With
    many attacks it starts from a few and adds those that beat the mixture until none does. `value` is at least what any
    attack proves alone.
    """
    n_attacks, n_classifiers = payoff.shape
    if n_attacks == 1 or n_classifiers == 1:
        best = int(np.argmax(payoff.min(axis=1)))
        mixture = np.zeros(n_classifiers)
        mixture[int(np.argmin(payoff[best]))] = 1.0
        return Equilibrium(np.array([best]), np.ones(1), mixture, float(payoff[best].min()))
    scaled = payoff - payoff.min()
    scaled /= 2.0 ** math.frexp(float(scaled.max()))[1]
    chosen = np.arange(n_attacks)
    if n_attacks > LARGEST_PROGRAMME:
        recent = np.arange(n_attacks - LARGEST_PROGRAMME // 2, n_attacks)
        chosen = np.union1d(recent, [] if known is None else known).astype(np.int64)
    while True:
        solution = _solve(scaled[chosen])
        if solution is None:
            return None
        coefficient, mixture, value = solution
        against = scaled @ mixture
        against[chosen] = -np.inf
        better = np.flatnonzero(against > value + 1e-10)
        if better.size == 0:
            break
        hardest = better[np.argsort(-against[better], kind="stable")][: LARGEST_PROGRAMME // 4]
        chosen = np.union1d(chosen, hardest)
    used = coefficient > SMALLEST_COEFFICIENT
    coefficient = coefficient[used] / math.fsum(coefficient[used])
    attack = chosen[used]
    value = float((coefficient @ payoff[attack]).min())
    alone = payoff.min(axis=1)
    strongest = int(np.argmax(alone))
    if alone[strongest] > value:  # by up to the tolerance of the linear programme
        return Equilibrium(np.array([strongest]), np.ones(1), mixture, float(alone[strongest]))
    return Equilibrium(attack, coefficient, mixture, value)


def _solve(payoff: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], float] | None:
    """Coefficients, mixture and value by SciPy's HiGHS; variables (c, v), constraints v <= sum_r c_r payoff_rk."""
    from scipy.optimize import linprog  # here: it takes as long to import as all of mixsolve

    n_attacks, n_classifiers = payoff.shape
    objective = np.zeros(n_attacks + 1)
    objective[-1] = -1.0
    inequality = np.hstack([-payoff.T, np.ones((n_classifiers, 1))])
    equality = np.ones((1, n_attacks + 1))
    equality[0, -1] = 0.0
    solution = linprog(
        objective,
        A_ub=inequality,
        b_ub=np.zeros(n_classifiers),
        A_eq=equality,
        b_eq=[1.0],
        bounds=[(0.0, None)] * n_attacks + [(None, None)],
        method="highs",
        options=_OPTIONS,
    )
    if solution.status != 0:
        return None
    coefficient = np.maximum(solution.x[:-1], 0.0)
    mixture = np.maximum(-solution.ineqlin.marginals, 0.0)
    if not coefficient.sum() > 0 or not mixture.sum() > 0:
        return None
    return coefficient, mixture / mixture.sum(), float(solution.x[-1])

"""The level bundle method: slow and hard to stop, for games whose core no linear programme solves well enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mixsolve.certificate import Queries
from mixsolve.results import Status
from mixsolve.simplex import project_to_simplex
from mixsolve.solvers.protocol import Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.solvers.protocol import Problem, Steps

LEVEL = 0.5
"""Where the level lies between the bounds."""

ITERATIONS = 300


def level_bundle(problem: Problem) -> Steps:
    """Project the last point onto the level set of all cuts, evaluate, repeat; temperature 0.

    With the cuts ``<w, g_r> <= F_0(w)`` of all queries so far and ``level = lower + LEVEL (upper - lower)``::

        w_next = argmin |w - w_last|   over   w in the simplex,  <w, g_r> <= level  for all r

    needs of the order of ``(M sqrt(L) / gap)^2`` passes at worst, whatever the degeneracy of the game.

    References
    ----------
    Lemarechal, Nemirovskii and Nesterov, "New variants of bundle methods", Mathematical Programming 69, 1995.
    """
    certificate = problem.certificate
    point = certificate.best.weights
    cuts = np.empty((0, problem.n_classifiers))
    for _ in range(ITERATIONS):
        answer = yield Queries(point[None], np.zeros(1), float64=True)
        cuts = np.concatenate([cuts, answer.gradient])
        certificate.tighten()
        level = certificate.lower + LEVEL * certificate.gap
        projected = project_to_level(point, cuts, level)
        if projected is None:
            break
        point = projected
    return Outcome(Status.NUMERICAL_ERROR)


def project_to_level(
    point: NDArray[np.float64], cuts: NDArray[np.float64], level: float
) -> NDArray[np.float64] | None:
    """The nearest mixture whose value under every cut is at most `level`; None when there is none.

    Least distance programming by non-negative least squares: with ``x = w - point`` and all constraints written as
    ``E x >= f``, the residual r of ``min |[E'; f'] u - (0, .., 0, 1)|`` over u >= 0 gives ``x = -r[:-1] / r[-1]``.

    References
    ----------
    Lawson and Hanson, "Solving Least Squares Problems", 1974, chapter 23.
    """
    from scipy.optimize import nnls  # here: it takes as long to import as all of mixsolve

    size = float(np.ptp(cuts)) or 1.0
    ones = np.ones((1, point.size))
    constraints = np.concatenate([-cuts / size, np.eye(point.size), ones, -ones])
    excess = 1 - point.sum()
    bounds = np.concatenate([(cuts @ point - level) / size, -point, [excess, -excess]])
    system = np.concatenate([constraints.T, bounds[None]])
    target = np.zeros(point.size + 1)
    target[-1] = 1.0
    try:
        multipliers, distance = nnls(system, target)
    except RuntimeError:
        return None
    residual = system @ multipliers - target
    if not distance > np.finfo(np.float64).eps or residual[-1] == 0:
        return None
    return project_to_simplex(point - residual[:-1] / residual[-1])

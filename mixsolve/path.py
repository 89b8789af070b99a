"""Optimal mixtures over a falling sequence of temperatures: `fit_path`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve import _native
from mixsolve.fit import solve_game
from mixsolve.inputs import check_integer, check_threads, real_array
from mixsolve.passes import PassAnswer
from mixsolve.results import MixtureResult, Status
from mixsolve.simplex import check_simplex, project_to_simplex
from mixsolve.solvers.journal import Journal
from mixsolve.solvers.limits import Limits
from mixsolve.solvers.source import TableSource, Visitor
from mixsolve.table import LossTable, as_table

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

SQUARED = 10.0
"""How much better than squared a step's gap may be."""


def fit_path(
    losses: Any,
    temperatures: ArrayLike,
    *,
    row_offsets: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    attack_prior: ArrayLike | None = None,
    tol: float = 1e-6,
    atol: float = 0.0,
    pass_limit: int | None = None,
    time_limit: float | None = None,
    start: ArrayLike | None = None,
    threads: int | None = None,
    seed: int = 0,
) -> list[MixtureResult]:
    """Find the optimal mixture at each of several temperatures, from the highest down.

    Each solve starts from where the line through the two mixtures before leads, and the last reads of a solve answer
    the first question of the next along with its own: together they read the table less often than solves on their own.

    Parameters
    ----------
    losses : array, (n_classifiers, n_samples, n_attacks), or LossTable
    temperatures : array of float, (n,)
        Falling, in units of the losses; the last may be 0, the worst case.
    row_offsets, sample_weight, attack_prior : array, optional
        As in `LossTable`.
    tol, atol, pass_limit, time_limit : optional
        As in `fit_mixture`, for each solve.
    start : array, (n_classifiers,), optional
        A mixture to start the first solve from; uniform by default.
    threads, seed : int, optional
        As in `fit_mixture`.

    Returns
    -------
    list of MixtureResult
        One per temperature, with a certificate of its own. Ctrl-C ends the path with the solve it came in.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what is required and what was given.

    Notes
    -----
    The values rise as the temperature falls, from the mean over the attacks to the worst case; the default solver at
    each temperature is that of `fit_mixture`. `passes` of a result counts the reads made for it, shared ones once.

    Examples
    --------
    >>> import numpy as np
    >>> from mixsolve import fit_path
    >>> losses = np.array([[[1.0, 0.0]], [[0.0, 0.5]]])     # two classifiers, one sample, two attacks
    >>> for result in fit_path(losses, [1.0, 0.1, 0.0]):
    ...     print(f"{result.temperature:g}: {result.value:.4f}")
    1: 0.2812
    0.1: 0.3281
    0: 0.3333
    """
    limits = Limits(tol, atol, pass_limit, time_limit)
    check_threads(threads)
    check_integer("seed", seed, 0)
    table = as_table(losses, row_offsets=row_offsets, sample_weight=sample_weight, attack_prior=attack_prior)
    levels = _check_temperatures(temperatures)
    source = PathSource(table, threads, limits)
    n = table.n_classifiers
    point = check_simplex(np.full(n, 1 / n) if start is None else start, n)
    results: list[MixtureResult] = []
    for level, following in zip(levels, [*levels[1:], 0.0], strict=True):
        source.turn_to(level, following, results[-1] if results else None)
        journal = Journal(table.n_rows, False, None)
        result = solve_game(source, None, level, limits, journal, point, seed=seed, threads=threads)
        results.append(result)
        if result.status is Status.INTERRUPTED:
            break
        point = source.lead(result.weights)
    return results


class PathSource(TableSource):
    """A table that is asked for one temperature after the other, and answers for the next along with this one.

    Where a Hessian is asked for in float64 and the step may be the last, the point that the next solve would start
    from is answered at its temperature too. That solve's first query is then answered without a read.
    """

    def __init__(self, table: LossTable, threads: int | None, limits: Limits) -> None:
        super().__init__(table, threads)
        self._limits = limits
        self._near = False
        self._known: dict[bytes, PassAnswer] = {}
        """What was answered ahead at the temperature of this solve, by the bytes of the weights."""
        self._ahead: dict[bytes, PassAnswer] = {}
        self._level = self._following = 0.0
        self._before: MixtureResult | None = None

    def turn_to(self, level: float, following: float, before: MixtureResult | None) -> None:
        """Begin the solve at `level`, after that of `before`; nothing is answered ahead where `following` is 0."""
        self._known = self._ahead if level == self._following else {}
        self._ahead, self._near = {}, False
        self._level, self._following, self._before = level, following, before

    def lead(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the line through the solution before and this one is at the following temperature."""
        if self._before is None:
            return weights
        far = (self._level - self._following) / (float(self._before.temperature) - self._level)
        return project_to_simplex(weights + far * (weights - self._before.weights))

    def answer(
        self,
        weights: NDArray[np.float64],
        temperature: NDArray[np.float64],
        *,
        float64_scores: bool = False,
        best_attack: bool = False,
        hessians: int = 0,
        visit: Visitor | None = None,
        cancel: _native.CancelToken | None = None,
    ) -> tuple[PassAnswer, float]:
        first = weights[0].copy()
        if hessians == len(weights) == 1 and first.tobytes() in self._known:
            answer = self._known[first.tobytes()]
            self._near = self._is_near(first, answer)
            return answer, 0.0
        ahead = (
            hessians > 0 and self._following > 0 and self._near and (float64_scores or self.always_float64)
        )
        if ahead:
            weights = np.insert(weights, hessians, self.lead(first), axis=0)
            temperature = np.insert(temperature, hessians, self._following)
        found, slack = super().answer(
            weights,
            temperature,
            float64_scores=float64_scores,
            best_attack=best_attack,
            hessians=hessians + ahead,
            visit=visit,
            cancel=cancel,
        )
        if ahead:
            found = self._put_by(weights[hessians], found, hessians)
        self._near = hessians > 0 and self._is_near(first, found)
        return found, slack

    def _put_by(self, weights: NDArray[np.float64], found: PassAnswer, query: int) -> PassAnswer:
        """Keep one query of an answer for the next solve; the answer without it."""
        assert found.hessian is not None
        one = slice(query, query + 1)
        self._ahead[weights.tobytes()] = PassAnswer(
            found.value[one], found.gradient[one], None, None, None, 0, found.hessian[one].copy()
        )
        return replace(
            found,
            value=np.delete(found.value, query),
            gradient=np.delete(found.gradient, query, axis=0),
            hessian=found.hessian[:query],
        )

    def _is_near(self, weights: NDArray[np.float64], answer: PassAnswer) -> bool:
        """Whether a step from here, which about squares the gap in units of the losses, may meet the tolerance."""
        slope, value = answer.gradient[0], abs(float(answer.value[0]))
        gap = float(weights @ slope - slope.min())
        goal = max(self._limits.tol * value, self._limits.atol)
        return gap**2 <= SQUARED * goal * float(np.abs(slope).max())


def _check_temperatures(temperatures: ArrayLike) -> list[float]:
    given = real_array(temperatures, "temperatures").astype(np.float64)
    if given.ndim != 1 or given.size == 0:
        raise ValueError(f"`temperatures` must be a list of numbers; got shape {given.shape}")
    if not np.isfinite(given).all() or given.min() < 0:
        raise ValueError(f"`temperatures` must be finite and >= 0; got {given}")
    if np.any(np.diff(given) >= 0):
        raise ValueError(f"`temperatures` must fall; got {given}")
    return [float(level) for level in given]

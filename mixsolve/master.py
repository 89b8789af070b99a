"""The master of row generation: the worst case over a core of rows, as one small linear programme.

A core holds a few rows of every sample; ``min over the simplex of sum_i share_i max_j <w, row_ij>`` is solved to
a given gap, with the bounds that its own solutions prove. Both are recomputed from the rows: no solver's word is taken
for them.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mixsolve import _native
from mixsolve.inputs import real_array
from mixsolve.reduction import ALONE, combined_largest, combined_sum
from mixsolve.row_game import RowGame
from mixsolve.simplex import project_to_simplex

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mixsolve.reduction import Reducer

__all__ = ["CoreSolution", "CoreStatus", "solve_core", "solve_core_by_highs"]

HIGHS_ACCURACY = 1e-11
"""Gaps of a stalled interior point up to this part of the largest loss are not tried again by HiGHS."""

HIGHS_OPTIONS = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}

GATHERED_BYTES = 1 << 26
"""The rows of a core that several processes hold go to one of them, for HiGHS, up to this size."""

SHARE_TOLERANCE = 1e-9
"""How far from 1 the sum of the shares may be."""


class CoreStatus(enum.Enum):
    """What ended the solve of a core."""

    OPTIMAL = "the gap is at most what was asked for"
    STALLED = "progress stopped before the gap was reached"
    ITERATION_LIMIT = "the iteration limit came first"
    CANCELLED = "the cancel token was set"


@dataclass(frozen=True, eq=False)
class CoreSolution:
    """A mixture, a strategy of the attacker on the core, and the bounds that they prove."""

    weights: NDArray[np.float64]
    """(n_classifiers,) on the simplex: >= 0, and their exact sum rounds to 1."""
    duals: NDArray[np.float64]
    """(n_rows,) >= 0, summing to its share over every sample: the attacker's probabilities times the shares."""
    value: float
    """``sum_i share_i max_j <weights, row_ij>``, in units of the losses: an upper bound for the core."""
    lower_bound: float
    """``min_k sum_r duals_r rows_rk``: a lower bound for the core and for every table that holds these rows."""
    iterations: int
    status: CoreStatus

    @property
    def gap(self) -> float:
        """``value - lower_bound``; rounding may make it negative by a few ulp of the losses."""
        return self.value - self.lower_bound


def solve_core(
    rows: ArrayLike,
    offsets: ArrayLike,
    share: ArrayLike,
    *,
    gap: float,
    threads: int | None = None,
    cancel: _native.CancelToken | None = None,
    iteration_limit: int = 100,
    reducer: Reducer = ALONE,
) -> CoreSolution:
    """Solve ``min_w sum_i share_i max_j <w, row_ij>`` over the simplex to an absolute gap.

    ``lower_bound <= core value <= value`` up to rounding, whatever the status.

    Parameters
    ----------
    rows : array of float64, (n_rows, n_classifiers)
        Finite losses, one row an attack of a sample; any units.
    offsets : array of int64, (n_samples + 1,)
        Sample i owns ``rows[offsets[i]:offsets[i + 1]]``, at least one row.
    share : array of float64, (n_samples,)
        Weights of the samples, >= 0, summing to 1.
    gap : float
        >= 0, in units of the losses: stop when ``value - lower_bound`` is at most this.
    threads : int, optional
        At most this many threads; all processors by default. The answer does not depend on it.
    cancel : CancelToken, optional
        ``cancel.cancel()`` ends the solve with what it has.
    iteration_limit : int
        >= 1, of the interior point.
    reducer : Reducer
        Of the processes that hold the core together, this one some samples, or none: their shares sum to 1 over all
        processes, and so do bounds and weights stand for all of them.

    Returns
    -------
    CoreSolution

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what is required and what was given.

    Notes
    -----
    A primal-dual interior point with a Newton system of n_classifiers unknowns (``csrc/master.h``): 10 to 25
    iterations of about ``n_rows * n_classifiers**2`` operations. Identical rows of a sample are dropped first.
    Where it stalls above the gap, HiGHS is asked, and the better half of each answer is kept. Several processes add up
    L x L matrices, vectors of L numbers and step lengths in every iteration, nothing else; where they stall, the first
    one asks HiGHS about the rows of all, if these are at most `GATHERED_BYTES`.
    """
    core = _checked(rows, offsets, share, gap, threads, iteration_limit, reducer)
    combine = reducer.combine if reducer.size > 1 else None
    weights, duals, value, lower, iterations, status = _native.solve_core(
        core.rows, core.offsets, core.share, gap, iteration_limit, threads or 0, cancel, combine
    )
    solution = CoreSolution(weights, duals, value, lower, iterations, tuple(CoreStatus)[status])
    if solution.status is not CoreStatus.STALLED:
        return solution
    if solution.gap <= HIGHS_ACCURACY * combined_largest(reducer, abs(core.rows).max(initial=0.0)):
        return solution
    other = _by_highs(core, gap, cancel) if reducer.size == 1 else _by_highs_together(core, gap, reducer)
    return solution if other is None else _better_of(solution, other, gap)


def _better_of(solution: CoreSolution, other: CoreSolution, gap: float) -> CoreSolution:
    """The lower value and the higher bound, whosever they are."""
    upper = min(solution, other, key=lambda found: found.value)
    lower = max(solution, other, key=lambda found: found.lower_bound)
    met = upper.value - lower.lower_bound <= gap
    return CoreSolution(
        upper.weights,
        lower.duals,
        upper.value,
        lower.lower_bound,
        solution.iterations + other.iterations,
        CoreStatus.OPTIMAL if met else other.status,
    )


def solve_core_by_highs(
    rows: ArrayLike,
    offsets: ArrayLike,
    share: ArrayLike,
    *,
    gap: float,
    cancel: _native.CancelToken | None = None,
) -> CoreSolution:
    """The same by SciPy's HiGHS: slower, and as accurate as its feasibility tolerance of 1e-10 allows.

    Arguments, result and errors are those of `solve_core`. A solve that has begun cannot be cancelled.
    """
    return _by_highs(_checked(rows, offsets, share, gap, None, 1, ALONE), gap, cancel)


def _by_highs(core: RowGame, gap: float, cancel: _native.CancelToken | None) -> CoreSolution:
    n_rows, n_classifiers = core.rows.shape
    weights = np.full(n_classifiers, 1 / n_classifiers)
    duals, iterations = np.zeros(n_rows), 0
    cancelled = cancel is not None and cancel.cancelled
    if not cancelled:
        found = core.solve_by_scipy("highs", HIGHS_OPTIONS)
        iterations = found.iterations
        if found.weights is not None:
            weights = project_to_simplex(np.maximum(found.weights, 0.0))
        if found.duals is not None:
            duals = found.duals
    duals = core.strategy(duals, weights) * np.repeat(core.share, np.diff(core.offsets))
    value, lower = core.value(weights), core.lower_bound(duals)
    status = CoreStatus.OPTIMAL if value - lower <= gap else CoreStatus.STALLED
    if cancelled:
        status = CoreStatus.CANCELLED
    return CoreSolution(weights, duals, value, lower, iterations, status)


def _by_highs_together(core: RowGame, gap: float, reducer: Reducer) -> CoreSolution | None:
    """The answer of the first process to the game of all of them; None where that is too large to be sent."""
    n_rows, n_classifiers = core.rows.shape
    ends = np.cumsum(_of_all(np.array([float(n_rows), float(core.share.size)]), reducer), axis=0).astype(int)
    total, n_samples = ends[-1].tolist()
    if 8 * total * n_classifiers > GATHERED_BYTES:
        return None
    own, samples = (
        slice(end - n, end) for end, n in zip(ends[reducer.rank], (n_rows, core.share.size), strict=True)
    )
    rows, share, sizes = np.zeros((total, n_classifiers)), np.zeros(n_samples), np.zeros(n_samples)
    rows[own], share[samples], sizes[samples] = core.rows, core.share, np.diff(core.offsets)
    gathered = reducer.combine(np.concatenate([rows.ravel(), share, sizes]))
    answer = np.zeros(n_classifiers + total + 4)
    if reducer.rank == 0:
        rows, share, sizes = np.split(gathered, [rows.size, rows.size + n_samples])
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        found = _by_highs(RowGame(rows.reshape(-1, n_classifiers), offsets, share), gap, None)
        status = tuple(CoreStatus).index(found.status)
        bounds = (found.value, found.lower_bound, found.iterations, status)
        answer = np.concatenate([found.weights, found.duals, bounds])
    answer = reducer.combine(answer)
    value, lower, iterations, status = answer[n_classifiers + total :].tolist()
    duals = answer[n_classifiers : n_classifiers + total][own]
    return CoreSolution(
        answer[:n_classifiers], duals, value, lower, round(iterations), tuple(CoreStatus)[round(status)]
    )


def _of_all(own: NDArray[np.float64], reducer: Reducer) -> NDArray[np.float64]:
    """The numbers of every process, (size, n)."""
    numbers = np.zeros((reducer.size, own.size))
    numbers[reducer.rank] = own
    return reducer.combine(numbers.ravel()).reshape(numbers.shape)


def _checked(
    rows: ArrayLike,
    offsets: ArrayLike,
    share: ArrayLike,
    gap: float,
    threads: int | None,
    iteration_limit: int,
    reducer: Reducer,
) -> RowGame:
    losses = np.ascontiguousarray(real_array(rows, "rows"), dtype=np.float64)
    least = 1 if reducer.size == 1 else 0
    if losses.ndim != 2 or losses.shape[1] == 0 or len(losses) < least:
        raise ValueError(
            f"`rows` must have shape (n_rows, n_classifiers), not empty; got shape {losses.shape}"
        )
    if not np.isfinite(losses).all():
        where = tuple(int(index) for index in np.argwhere(~np.isfinite(losses))[0])
        raise ValueError(f"`rows` must be finite; got {losses[where]} at {where}")
    starts = np.ascontiguousarray(real_array(offsets, "offsets"))
    if starts.dtype.kind not in "iu" or starts.ndim != 1 or starts.size <= least:
        raise ValueError(
            f"`offsets` must be at least two integers; got type {starts.dtype}, shape {starts.shape}"
        )
    starts = starts.astype(np.int64)
    if starts[0] != 0 or starts[-1] != losses.shape[0] or np.any(np.diff(starts) < 1):
        raise ValueError(
            f"`offsets` must rise from 0 to the number of rows, {losses.shape[0]}; got {starts[0]} to {starts[-1]}"
        )
    weight = np.ascontiguousarray(real_array(share, "share"), dtype=np.float64)
    if weight.shape != (starts.size - 1,):
        raise ValueError(f"`share` must have shape ({starts.size - 1},); got shape {weight.shape}")
    if not np.isfinite(weight).all() or weight.min(initial=0.0) < 0:
        raise ValueError(f"`share` must be finite and non-negative; got {weight.min()}")
    total = combined_sum(reducer, math.fsum(weight))
    if abs(total - 1) > SHARE_TOLERANCE:
        raise ValueError(f"`share` must sum to 1 within {SHARE_TOLERANCE:g}; got a sum of {total}")
    if not (np.isfinite(gap) and gap >= 0):
        raise ValueError(f"`gap` must be finite and >= 0; got {gap!r}")
    for name, given in (("threads", threads), ("iteration_limit", iteration_limit)):
        if given is not None and (isinstance(given, bool) or int(given) != given or given < 1):
            raise ValueError(f"`{name}` must be a positive integer; got {given!r}")
    return RowGame(losses, starts, weight)

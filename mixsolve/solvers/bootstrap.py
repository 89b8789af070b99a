"""Where row generation starts: mixtures that are optimal for random subsamples of the samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mixsolve.passes import run_pass
from mixsolve.reduction import ALONE
from mixsolve.simplex import normalise_weights
from mixsolve.solvers.active_rows import ActiveRows
from mixsolve.solvers.core import solve_game

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve import _native
    from mixsolve.chunks import Shard, Subsamples
    from mixsolve.reduction import Reducer

LOOSE = 3e-3
"""Relative gap to which a subsample is solved: its own sampling error is larger."""
ROUNDS = 8

FEW, MANY = 16, 128
"""Points that a subsample, and a table that is not sampled, start from at most."""


@dataclass(frozen=True, eq=False)
class Opening:
    """What to ask first, and what finding it out cost."""

    weights: NDArray[np.float64]
    """(K, n_classifiers)"""
    bytes_read: int
    """Bytes of the table read; the compact copies do not count."""
    peak_memory: int


def find_opening(
    subsamples: Subsamples,
    start: NDArray[np.float64],
    threads: int | None = None,
    reducer: Reducer = ALONE,
    cancel: _native.CancelToken | None = None,
) -> Opening:
    """Mixtures for the first pass: solutions of subsamples, or points spread over the simplex.

    Parameters
    ----------
    subsamples : Subsamples
    start : ndarray, (n_classifiers,)
        Asked about as well, unless it is uniform and there are subsamples.
    threads : int or None
    reducer : Reducer
        Of the processes that hold the table together.
    cancel : CancelToken

    Raises
    ------
    Cancelled
        When the token is set.

    Notes
    -----
    Where a loss of a subsample is not finite, points spread over the simplex are returned: the first pass names the
    loss by its place in the table.
    """
    uniform = np.ptp(start) == 0
    found: list[NDArray[np.float64]] = []
    bytes_read = peak_memory = 0
    for part in subsamples.parts:
        first = np.array(found) if found else spread_points(start.size, FEW)
        solved = _solve_loosely(part, first, threads, reducer, cancel)
        bytes_read += 0 if subsamples.is_counted else part.nbytes
        if solved is None:
            found.clear()
            break
        found.append(solved[0])
        peak_memory = max(peak_memory, part.nbytes + solved[1])
    if found:
        return Opening(np.array([*([] if uniform else [start]), *found]), bytes_read, peak_memory)
    spread = spread_points(start.size, MANY)
    return Opening(spread if uniform else np.concatenate([start[None], spread]), bytes_read, peak_memory)


def spread_points(n_classifiers: int, most: int) -> NDArray[np.float64]:
    """The uniform mixture and points halfway from it to every classifier, or to groups of them where they are many."""
    groups = np.array_split(np.arange(n_classifiers), min(n_classifiers, most - 1))
    uniform = np.full(n_classifiers, 1 / n_classifiers)
    points = [uniform]
    for group in groups if n_classifiers > 1 else []:
        halfway = uniform / 2
        halfway[group] += 0.5 / group.size
        points.append(halfway)
    return np.array([normalise_weights(point) for point in points])


def _solve_loosely(
    part: Shard,
    weights: NDArray[np.float64],
    threads: int | None,
    reducer: Reducer,
    cancel: _native.CancelToken | None,
) -> tuple[NDArray[np.float64], int] | None:
    """A mixture within about `LOOSE` of optimal by a few rounds of row generation, and the memory held.

    None where a loss is not finite, on any process.
    """
    rows = ActiveRows(part, reducer)
    upper, lower = np.inf, -np.inf
    for _ in range(ROUNDS):
        sums = reducer.combine(_sums_of(part, rows, weights, threads, cancel).ravel())
        value, gradient = np.split(sums.reshape(len(weights), -1), [1], axis=1)
        if not np.isfinite(sums).all():
            return None
        upper = min(upper, float(value.min()))
        lower = max(lower, float(gradient.min(axis=1).max()))
        if not rows.merge() or upper - lower <= LOOSE * abs(upper):
            break
        gap = max(0.1 * (upper - lower), LOOSE / 3 * abs(upper))
        found = solve_game(rows, gap, threads=threads, cancel=cancel)
        lower = max(lower, found.lower)
        weights = found.weights[None]
    return weights[0], rows.peak_memory


def _sums_of(
    part: Shard,
    rows: ActiveRows,
    weights: NDArray[np.float64],
    threads: int | None,
    cancel: _native.CancelToken | None,
) -> NDArray[np.float64]:
    """This process's share of values and gradients, (K, 1 + n_classifiers); infinite where a loss is not finite."""
    if part.table is None:
        return np.zeros((len(weights), 1 + part.n_classifiers))
    try:
        answer = run_pass(
            part.table,
            weights,
            0.0,
            per_sample=True,
            best_attack=True,
            best_row=True,
            threads=threads,
            cancel=cancel,
        )
    except ValueError:
        return np.full((len(weights), 1 + part.n_classifiers), np.inf)
    rows.absorb(weights, 0, answer)
    return part.mass * np.column_stack([answer.value, answer.gradient])

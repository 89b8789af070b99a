"""Where row generation starts: mixtures that are optimal for random subsamples of the samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mixsolve.passes import raise_if_not_finite, run_pass
from mixsolve.simplex import normalise_weights
from mixsolve.solvers.active_rows import ActiveRows
from mixsolve.solvers.core import solve_game

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve import _native
    from mixsolve.table import LossTable

SUBSAMPLES = 6
PART = 0.05
"""Of the samples, in each subsample; all of them together read less than 0.4 of the table."""
SMALLEST, LARGEST = 100, 800
"""Samples in a subsample; a table of fewer than 8 of the smallest is not sampled."""

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
    table: LossTable, start: NDArray[np.float64], seed: int, threads: int | None, cancel: _native.CancelToken
) -> Opening:
    """Mixtures for the first pass: solutions of subsamples, or points spread over the simplex.

    Parameters
    ----------
    table : LossTable
    start : ndarray, (n_classifiers,)
        Asked about as well, unless it is uniform and there are subsamples.
    seed : int
        Decides which samples are drawn.
    threads : int or None
    cancel : CancelToken

    Raises
    ------
    Cancelled
        When the token is set.
    ValueError
        If a loss is not finite, naming the table's first.
    """
    uniform = np.ptp(start) == 0
    drawn = draw_subsamples(table, seed)
    if not drawn:
        spread = spread_points(table.n_classifiers, MANY)
        return Opening(spread if uniform else np.concatenate([start[None], spread]), 0, 0)
    found: list[NDArray[np.float64]] = []
    bytes_read = peak_memory = 0
    for samples in drawn:
        part = table.excerpt(samples)
        first = np.array(found) if found else spread_points(table.n_classifiers, FEW)
        try:
            weights, held = _solve_loosely(part, first, threads, cancel)
        except ValueError:  # it names a sample of the part
            raise_if_not_finite(table, cancel)
            raise
        found.append(weights)
        bytes_read += part.nbytes
        peak_memory = max(peak_memory, part.nbytes + held)
    return Opening(np.array([*([] if uniform else [start]), *found]), bytes_read, peak_memory)


def draw_subsamples(table: LossTable, seed: int) -> list[NDArray[np.int64]]:
    """Disjoint random sets of samples of positive weight; none where there are few samples."""
    weighted = np.flatnonzero(table.sample_weight > 0)
    size = min(max(SMALLEST, int(PART * weighted.size)), LARGEST)
    if weighted.size < 8 * SMALLEST:
        return []
    drawn = np.random.default_rng(seed).choice(weighted, SUBSAMPLES * size, replace=False)
    return [np.sort(part) for part in np.split(drawn, SUBSAMPLES)]


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
    table: LossTable, weights: NDArray[np.float64], threads: int | None, cancel: _native.CancelToken
) -> tuple[NDArray[np.float64], int]:
    """A mixture within about `LOOSE` of optimal by a few rounds of row generation, and the memory held."""
    rows = ActiveRows(table)
    upper, lower = np.inf, -np.inf
    for _ in range(ROUNDS):
        answer = run_pass(
            table,
            weights,
            0.0,
            per_sample=True,
            best_attack=True,
            best_row=True,
            threads=threads,
            cancel=cancel,
        )
        upper = min(upper, float(answer.value.min()))
        lower = max(lower, float(answer.gradient.min(axis=1).max()))
        rows.absorb(weights, 0, answer)
        if not rows.merge() or upper - lower <= LOOSE * abs(upper):
            break
        gap = max(0.1 * (upper - lower), LOOSE / 3 * abs(upper))
        found = solve_game(rows, gap, threads=threads, cancel=cancel)
        lower = max(lower, found.lower)
        weights = found.weights[None]
    return weights[0], rows.peak_memory

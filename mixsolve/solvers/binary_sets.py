"""Tables of 0/1 losses as sets of fooled classifiers, and the smaller table of the same game that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mixsolve import _native
from mixsolve.passes import PassAnswer
from mixsolve.storage import MOST_IN_A_SET
from mixsolve.strategy import RowAttack
from mixsolve.table import LossTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_CLASSIFIERS = MOST_IN_A_SET
"""Wider tables are not compressed."""

SMALL_BYTES = 1 << 20
"""A compressed table of at most so many bytes is worth having whenever it is smaller at all."""

FEWER = 4
"""A larger one must have so many times fewer rows than the table."""

NEGLIGIBLE = 1e-12
"""Part of a sample's mass below which it is not split over two attacks."""


@dataclass(frozen=True, eq=False)
class BinaryGame:
    """A table of 0/1 losses, compressed: groups of samples in place of samples, sets in place of rows."""

    table: LossTable
    """float64, ragged: one sample per group, with the weights of its samples added up."""
    temperature: float | NDArray[np.float64]
    """The problem's, by group."""
    group: NDArray[np.int64]
    """(n_samples,) of every sample."""
    offsets: NDArray[np.int64]
    """(n_samples + 1,) sample i has the sets ``offsets[i]:offsets[i + 1]``, in the order of its group's rows."""
    attack: NDArray[np.int64]
    """First attack of the sample that fools the set."""
    share: NDArray[np.float64]
    """(n_samples,) the sample weights."""

    @property
    def nbytes(self) -> int:
        return self.table.nbytes + self.group.nbytes + self.offsets.nbytes + self.attack.nbytes

    def lift(self, strategy: RowAttack) -> RowAttack:
        """A strategy on the groups as one on the table with the same mean losses.

        A group that mixes r attacks has its samples split among them in order, so that at most r - 1 samples mix.
        """
        rows = np.diff(np.searchsorted(strategy.sample, np.arange(self.table.n_samples + 1)))
        first = np.cumsum(rows) - rows
        pure = np.flatnonzero(rows[self.group] == 1)
        parts = [(pure, strategy.attack[first[self.group[pure]]], np.ones(pure.size))]
        order = np.argsort(self.group, kind="stable")
        ends = np.cumsum(np.bincount(self.group))
        for group in np.flatnonzero(rows > 1):
            used = slice(first[group], first[group] + rows[group])
            samples = order[ends[group - 1] if group else 0 : ends[group]]
            where, row, part = _split(strategy.probability[used], self.share[samples])
            parts.append((samples[where], strategy.attack[used][row], part))
        sample, place, probability = (np.concatenate(column) for column in zip(*parts, strict=True))
        return RowAttack(sample, self.attack[self.offsets[sample] + place], probability, self.group.size)


def _split(
    probability: NDArray[np.float64], share: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Samples, rows and probabilities that give the rows their parts of the samples' mass: both laid along a line."""
    mass = share / share.sum() if share.sum() > 0 else np.full(share.size, 1 / share.size)
    row_ends, sample_ends = np.cumsum(probability), np.cumsum(mass)
    row_ends[-1] = sample_ends[-1] = 1.0
    edges = np.unique(np.concatenate([[0.0], row_ends, sample_ends]))
    middle, length = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    sample, row = np.searchsorted(sample_ends, middle), np.searchsorted(row_ends, middle)
    part = length / np.maximum(mass[sample], length)
    kept = part > NEGLIGIBLE
    idle = np.setdiff1d(np.arange(share.size), sample[kept])
    return (
        np.concatenate([sample[kept], idle]),
        np.concatenate([row[kept], np.zeros_like(idle)]),
        np.concatenate([part[kept], np.ones(idle.size)]),
    )


def may_be_binary(table: LossTable) -> bool:
    """Whether a table in CPU memory begins with 0 or 1, and has few enough classifiers for `compress_binary`."""
    if table.on_device:  # sets are found on the CPU
        return False
    first = table.rows(np.zeros(1), np.zeros(1))[0, 0]
    return not table.is_affine and table.n_classifiers <= MOST_CLASSIFIERS and float(first) in (0.0, 1.0)


def compress_binary(
    table: LossTable,
    temperature: float | NDArray[np.float64],
    threads: int | None = None,
    cancel: _native.CancelToken | None = None,
) -> tuple[int, BinaryGame | None]:
    """The same game with fewer rows and samples, by one read of a table whose losses are all 0 or 1.

    At temperature 0 a sample keeps the sets of fooled classifiers that are part of no other of its sets, and samples
    with equal sets become one with their weights added up. At positive temperatures equal sets of a sample become one
    with their prior added up, and samples become one where sets, priors and temperatures agree. Exact either way: the
    value of every mixture is the same in both games, up to the rounding of the added weights.

    Returns
    -------
    bytes_read : int
        Of the table; less than all of them where a loss was neither 0 nor 1.
    game : BinaryGame or None
        None where there is such a loss, or where the game hardly gets smaller.

    Raises
    ------
    Cancelled
        When the token is set.
    """
    warm = bool(np.any(np.asarray(temperature) > 0))
    level = np.asarray(temperature, dtype=np.float64) if np.ndim(temperature) else None
    rows_read, found = _native.binary_rows(table.native, not warm, level, threads or 0, cancel)
    bytes_read = rows_read * table.row_bytes
    if found is None:
        return bytes_read, None
    offsets, fooled, attack, mass, group, leader = found
    counts = np.diff(offsets)[leader]
    n_rows = int(counts.sum())
    large = n_rows * table.n_classifiers * 8 > SMALL_BYTES
    if n_rows >= table.n_rows or (large and FEWER * n_rows > table.n_rows):
        return bytes_read, None
    ends = np.cumsum(counts)
    kept = np.arange(n_rows) + np.repeat(offsets[leader] - (ends - counts), counts)
    bits = np.arange(table.n_classifiers, dtype=np.uint64)[:, None]
    prior = mass[kept] if warm else None
    if prior is not None and table.attack_prior is None:
        prior /= np.repeat(table.attack_counts[leader], counts)
    compressed = LossTable(
        ((fooled[kept] >> bits) & np.uint64(1)).astype(np.float64),
        row_offsets=np.concatenate([[0], ends]),
        sample_weight=np.bincount(group, weights=table.sample_weight),
        attack_prior=prior,
    )
    by_group = temperature if level is None else level[leader]
    return bytes_read, BinaryGame(compressed, by_group, group, offsets, attack, table.sample_weight)


def worst_case_of_sets(
    table: LossTable,
    weights: NDArray[np.float64],
    best_attack: bool = False,
    threads: int | None = None,
    cancel: _native.CancelToken | None = None,
) -> PassAnswer | None:
    """What a pass at temperature 0 answers with float64 scores, from sets or bytes that are all 0 or 1.

    None where a loss is another number, or the table has more than `MOST_CLASSIFIERS` classifiers.

    Parameters
    ----------
    table : LossTable
        That is compact.
    weights : ndarray, (K, n_classifiers)
    best_attack : bool
    threads : int or None
    cancel : CancelToken or None
    """
    if table.n_classifiers > MOST_CLASSIFIERS:
        return None
    found = _native.binary_pass(table.native, weights, best_attack, threads or 0, cancel)
    if found is None:
        return None
    value, gradient, attack = found
    return PassAnswer(value, gradient, None, attack, None, table.nbytes)

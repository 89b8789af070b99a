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

    table: LossTable | None
    """float64, ragged: one sample per group, with the weights of its samples added up. None without samples."""
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
    fooled: NDArray[np.uint64]
    """The sets: bit k says whether classifier k is fooled."""

    @property
    def nbytes(self) -> int:
        own = (self.group, self.offsets, self.attack, self.fooled)
        held = 0 if self.table is None else self.table.nbytes
        return held + sum(array.nbytes for array in own)

    @property
    def n_rows(self) -> int:
        """Of the compressed table."""
        return 0 if self.table is None else self.table.n_rows

    def lift(self, strategy: RowAttack, n_classifiers: int) -> tuple[RowAttack, NDArray[np.float64]]:
        """A strategy on the groups as one on the table, and what it inflicts: the same losses on average.

        A group that mixes r attacks has its samples split among them in order, so that at most r - 1 samples mix.
        """
        n_groups = 0 if self.table is None else self.table.n_samples
        rows = np.diff(np.searchsorted(strategy.sample, np.arange(n_groups + 1)))
        first, size = np.cumsum(rows) - rows, np.bincount(self.group, minlength=n_groups)
        whole = np.flatnonzero(((rows == 1) | (size == 1))[self.group])
        count = rows[self.group[whole]]
        place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count - first[self.group[whole]], count)
        parts = [(np.repeat(whole, count), strategy.attack[place], strategy.probability[place])]
        order, ends = np.argsort(self.group, kind="stable"), np.cumsum(size)
        for group in np.flatnonzero((rows > 1) & (size > 1)):
            used = slice(first[group], first[group] + rows[group])
            samples = order[ends[group] - size[group] : ends[group]]
            where, row, part = _split(strategy.probability[used], self.share[samples])
            parts.append((samples[where], strategy.attack[used][row], part))
        sample, place, probability = (np.concatenate(column) for column in zip(*parts, strict=True))
        cited, mass = self.offsets[sample] + place, self.share[sample] * probability
        fooled = self.fooled[cited]
        inflicted = np.array([mass @ _is_fooled(k, fooled) for k in range(n_classifiers)])
        return RowAttack(sample, self.attack[cited], probability, self.group.size), inflicted


def _split(
    probability: NDArray[np.float64], share: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Samples, rows and probabilities that give the rows their parts of the samples' mass: both laid along a line."""
    mass = share / share.sum() if share.sum() > 0 else np.full(share.size, 1 / share.size)
    row_ends, sample_ends = np.cumsum(probability), np.cumsum(mass)
    row_ends[-1] = sample_ends[-1] = 1.0
    edges = np.sort(np.concatenate([[0.0], row_ends, sample_ends]))
    edges = edges[np.diff(edges, prepend=-1.0) > 0]
    middle, length = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    sample, row = np.searchsorted(sample_ends, middle), np.searchsorted(row_ends, middle)
    part = length / np.maximum(mass[sample], length)
    kept = part > NEGLIGIBLE
    used = np.zeros(share.size, dtype=np.bool_)
    used[sample[kept]] = True
    idle = np.flatnonzero(~used)
    return (
        np.concatenate([sample[kept], idle]),
        np.concatenate([row[kept], np.zeros_like(idle)]),
        np.concatenate([part[kept], np.ones(idle.size)]),
    )


def _is_fooled(classifier: int, fooled: NDArray[np.uint64]) -> NDArray[np.float64]:
    """1 where the set has the classifier in it, else 0."""
    return ((fooled >> np.uint64(classifier)) & np.uint64(1)).astype(np.float64)


def may_be_binary(table: LossTable) -> bool:
    """Whether a table in CPU memory begins with 0 or 1, and has few enough classifiers for `compress_binary`."""
    return table.begins_binary and table.n_classifiers <= MOST_CLASSIFIERS


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
    if warm and table.attack_prior is None:
        mass /= np.repeat(table.attack_counts, np.diff(offsets))
    sets = BinarySets(offsets, fooled, attack, mass if warm else None, group, leader)
    if not is_worth_it(sets.n_kept, table.n_rows, table.n_classifiers):
        return bytes_read, None
    return bytes_read, sets.as_game(table.n_classifiers, table.sample_weight, temperature)


def is_worth_it(n_kept: float, n_rows: float, n_classifiers: int) -> bool:
    """Whether so many rows in place of the table's make the game smaller, by far or to next to nothing."""
    large = n_kept * n_classifiers * 8 > SMALL_BYTES
    return n_kept < n_rows and (not large or FEWER * n_kept <= n_rows)


@dataclass(frozen=True, eq=False)
class BinarySets:
    """The sets of every sample of a table, and which samples are alike."""

    offsets: NDArray[np.int64]
    """(n_samples + 1,) sample i has the sets ``offsets[i]:offsets[i + 1]``."""
    fooled: NDArray[np.uint64]
    attack: NDArray[np.int64]
    mass: NDArray[np.float64] | None
    """Prior of every set; None where it does not matter."""
    group: NDArray[np.int64]
    """(n_samples,)"""
    leader: NDArray[np.int64]
    """The first sample of every group."""

    @property
    def n_kept(self) -> int:
        """Rows of the game that they make."""
        return int(np.diff(self.offsets)[self.leader].sum())

    def as_game(
        self, n_classifiers: int, share: NDArray[np.float64], temperature: float | NDArray[np.float64]
    ) -> BinaryGame:
        """The game that they make, for samples of these weights and this temperature or these temperatures."""
        counts = np.diff(self.offsets)[self.leader]
        ends = np.cumsum(counts)
        kept = np.arange(counts.sum()) + np.repeat(self.offsets[self.leader] - (ends - counts), counts)
        compressed = None
        if self.leader.size:
            losses = np.empty((n_classifiers, kept.size))
            for k in range(n_classifiers):
                losses[k] = _is_fooled(k, self.fooled[kept])
            compressed = LossTable(
                losses,
                row_offsets=np.concatenate([[0], ends]),
                sample_weight=np.bincount(self.group, weights=share) if share.any() else None,
                attack_prior=None if self.mass is None else self.mass[kept],
            )
        by_group = temperature if np.ndim(temperature) == 0 else np.asarray(temperature)[self.leader]
        return BinaryGame(compressed, by_group, self.group, self.offsets, self.attack, share, self.fooled)


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

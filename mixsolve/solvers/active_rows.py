"""The active rows of every sample: those that are a best response to some mixture asked about so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mixsolve.reduction import ALONE, combined_largest, combined_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.passes import PassAnswer
    from mixsolve.reduction import Reducer
    from mixsolve.table import LossTable

ROUNDING_ULPS = 4
"""A row enters only if it beats the others by more than so many ulp of the largest loss seen."""

PATIENCE = 3
"""Solves that a row may stay unused before it is dropped."""

CACHE_LINE = 64
"""Bytes that reading a single loss takes from memory."""


class Shape(Protocol):
    """What has to be known of a table whose rows are held; a `LossTable` is one."""

    @property
    def n_classifiers(self) -> int: ...
    @property
    def n_samples(self) -> int: ...
    @property
    def sample_weight(self) -> NDArray[np.float64]: ...
    @property
    def attack_counts(self) -> NDArray[np.int64]: ...


class ActiveRows:
    """Rows of a table in float64, sorted by sample, then attack; samples of weight 0 have none.

    A row enters only if it beats the others of its sample at some query by more than rounding, and is held once, so
    that without `drop_idle` adding rows comes to an end.

    Parameters
    ----------
    table : LossTable or Shape
    reducer : Reducer
        Of the processes that hold a table together: every one holds the rows of its own samples.

    Attributes
    ----------
    sample, attack : ndarray of int64, (n_rows,)
    rows : ndarray of float64, (n_rows, n_classifiers)
    share : ndarray of float64, (n_samples,)
        The sample weights.
    peak_memory : int
        Bytes held at most, in arrays of rows and samples.
    """

    def __init__(self, table: Shape, reducer: Reducer = ALONE) -> None:
        self.reducer = reducer
        self.sample = np.empty(0, dtype=np.int64)
        self.attack = np.empty(0, dtype=np.int64)
        self.rows = np.empty((0, table.n_classifiers))
        self.share = table.sample_weight
        self.peak_memory = 0
        self._idle = np.empty(0, dtype=np.int8)
        self._stride = int(table.attack_counts.max(initial=1))
        self._first = np.zeros(table.n_samples + 1, dtype=np.int64)
        self._new: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
        self._largest = 0.0
        self.overflows = False
        """Whether rows were left out for want of memory."""

    @property
    def n_rows(self) -> int:
        return self.sample.size

    @property
    def n_new(self) -> int:
        """Rows noted that `merge` has yet to take in."""
        return sum(sample.size for sample, _, _ in self._new)

    @property
    def is_complete(self) -> bool:
        """Whether every sample of positive weight has a row, without which the game on them proves nothing."""
        lacking = np.any((np.diff(self._first) == 0) & (self.share > 0))
        return combined_largest(self.reducer, lacking) == 0

    def cite(self, table: LossTable, sample: NDArray[np.int64], attack: NDArray[np.int64]) -> int:
        """Take in rows by their place in the table; returns the bytes read.

        Places that the table lacks, and samples of weight 0, are left out.
        """
        known = np.flatnonzero(sample < table.n_samples)
        known = known[(attack[known] < table.attack_counts[sample[known]]) & (self.share[sample[known]] > 0)]
        sample, attack = sample[known], attack[known]
        self.add(sample, attack, table.rows(sample, attack))
        return min(sample.size * CACHE_LINE * table.n_planes, table.nbytes)

    def add(self, sample: NDArray[np.int64], attack: NDArray[np.int64], rows: NDArray[np.float64]) -> None:
        """Take in rows (n, n_classifiers) that are not held yet."""
        self._new.append((sample, attack, rows))
        self._merge()

    @property
    def nbytes(self) -> int:
        """Memory of the rows held and of those noted."""
        noted = sum(part.nbytes for column in self._new for part in column)
        return self.rows.nbytes + 17 * self.n_rows + noted

    def absorb(self, weights: NDArray[np.float64], first: int, answer: PassAnswer) -> None:
        """Note the best rows that beat those held, for the samples from `first` on that a pass answered for.

        Parameters
        ----------
        weights : ndarray, (K, n_classifiers)
            The queries, all at temperature 0.
        first : int
        answer : PassAnswer
            With best attacks and rows.
        """
        attack, rows = answer.best_attack, answer.best_row
        assert attack is not None and rows is not None
        last = first + attack.shape[1]
        held = self._first[first], self._first[last]
        known = self.highest(weights @ self.rows[slice(*held)].T, first, last)
        self._largest = max(self._largest, float(rows.max(initial=-np.inf)), -float(rows.min(initial=np.inf)))
        slack = ROUNDING_ULPS * float(np.finfo(np.float64).eps) * self._largest
        weighted = self.share[first:last] > 0
        taken: list[NDArray[np.bool_]] = []
        for query, w in enumerate(weights):
            # Scored again in float64: the pass may have found the row by float32 scores.
            beats = weighted & (rows[query] @ w > known[query] + slack)
            for earlier, other in enumerate(taken):
                beats &= ~(other & (attack[earlier] == attack[query]))
            taken.append(beats)
            chosen = np.flatnonzero(beats)
            if chosen.size:
                self._new.append((chosen + first, attack[query, chosen], rows[query, chosen]))
        self.note_memory(rows.nbytes + 2 * attack.nbytes)

    def merge(self) -> int:
        """Move what was noted among the rows held; returns how many were new, over all processes."""
        return round(combined_sum(self.reducer, self._merge() if self._new else 0))

    def _merge(self) -> int:
        sample, attack = (np.concatenate([part[column] for part in self._new]) for column in (0, 1))
        key, held = sample * self._stride + attack, self.sample * self._stride + self.attack
        order = np.argsort(key, kind="stable")
        if self.n_rows:
            place = np.searchsorted(held, key[order])
            order = order[held[np.minimum(place, held.size - 1)] != key[order]]
        key = key[order]
        old = np.arange(held.size) + np.searchsorted(key, held)
        new = np.full(sample.size, -1)
        new[order] = np.arange(key.size) + np.searchsorted(held, key)

        rows = np.empty((held.size + key.size, self.rows.shape[1]))
        self.note_memory(rows.nbytes)
        rows[old] = self.rows
        first = 0
        for part, _, losses in self._new:
            target = new[first : first + part.size]
            rows[target[target >= 0]] = losses if target.min(initial=0) >= 0 else losses[target >= 0]
            first += part.size
        self._new.clear()
        self.rows = rows
        self.sample = _scattered(old, self.sample, new[order], sample[order])
        self.attack = _scattered(old, self.attack, new[order], attack[order])
        self._idle = _scattered(old, self._idle, new[order], np.zeros(key.size, dtype=np.int8))
        self._index()
        return int(key.size)

    def drop_idle(self, needed: NDArray[np.int64], *, now: bool) -> None:
        """Count for how many solves in a row each row was not needed; `now` drop those with too many."""
        self._idle = np.minimum(self._idle, PATIENCE) + np.int8(1)
        self._idle[needed] = 0
        kept = self._idle < PATIENCE
        if now and not kept.all():
            self.sample, self.attack, self._idle = self.sample[kept], self.attack[kept], self._idle[kept]
            self.rows = self.rows[kept]
            self._index()

    def value(self, weights: NDArray[np.float64]) -> float:
        """Worst case of a mixture over these rows, in units of the losses; all samples of positive weight have some."""
        highest = self.highest(self.rows @ weights)
        return combined_sum(self.reducer, float(self.share @ np.where(self.share > 0, highest, 0.0)))

    @property
    def largest(self) -> float:
        """Largest loss held, without its sign."""
        return combined_largest(self.reducer, np.abs(self.rows).max(initial=0.0))

    def snapshot(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Sample, attack and losses of the rows held and of those noted."""
        columns = zip((self.sample, self.attack, self.rows), *self._new, strict=True)
        sample, attack, rows = (np.concatenate(parts) for parts in columns)
        return sample, attack, rows

    def highest(
        self, scores: NDArray[np.float64], first: int = 0, last: int | None = None
    ) -> NDArray[np.float64]:
        """Largest score of each sample from `first` to `last`: (..., rows) to (..., samples); -inf without rows."""
        starts = self._first[first : None if last is None else last + 1] - self._first[first]
        filled = np.flatnonzero(starts[1:] > starts[:-1])
        if filled.size == starts.size - 1 > 0:
            all_highest: NDArray[np.float64] = np.maximum.reduceat(scores, starts[:-1], axis=-1)
            return all_highest
        highest = np.full((*scores.shape[:-1], starts.size - 1), -np.inf)
        if filled.size:
            highest[..., filled] = np.maximum.reduceat(scores, starts[filled], axis=-1)
        return highest

    def note_memory(self, bytes_beside: int) -> None:
        """Account for arrays that are held beside the rows for a while."""
        held = self.nbytes + 16 * self.share.size
        self.peak_memory = max(self.peak_memory, held + bytes_beside)

    def _index(self) -> None:
        np.cumsum(np.bincount(self.sample, minlength=self.share.size), out=self._first[1:])
        self.note_memory(0)


def _scattered(
    old: NDArray[np.int64], before: NDArray[Any], new: NDArray[np.int64], added: NDArray[Any]
) -> NDArray[Any]:
    """Entries of before and those added, at their new places."""
    together = np.empty(old.size + new.size, dtype=before.dtype)
    together[old] = before
    together[new] = added
    return together

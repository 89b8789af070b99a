"""A random choice of a table's samples, made while the table goes by once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mixsolve.chunks import LARGEST, SMALLEST, SUBSAMPLES, Shard, Subsamples, subsample_size
from mixsolve.reduction import combined_sum
from mixsolve.storage import as_taken
from mixsolve.table import LossTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mixsolve.chunks import Chunk
    from mixsolve.reduction import Reducer


FITTING = 0.8
"""So much of the room is for the samples that are wanted, where the others are known to be few."""


class Expected(NamedTuple):
    """What is known of the samples that will go by."""

    n_weighted: int
    """How many of them have positive weight."""
    sample_bytes: float
    """Of one, on average."""


class _Held(NamedTuple):
    key: NDArray[np.float64]
    table: LossTable
    share: NDArray[np.float64]

    def keep(self, chosen: NDArray[np.int64]) -> _Held:
        return _Held(self.key[chosen], self.table.excerpt(chosen), self.share[chosen])


class Reservoir:
    """Holds copies of the samples with the smallest random keys, as many as subsamples need and memory allows.

    Parameters
    ----------
    seed : int
    room : int
        Bytes that the copies may take, about.
    expected : Expected, optional
        What will go by, where that is known: then hardly a sample is copied in vain.
    """

    def __init__(self, seed: int, room: int, expected: Expected | None = None) -> None:
        self.n_weighted = 0
        """Samples of positive weight that went by."""
        self._rng = np.random.default_rng(seed)
        self._room = room
        self._capacity = SUBSAMPLES * LARGEST
        self._below = np.inf
        if expected is not None:
            self._capacity = min(self._capacity, max(SUBSAMPLES, int(FITTING * room / expected.sample_bytes)))
            chosen = self._capacity + 10 * math.sqrt(self._capacity) + 10  # not once in a lifetime too few
            self._below = chosen / expected.n_weighted
        self._held: list[_Held] = []
        self._n_held = self._nbytes = 0

    def offer(self, chunk: Chunk) -> None:
        """Let the samples of a chunk go by."""
        weighted = np.flatnonzero(chunk.table.sample_weight * chunk.mass > 0)
        self.n_weighted += weighted.size
        key = self._rng.random(weighted.size)
        chosen = key < self._below
        if not chosen.any():
            return
        samples = weighted[chosen]
        share = chunk.table.sample_weight[samples] * chunk.mass
        self._hold(_Held(key[chosen], chunk.table.excerpt(samples), share))
        if self._n_held > 2 * self._capacity or self._nbytes > self._room:
            self._prune()

    def subsamples(self, n_classifiers: int, reducer: Reducer) -> Subsamples:
        """The samples that were chosen, in disjoint sets."""
        total = round(combined_sum(reducer, self.n_weighted))
        count = SUBSAMPLES if total >= 8 * SMALLEST else 0
        size = min(subsample_size(total, self.n_weighted), self._n_held // SUBSAMPLES)
        return Subsamples(self._parts(n_classifiers, reducer, count, size), count, is_read=True)

    def _parts(self, n_classifiers: int, reducer: Reducer, count: int, size: int) -> Iterator[Shard]:
        keys = np.sort(np.concatenate([np.empty(0), *(held.key for held in self._held)]))
        for part in range(count):
            bounds = keys[[part * size, (part + 1) * size - 1]] if size else np.array([1.0, 0.0])
            held = [
                held.keep(np.flatnonzero((held.key >= bounds[0]) & (held.key <= bounds[1])))
                for held in self._held
                if np.any((held.key >= bounds[0]) & (held.key <= bounds[1]))
            ]
            own = sum(float(piece.share.sum()) for piece in held)
            whole = combined_sum(reducer, own)
            yield Shard(_joined(held) if held else None, n_classifiers, own / whole)

    def _hold(self, piece: _Held) -> None:
        self._held.append(piece)
        self._n_held += piece.key.size
        self._nbytes += piece.table.nbytes

    def _prune(self) -> None:
        if self._nbytes > self._room:
            self._capacity = min(self._capacity, max(SUBSAMPLES, self._n_held // 2))
        keys = np.sort(np.concatenate([held.key for held in self._held]))
        self._below = float(keys[min(self._capacity, keys.size - 1)])
        kept = [(held, np.flatnonzero(held.key < self._below)) for held in self._held]
        self._held, self._n_held, self._nbytes = [], 0, 0
        for held, chosen in kept:
            if chosen.size:
                self._hold(held.keep(chosen))


def _joined(held: list[_Held]) -> LossTable:
    """One table of the samples of several."""
    counts = np.concatenate([piece.table.attack_counts for piece in held])
    n_classifiers = held[0].table.n_classifiers
    taken = [as_taken(piece.table.array, piece.table.storage).reshape(n_classifiers, -1) for piece in held]
    losses = np.concatenate(taken, axis=1)
    offsets = None
    if np.ptp(counts) == 0:
        losses = losses.reshape(n_classifiers, counts.size, -1)
    else:
        offsets = np.concatenate([[0], np.cumsum(counts)])
    return LossTable(
        losses,
        row_offsets=offsets,
        sample_weight=np.concatenate([piece.share for piece in held]),
        scale=held[0].table.scale,
        offset=held[0].table.offset,
    )

"""Tables that are read in chunks of samples: what is known of them without reading, and the chunks."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from mixsolve.reduction import combined_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve import _native
    from mixsolve.file_table import FileTable
    from mixsolve.reduction import Reducer
    from mixsolve.table import LossTable

SUBSAMPLES = 6
"""Random sets of samples that row generation starts from."""

PART = 0.05
"""Of the samples, in each of them; all of them together read less than 0.4 of the table."""

SMALLEST, LARGEST = 100, 800
"""Samples in a subsample; a table of fewer than 8 of the smallest is not sampled."""


class Chunk(NamedTuple):
    """Consecutive samples of a table."""

    first: int
    """The first of them."""
    table: LossTable
    """Their losses, with sample weights that sum to 1 over the chunk."""
    mass: float
    """What their weights add up to in the whole game, over all processes."""


class Part(NamedTuple):
    """Consecutive samples of a table, to be passed over."""

    first: int
    """The first of them."""
    table: LossTable | FileTable
    """Their losses: in memory, or in a file that a pass reads piece by piece."""
    mass: float
    """What a sum over this table counts for in the whole game, over all processes."""
    room: float = math.inf
    """Bytes that what is found about single samples may take, before it is handed on."""


class Chunks(Protocol):
    """A table that is read in order, chunk by chunk; losses are never fetched by random access.

    It may be one process's part of a larger table: its sample weights then add up to less than 1.
    """

    @property
    def n_classifiers(self) -> int: ...
    @property
    def n_samples(self) -> int: ...
    @property
    def n_rows(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def sample_weight(self) -> NDArray[np.float64]: ...
    @property
    def attack_counts(self) -> NDArray[np.int64]: ...
    @property
    def always_float64(self) -> bool:
        """Whether float64 scores cost nothing: reading takes longer."""

    @property
    def surveyed(self) -> float | None:
        """Seconds that a read of the whole table took, if one had to be made to know all this."""

    def fingerprint(self) -> str:
        """What tells this table from another one."""

    def read(self, cancel: _native.CancelToken | None = None) -> Generator[Chunk, None, None]:
        """The whole table once, in order; a chunk is valid until the next one is asked for."""

    def parts(self, cancel: _native.CancelToken | None = None) -> Generator[Part, None, None]:
        """The whole table for one pass over each part, in order; a part is valid until the next one is asked for."""

    def subsamples(
        self, seed: int, reducer: Reducer, cancel: _native.CancelToken | None = None
    ) -> Subsamples:
        """Random sets of samples of positive weight, disjoint; none where there are few samples."""


@dataclass(frozen=True, eq=False)
class Shard:
    """A table in memory as one process's part of a larger one; it may have no samples."""

    table: LossTable | None
    """None for a part without samples."""
    n_classifiers: int
    mass: float = 1.0
    """What the weights of its samples add up to in the whole game."""
    always_float64: bool = False

    @property
    def n_samples(self) -> int:
        return 0 if self.table is None else self.table.n_samples

    @property
    def n_rows(self) -> int:
        return 0 if self.table is None else self.table.n_rows

    @property
    def nbytes(self) -> int:
        return 0 if self.table is None else self.table.nbytes

    @property
    def sample_weight(self) -> NDArray[np.float64]:
        return np.empty(0) if self.table is None else self.table.sample_weight * self.mass

    @property
    def attack_counts(self) -> NDArray[np.int64]:
        return np.empty(0, dtype=np.int64) if self.table is None else self.table.attack_counts

    @property
    def surveyed(self) -> float | None:
        return None

    def fingerprint(self) -> str:
        return "no samples" if self.table is None else f"{self.table.digest()} {self.mass!r}"

    def read(self, cancel: _native.CancelToken | None = None) -> Generator[Chunk, None, None]:
        if self.table is not None:
            yield Chunk(0, self.table, self.mass)

    def parts(self, cancel: _native.CancelToken | None = None) -> Generator[Part, None, None]:
        for chunk in self.read(cancel):
            yield Part(*chunk)

    def subsamples(
        self, seed: int, reducer: Reducer, cancel: _native.CancelToken | None = None
    ) -> Subsamples:
        weighted = np.flatnonzero(self.sample_weight > 0)
        total = round(combined_sum(reducer, weighted.size))
        size = subsample_size(total, weighted.size)
        drawn = np.random.default_rng(seed).choice(weighted, SUBSAMPLES * size, replace=False)
        parts = [] if total < 8 * SMALLEST else [np.sort(part) for part in np.split(drawn, SUBSAMPLES)]
        return Subsamples((excerpt_shard(self, part, reducer) for part in parts), len(parts))


@dataclass(frozen=True, eq=False)
class Subsamples:
    """Small tables that are like the whole one, made as they are asked for."""

    parts: Iterator[Shard]
    count: int
    is_read: bool = False
    """Whether the whole table was read to find them; the copies of the samples are then in memory."""
    is_counted: bool = False
    """Whether what is read of the table for them is counted by whoever made them."""


def subsample_size(n_weighted: int, n_own: int) -> int:
    """Samples in each subsample that a process with `n_own` of `n_weighted` samples contributes."""
    size = min(max(SMALLEST, int(PART * n_weighted)), LARGEST)
    return min(size * n_own // max(n_weighted, 1), n_own // SUBSAMPLES)


def excerpt_shard(shard: Shard, samples: NDArray[np.int64], reducer: Reducer) -> Shard:
    """A copy of some samples as a part of the subsample that all processes make together."""
    table = shard.table if samples.size else None
    own = 0.0 if table is None else shard.mass * float(table.sample_weight[samples].sum())
    total = combined_sum(reducer, own)
    return Shard(None if table is None else table.excerpt(samples), shard.n_classifiers, own / total)

"""A table that an iterator hands out chunk by chunk, once per pass."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve import _native
from mixsolve.chunks import Chunk, Part
from mixsolve.inputs import check_sample_weight, total_weight
from mixsolve.read_ahead import BUFFERS, read_ahead
from mixsolve.reservoir import Reservoir
from mixsolve.results import TableChangedError
from mixsolve.table import LossTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mixsolve.chunks import Subsamples
    from mixsolve.reduction import Reducer

RESERVOIR_PART = 4
"""The samples of the reservoir take at most this part of the limit on memory."""


class ChunkIterator:
    """A table from an object that can be iterated over again and again.

    Parameters
    ----------
    losses : iterable
        Of arrays (n_classifiers, n, n_attacks) or of `LossTable` without sample weights; the same ones in the same
        order each time.
    sample_weight : array, (n_samples,), optional
    memory_limit : int
        Bytes; a chunk may take a third of it.
    seed : int
        Decides which samples the subsamples are made of, which the first read chooses.
    mass : float
        What the weights of all samples add up to in the whole game.

    Raises
    ------
    TypeError, ValueError
        Naming what is wrong with which chunk.
    """

    always_float64 = True

    def __init__(
        self,
        losses: Iterable[Any],
        *,
        sample_weight: Any = None,
        memory_limit: int,
        seed: int,
        mass: float = 1.0,
    ) -> None:
        if isinstance(losses, Iterator):
            raise TypeError(
                "`losses` must be an object that can be iterated over again; "
                f"got a {type(losses).__name__}, which is used up by the first pass"
            )
        self._losses = losses
        self._limit = memory_limit
        self.mass = mass
        self._given_weight = sample_weight
        self._survey(seed)
        self._weight = check_sample_weight(sample_weight, self.n_samples)
        self.total_weight = total_weight(sample_weight, self.n_samples)
        """Sum of the sample weights as they were given."""

    def _survey(self, seed: int) -> None:
        """The first read: how many samples there are, what the chunks look like, and samples for the start."""
        begun = time.perf_counter()
        self._reservoir = Reservoir(seed, self._limit // RESERVOIR_PART)
        self._digests: list[bytes] = []
        counts: list[NDArray[np.int64]] = []
        self.n_samples = self.n_classifiers = self.nbytes = 0
        weight = None if self._given_weight is None else np.asarray(self._given_weight, dtype=np.float64)
        for table in read_ahead(self._tables):
            if self.n_classifiers not in (0, table.n_classifiers):
                raise ValueError(
                    f"`losses` must be chunks with equal numbers of classifiers; chunk {len(counts)} has "
                    f"{table.n_classifiers}, those before have {self.n_classifiers}"
                )
            first = self.n_samples
            self.n_classifiers = table.n_classifiers
            self.kind = table.storage.name.lower()
            self.n_samples += table.n_samples
            self.nbytes += table.nbytes
            counts.append(table.attack_counts)
            self._digests.append(_digest(table))
            own = None if weight is None else weight[first : self.n_samples]
            positive = own is None or (own.size == table.n_samples and own.sum() > 0)
            if positive:
                mass = table.n_samples if own is None else float(own.sum())
                self._reservoir.offer(Chunk(first, table.reweighted(own), mass))
        if not counts:
            raise ValueError("`losses` must hold at least one chunk; got an empty iterator")
        self.attack_counts = np.concatenate(counts)
        self.n_rows = int(self.attack_counts.sum())
        self.surveyed: float | None = time.perf_counter() - begun

    @cached_property
    def sample_weight(self) -> NDArray[np.float64]:
        if self._weight is None:
            return np.full(self.n_samples, self.mass / self.n_samples)
        return self._weight * self.mass

    def read(self, cancel: _native.CancelToken | None = None) -> Generator[Chunk, None, None]:
        first = number = 0
        for number, table in enumerate(read_ahead(self._tables), start=1):
            if cancel is not None and cancel.cancelled:
                raise _native.Cancelled
            if number > len(self._digests) or _digest(table) != self._digests[number - 1]:
                raise TableChangedError(
                    f"`losses`: chunk {number - 1} of the iterator is not what it was before"
                )
            share = self.sample_weight[first : first + table.n_samples]
            mass = float(share.sum())
            yield Chunk(first, table if mass == 0 else table.reweighted(share), mass)
            first += table.n_samples
        if number != len(self._digests):
            raise TableChangedError(
                f"`losses`: the iterator ended after {number} of {len(self._digests)} chunks"
            )

    def parts(self, cancel: _native.CancelToken | None = None) -> Generator[Part, None, None]:
        for chunk in self.read(cancel):
            yield Part(*chunk)

    def subsamples(
        self, seed: int, reducer: Reducer, cancel: _native.CancelToken | None = None
    ) -> Subsamples:
        return self._reservoir.subsamples(self.n_classifiers, reducer)

    def fingerprint(self) -> str:
        """Of the first and last sample of every chunk, and of the weights."""
        total = hashlib.sha256(b"".join(self._digests))
        total.update(b"none" if self._weight is None else self._weight.data)
        return total.hexdigest()

    def _tables(self, free_buffer: Callable[[], int]) -> Iterator[LossTable]:
        """The chunks as tables; runs on the thread that reads ahead."""
        free_buffer()
        for number, given in enumerate(self._chunks()):
            table = given if isinstance(given, LossTable) else LossTable(given)
            if table.has_sample_weight:
                raise ValueError(
                    f"`losses` must be chunks without sample weights; chunk {number} has some: "
                    "give those of all samples as `sample_weight`"
                )
            if BUFFERS * table.nbytes > self._limit:
                raise ValueError(
                    f"`memory_limit` must be at least {BUFFERS} times the largest chunk, "
                    f"{BUFFERS * table.nbytes} bytes; got {self._limit}"
                )
            yield table
            free_buffer()

    def _chunks(self) -> Iterator[Any]:
        """What the iterator hands out; what it raises is an error of the table."""
        number = 0
        try:
            for given in self._losses:
                yield given
                number += 1
        except Exception as error:
            raise TableChangedError(
                f"`losses`: the iterator failed after {number} chunks: {error!r}"
            ) from error


def _digest(table: LossTable) -> bytes:
    """Of a chunk's shape and of its first and last sample."""
    total = hashlib.sha256(f"{table!r} {table.n_rows}".encode())
    for sample in (0, table.n_samples - 1):
        total.update(np.ascontiguousarray(table.sample_losses(sample)).data)
    return total.digest()

"""A table in files that are read in order, once per pass."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mixsolve import _native
from mixsolve.chunks import Chunk
from mixsolve.inputs import (
    check_attack_prior,
    check_loss_shape,
    check_row_offsets,
    check_sample_weight,
    total_weight,
)
from mixsolve.npy_files import NpyFile
from mixsolve.read_ahead import BUFFERS, read_ahead
from mixsolve.reservoir import Reservoir
from mixsolve.storage import view_losses
from mixsolve.table import LossTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mixsolve.chunks import Subsamples
    from mixsolve.reduction import Reducer

CHUNK, PIECE = 1 << 23, 1 << 16
"""Bytes of a chunk, or of its part of each plane where that makes it larger: what is read next stays in the caches."""

BUFFER_PART, RESERVOIR_PART = 2, 4
"""Buffers and the samples of a reservoir take at most these parts of it."""

PROBES, PROBE = 64, 4096
"""A file is told from another by so many pieces of it, of so many bytes."""


class _Piece(NamedTuple):
    """What one chunk of a file stream is made of."""

    file: int
    first_row: int
    """In the file."""
    first: int
    """In the table."""
    last: int
    n_rows: int


class FileStream:
    """A table in one or several `.npy` files, each with the losses of some samples, in order.

    Parameters
    ----------
    files : sequence of NpyFile
        Each of shape (n_classifiers, n, n_attacks), or (n_classifiers, rows) with `row_offsets`, where no sample lies
        in two files.
    row_offsets, sample_weight, attack_prior
        As in `LossTable`, for all files together.
    memory_limit : int
        Bytes; buffers take at most a half of it.
    mass : float
        What the weights of all samples add up to in the whole game.

    Raises
    ------
    TypeError, ValueError
        Naming the argument or the file.
    """

    always_float64 = True
    surveyed: float | None = None

    def __init__(
        self,
        files: Sequence[NpyFile],
        *,
        row_offsets: Any = None,
        sample_weight: Any = None,
        attack_prior: Any = None,
        memory_limit: int,
        mass: float = 1.0,
    ) -> None:
        self._files = files
        self._limit = memory_limit
        first = files[0]
        for file in files:
            if (
                file.dtype != first.dtype
                or file.shape[:1] + file.shape[2:] != first.shape[:1] + first.shape[2:]
            ):
                raise ValueError(
                    "`losses` must be files of one type, with equal numbers of classifiers and attacks; "
                    f"{file.path} has {file.dtype} {file.shape}, {first.path} has {first.dtype} {first.shape}"
                )
        length = sum(sum(file.shape[1:2]) for file in files)
        shape = (*first.shape[:1], length, *first.shape[2:])
        check_loss_shape(shape, ragged=row_offsets is not None)
        view_losses(np.empty(0, dtype=first.dtype))  # refuses other types
        self.n_classifiers = shape[0]
        self.n_rows = int(np.prod(shape[1:]))
        self.n_attacks = None if row_offsets is not None else shape[2]
        self._offsets = None if row_offsets is None else check_row_offsets(row_offsets, self.n_rows)
        self.n_samples = shape[1] if self._offsets is None else self._offsets.size - 1
        self._weight = check_sample_weight(sample_weight, self.n_samples)
        self._prior = check_attack_prior(attack_prior, shape[1:], self._offsets)
        self.mass = mass
        self.total_weight = total_weight(sample_weight, self.n_samples)
        """Sum of the sample weights as they were given."""
        self.kind = first.dtype.name
        """The type of the losses."""
        self._pieces = self._cut()
        self.bytes_handed_out = 0
        """Of all passes so far."""

    @property
    def nbytes(self) -> int:
        return self.n_rows * self.n_classifiers * self._files[0].dtype.itemsize

    @cached_property
    def sample_weight(self) -> NDArray[np.float64]:
        if self._weight is None:
            return np.full(self.n_samples, self.mass / self.n_samples)
        return self._weight * self.mass

    @property
    def attack_counts(self) -> NDArray[np.int64]:
        if self._offsets is None:
            return np.full(self.n_samples, self.n_attacks, dtype=np.int64)
        return np.diff(self._offsets)

    def read(self, cancel: _native.CancelToken | None = None) -> Generator[Chunk, None, None]:
        for piece, losses in read_ahead(self._fill):
            if cancel is not None and cancel.cancelled:
                raise _native.Cancelled
            self.bytes_handed_out += losses.nbytes
            yield self._chunk(piece, losses)

    def subsamples(
        self, seed: int, reducer: Reducer, cancel: _native.CancelToken | None = None
    ) -> Subsamples:
        reservoir = Reservoir(seed, self._limit // RESERVOIR_PART)
        for chunk in self.read(cancel):
            reservoir.offer(chunk)
        return reservoir.subsamples(self.n_classifiers, reducer)

    def fingerprint(self) -> str:
        """Of the files as they are: size, time of change, and pieces of what is in them."""
        total = hashlib.sha256(f"{self.n_classifiers} {self.n_samples} {self.n_rows}".encode())
        for file in self._files:
            total.update(f"{file.shape} {file.dtype.str} {file.stamp[:2]}".encode())
            with open(file.path, "rb") as content:
                for start in np.linspace(0, max(file.stamp[0] - PROBE, 0), PROBES).astype(np.int64):
                    content.seek(int(start))
                    total.update(content.read(PROBE))
        for part in (self._offsets, self._weight, self._prior):
            total.update(b"none" if part is None else np.ascontiguousarray(part).data)
        return total.hexdigest()

    @cached_property
    def _buffers(self) -> list[NDArray[np.uint8]]:
        row = self.n_classifiers * self._files[0].dtype.itemsize
        most = max(piece.n_rows for piece in self._pieces)
        return [np.empty(most * row, dtype=np.uint8) for _ in range(BUFFERS)]

    def _cut(self) -> list[_Piece]:
        """Cut every file into chunks of about equal size, of whole samples."""
        row = self.n_classifiers * self._files[0].dtype.itemsize
        counts = self.attack_counts
        room = self._limit // (BUFFER_PART * BUFFERS)
        if int(counts.max()) * row > room:
            raise ValueError(
                f"`memory_limit` must be at least {BUFFER_PART * BUFFERS} times the largest sample, "
                f"{BUFFER_PART * BUFFERS * int(counts.max()) * row} bytes; got {self._limit}"
            )
        most = max(1, min(max(CHUNK, PIECE * self.n_classifiers), room) // row)
        ends = np.cumsum(counts)
        pieces = []
        first = base = 0
        for number, file in enumerate(self._files):
            base, start = base + int(np.prod(file.shape[1:])), base
            while first < self.n_samples and int(ends[first]) <= base:
                row_first = int(ends[first] - counts[first])
                last = max(first + 1, int(np.searchsorted(ends, min(row_first + most, base), side="right")))
                rows = int(ends[last - 1]) - row_first
                pieces.append(_Piece(number, row_first - start, first, last, rows))
                first = last
            if first < self.n_samples and int(ends[first] - counts[first]) != base:
                raise ValueError(f"`row_offsets` must not cut a sample in two at the end of {file.path}")
        return pieces

    def _fill(self, free_buffer: Callable[[], int]) -> Iterator[tuple[_Piece, NDArray[Any]]]:
        """The chunks in order, each read into a buffer; runs on the thread that reads ahead."""
        row = self.n_classifiers * self._files[0].dtype.itemsize
        for number, file in enumerate(self._files):
            own = [piece for piece in self._pieces if piece.file == number]
            with file.opened() as descriptor:
                for place, piece in enumerate(own):
                    buffer = self._buffers[free_buffer()][: piece.n_rows * row]
                    planes = buffer.reshape(self.n_classifiers, -1)
                    for following in own[place + 1 : place + 2]:
                        file.expect(descriptor, following.first_row, following.n_rows)
                    file.read_planes(descriptor, piece.first_row, planes)
                    yield piece, planes.view(file.dtype)

    def _chunk(self, piece: _Piece, losses: NDArray[Any]) -> Chunk:
        first, last = piece.first, piece.last
        weight, mass = None, self.mass * (last - first) / self.n_samples
        if self._weight is not None:
            weight = self._weight[first:last]
            mass = self.mass * float(weight.sum())
            weight = weight if mass > 0 else None
        offsets = prior = None
        if self._offsets is None:
            losses = losses.reshape(self.n_classifiers, last - first, -1)
            prior = None if self._prior is None else self._prior[first:last]
        else:
            offsets = self._offsets[first : last + 1]
            prior = None if self._prior is None else self._prior[offsets[0] : offsets[-1]]
            offsets = offsets - offsets[0]
        if losses.dtype == np.bool_:  # read only once: packing would read it, too
            losses = losses.view(np.uint8)
        table = LossTable(losses, row_offsets=offsets, sample_weight=weight, attack_prior=prior)
        return Chunk(first, table, mass)

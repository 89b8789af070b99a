"""A table in files that are read in order, once per pass."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mixsolve import _native
from mixsolve.chunks import SUBSAMPLES, Chunk, Part
from mixsolve.file_table import FileTable
from mixsolve.inputs import (
    check_attack_prior,
    check_loss_shape,
    check_row_offsets,
    check_sample_weight,
    total_weight,
)
from mixsolve.npy_files import NpyFile, OpenFile
from mixsolve.reservoir import Expected, Reservoir
from mixsolve.storage import Storage, view_losses
from mixsolve.table import LossTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.chunks import Subsamples
    from mixsolve.reduction import Reducer

CHUNK, PIECE = 1 << 23, 1 << 16
"""Bytes of a chunk, or of its part of each plane where that makes it larger: it stays in the caches."""

BUFFER_PART, RESERVOIR_PART, ANSWER_PART = 2, 4, 16
"""What is read into, the samples of a reservoir and what a pass finds take at most these parts of the memory limit."""

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
        Bytes; what is read into takes at most a half of it.
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
        self._storage = _read_as_stored(first.dtype)
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
        self._closed_bytes = 0
        self._reading: OpenFile | None = None

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
        for number, file in enumerate(self._files):
            with self._opened(file) as opened:
                for piece in self._pieces:
                    if piece.file != number:
                        continue
                    if cancel is not None and cancel.cancelled:
                        raise _native.Cancelled
                    losses = opened.read_rows(piece.first_row, piece.n_rows, self._buffer)
                    yield self._chunk(piece, losses)

    def parts(self, cancel: _native.CancelToken | None = None) -> Generator[Part, None, None]:
        if self._storage is None:
            for chunk in self.read(cancel):
                yield Part(*chunk)
            return
        first = row = 0
        for number, file in enumerate(self._files):
            last = max([first, *(piece.last for piece in self._pieces if piece.file == number)])
            if last > first:
                with self._opened(file) as opened:
                    yield self._part(opened, self._storage, first, last, row)
            first, row = last, row + file.n_rows

    def subsamples(
        self, seed: int, reducer: Reducer, cancel: _native.CancelToken | None = None
    ) -> Subsamples:
        weighted = self.n_samples if self._weight is None else int(np.count_nonzero(self._weight))
        expected = Expected(weighted, self.nbytes / self.n_samples)
        reservoir = Reservoir(seed, self._limit // RESERVOIR_PART, expected)
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

    @property
    def bytes_handed_out(self) -> int:
        """Of all passes so far."""
        return self._closed_bytes + (0 if self._reading is None else self._reading.native.bytes_read)

    @contextmanager
    def _opened(self, file: NpyFile) -> Iterator[OpenFile]:
        """A file to read from, whose bytes are counted."""
        with file.opened() as opened:
            self._reading = opened
            try:
                yield opened
            finally:
                self._closed_bytes, self._reading = self.bytes_handed_out, None

    @cached_property
    def _buffer(self) -> NDArray[np.uint8]:
        row = self.n_classifiers * self._files[0].dtype.itemsize
        return np.empty(max(piece.n_rows for piece in self._pieces) * row, dtype=np.uint8)

    def _cut(self) -> list[_Piece]:
        """Cut every file into chunks of about equal size, of whole samples."""
        row = self.n_classifiers * self._files[0].dtype.itemsize
        counts = self.attack_counts
        least = SUBSAMPLES * int(counts.max()) * row  # one sample in each of the subsamples
        if least > self._limit:
            raise ValueError(
                f"`memory_limit` must be at least {SUBSAMPLES} times the largest sample, "
                f"{least} bytes; got {self._limit}"
            )
        most = max(1, min(max(CHUNK, PIECE * self.n_classifiers), self._limit // BUFFER_PART) // row)
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

    def _part(self, opened: OpenFile, storage: Storage, first: int, last: int, row: int) -> Part:
        """The samples ``first:last``, whose rows begin with `row`, in their file."""
        weight, mass = None, self.mass * (last - first) / self.n_samples
        if self._weight is not None:
            weight, mass = self._weight[first:last], self.mass
        offsets = prior = None
        if self._offsets is not None:
            offsets = self._offsets[first : last + 1] - row
        if self._prior is not None:
            prior = self._prior.reshape(-1)[row : row + opened.n_rows]
        table = FileTable(
            opened,
            storage,
            last - first,
            row_offsets=offsets,
            sample_weight=weight,
            attack_prior=prior,
            room=self._limit // BUFFER_PART,
        )
        return Part(first, table, mass, self._limit / ANSWER_PART)

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


def _read_as_stored(dtype: np.dtype[Any]) -> Storage | None:
    """How passes read numbers of this type from the file; None where they are converted first.

    Raises
    ------
    TypeError
        If losses cannot be of this type.
    """
    _, storage = view_losses(np.empty(0, dtype=dtype))
    if dtype in (np.bool_, np.uint8):
        return Storage.UINT8
    return storage if dtype.isnative else None

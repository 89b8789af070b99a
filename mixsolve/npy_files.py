"""`.npy` files that are read in ranges, and that must not change meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve import _native
from mixsolve.results import TableChangedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Stamp = tuple[int, int, int]
"""Size, time of the last change in ns, and inode of a file."""


@dataclass(frozen=True)
class NpyFile:
    """A file of an array in C order, with what it was like when it was first looked at."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    """Bytes before the first number."""
    stamp: Stamp

    @classmethod
    def open(cls, path: str | os.PathLike[str], name: str = "losses") -> NpyFile:
        """Look at a file's header.

        Raises
        ------
        ValueError
            If it is not there, is no `.npy` file, is truncated, holds objects, or is in Fortran order.
        """
        required = f"`{name}` must be a .npy file of numbers in C order"
        try:
            stamp = _stamp(os.stat(path))
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise ValueError(f"{required}; {path} does not exist") from None
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{required}; {path} is not ({error})") from error
        if not isinstance(array, np.memmap):
            raise ValueError(f"{required}; {path} is an archive of several arrays")
        if not array.flags.c_contiguous:
            raise ValueError(f"{required}; {path} is in Fortran order: write numpy.ascontiguousarray of it")
        return cls(Path(path), array.shape, array.dtype, array.offset, stamp)

    @classmethod
    def of(cls, mapped: np.memmap[Any, Any]) -> NpyFile:
        """The file behind an array that maps it; any file of numbers in C order."""
        assert mapped.filename is not None
        path = Path(mapped.filename)
        return cls(path, mapped.shape, mapped.dtype, mapped.offset, _stamp(os.stat(path)))

    def check(self) -> None:
        """Raise `TableChangedError` where the file is not what it was."""
        try:
            now = _stamp(os.stat(self.path))
        except OSError as error:
            raise TableChangedError(f"`losses`: {self.path} vanished during the solve ({error})") from error
        if now[0] < self.stamp[0]:
            raise TableChangedError(
                f"`losses`: {self.path} was truncated during the solve, from {self.stamp[0]} to {now[0]} bytes"
            )
        if now != self.stamp:
            raise TableChangedError(f"`losses`: {self.path} was changed during the solve")

    @property
    def n_rows(self) -> int:
        """Attacks, or what else the rows of a plane are."""
        return int(np.prod(self.shape[1:]))

    @contextmanager
    def opened(self) -> Iterator[OpenFile]:
        """The file to read from; that it is what it was is looked at before and after."""
        self.check()
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise TableChangedError(f"`losses`: {self.path} vanished during the solve ({error})") from error
        try:
            opened = OpenFile(self, descriptor)
        finally:
            os.close(descriptor)
        try:
            yield opened
            self.check()
        finally:
            opened.native.close()


class OpenFile:
    """A file while it is read: by any number of threads, and ahead of them by one of its own.

    Attributes
    ----------
    native : _native.PlaneFile
    n_planes, n_rows : int
    """

    def __init__(self, file: NpyFile, descriptor: int) -> None:
        self._file = file
        self.n_planes, self.n_rows = file.shape[0], file.n_rows
        self.native = _native.PlaneFile(
            descriptor, file.offset, self.n_rows * file.dtype.itemsize, self.n_planes
        )

    def read_rows(
        self, first: int, n: int, buffer: NDArray[np.uint8] | None = None, threads: int = 0
    ) -> NDArray[Any]:
        """The rows ``first:first + n`` of every plane, (n_planes, n), in the front of a buffer if there is one.

        Raises
        ------
        TableChangedError
            If the file ends before them, or cannot be read.
        """
        size = self._file.dtype.itemsize
        total = self.n_planes * n * size
        into = np.empty(total, dtype=np.uint8) if buffer is None else buffer[:total]
        planes = into.reshape(self.n_planes, -1)
        with self.errors():
            self.native.read(first * size, planes, threads)
        return planes.view(self._file.dtype)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Errors of the system as those of the table."""
        try:
            yield
        except EOFError as error:
            raise TableChangedError(
                f"`losses`: {self._file.path} was truncated during the solve, before byte {error}"
            ) from error
        except OSError as error:
            raise TableChangedError(f"`losses`: {self._file.path} cannot be read: {error}") from error


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ino

"""`.npy` files that are read in ranges, and that must not change meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor to read from; that the file is what it was is looked at before and after."""
        self.check()
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise TableChangedError(f"`losses`: {self.path} vanished during the solve ({error})") from error
        try:
            yield descriptor
            self.check()
        finally:
            os.close(descriptor)

    def read_planes(self, descriptor: int, first: int, out: NDArray[Any]) -> None:
        """Read the rows ``first:first + n`` of every plane into `out`, (n_planes, n) of this file's type.

        Raises
        ------
        TableChangedError
            If the file ends before them, or cannot be read.
        """
        rows = int(np.prod(self.shape[1:]))
        for plane, target in enumerate(out.view(np.uint8).reshape(len(out), -1)):
            at = self.offset + (plane * rows + first) * self.dtype.itemsize
            left = memoryview(target.data)
            while left:
                try:
                    got = os.preadv(descriptor, [left], at)
                except OSError as error:
                    raise TableChangedError(f"`losses`: {self.path} cannot be read: {error}") from error
                if got == 0:
                    raise TableChangedError(
                        f"`losses`: {self.path} was truncated during the solve, before byte {at}"
                    )
                left, at = left[got:], at + got

    def expect(self, descriptor: int, first: int, n: int) -> None:
        """Tell the system that the rows ``first:first + n`` of every plane are read soon."""
        rows = int(np.prod(self.shape[1:]))
        for plane in range(self.shape[0]):
            at = self.offset + (plane * rows + first) * self.dtype.itemsize
            os.posix_fadvise(descriptor, at, n * self.dtype.itemsize, os.POSIX_FADV_WILLNEED)


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ino

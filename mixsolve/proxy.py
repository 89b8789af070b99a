"""A compact copy of a table that says which of the table's losses have to be read in full precision."""

from __future__ import annotations

import time
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mixsolve import _native
from mixsolve.passes import loss_range
from mixsolve.storage import Storage
from mixsolve.table import LossTable, as_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOAT32_ROUNDING = 2.0**-24
FLOAT64_EPS = float(np.finfo(np.float64).eps)

BLOCK_LOSSES = 1 << 20
"""Losses that are compared at a time where delta has to be measured."""


class _Finding(IntEnum):
    """What a loss that was looked up is worth; the numbers are those of `csrc/screened_pass.h`."""

    SOUND = 0
    COPY_NOT_FINITE = 1
    LOSS_NOT_FINITE = 2
    BEYOND_DELTA = 3


class Screened(NamedTuple):
    """The worst case of K queries on n samples, from losses in full precision."""

    per_sample: NDArray[np.float64]
    """(K, n)"""
    best_attack: NDArray[np.int64]
    """(K, n)"""
    best_row: NDArray[np.float64]
    """(K, n, n_classifiers)"""
    rows_read: int
    """Of the table."""
    bytes_read: int
    """Of the table, in whole lines of 64: fewer do not come from memory."""


class Proxy:
    """A table, its compact copy, and how much a loss of the copy may be off.

    An attack whose score on the copy is more than ``2 delta`` below its sample's best one is not the best one in the
    table, whatever the mixture: only the others are read in full precision. Each of them is compared with the copy.

    Parameters
    ----------
    table : LossTable
        The losses in full precision.
    copy : LossTable
        Of the same shape, in CPU memory, float32 or narrower. Its weights and prior do not matter.
    delta : float or None
        The largest difference between a loss and its copy, as `LossTable.quantise` returns it; None to measure it by
        one read of both.

    Attributes
    ----------
    bytes_read : int
        Of the copy so far.
    rows_read : int
        Of the table so far.
    measured : float or None
        Seconds that it took to measure delta, if that was done.

    Raises
    ------
    TypeError, ValueError
        If the copy is of another shape or storage or on a device, or delta is no number >= 0.
    """

    def __init__(self, table: LossTable, copy: LossTable, delta: float | None, threads: int | None) -> None:
        _check_copy(table, copy)
        self.table, self.copy = table, copy
        self.bytes_read = self.rows_read = 0
        self.measured: float | None = None
        self._threads = threads
        self._affine = np.array([table.scale, table.offset, copy.scale, copy.offset])
        if delta is None:
            begun = time.perf_counter()
            delta = _largest_difference(table, copy)
            self.measured = time.perf_counter() - begun
            self.bytes_read += copy.nbytes
        self.delta = _check_delta(delta)
        if copy.storage is Storage.UINT8:
            self._largest_stored = 255.0
        else:
            self._largest_stored = max(abs(number) for number in loss_range(copy, threads))
            self.bytes_read += copy.nbytes

    def screen(
        self,
        weights: NDArray[np.float64],
        first: int,
        last: int,
        cancel: _native.CancelToken | None = None,
    ) -> Screened:
        """Worst cases on the samples ``first:last``, by one read of their copy.

        Raises
        ------
        ValueError
            If a loss that was looked up is further from its copy than delta, or not finite, naming its place.
        """
        per_sample, best_attack, best_row, rows_read, bytes_read, finding = _native.screened_pass(
            self.table.native,
            self.copy.native,
            weights,
            self._slack(weights),
            self._affine,
            self.delta + self._affine_rounding,
            first,
            last,
            self._threads or 0,
            cancel,
        )
        self._refuse(*finding)
        self.rows_read += rows_read
        self.bytes_read += int(self.copy.attack_counts[first:last].sum()) * self._row_bytes
        return Screened(per_sample, best_attack, best_row, rows_read, bytes_read)

    @property
    def _row_bytes(self) -> int:
        return self.copy.row_bytes

    @property
    def _affine_rounding(self) -> float:
        """What float64 may be off in ``scale * stored + offset``."""
        return 4 * FLOAT64_EPS * (self.copy.scale * self._largest_stored + abs(self.copy.offset))

    def _slack(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far below the best one a float32 score on the copy may be, (K,), in units of what is stored.

        A score is a sum of L products of weights and stored numbers, each rounded; two of them are compared.
        """
        size = np.abs(weights).sum(axis=1)
        off = (self.delta + self._affine_rounding) / self.copy.scale * size
        rounding = (self.copy.n_classifiers + 4) * FLOAT32_ROUNDING * self._largest_stored * size
        return np.asarray(2.0 * (off + rounding) * (1 + 2 * FLOAT32_ROUNDING))

    def _refuse(self, kind: int, classifier: int, sample: int, attack: int, loss: float, copy: float) -> None:
        place = f"classifier {classifier}, sample {sample}, attack {attack}"
        if kind == _Finding.COPY_NOT_FINITE:
            raise ValueError(f"`proxy` must be finite; sample {sample} is not")
        if kind == _Finding.LOSS_NOT_FINITE:
            raise ValueError(f"`losses` must be finite; got {loss} at {place}")
        if kind == _Finding.BEYOND_DELTA:
            raise ValueError(
                f"`proxy` must be within its delta, {self.delta:g}, of the losses; got {copy!r} for {loss!r}, off by "
                f"{abs(copy - loss):g}, at {place}; give the table alone to have delta measured"
            )


def as_proxy(given: Any, table: LossTable, threads: int | None) -> Proxy:
    """The proxy that a caller gave: a pair (table, delta) as `LossTable.quantise` returns it, or a table alone."""
    delta: Any = None
    if isinstance(given, tuple) and len(given) == 2 and not isinstance(given[1], (tuple, list, np.ndarray)):
        given, delta = given
        if delta is None:
            raise TypeError(
                "`proxy` must be a table, or a pair of a table and its delta; got a delta of None"
            )
    if isinstance(given, LossTable):
        return Proxy(table, given, delta, threads)
    return Proxy(table, as_table(given, row_offsets=table.row_offsets), delta, threads)


def _check_delta(delta: Any) -> float:
    if isinstance(delta, (bool, np.bool_)) or not isinstance(delta, (int, float, np.integer, np.floating)):
        raise TypeError(f"`proxy` must have a delta that is a number; got {delta!r}")
    if not 0 <= float(delta) < np.inf:
        raise ValueError(f"`proxy` must have a finite delta >= 0; got {delta!r}")
    return float(delta)


def _check_copy(table: LossTable, copy: LossTable) -> None:
    if table.on_device or copy.on_device:
        raise ValueError("`proxy` and `losses` must be in CPU memory; got a table on a GPU")
    if copy.storage not in (Storage.UINT8, Storage.FLOAT16, Storage.BFLOAT16, Storage.FLOAT32):
        raise ValueError(
            f"`proxy` must be uint8, float16, bfloat16 or float32; got {copy.storage.name.lower()}"
        )
    same = (copy.n_classifiers, copy.n_samples) == (table.n_classifiers, table.n_samples)
    if not same or not np.array_equal(copy.attack_counts, table.attack_counts):
        raise ValueError(f"`proxy` must have the shape of `losses`, {table!r}; got {copy!r}")


def _largest_difference(table: LossTable, copy: LossTable) -> float:
    """Between a loss and its copy; infinite or NaN where one is not finite."""
    largest = 0.0
    ends = np.cumsum(table.attack_counts)
    room = max(1, BLOCK_LOSSES // table.n_classifiers)
    first = done = 0
    while first < table.n_samples:
        last = max(first + 1, int(np.searchsorted(ends, done + room, side="right")))
        off = np.abs(table.block(first, last).losses - copy.block(first, last).losses).max()
        largest = float(np.maximum(largest, off))
        first, done = last, int(ends[last - 1])
    return largest

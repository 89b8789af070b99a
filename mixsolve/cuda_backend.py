"""Passes on tables in the memory of a GPU, behind the interface of the CPU's compiled module."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve import _native
from mixsolve.devices import backends

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.device_array import DeviceArray

__all__ = ["CudaBackend", "cuda_backend"]

_BLOCK_LOSSES = 1 << 20  # brought to the host at a time
_QUERIES_AT_ONCE = 32


class CudaTable:
    """A table on a GPU, as the compiled passes see it.

    Attributes
    ----------
    native : object
        `_native_cuda.Table`.
    array : DeviceArray
    row_offsets : ndarray or None
    """

    def __init__(
        self,
        module: Any,
        array: DeviceArray,
        storage: int,
        row_offsets: NDArray[np.int64] | None,
        sample_weight: NDArray[np.float64] | None,
        attack_prior: NDArray[Any] | None,
    ) -> None:
        self.array, self.row_offsets = array, row_offsets
        belongings = (row_offsets, sample_weight, attack_prior)
        where = (array.device, array.stream)
        self.native = module.Table(array.pointer, storage, array.shape, array.strides, *belongings, *where)

    @property
    def starts(self) -> NDArray[np.int64]:
        """(n_samples + 1,) rows before each sample."""
        if self.row_offsets is not None:
            return self.row_offsets
        _, n_samples, n_attacks = self.array.shape
        return np.arange(n_samples + 1) * n_attacks


class CudaBackend:
    """What `mixsolve.passes` and `LossTable` ask of a device; the functions of `_native` by their names.

    The stream is that of the table. A pass on a GPU is short: a cancelled one is waited for.

    Parameters
    ----------
    module : module
        `_native_cuda`.
    """

    def __init__(self, module: Any) -> None:
        self._module = module

    def Table(self, array: DeviceArray, storage: int, *belongings: Any) -> CudaTable:
        """See `_native.Table`."""
        return CudaTable(self._module, array, storage, *belongings)

    def run_pass(
        self,
        table: CudaTable,
        weights: NDArray[np.float64],
        temperature: NDArray[np.float64],
        want: int,
        samples: NDArray[np.int64] | None,
        float64_scores: bool,
        threads: int = 0,
        cancel: _native.CancelToken | None = None,
        hessians: int = 0,
    ) -> dict[str, Any]:
        """See `_native.run_pass`."""
        _raise_if_cancelled(cancel)
        question = (weights, temperature, want, samples, float64_scores, hessians)
        answer: dict[str, Any] = self._module.run_pass(table.native, *question)
        _raise_if_cancelled(cancel)
        return answer

    def loss_gradient(
        self,
        table: CudaTable,
        weights: NDArray[np.float64],
        temperature: NDArray[np.float64],
        scale: float,
        gradient: DeviceArray,
        float64_scores: bool,
        threads: int = 0,
        cancel: _native.CancelToken | None = None,
    ) -> bool:
        """See `_native.loss_gradient`."""
        _raise_if_cancelled(cancel)
        if gradient.device != table.array.device:
            raise ValueError(
                f"`gradient` must be on CUDA device {table.array.device}, as the losses are; got {gradient.device}"
            )
        if gradient.read_only or not gradient.contiguous:
            raise ValueError("`gradient` must be contiguous and writeable")
        question = (weights, temperature, scale, gradient.pointer, float64_scores)
        finite: bool = self._module.loss_gradient(table.native, *question)
        _raise_if_cancelled(cancel)
        return finite

    def rows(
        self, table: CudaTable, sample: NDArray[np.int64], attack: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Losses of cited attacks, (n, n_classifiers)."""
        found: NDArray[np.float64] = self._module.gather(table.native, sample, attack)
        return found

    def samples(self, table: CudaTable, samples: NDArray[np.int64], classifier: int) -> NDArray[Any]:
        """Losses of some samples under one classifier, as they are stored, (rows,)."""
        starts = table.starts
        losses = np.empty(int((starts[samples + 1] - starts[samples]).sum()), dtype=table.array.dtype)
        self._module.copy_samples(table.native, classifier, samples, losses)
        return losses

    def first_nonfinite(
        self, table: CudaTable, cancel: _native.CancelToken | None = None
    ) -> tuple[int, int, int, float] | None:
        """See `_native.first_nonfinite`. Reads the table through the host: it is asked for after a failed pass only."""
        starts = table.starts
        step = max(_BLOCK_LOSSES // max(int(np.diff(starts).max()), 1), 1)
        for classifier in range(table.array.shape[0]):
            for first in range(0, starts.size - 1, step):
                _raise_if_cancelled(cancel)
                last = min(first + step, starts.size - 1)
                losses = self.samples(table, np.arange(first, last), classifier)
                odd = np.flatnonzero(~_is_finite(losses))
                if odd.size:
                    row = int(starts[first] + odd[0])
                    sample = int(np.searchsorted(starts, row, side="right")) - 1
                    attack = row - int(starts[sample])
                    value = self.rows(table, np.array([sample]), np.array([attack]))[0, classifier]
                    return classifier, sample, attack, float(value)
        return None

    def extremes(
        self, table: CudaTable, threads: int = 0, cancel: _native.CancelToken | None = None
    ) -> tuple[float, float]:
        """See `_native.extremes`: the worst case of every classifier alone, and of its negative."""
        n_classifiers = table.array.shape[0]
        alone = np.concatenate([np.eye(n_classifiers), -np.eye(n_classifiers)])
        largest = np.full(2, -np.inf)
        for first in range(0, alone.shape[0], _QUERIES_AT_ONCE):
            weights = np.ascontiguousarray(alone[first : first + _QUERIES_AT_ONCE])
            level = np.zeros(len(weights))
            found = self.run_pass(table, weights, level, _native.PER_SAMPLE, None, False, threads, cancel)
            sign = (first + np.arange(len(weights))) // n_classifiers
            np.maximum.at(largest, sign, found["per_sample"].max(axis=1))
        return -float(largest[1]), float(largest[0])


@cache
def cuda_backend() -> CudaBackend:
    """The backend of tables on a GPU.

    Raises
    ------
    RuntimeError
        If the CUDA pass is not compiled or cannot be used here, saying why.
    """
    reason = backends()[1].reason
    if reason is not None:
        raise RuntimeError(f"`losses` on a GPU need the CUDA pass, which cannot be used: {reason}")
    from mixsolve import _native_cuda

    return CudaBackend(_native_cuda)


def _is_finite(stored: NDArray[Any]) -> NDArray[np.bool_]:
    # Of bfloat16, which is held as its bits, all those of the exponent are set.
    finite: NDArray[np.bool_] = (
        (stored & 0x7F80) != 0x7F80 if stored.dtype == np.uint16 else np.isfinite(stored)
    )
    return finite


def _raise_if_cancelled(cancel: _native.CancelToken | None) -> None:
    if cancel is not None and cancel.cancelled:
        raise _native.Cancelled("the pass was cancelled")

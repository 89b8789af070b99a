"""The pass: read the table once, answer several queries. The one seam between the mathematics and the machine.

Everything above asks through `run_pass` and never names a device; what a pass computes is specified by
`mixsolve.reference` and written in ``csrc/passes.h``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mixsolve import _native
from mixsolve.device_array import DeviceArray
from mixsolve.storage import view_losses

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mixsolve.file_table import FileTable
    from mixsolve.table import LossTable

__all__ = ["PassAnswer", "loss_gradient", "loss_range", "run_pass"]

# Beyond these, 1 / t or the scores of an ordinary query could leave the range of float32.
_FLOAT32_SAFE = 1e30

# A positive temperature below this is raised to it: 1 / t stays finite, and t log m is 0 to every digit anyway.
_SMALLEST_TEMPERATURE = 1e-300


@dataclass(frozen=True)
class PassAnswer:
    """What one pass found, for each of its K queries.

    Attributes
    ----------
    value : ndarray, (K,)
        F at each query; with `samples`, the share of those samples in it.
    gradient : ndarray, (K, n_classifiers)
    per_sample : ndarray, (K, n) or None
        Maximum or smoothed maximum of each sample, not multiplied by its weight.
    best_attack : ndarray of int64, (K, n) or None
        Attack of the highest score within its sample, the lowest index on ties; at any temperature.
    best_row : ndarray, (K, n, n_classifiers) or None
        The losses of that attack.
    bytes_read : int
        Bytes of the table read.
    hessian : ndarray, (n_hessians, n_classifiers, n_classifiers) or None
        Second derivatives of F, in losses squared over temperature; 0 for queries at temperature 0.
    """

    value: NDArray[np.float64]
    gradient: NDArray[np.float64]
    per_sample: NDArray[np.float64] | None
    best_attack: NDArray[np.int64] | None
    best_row: NDArray[np.float64] | None
    bytes_read: int
    hessian: NDArray[np.float64] | None = None


def run_pass(
    table: LossTable | FileTable,
    weights: ArrayLike,
    temperature: ArrayLike,
    *,
    per_sample: bool = False,
    best_attack: bool = False,
    best_row: bool = False,
    hessian: bool | int = False,
    samples: ArrayLike | None = None,
    float64_scores: bool = False,
    threads: int | None = None,
    cancel: _native.CancelToken | None = None,
) -> PassAnswer:
    """Read the table once and answer K queries.

    Parameters
    ----------
    table : LossTable or FileTable
    weights : array, (K, n_classifiers)
        Any finite weights, on the simplex or not.
    temperature : float, (K,) or (K, n_samples)
        0 asks for the worst case; the queries of one pass may differ.
    per_sample, best_attack, best_row : bool
        What to return beside values and gradients.
    hessian : bool or int
        Return the Hessian ``sum_i (s_i / t_i) Cov(l_i.)`` of every query, or of so many queries, the first ones; the
        covariances are those of the losses under the softmax. At temperature 0 it is 0.
    samples : array of int, (n,), optional
        Rising indices: only these samples are read, and only their share is summed.
    float64_scores : bool
        Scores in float64 whatever the storage; float64 tables always have them.
    threads : int, optional
        At most this many threads; all processors by default. The answer does not depend on it.
    cancel : CancelToken, optional
        ``cancel.cancel()`` from a signal handler or another thread ends the pass with `_native.Cancelled`.

    Raises
    ------
    ValueError
        If a loss is not finite, naming the first, or sums overflow float64.
    """
    query_weights = np.ascontiguousarray(weights, dtype=np.float64)
    query_temperature = _usable(
        np.broadcast_to(temperature, (query_weights.shape[0],)) if np.ndim(temperature) == 0 else temperature
    )
    if table.is_affine:  # asked of the numbers that are stored
        query_temperature = _usable(query_temperature / table.scale)
    want = _native.PER_SAMPLE * per_sample + _native.BEST_ATTACK * best_attack + _native.BEST_ROW * best_row
    listed = None if samples is None else np.ascontiguousarray(samples, dtype=np.int64)
    float64 = float64_scores or _needs_float64(query_weights, query_temperature)

    def answer(in_float64: bool) -> dict[str, Any]:
        answered: dict[str, Any] = table.backend.run_pass(
            table.native,
            query_weights,
            query_temperature,
            want,
            listed,
            in_float64,
            threads or 0,
            cancel,
            len(query_weights) if hessian is True else int(hessian),
        )
        return answered

    found = answer(float64)
    if not found["finite"]:
        raise_if_not_finite(table, cancel)
        found = answer(True)  # every loss is finite: float32 scores overflowed
        if not found["finite"]:
            raise ValueError(
                "`losses` and `weights` are so large that sums overflow float64; rescale the losses"
            )
    answered = PassAnswer(
        value=found["value"],
        gradient=found["gradient"],
        per_sample=found.get("per_sample"),
        best_attack=found.get("best_attack"),
        best_row=found.get("best_row"),
        bytes_read=found["bytes_read"],
        hessian=found.get("hessian"),
    )
    if not table.is_affine:
        return answered
    return _as_losses(
        answered, cast("LossTable", table), query_weights, listed
    )  # a file's are as they are stored


def _as_losses(
    answer: PassAnswer, table: LossTable, weights: NDArray[np.float64], listed: NDArray[np.int64] | None
) -> PassAnswer:
    """The answer about losses ``scale * x + offset`` from the one about the stored numbers x."""
    scale, offset = table.scale, table.offset
    mass = 1.0 if listed is None else float(table.sample_weight[listed].sum())
    total = weights.sum(axis=1)

    def scaled(numbers: NDArray[np.float64] | None, shift: Any = 0.0) -> NDArray[np.float64] | None:
        return None if numbers is None else scale * numbers + shift

    return replace(
        answer,
        value=scale * answer.value + offset * mass * total,
        gradient=scale * answer.gradient + offset * mass,
        per_sample=scaled(answer.per_sample, offset * total[:, None]),
        best_row=scaled(answer.best_row, offset),
        hessian=scaled(answer.hessian),
    )


def loss_range(table: LossTable, threads: int | None = None) -> tuple[float, float]:
    """Smallest and largest loss, by one read."""
    low, high = table.backend.extremes(table.native, threads or 0)
    return table.scale * low + table.offset, table.scale * high + table.offset


def loss_gradient(
    table: LossTable,
    weights: ArrayLike,
    temperature: ArrayLike,
    gradient: Any,
    *,
    scale: float = 1.0,
    float64_scores: bool = False,
    threads: int | None = None,
    cancel: _native.CancelToken | None = None,
) -> None:
    """Write the derivative of one query's value by every loss, ``scale weights[k] s_i p_ij``, into an array.

    p_i is the softmax of the sample's scores, prior included; at temperature 0 it is 1 at the best attack, the lowest
    index on ties. The table is read once, and as much is written.

    Parameters
    ----------
    table : LossTable
    weights : array, (n_classifiers,)
        Finite.
    temperature : float or (n_samples,)
        All 0 or all > 0.
    gradient : array
        Overwritten: contiguous, of the table's shape and storage type, on its device. It may not share memory with it.
    scale : float
    float64_scores, threads, cancel
        See `run_pass`.

    Raises
    ------
    ValueError
        If a loss is not finite, naming the first, or the gradient does not fit the table.
    """
    query_weights = np.ascontiguousarray(weights, dtype=np.float64)
    query_temperature = np.atleast_1d(_usable(temperature))
    target, storage = view_losses(gradient)
    if isinstance(target, DeviceArray) != table.on_device:
        place = f"on CUDA device {table.array.device}" if table.on_device else "in CPU memory"
        raise ValueError(f"`gradient` must be {place}, as the losses are; got one elsewhere")
    if storage is not table.storage or target.shape != table.array.shape:
        raise ValueError(
            f"`gradient` must be like the losses, {table.storage.name.lower()} {table.array.shape}; "
            f"got {target.dtype} {target.shape}"
        )

    def write(in_float64: bool) -> bool:
        written: bool = table.backend.loss_gradient(
            table.native, query_weights, query_temperature, scale, target, in_float64, threads or 0, cancel
        )
        return written

    if write(float64_scores or _needs_float64(query_weights, query_temperature)):
        return
    raise_if_not_finite(table, cancel)
    if not write(True):
        raise ValueError(
            "`losses` and `weights` are so large that scores overflow float64; rescale the losses"
        )


def _usable(temperature: ArrayLike) -> NDArray[np.float64]:
    given = np.ascontiguousarray(temperature, dtype=np.float64)
    if np.any((given > 0) & (given < _SMALLEST_TEMPERATURE)):
        return np.where(given > 0, np.maximum(given, _SMALLEST_TEMPERATURE), 0.0)
    return given


def _needs_float64(weights: NDArray[np.float64], temperature: NDArray[np.float64]) -> bool:
    soft = temperature[temperature > 0]
    extreme = soft.size and (soft.min() < 1 / _FLOAT32_SAFE or soft.max() > _FLOAT32_SAFE)
    return bool(extreme or np.abs(weights).max() > _FLOAT32_SAFE)


def raise_if_not_finite(
    table: LossTable | FileTable, cancel: _native.CancelToken | None = None, first_sample: int = 0
) -> None:
    """Raise ValueError naming the table's first loss that is not finite, if there is one.

    The samples of a part of a table are counted from `first_sample` on.
    """
    odd = table.backend.first_nonfinite(table.native, cancel)
    if odd is None:
        return
    classifier, sample, attack, value = odd
    raise ValueError(
        f"`losses` must be finite; got {value} at classifier {classifier}, sample {first_sample + sample}, "
        f"attack {attack}"
    )

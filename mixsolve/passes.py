"""The pass: read the table once, answer several queries. The one seam between the mathematics and the machine.

Everything above asks through `run_pass` and never names a device; what a pass computes is specified by
`mixsolve.reference` and written in ``csrc/passes.h``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mixsolve import _native
from mixsolve.device_array import DeviceArray
from mixsolve.inputs import check_temperature, check_threads, real_array
from mixsolve.storage import view_losses
from mixsolve.table import LossTable, as_table

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["PassAnswer", "WorstCase", "loss_gradient", "run_pass", "smoothed_value_and_grad", "worst_case"]

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


class WorstCase(NamedTuple):
    """The worst case of a mixture: F_0, a subgradient, and per sample the value and the best attack."""

    value: Any
    grad: NDArray[np.float64]
    per_sample: NDArray[np.float64]
    best_attack: NDArray[np.int64]


def run_pass(
    table: LossTable,
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
    table : LossTable
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
    return _as_losses(answered, table, query_weights, listed) if table.is_affine else answered


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


def smoothed_value_and_grad(
    losses: Any,
    weights: ArrayLike,
    temperature: ArrayLike,
    *,
    row_offsets: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    attack_prior: ArrayLike | None = None,
    float64_scores: bool = False,
    threads: int | None = None,
) -> tuple[Any, NDArray[np.float64]]:
    """Smoothed worst-case loss of a mixture, and its gradient, in one read of the table.

    ``value = sum_i s_i t_i log sum_j u_ij exp(<weights, losses[:, i, j]> / t_i)`` and
    ``grad = sum_i s_i sum_j p_ij losses[:, i, j]`` with p_i the softmax of the scores, prior included.

    The value lies between the mean over attacks and the maximum; with a uniform prior it is within
    ``temperature * log(n_attacks)`` of the maximum. The gradient is in the hull of the table's rows, and
    ``value - <weights, grad> + min(grad)`` is a lower bound of the smoothed game.

    Parameters
    ----------
    losses : array, (n_classifiers, n_samples, n_attacks), or LossTable
        Finite losses, read only; see `LossTable` for storage types and for `row_offsets`, `sample_weight` and
        `attack_prior`.
    weights : array, (n_classifiers,) or (K, n_classifiers)
        Any finite weights; a mixture when on the simplex. Not renormalised.
    temperature : float or (n_samples,)
        > 0, in units of the losses (alpha in [1]_).
    float64_scores : bool
        Scores in float64 whatever the storage.
    threads : int, optional
        At most this many threads; all processors by default.

    Returns
    -------
    value : float or ndarray, (K,)
    grad : ndarray, (n_classifiers,) or (K, n_classifiers)

    Raises
    ------
    TypeError, ValueError
        Naming the argument; the first loss that is not finite is named by its index.

    Notes
    -----
    Exponents are shifted by the maximum of the sample, and close to 0 the logarithm is taken by log1p: no
    input overflows and no temperature loses accuracy. Scores are in float32 for storage of 32 bits or less,
    sums over samples in float64. Equal input gives equal bits at any number of threads.

    References
    ----------
    .. [1] Meunier et al., "Mixed Nash Equilibria in the Adversarial Examples Game", ICML 2021, eq. (7).

    Examples
    --------
    >>> import numpy as np
    >>> from mixsolve import smoothed_value_and_grad
    >>> losses = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])     # two classifiers, one sample, two attacks
    >>> value, grad = smoothed_value_and_grad(losses, [0.5, 0.5], temperature=0.1)
    >>> print(value, grad)
    0.5 [0.5 0.5]
    """
    table = as_table(losses, row_offsets=row_offsets, sample_weight=sample_weight, attack_prior=attack_prior)
    query, single = _check_weights(weights, table.n_classifiers)
    checked = check_temperature(temperature, table.n_samples)
    if not np.all(np.asarray(checked) > 0):
        raise ValueError("`temperature` must be > 0; got 0: use worst_case, the limit")
    per_query = np.broadcast_to(checked, (query.shape[0], *np.shape(checked)))
    found = run_pass(table, query, per_query, float64_scores=float64_scores, threads=check_threads(threads))
    if single:
        return float(found.value[0]), found.gradient[0]
    return found.value, found.gradient


def worst_case(
    losses: Any,
    weights: ArrayLike,
    *,
    row_offsets: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    attack_prior: ArrayLike | None = None,
    float64_scores: bool = False,
    threads: int | None = None,
) -> WorstCase:
    """Worst-case loss of a mixture, a subgradient and the best attacks, in one read of the table.

    ``value = sum_i s_i max_j <weights, losses[:, i, j]>``; `grad` averages the rows of the best attacks, the
    lowest index on ties, and is what the classifiers lose against that pure strategy of the attacker: for a
    mixture, ``min(grad) <= game value <= value``.

    Parameters
    ----------
    losses : array, (n_classifiers, n_samples, n_attacks), or LossTable
        Finite losses, read only; see `LossTable`. A prior has no effect here.
    weights : array, (n_classifiers,) or (K, n_classifiers)
        Any finite weights. With K of them every result has a leading axis K.
    float64_scores, threads
        See `smoothed_value_and_grad`.

    Returns
    -------
    WorstCase
        ``value`` (float), ``grad`` (n_classifiers,), ``per_sample`` (n_samples,) in units of the losses,
        ``best_attack`` (n_samples,) of int64.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; the first loss that is not finite is named by its index.

    References
    ----------
    Meunier et al., ICML 2021: the adversarial risk of a mixture, and the oracle of Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from mixsolve import worst_case
    >>> losses = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> worst_case(losses, [0.75, 0.25]).value
    0.75
    """
    table = as_table(losses, row_offsets=row_offsets, sample_weight=sample_weight, attack_prior=attack_prior)
    query, single = _check_weights(weights, table.n_classifiers)
    found = run_pass(
        table,
        query,
        0.0,
        per_sample=True,
        best_attack=True,
        float64_scores=float64_scores,
        threads=check_threads(threads),
    )
    assert found.per_sample is not None and found.best_attack is not None
    if single:
        return WorstCase(float(found.value[0]), found.gradient[0], found.per_sample[0], found.best_attack[0])
    return WorstCase(found.value, found.gradient, found.per_sample, found.best_attack)


def _check_weights(weights: ArrayLike, n_classifiers: int) -> tuple[NDArray[np.float64], bool]:
    """The queries as (K, n_classifiers), and whether one was given alone."""
    array = real_array(weights, "weights").astype(np.float64)
    if array.ndim not in (1, 2) or array.shape[-1] != n_classifiers or array.size == 0:
        raise ValueError(
            f"`weights` must have shape ({n_classifiers},) or (K, {n_classifiers}); got shape {array.shape}"
        )
    if not np.isfinite(array).all():
        where = tuple(int(index) for index in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"`weights` must be finite; got {array[where]} at {where}")
    return np.atleast_2d(array), array.ndim == 1


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
    table: LossTable, cancel: _native.CancelToken | None = None, first_sample: int = 0
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

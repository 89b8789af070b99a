"""The checks at the edge: shapes, offsets, weights, priors, temperatures, integers, with messages that help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve.device_array import cuda_device_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRIOR_TOLERANCE = 1e-6
"""How far from 1 a sample's prior may sum; what is left is normalised away."""


def check_loss_shape(shape: tuple[int, ...], *, ragged: bool) -> None:
    """Check the dimensions of the losses.

    Raises
    ------
    ValueError
        If their number is wrong, or an axis is empty.
    """
    if ragged and len(shape) != 2:
        raise ValueError(
            f"`losses` must have 2 dimensions (classifiers, rows) with `row_offsets`; got shape {shape}"
        )
    if not ragged and len(shape) != 3:
        remedy = "; a table of ragged attack sets needs `row_offsets`" if len(shape) == 2 else ""
        raise ValueError(
            f"`losses` must have 3 dimensions (classifiers, samples, attacks); got shape {shape}{remedy}"
        )
    if 0 in shape:
        required = "classifier and one row" if ragged else "classifier, one sample and one attack"
        raise ValueError(f"`losses` must hold at least one {required}; got shape {shape}")


def check_citation(samples: NDArray[np.int64], attacks: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    """Raise ValueError unless every attack is one of its sample's, of which there are `counts`."""
    if samples.ndim != 1 or samples.shape != attacks.shape:
        raise ValueError(
            f"`sample` and `attack` must be vectors of equal length; "
            f"got shapes {samples.shape} and {attacks.shape}"
        )
    if samples.size and (samples.min() < 0 or samples.max() >= counts.size):
        raise ValueError(f"`sample` must be in 0..{counts.size - 1}; got {samples.min()} to {samples.max()}")
    outside = (attacks < 0) | (attacks >= counts[samples])
    if outside.any():
        which = int(np.argmax(outside))
        raise ValueError(
            f"`attack` must be in 0..{counts[samples[which]] - 1} for sample {samples[which]}; got {attacks[which]}"
        )


def check_row_offsets(row_offsets: Any, n_rows: int) -> NDArray[np.int64]:
    """The offsets as int64, (n_samples + 1,).

    Raises
    ------
    TypeError
        If they are not integers.
    ValueError
        If they do not rise from 0 to `n_rows`, by one row a sample at least.
    """
    _refuse_device(row_offsets, "row_offsets")
    given = np.asarray(row_offsets)
    if given.dtype.kind not in "iu":
        raise TypeError(f"`row_offsets` must be integers; got type {given.dtype}")
    if given.ndim != 1 or given.size < 2:
        raise ValueError(f"`row_offsets` must have shape (n_samples + 1,), n_samples >= 1; got {given.shape}")
    offsets = given.astype(np.int64)
    if offsets[0] != 0:
        raise ValueError(f"`row_offsets` must start at 0; got {offsets[0]}")
    if offsets[-1] != n_rows:
        raise ValueError(f"`row_offsets` must end at the number of rows, {n_rows}; got {offsets[-1]}")
    falls = np.diff(offsets) <= 0
    if falls.any():
        sample = int(np.argmax(falls))
        raise ValueError(
            "`row_offsets` must rise strictly (every sample needs an attack); "
            f"sample {sample} got rows {offsets[sample]}:{offsets[sample + 1]}"
        )
    return offsets


def check_sample_weight(sample_weight: Any, n_samples: int) -> NDArray[np.float64] | None:
    """The sample weights, normalised to sum 1, or None where they are uniform.

    Raises
    ------
    TypeError
        If they are not real numbers.
    ValueError
        If their shape is wrong, or one is negative or not finite, or all are zero.
    """
    if sample_weight is None:
        return None
    weights = real_array(sample_weight, "sample_weight").astype(np.float64)
    if weights.shape != (n_samples,):
        raise ValueError(
            f"`sample_weight` must have shape ({n_samples},), one per sample; got shape {weights.shape}"
        )
    wrong = ~np.isfinite(weights) | (weights < 0)
    if wrong.any():
        sample = int(np.argmax(wrong))
        raise ValueError(
            f"`sample_weight` must be finite and non-negative; got {weights[sample]} for sample {sample}"
        )
    largest = weights.max()
    if largest == 0:
        raise ValueError("`sample_weight` must have a positive entry; got all zero")
    if weights.min() == largest:
        return None
    weights /= largest  # first to the scale of 1: the sum cannot overflow
    weights /= weights.sum()
    return weights


def total_weight(sample_weight: Any, n_samples: int) -> float:
    """Sum of sample weights that have been checked, as they were given; of uniform ones their number."""
    if sample_weight is None:
        return float(n_samples)
    with np.errstate(over="ignore"):
        return float(real_array(sample_weight, "sample_weight").sum(dtype=np.float64))


def check_attack_prior(
    attack_prior: Any, plane_shape: tuple[int, ...], row_offsets: NDArray[np.int64] | None
) -> NDArray[Any] | None:
    """The prior in float32 or float64, C-contiguous, as given: not normalised.

    Raises
    ------
    TypeError
        If it does not hold real numbers.
    ValueError
        If its shape is not that of one plane, an entry is not positive and finite, or a sample does not sum
        to 1 within `PRIOR_TOLERANCE`.
    """
    if attack_prior is None:
        return None
    prior = real_array(attack_prior, "attack_prior")
    if prior.shape != plane_shape:
        raise ValueError(
            f"`attack_prior` must have the shape of one plane, {plane_shape}; got shape {prior.shape}"
        )
    keep = prior.dtype.name in ("float32", "float64")
    prior = np.ascontiguousarray(prior, dtype=prior.dtype.newbyteorder("=") if keep else np.float64)
    if not prior.min() > 0 or not np.isfinite(prior.max()):
        wrong = ~(np.isfinite(prior) & (prior > 0))
        where = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), prior.shape))
        raise ValueError(f"`attack_prior` must be positive and finite; got {prior[where]} at index {where}")
    total = prior_total(prior, row_offsets)
    off = np.abs(total - 1)
    if off.max() > PRIOR_TOLERANCE:
        sample = int(np.argmax(off))
        raise ValueError(
            f"`attack_prior` must sum to 1 over the attacks of each sample within {PRIOR_TOLERANCE:g}; "
            f"got {total[sample]!s} for sample {sample}"
        )
    return prior


def prior_total(prior: NDArray[Any], row_offsets: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Sum of the prior over the attacks of each sample, (n_samples,)."""
    if row_offsets is None:
        total: NDArray[np.float64] = prior.sum(axis=1, dtype=np.float64)
        return total
    return np.add.reduceat(prior, row_offsets[:-1], dtype=np.float64)


def check_temperature(temperature: Any, n_samples: int) -> float | NDArray[np.float64]:
    """A temperature for all samples, or one for each, (n_samples,); all zeros become the number 0.

    Raises
    ------
    TypeError
        If it is not made of real numbers.
    ValueError
        If its shape is neither () nor (n_samples,), an entry is negative or not finite, or 0 is mixed with
        positive entries.
    """
    given = real_array(temperature, "temperature").astype(np.float64)
    if given.shape not in ((), (n_samples,)):
        raise ValueError(
            f"`temperature` must be a number or have shape ({n_samples},), one per sample; "
            f"got shape {given.shape}"
        )
    if given.size == 0:
        return given
    wrong = ~np.isfinite(given) | (given < 0)
    if wrong.any():
        raise ValueError(f"`temperature` must be finite and non-negative; got {given[wrong].flat[0]}")
    if given.min() == 0 < given.max():
        raise ValueError(
            f"`temperature` must be 0 for all samples or positive for all; "
            f"got {int((given == 0).sum())} zeros among {n_samples}"
        )
    return float(given.flat[0]) if given.ndim == 0 or given.max() == 0 else given


def check_integer(name: str, given: Any, smallest: int) -> int:
    """An argument that must be an integer of a smallest size.

    Raises
    ------
    TypeError
        If it is no integer.
    ValueError
        If it is too small.
    """
    if isinstance(given, (bool, np.bool_)) or not isinstance(given, (int, np.integer)):
        raise TypeError(f"`{name}` must be an integer >= {smallest}; got {given!r}")
    if given < smallest:
        raise ValueError(f"`{name}` must be an integer >= {smallest}; got {given!r}")
    return int(given)


def check_threads(threads: Any) -> int | None:
    """How many threads may work at most; None means all processors.

    Raises
    ------
    TypeError, ValueError
        If it is neither None nor an integer >= 1.
    """
    return None if threads is None else check_integer("threads", threads, 1)


def real_array(given: Any, name: str) -> NDArray[Any]:
    """An argument as an array of real numbers, its own type kept; a tensor is taken without its graph.

    Raises
    ------
    TypeError
        If it holds anything but real numbers.
    """
    _refuse_device(given, name)
    try:
        array = np.asarray(given.detach() if getattr(given, "requires_grad", False) else given)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be an array of real numbers; got {type(given).__name__}") from error
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise TypeError(f"`{name}` must be an array of real numbers; got type {array.dtype}")
    return array


def _refuse_device(given: Any, name: str) -> None:
    device = cuda_device_of(given)
    if device is not None:
        raise ValueError(
            f"`{name}` must be in CPU memory, whatever the losses are on; got an array on CUDA device {device}; "
            "copy it to the CPU"
        )

"""The loss table: one view of the user's array, checked once at the edge."""

from __future__ import annotations

import copy
import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mixsolve import _native
from mixsolve.cuda_backend import cuda_backend
from mixsolve.device_array import DeviceArray
from mixsolve.inputs import (
    check_attack_prior,
    check_citation,
    check_loss_shape,
    check_row_offsets,
    check_sample_weight,
    check_temperature,
    prior_total,
    total_weight,
)
from mixsolve.quantisation import in_steps
from mixsolve.storage import Storage, as_bytes, as_taken, make_readable, view_losses, widen

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LossTable", "Storage", "as_table", "check_temperature"]


class SampleBlock(NamedTuple):
    """Some samples of a table, widened to float64, their rows side by side."""

    losses: NDArray[np.float64]
    """(n_classifiers, rows)"""
    starts: NDArray[np.int64]
    """(n,) first row of each sample; the last one ends at the last row."""
    prior: NDArray[np.float64]
    """(rows,) sums to 1 over each sample."""


class LossTable:
    """Losses of every classifier on every attack, with the weights and priors that belong to them.

    ``losses[k, i, j]`` is the loss of classifier k on attack j against sample i. The table is a view, read as
    it is stored; it must not change while it is in use. The first pass finds losses that are not finite.

    Parameters
    ----------
    losses : array, (n_classifiers, n_samples, n_attacks), or (n_classifiers, n_rows) with `row_offsets`
        NumPy array (`numpy.memmap` included), or an object with ``__dlpack__`` such as a torch tensor, in CPU memory
        or on a CUDA device, where ``__cuda_array_interface__`` is taken too. float64, float32, float16 and bfloat16
        are read as stored, with any stride along classifiers and samples, 0 and negative included, and so is uint8, as
        bytes; if attacks are not contiguous the array is copied once. bool is packed once, to a word of 16, 32 or 64
        bits per attack, and read as bytes above 64 classifiers. Other integers are converted once:
        up to 16 bits to float32, wider ones to float64. On a CUDA device nothing is copied or converted: attacks must
        be contiguous there, and passes read the losses in the order of the stream that their library works in when
        the table is made. What belongs to the losses stays in CPU memory.
    row_offsets : array of int, (n_samples + 1,), optional
        Sample i owns the rows ``row_offsets[i]:row_offsets[i + 1]``, at least one.
    sample_weight : array, (n_samples,), optional
        Non-negative, not all zero; normalised to sum 1. Uniform by default.
    attack_prior : array, one plane: (n_samples, n_attacks) or (n_rows,), optional
        Positive; sums to 1 over the attacks of each sample within 1e-6, the rest of which is normalised away.
        Uniform by default.
    scale, offset : float
        The losses are ``scale * losses + offset``. uint8 and bool are read so where `scale` is positive; else other
        values than 1 and 0 make a copy, in float64 for float64 and wide integers, in float32 for what is narrower.

    Attributes
    ----------
    array : ndarray or DeviceArray
        The losses as stored, bfloat16 as its bits in uint16. Read only. Where bool was packed, the words of the
        attacks under every classifier, with a stride of 0: bit k is the loss of classifier k.
    storage : Storage
    n_classifiers, n_samples, n_rows : int
    n_attacks : int or None
        None when ragged.
    row_offsets : ndarray of int64, (n_samples + 1,), or None
    attack_prior : ndarray of float32 or float64, or None
        As given, C-contiguous.
    total_weight : float
        Sum of the sample weights as they were given.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what is required and what was given.
    """

    def __init__(
        self,
        losses: Any,
        *,
        row_offsets: Any = None,
        sample_weight: Any = None,
        attack_prior: Any = None,
        scale: float = 1.0,
        offset: float = 0.0,
    ) -> None:
        array, storage = view_losses(losses)
        check_loss_shape(array.shape, ragged=row_offsets is not None)
        self.scale, self.offset = 1.0, 0.0
        held = as_bytes(array, scale)
        if held is None or not np.isfinite(offset):
            self.array, self.storage = make_readable(array, storage, scale, offset)
        else:
            self.array, self.storage = held
            self.scale, self.offset = float(scale), float(offset)
        self.n_classifiers = int(array.shape[0])
        self.n_rows = int(np.prod(array.shape[1:]))
        self.n_attacks: int | None = None
        self.row_offsets: NDArray[np.int64] | None = None
        if row_offsets is None:
            self.n_samples, self.n_attacks = array.shape[1:]
        else:
            self.row_offsets = check_row_offsets(row_offsets, self.n_rows)
            self.n_samples = self.row_offsets.size - 1
        self._sample_weight = check_sample_weight(sample_weight, self.n_samples)
        self.total_weight = total_weight(sample_weight, self.n_samples)
        self.attack_prior = check_attack_prior(attack_prior, array.shape[1:], self.row_offsets)

    array: Any

    @classmethod
    def quantise(cls, losses: Any, dtype: Any = np.uint8, **belongings: Any) -> tuple[LossTable, float]:
        """A copy of the losses in 256 equal steps from the smallest to the largest, and what that costs.

        Parameters
        ----------
        losses : array, (n_classifiers, n_samples, n_attacks), or (n_classifiers, n_rows) with `row_offsets`
            Finite.
        dtype : data type
            uint8; or bool, with two steps, which is exact for losses of two values.
        **belongings
            `row_offsets`, `sample_weight` and `attack_prior` of the copy, as in `LossTable`.

        Returns
        -------
        table : LossTable
        delta : float
            The largest difference between a loss and its copy: no value of a mixture is off by more.

        Raises
        ------
        TypeError, ValueError
            If the type is another one, or a loss is not finite.
        """
        codes, scale, low, delta = in_steps(losses, dtype)
        return cls(codes, scale=scale, offset=low, **belongings), delta

    @cached_property
    def sample_weight(self) -> NDArray[np.float64]:
        """The sample weights, normalised to sum 1, (n_samples,)."""
        if self._sample_weight is None:
            return np.full(self.n_samples, 1 / self.n_samples)
        return self._sample_weight

    @property
    def nbytes(self) -> int:
        """Bytes that one pass reads."""
        return self.n_rows * self.row_bytes

    @property
    def row_bytes(self) -> int:
        """Bytes of the losses of one attack."""
        return self.storage.itemsize * self.n_planes

    @property
    def n_planes(self) -> int:
        """Planes that differ in memory: one for every classifier, or one of sets for all."""
        return 1 if self.storage.holds_sets else self.n_classifiers

    @property
    def attack_counts(self) -> NDArray[np.int64]:
        """Number of attacks of each sample, (n_samples,)."""
        if self.row_offsets is None:
            return np.full(self.n_samples, self.n_attacks, dtype=np.int64)
        return np.diff(self.row_offsets)

    @property
    def backend(self) -> Any:
        """The compiled module whose passes read this table: that of the device that the losses are on."""
        return cuda_backend() if self.on_device else _native

    @property
    def on_device(self) -> bool:
        """Whether the losses are in the memory of a GPU."""
        return isinstance(self.__dict__.get("array"), DeviceArray)

    @cached_property
    def native(self) -> Any:
        """The table as the compiled passes see it; made on first use."""
        return self.backend.Table(
            self.array, int(self.storage), self.row_offsets, self._sample_weight, self.attack_prior
        )

    @property
    def is_affine(self) -> bool:
        """Whether the losses are not the numbers that are stored, but ``scale * stored + offset``."""
        return (self.scale, self.offset) != (1.0, 0.0)

    @property
    def is_compact(self) -> bool:
        """Whether the losses are bytes or sets, and no others than are stored."""
        return self.storage >= Storage.UINT8 and not self.is_affine

    @property
    def begins_binary(self) -> bool:
        """Whether the first loss is 0 or 1, stored as it is in CPU memory, where sets are found."""
        if self.on_device or self.is_affine:
            return False
        return float(self.rows(np.zeros(1), np.zeros(1))[0, 0]) in (0.0, 1.0)

    def _widen(self, stored: NDArray[Any]) -> NDArray[np.float64]:
        """Stored numbers as losses."""
        wide = widen(stored, self.storage)
        return self.scale * wide + self.offset if self.is_affine else wide

    def rows(self, sample: Any, attack: Any) -> NDArray[np.float64]:
        """Losses of the cited attacks, (n, n_classifiers).

        Parameters
        ----------
        sample, attack : array of int, (n,)
            Attack indices count from the first attack of their sample.

        Raises
        ------
        ValueError
            If an index is outside the table.
        """
        samples, attacks = np.asarray(sample, dtype=np.int64), np.asarray(attack, dtype=np.int64)
        check_citation(samples, attacks, self.attack_counts)
        if self.on_device:
            found: NDArray[np.float64] = self.backend.rows(self.native, samples, attacks)
            return self.scale * found + self.offset if self.is_affine else found
        if self.row_offsets is None:
            cited = self.array[:, samples, attacks]
        else:
            cited = self.array[:, self.row_offsets[samples] + attacks]
        return np.ascontiguousarray(self._widen(cited).T)

    def prior_at(self, sample: Any, attack: Any) -> NDArray[np.float64]:
        """Normalised prior probability of the cited attacks, (n,)."""
        samples, attacks = np.asarray(sample, dtype=np.int64), np.asarray(attack, dtype=np.int64)
        check_citation(samples, attacks, self.attack_counts)
        if self.attack_prior is None:
            return 1 / self.attack_counts[samples]
        if self.row_offsets is None:
            cited = self.attack_prior[samples, attacks]
        else:
            cited = self.attack_prior[self.row_offsets[samples] + attacks]
        return cited.astype(np.float64) / self._prior_total[samples]

    def sample_losses(self, sample: int) -> NDArray[np.float64]:
        """Losses of all attacks of one sample, (n_classifiers, m_i)."""
        return self.block(sample, sample + 1).losses

    def prior_of(self, sample: int) -> NDArray[np.float64]:
        """Normalised prior of one sample's attacks, (m_i,)."""
        return self.block(sample, sample + 1).prior

    def block(self, first: int, last: int) -> SampleBlock:
        """The samples ``first:last`` in float64."""
        counts = self.attack_counts[first:last]
        if self.row_offsets is None:
            where = slice(first, last)
        else:
            where = slice(self.row_offsets[first], self.row_offsets[last])
        stored = self._brought(np.arange(first, last)) if self.on_device else self.array[:, where]
        losses = self._widen(stored).reshape(self.n_classifiers, -1)
        if self.attack_prior is None:
            prior = np.repeat(1 / counts, counts)
        else:
            prior = self.attack_prior[where].astype(np.float64).reshape(-1)
            prior /= np.repeat(self._prior_total[first:last], counts)
        return SampleBlock(losses, np.cumsum(counts) - counts, prior)

    def excerpt(self, samples: NDArray[np.int64]) -> LossTable:
        """A copy of some samples without the prior; bfloat16 as float32, the others as they are stored."""
        counts = self.attack_counts[samples]
        offsets = None if self.row_offsets is None else np.concatenate([[0], np.cumsum(counts)])
        if self.on_device:
            losses = self._brought(samples).reshape(self.n_classifiers, *self._shape_of(samples.size))
        elif self.row_offsets is None or offsets is None:
            losses = np.take(self.array, samples, axis=1)
        else:
            within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
            losses = np.take(self.array, np.repeat(self.row_offsets[samples], counts) + within, axis=1)
        return LossTable(
            as_taken(losses, self.storage),
            row_offsets=offsets,
            sample_weight=self.sample_weight[samples],
            scale=self.scale,
            offset=self.offset,
        )

    def reweighted(self, sample_weight: NDArray[np.float64] | None) -> LossTable:
        """The same losses with other sample weights."""
        other = copy.copy(self)
        other.__dict__.pop("sample_weight", None)
        other._sample_weight = check_sample_weight(sample_weight, self.n_samples)
        return other

    @property
    def has_sample_weight(self) -> bool:
        """Whether the samples differ in weight."""
        return self._sample_weight is not None

    def fingerprint(self) -> str:
        """What tells this table from another one."""
        return self.digest()

    def digest(self) -> str:
        """SHA-256 over shape, storage, losses, sample weights and prior, as hexadecimal digits."""
        total = hashlib.sha256(
            f"{self.array.shape} {self.storage.name} {self.array.dtype.str} {self.scale!r} {self.offset!r}".encode()
        )
        for classifier in range(self.n_planes):
            if self.on_device:
                plane = self.backend.samples(self.native, np.arange(self.n_samples), classifier)
            else:
                plane = np.ascontiguousarray(self.array[classifier])
            total.update(plane.data)
        for part in (self.row_offsets, self.sample_weight, self.attack_prior):
            total.update(b"none" if part is None else np.ascontiguousarray(part).data)
        return total.hexdigest()

    def __repr__(self) -> str:
        attacks = "ragged" if self.n_attacks is None else str(self.n_attacks)
        return (
            f"LossTable({self.n_classifiers} classifiers, {self.n_samples} samples, {attacks} attacks, "
            f"{self.storage.name.lower()})"
        )

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name != "native"}
        return {**state, "array": self.array[: self.n_planes]} if self.storage.holds_sets else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.storage.holds_sets:
            self.array = np.broadcast_to(self.array, (self.n_classifiers, *self.array.shape[1:]))

    def _brought(self, samples: NDArray[np.int64]) -> NDArray[Any]:
        """Losses of some samples from the device, as they are stored, (n_classifiers, rows)."""
        planes = range(self.n_classifiers)
        return np.stack([self.backend.samples(self.native, samples, classifier) for classifier in planes])

    def _shape_of(self, n_samples: int) -> tuple[int, ...]:
        """Of so many samples under one classifier."""
        return (-1,) if self.n_attacks is None else (n_samples, self.n_attacks)

    @cached_property
    def _prior_total(self) -> NDArray[np.float64]:
        assert self.attack_prior is not None
        return prior_total(self.attack_prior, self.row_offsets)


def as_table(
    losses: Any, *, row_offsets: Any = None, sample_weight: Any = None, attack_prior: Any = None
) -> LossTable:
    """A `LossTable` as it is, or a new one made from an array and these keywords.

    Raises
    ------
    ValueError
        If a keyword is given beside a `LossTable`, which has its own.
    """
    if not isinstance(losses, LossTable):
        return LossTable(
            losses, row_offsets=row_offsets, sample_weight=sample_weight, attack_prior=attack_prior
        )
    given = {"row_offsets": row_offsets, "sample_weight": sample_weight, "attack_prior": attack_prior}
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"`{name}` must be None when `losses` is a LossTable, which has its own; got a second one; "
                "make it part of the LossTable"
            )
    return losses

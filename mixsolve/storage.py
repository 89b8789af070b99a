"""Storage types of a table, and how arrays from NumPy, torch and others become one without being copied."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve import _native
from mixsolve.device_array import DeviceArray, cuda_device_of, import_device_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CPU_DEVICES = (1, 3)  # DLPack's kDLCPU and kDLCUDAHost: page-locked memory is the CPU's too
_ACCEPTED = "float64, float32, float16, bfloat16, bool or integers"

MOST_IN_A_SET = 64
"""Classifiers that a word has bits for."""


class Storage(IntEnum):
    """Number types that a pass reads as they are stored. The numbers are those of `csrc/loss_table.h`."""

    FLOAT64 = 0
    FLOAT32 = 1
    FLOAT16 = 2
    BFLOAT16 = 3
    UINT8 = 4
    BITS16 = 5
    """0/1 losses as words: bit k of an attack's word says whether it fools classifier k."""
    BITS32 = 6
    BITS64 = 7

    @property
    def itemsize(self) -> int:
        """Bytes per loss, or of the word that an attack has in the place of its losses."""
        return (8, 4, 2, 2, 1, 2, 4, 8)[self]

    @property
    def holds_sets(self) -> bool:
        """Whether rows are words: every plane is then the same words."""
        return self >= Storage.BITS16


_SETS = (Storage.BITS16, Storage.BITS32, Storage.BITS64)


def view_losses(losses: Any) -> tuple[Any, Storage | None]:
    """The user's losses as an array over the same memory, and their storage type.

    Parameters
    ----------
    losses : array
        NumPy array, nested sequence, or object with ``__dlpack__`` or ``__cuda_array_interface__``.

    Returns
    -------
    array : ndarray or DeviceArray
        bfloat16 as its bits in uint16.
    storage : Storage or None
        None for bool and integers, which need a conversion unless they are of one byte without a sign.

    Raises
    ------
    TypeError
        If the numbers are of another type, or the array is masked.
    ValueError
        If the array is in the memory of a device other than a CUDA one, or a nested sequence is not rectangular.
    """
    if isinstance(losses, np.ma.MaskedArray):
        raise TypeError("`losses` must be an array without a mask; got a masked array; fill it first")
    if isinstance(losses, np.ndarray):
        array = losses.view(np.ndarray)
    elif hasattr(losses, "__dlpack__") or hasattr(losses, "__cuda_array_interface__"):
        if cuda_device_of(losses) is not None:
            held = import_device_array(losses)
            return held, Storage(held.storage)
        _refuse_other_devices(losses)
        imported = losses.detach() if getattr(losses, "requires_grad", False) else losses
        try:
            array, number, _, _ = _native.import_dlpack(imported)
            return array.view(), Storage(number)
        except TypeError:  # bool and integers
            array = np.from_dlpack(imported)
    else:
        try:
            array = np.asarray(losses)
        except ValueError as error:
            raise ValueError(
                f"`losses` must be a rectangular array; got nested sequences ({error})"
            ) from error
    return _by_type(array)


def make_readable(
    array: Any, storage: Storage | None, scale: float = 1.0, offset: float = 0.0
) -> tuple[Any, Storage]:
    """An array that the pass can read, from one that `view_losses` found; the same memory where possible.

    Floating types keep any stride along classifiers and samples; they are copied once only if the last axis
    is not contiguous, the data are not aligned or the byte order is foreign. bool and integers of up to 16
    bits are converted once to float32, wider ones to float64, exactly. A `scale` or `offset` makes a copy
    ``scale * array + offset``, in float64 for float64 and wide integers, else in float32.

    Parameters
    ----------
    array : ndarray or DeviceArray, (n_classifiers, ...)
    storage : Storage or None
        None for bool and integers.
    scale, offset : float
        Finite.

    Returns
    -------
    array : ndarray or DeviceArray
        Last axis contiguous, read only.
    storage : Storage

    Raises
    ------
    ValueError
        If `scale` or `offset` is not finite, or an integer is beyond 2**53, or an array on a GPU needs a copy.
    """
    for name, number in (("scale", scale), ("offset", offset)):
        if not math.isfinite(number):
            raise ValueError(f"`{name}` must be finite; got {number}")
    if isinstance(array, DeviceArray):
        assert storage is not None
        _check_readable_there(array, scale, offset)
        return array, storage
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if storage is None or (scale, offset) != (1.0, 0.0):
        array, storage = _convert(array, storage, scale, offset)
    array = _with_contiguous_rows(array)
    array.setflags(write=False)
    return array, storage


def as_bytes(array: Any, scale: float = 1.0) -> tuple[Any, Storage] | None:
    """bool losses as sets, uint8 losses as bytes in rows that are contiguous; None for others.

    bool losses of more classifiers than a set has bits for are bytes, too, and so are those on a GPU.

    Parameters
    ----------
    array : ndarray or DeviceArray, (n_classifiers, ...)
    scale : float
        Of the losses; None is returned unless it is positive, for only then more is worse in bytes, too.

    Returns
    -------
    array : ndarray or DeviceArray, (n_classifiers, ...)
        Last axis contiguous, read only. Sets are the same words under every classifier, with a stride of 0.
    storage : Storage
    """
    if isinstance(array, DeviceArray):
        if array.storage != Storage.UINT8 or not 0 < scale < math.inf:
            return None
        _check_readable_there(array, 1.0, 0.0)
        return array, Storage.UINT8
    if array.dtype not in (np.bool_, np.uint8) or not 0 < scale < math.inf:
        return None
    held = _with_contiguous_rows(array).view(np.uint8)
    held.setflags(write=False)
    if array.dtype == np.uint8 or array.size == 0 or array.shape[0] > MOST_IN_A_SET:
        return held, Storage.UINT8
    return _packed(held)


def _packed(losses: NDArray[np.uint8]) -> tuple[NDArray[Any], Storage]:
    """0/1 losses as words, the shortest that have a bit for every classifier."""
    storage = next(kind for kind in _SETS if len(losses) <= 8 * kind.itemsize)
    words = np.empty(losses.shape[1:], dtype=f"u{storage.itemsize}")
    planes = losses if losses.ndim == 3 else losses[:, np.newaxis]
    if not _native.pack_sets(_native.Table(planes, int(Storage.UINT8)), words):
        raise ValueError("`losses` of type bool must be held as bytes 0 and 1; got another byte")
    return np.broadcast_to(words, losses.shape), storage


def as_taken(array: NDArray[Any], storage: Storage) -> NDArray[Any]:
    """Stored numbers (n_classifiers, ...) in a type that `view_losses` takes: sets as bool, bfloat16 as float32."""
    if storage.holds_sets:
        flags: NDArray[np.bool_] = widen(array, storage) != 0
        return flags
    return widen(array, storage).astype(np.float32) if storage is Storage.BFLOAT16 else array


def widen(array: NDArray[Any], storage: Storage) -> NDArray[np.float64]:
    """Stored numbers (n_classifiers, ...) as float64, exactly."""
    if storage.holds_sets:
        bit = np.arange(array.shape[0], dtype=array.dtype).reshape(-1, *[1] * (array.ndim - 1))
        flags: NDArray[np.float64] = (array >> bit & array.dtype.type(1)).astype(np.float64)
        return flags
    if storage is Storage.BFLOAT16:
        bits = np.ascontiguousarray(array).astype(np.uint32) << np.uint32(16)
        return bits.view(np.float32).astype(np.float64)
    return array.astype(np.float64)


def _by_type(array: NDArray[Any]) -> tuple[NDArray[Any], Storage | None]:
    kind, name = array.dtype.kind, array.dtype.name
    if name == "bfloat16":
        return array.view(np.uint16), Storage.BFLOAT16
    if kind == "f" and name in ("float64", "float32", "float16"):
        return array.view(), Storage[name.upper()]
    if kind in "biu":
        return array.view(), None
    raise TypeError(f"`losses` must hold {_ACCEPTED}; got type {array.dtype}")


def _check_readable_there(array: DeviceArray, scale: float, offset: float) -> None:
    """On a GPU nothing is copied."""
    if (scale, offset) != (1.0, 0.0):
        raise ValueError("`losses` on a GPU must have scale 1 and offset 0; scale them there")
    if array.shape and array.shape[-1] != 1 and array.strides[-1] != array.itemsize:
        raise ValueError(
            f"`losses` on a GPU must be contiguous along attacks; got strides of {array.strides} bytes; "
            "make them contiguous there"
        )
    if array.pointer % array.itemsize != 0:
        raise ValueError(
            f"`losses` must be aligned to their {array.itemsize} bytes; got address {array.pointer}"
        )


def _refuse_other_devices(losses: Any) -> None:
    device, number = losses.__dlpack_device__()
    if int(device) not in _CPU_DEVICES:
        kind = f"device of DLPack type {int(device)}, number"
        raise ValueError(
            f"`losses` must be in CPU memory or on a CUDA device; got an array on {kind} {number}; "
            "copy it to the CPU first"
        )


def _convert(
    array: NDArray[Any], storage: Storage | None, scale: float, offset: float
) -> tuple[NDArray[Any], Storage]:
    """``scale * array + offset`` in floating point, one classifier at a time."""
    narrow = array.dtype.itemsize <= 2 or storage is Storage.FLOAT32
    if storage is None and array.dtype.itemsize == 8 and array.size:
        largest = max(abs(int(array.min())), abs(int(array.max())))
        if largest > 2**53:
            raise ValueError(f"`losses` must be exact in float64 (integers up to 2**53); got {largest}")
    if storage is None and (scale, offset) == (1.0, 0.0):
        return array.astype(
            np.float32 if narrow else np.float64
        ), Storage.FLOAT32 if narrow else Storage.FLOAT64
    converted = np.empty(array.shape, dtype=np.float32 if narrow else np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is reported by the first pass
        for plane, target in zip(array, converted, strict=True):
            exact = plane.astype(np.float64) if storage is None else widen(plane, storage)
            target[...] = scale * exact + offset
    return converted, Storage.FLOAT32 if narrow else Storage.FLOAT64


def _with_contiguous_rows(array: NDArray[Any]) -> NDArray[Any]:
    if not array.flags.aligned:
        return np.array(array, order="C")
    if array.ndim == 0 or array.strides[-1] == array.itemsize:
        return array
    if array.shape[-1] == 1:  # the stride of an axis of length 1 means nothing: say that it is contiguous
        return np.lib.stride_tricks.as_strided(array, strides=(*array.strides[:-1], array.itemsize))
    return np.ascontiguousarray(array)

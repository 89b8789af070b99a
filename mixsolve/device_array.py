"""Arrays in the memory of a CUDA device, taken from their owners without a copy, by DLPack or the CUDA interface."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from mixsolve import _native

__all__ = ["DeviceArray", "cuda_device_of", "import_device_array"]

CUDA = 2
"""DLPack's number of CUDA devices."""

_LEGACY_STREAM = 1
"""What both protocols call CUDA's default stream."""

_TYPES = {"<f8": 0, "<f4": 1, "<f2": 2, "|u1": 4, "|b1": 4}
_ITEM_BYTES = (8, 4, 2, 2, 1)
_ACCEPTED = "float64, float32, float16, bfloat16, uint8 or bool"


@dataclass(frozen=True, eq=False)
class DeviceArray:
    """An array on a CUDA device: its address and layout, and the object that owns the memory.

    Attributes
    ----------
    pointer : int
        Address of the first element.
    shape : tuple of int
    strides : tuple of int
        In bytes.
    storage : int
        Number type, as `mixsolve.table.Storage` numbers it.
    device : int
    stream : int
        The CUDA stream in whose order the array is read; 1 is the default stream.
    read_only : bool
    owner : object
        Kept, and the memory with it.
    """

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    storage: int
    device: int
    stream: int
    read_only: bool
    owner: Any

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return _ITEM_BYTES[self.storage]

    @property
    def dtype(self) -> np.dtype[Any]:
        """As NumPy holds it: bfloat16 as its bits in uint16, bool as bytes."""
        return np.dtype(("f8", "f4", "f2", "u2", "u1")[self.storage])

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return prod(self.shape) * self.itemsize

    @property
    def contiguous(self) -> bool:
        """Whether elements follow each other, the last axis first."""
        expected = self.itemsize
        for length, stride in zip(self.shape[::-1], self.strides[::-1], strict=True):
            if length != 1 and stride != expected:
                return False
            expected *= length
        return True


def cuda_device_of(given: Any) -> int | None:
    """The CUDA device that an object's memory is on; None for memory of the CPU, or no array of another's at all."""
    if hasattr(given, "__dlpack_device__"):
        kind, number = given.__dlpack_device__()
        return int(number) if int(kind) == CUDA else None
    if hasattr(given, "__cuda_array_interface__"):
        return int(getattr(getattr(given, "device", None), "id", 0))
    return None


def import_device_array(given: Any, name: str = "losses") -> DeviceArray:
    """An array on a CUDA device, without a copy, ready to be read in the order of its owner's current stream.

    Parameters
    ----------
    given : object
        With ``__dlpack__``, as CUDA tensors of torch, CuPy and JAX have it, or ``__cuda_array_interface__``.
    name : str
        What messages call it.

    Raises
    ------
    TypeError
        If its numbers are not float64, float32, float16, bfloat16, uint8 or bool, or it is masked.
    """
    device = cuda_device_of(given)
    assert device is not None
    if hasattr(given, "__dlpack__"):
        return _from_dlpack(given.detach() if getattr(given, "requires_grad", False) else given, device)
    return _from_interface(given, device, name)


def _from_dlpack(given: Any, device: int) -> DeviceArray:
    stream = _current_stream(given, device)
    owner, storage, _, number, pointer, shape, strides = _native.import_device_dlpack(given, stream)
    return DeviceArray(pointer, tuple(shape), tuple(strides), storage, number, stream, False, owner)


def _current_stream(given: Any, device: int) -> int:
    """The stream that the owner's library works in now; its default stream where that cannot be asked."""
    module = type(given).__module__.partition(".")[0]
    if module == "torch":
        handle = int(sys.modules["torch"].cuda.current_stream(device).cuda_stream)
    elif module == "cupy":
        handle = int(sys.modules["cupy"].cuda.get_current_stream().ptr)
    else:
        handle = 0
    return handle or _LEGACY_STREAM


def _from_interface(given: Any, device: int, name: str) -> DeviceArray:
    """After numba's description of the protocol, version 3; its stream of None asks for no order."""
    interface = given.__cuda_array_interface__
    if interface.get("mask") is not None:
        raise TypeError(f"`{name}` must be an array without a mask; got a masked array; fill it first")
    if interface["typestr"] not in _TYPES:
        raise TypeError(f"`{name}` on a GPU must hold {_ACCEPTED}; got type {interface['typestr']}")
    storage = _TYPES[interface["typestr"]]
    shape = tuple(int(length) for length in interface["shape"])
    pointer, read_only = interface["data"]
    strides = interface.get("strides")
    if strides is None:
        item = _ITEM_BYTES[storage]
        strides = [item * prod(shape[axis + 1 :]) for axis in range(len(shape))]
    stream = interface.get("stream") or _LEGACY_STREAM
    return DeviceArray(
        int(pointer),
        shape,
        tuple(int(s) for s in strides),
        storage,
        device,
        int(stream),
        bool(read_only),
        given,
    )

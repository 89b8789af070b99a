"""What passes can run on: which backends are compiled, what they find on this machine, and what keeps one from use."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

from mixsolve import _native

__all__ = ["Backend", "Device", "backends"]


@dataclass(frozen=True)
class Device:
    """A processor that a backend has found.

    Attributes
    ----------
    name : str
    capability : str
        The best instruction set in use, or the compute capability of a GPU.
    memory : int or None
        Bytes of its own, of a GPU.
    """

    name: str
    capability: str
    memory: int | None = None


@dataclass(frozen=True)
class Backend:
    """One implementation of the pass.

    Attributes
    ----------
    name : str
        ``"cpu"`` or ``"cuda"``.
    compiled : tuple of str
        What it is compiled for: instruction sets, or GPU architectures.
    devices : tuple of Device
    reason : str or None
        Why it cannot be used on this machine; None when it can.
    """

    name: str
    compiled: tuple[str, ...]
    devices: tuple[Device, ...]
    reason: str | None = None

    @property
    def usable(self) -> bool:
        """Whether passes can run on it."""
        return self.reason is None


def backends() -> tuple[Backend, ...]:
    """Every backend of mixsolve: what it is compiled for, what it finds here, and what keeps it from use.

    Returns
    -------
    tuple of Backend
        The CPU first.

    Notes
    -----
    This loads the CUDA module, where there is one; nothing else does before a table on a GPU is used.

    Examples
    --------
    >>> import mixsolve
    >>> [backend.name for backend in mixsolve.backends()]
    ['cpu', 'cuda']
    >>> mixsolve.backends()[0].usable
    True
    """
    return _cpu(), _cuda()


def _cpu() -> Backend:
    processor = Device(f"{os.cpu_count()} cores, {platform.machine()}", _native.isa())
    return Backend("cpu", tuple(_native.available_isas()), (processor,))


def _cuda() -> Backend:
    try:
        from mixsolve import _native_cuda
    except ModuleNotFoundError:
        return Backend(
            "cuda", (), (), "not compiled: install mixsolve from its sources where the CUDA toolkit 13 is"
        )
    except ImportError as error:
        return Backend("cuda", (), (), f"its module cannot be loaded: {error}")
    found, reason = _native_cuda.devices()
    devices = tuple(
        Device(str(device["name"]), "{}.{}".format(*device["capability"]), int(device["memory"]))
        for device in found
    )
    return Backend("cuda", tuple(_native_cuda.ARCHITECTURES.split()), devices, reason)

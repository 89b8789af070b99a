"""Where `benchmarks.gpu_check` runs its checks: a GPU by way of torch, or the emulator, which has no speed."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from mixsolve import LossTable
from mixsolve.storage import widen
from tests.cuda.emulated import Emulated, EmulatedTable, extent
from tests.cuda.small_cases import SMALL


class Gpu:
    """The GPU that torch works on."""

    emulated = False
    device = "cuda"
    scale = 1
    """Tables of the checks are divided by it."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch

    def table(self, losses: Any, **belongings: Any) -> LossTable:
        """A table of the same losses, laid out alike, in the memory of the GPU."""
        return LossTable(self.place(losses), **belongings)

    def place(self, losses: Any) -> Any:
        """A tensor on the GPU with the bytes of an array on the host, and its strides unless one is negative."""
        if min(losses.strides) < 0:
            losses = losses.copy()
        begin, n_bytes = extent(losses)
        raw = np.frombuffer((ctypes.c_uint8 * n_bytes).from_address(begin), dtype=np.uint8)
        there = self.torch.from_numpy(raw.copy()).cuda().view(getattr(self.torch, losses.dtype.name))
        return there.as_strided(losses.shape, [stride // losses.itemsize for stride in losses.strides])

    def seconds(self, action: Callable[[], object]) -> float:
        """From a device that is at rest to one that is again."""
        self.torch.cuda.synchronize()
        start = time.perf_counter()
        action()
        self.torch.cuda.synchronize()
        return time.perf_counter() - start


class EmulatedGpu:
    """The kernels and their launcher on the CPU: what a GPU adds to the checks is not there, and nothing is timed."""

    emulated = True
    device = "cpu"
    scale = 50

    def __init__(self, torch: Any) -> None:
        self.torch = torch

    def table(self, losses: Any, **belongings: Any) -> LossTable:
        return EmulatedTable(losses, Emulated(**SMALL), **belongings)

    def seconds(self, action: Callable[[], object]) -> float:
        action()
        return 1.0


class Placed:
    """A case of the backend tests whose table is on a machine; else what the case is."""

    def __init__(self, case: Any, machine: Gpu | EmulatedGpu) -> None:
        self._case, self._machine = case, machine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._case, name)

    def table(self) -> LossTable:
        return self._machine.table(self._case.losses, **self._case.keywords)

    def exact(self) -> Any:
        on_host = self._case.table()
        return widen(on_host.array, on_host.storage)

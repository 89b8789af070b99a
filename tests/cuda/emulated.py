"""The backend `emulated`: the CUDA pass, launcher and kernels, on the CPU, behind the interface of the CPU's module."""

import importlib.machinery
import importlib.util
from functools import cache

import numpy as np

from mixsolve import LossTable, _native
from tests.cuda.build import emulated_module


@cache
def native():
    """The compiled module; tests.cuda.build.Unavailable says why there is none."""
    return load(emulated_module())


def load(path):
    """The module in a file, under a name of its own: there may be several builds of it at once."""
    name = f"{path.parent.name}._native_emulated"
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


class Table:
    """A table of the emulated device: what `mixsolve.LossTable` asks a backend for."""

    def __init__(self, module, array, storage, row_offsets=None, sample_weight=None, attack_prior=None):
        self.array = array
        self.cpu = _native.Table(array, storage, row_offsets, sample_weight, attack_prior)
        pointer = array.__array_interface__["data"][0]
        belongings = (row_offsets, sample_weight, attack_prior)
        self.device = module.Table(pointer, storage, array.shape, array.strides, *belongings)
        self.loads = None  # of the last pass, see loads_by_loss


class Emulated:
    """Answers passes on the emulated device.

    Parameters
    ----------
    module : module, optional
        Another build of the native module.
    **sizes : int
        Sizes of the plan, see csrc/cuda/plan.h.
    """

    def __init__(self, module=None, **sizes):
        self.module, self.sizes = module or native(), sizes
        self.last = None  # the table of the last pass

    def Table(self, *arguments):
        return Table(self.module, *arguments)

    def run_pass(
        self, table, weights, temperature, want, samples, float64_scores, threads=0, cancel=None, hessians=0
    ):
        for name, size in self.sizes.items():
            setattr(table.device.sizes, name, size)
        begin, n_bytes = extent(table.array)
        self.module.add_array(begin, n_bytes)
        try:
            question = (weights, temperature, want, samples, float64_scores, hessians)
            return self.module.run_pass(table.device, *question)
        finally:
            self.last = table
            table.loads = loads_by_loss(self.module.take_load_counts(begin), begin, table.array)
            self.module.remove_array(begin)

    def loss_gradient(
        self, table, weights, temperature, scale, gradient, float64_scores, threads=0, cancel=None
    ):
        for name, size in self.sizes.items():
            setattr(table.device.sizes, name, size)
        spans = extent(table.array), extent(gradient)
        for (begin, n_bytes), writable in zip(spans, (False, True), strict=True):
            self.module.add_array(begin, n_bytes, writable)
        try:
            address = gradient.__array_interface__["data"][0]
            question = (weights, temperature, scale, address, float64_scores)
            return self.module.loss_gradient(table.device, *question)
        finally:
            self.last = table
            table.loads = loads_by_loss(self.module.take_load_counts(spans[0][0]), spans[0][0], table.array)
            for begin, _ in spans:
                self.module.remove_array(begin)

    def first_nonfinite(self, table, cancel=None):
        return _native.first_nonfinite(table.cpu, cancel)


class EmulatedTable(LossTable):
    """A table whose passes run on the emulated device, `emulated`."""

    def __init__(self, losses, emulated, **belongings):
        super().__init__(losses, **belongings)
        self._emulated = emulated

    @property
    def backend(self):
        return self._emulated


def extent(array):
    """The address of an array's lowest byte, and how many bytes it spans."""
    reach = [stride * (length - 1) for stride, length in zip(array.strides, array.shape, strict=True)]
    low, high = (sum(bound(step, 0) for step in reach) for bound in (min, max))
    return array.__array_interface__["data"][0] + low, high - low + array.itemsize


def loads_by_loss(counts, begin, array):
    """How often each byte of each loss was loaded, the shape of the array and an axis for the bytes."""
    offset = array.__array_interface__["data"][0] - begin
    return np.lib.stride_tricks.as_strided(
        counts[offset:], (*array.shape, array.itemsize), (*array.strides, 1), writeable=False
    )

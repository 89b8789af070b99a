"""Tables on a GPU: how arrays get there, and what solvers and everybody else find in them.

The exporters are fake, the device is emulated; what lies between them is what runs on a GPU.
"""

import sys
from contextlib import contextmanager

import ml_dtypes
import numpy as np
import pytest

import mixsolve
import mixsolve.table
from mixsolve import LossTable, _native, fit_mixture, verify
from mixsolve.cuda_backend import CudaBackend, cuda_backend
from mixsolve.device_array import import_device_array
from mixsolve.passes import loss_gradient, run_pass
from mixsolve.solvers import Fista, Newton, OracleSubgradient, RowGeneration
from tests.certificates import assert_certificate
from tests.cuda.exporters import Dlpack, Interface, misaligned
from tests.cuda.small_cases import SMALL
from tests.pass_cases import STORAGES

EXPORTERS = {"dlpack": Dlpack, "interface": Interface}


def draw(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).random(shape).astype(dtype)


class EmulatedModule:
    """Stands where `_native_cuda` does; the memory of a table is watched while it is read."""

    def __init__(self, module):
        self.module = module
        self.places = []  # of the tables made: device and stream

    def Table(self, pointer, storage, shape, strides, *belongings):
        self.places.append(belongings[-2:])
        table = self.module.Table(pointer, storage, shape, strides, *belongings)
        for name, size in SMALL.items():
            setattr(table.sizes, name, size)
        item = mixsolve.table.Storage(storage).itemsize
        reach = [step * (length - 1) for step, length in zip(strides, shape, strict=True)]
        low, high = (sum(bound(step, 0) for step in reach) for bound in (min, max))
        self.spans = {**getattr(self, "spans", {}), id(table): (pointer + low, high - low + item)}
        return table

    @contextmanager
    def watched(self, *spans):
        for begin, n_bytes, writable in spans:
            self.module.add_array(begin, n_bytes, writable)
        try:
            yield
        finally:
            for begin, *_ in spans:
                self.module.remove_array(begin)

    def run_pass(self, table, *question):
        with self.watched((*self.spans[id(table)], False)):
            return self.module.run_pass(table, *question)

    def gather(self, table, *question):
        with self.watched((*self.spans[id(table)], False)):
            return self.module.gather(table, *question)

    def loss_gradient(self, table, weights, temperature, scale, gradient, float64_scores):
        begin, n_bytes = self.spans[id(table)]
        with self.watched((begin, n_bytes, False), (gradient, n_bytes, True)):
            return self.module.loss_gradient(table, weights, temperature, scale, gradient, float64_scores)

    def copy_samples(self, *question):
        self.module.copy_samples(*question)


@pytest.fixture
def on_device(emulator, monkeypatch):
    """The emulated module, which tables on a device are read by from here on."""
    module = EmulatedModule(emulator)
    backend = CudaBackend(module)
    monkeypatch.setattr(mixsolve.table, "cuda_backend", lambda: backend)
    return module


# ---- the protocols ----


@pytest.mark.parametrize("storage", STORAGES)
def test_dlpack_gives_address_layout_and_type(storage):
    losses = draw(3, 8, 5, dtype=STORAGES[storage])[:, ::-2]
    exporter = Dlpack(losses, device=3)
    found = import_device_array(exporter)
    assert found.pointer == losses.__array_interface__["data"][0]
    assert (found.shape, found.strides, found.itemsize) == (losses.shape, losses.strides, losses.itemsize)
    assert mixsolve.table.Storage(found.storage).name.lower() == storage
    assert (found.device, found.stream, exporter.streams) == (3, 1, [1])


@pytest.mark.parametrize("storage", ["float64", "float32", "float16"])
def test_the_interface_gives_address_layout_and_type(storage):
    for losses in (
        draw(3, 4, 5, dtype=STORAGES[storage]),
        draw(3, 4, 9, dtype=STORAGES[storage])[:, 1:, 2:7],
    ):
        found = import_device_array(Interface(losses))
        assert found.pointer == losses.__array_interface__["data"][0]
        assert (found.shape, found.strides, found.nbytes) == (losses.shape, losses.strides, losses.nbytes)
        assert mixsolve.table.Storage(found.storage).name.lower() == storage
        assert not found.read_only


@pytest.mark.parametrize(("given", "stream"), [(None, 1), (1, 1), (2, 2), (0x7F00, 0x7F00)])
def test_the_stream_of_the_interface_is_the_table_s(given, stream, on_device):
    LossTable(Interface(draw(2, 3, 4), stream=given)).rows([0], [0])
    assert on_device.places == [(0, stream)]


def test_the_memory_is_kept_as_long_as_the_table(on_device):
    exporter = Dlpack(draw(2, 3, 4))
    table = LossTable(exporter)
    table.rows([0], [0])
    assert exporter.deleted == 0
    del table
    assert exporter.deleted == 1


def test_read_only_losses_are_read(on_device):
    losses = draw(2, 3, 4)
    losses.setflags(write=False)
    assert import_device_array(Interface(losses)).read_only
    np.testing.assert_array_equal(LossTable(Interface(losses)).rows([2], [1])[0], losses[:, 2, 1])


REFUSED = {
    "not contiguous along attacks": (
        lambda make: LossTable(make(draw(3, 4, 10)[:, :, ::2])),
        r"contiguous along attacks; got strides of \(160, 40, 8\)",
    ),
    "misaligned": (lambda make: LossTable(make(misaligned(draw(2, 3, 4)))), "aligned to their 4 bytes"),
    "a scale": (lambda make: LossTable(make(draw(2, 3, 4)), scale=2.0), "scale 1 and offset 0"),
    "two dimensions": (lambda make: LossTable(make(draw(3, 4))), "must have 3 dimensions"),
    "integers": (lambda make: LossTable(make(np.ones((2, 3, 4), dtype=np.int64))), "type"),
    "weights on the device": (
        lambda make: LossTable(draw(2, 3, 4), sample_weight=make(draw(3))),
        "`sample_weight` must be in CPU memory",
    ),
    "a prior on the device": (
        lambda make: LossTable(draw(2, 3, 4), attack_prior=make(np.full((3, 4), 0.25))),
        "`attack_prior` must be in CPU memory",
    ),
    "offsets on the device": (
        lambda make: LossTable(draw(2, 12), row_offsets=make(np.array([0, 12]))),
        "`row_offsets` must be in CPU memory",
    ),
}


@pytest.mark.parametrize("exporter", EXPORTERS.values(), ids=EXPORTERS)
@pytest.mark.parametrize(("build", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_there_is_refused(build, message, exporter):
    with pytest.raises((ValueError, TypeError), match=message):
        build(exporter)


def test_masks_and_other_devices_are_refused():
    with pytest.raises(TypeError, match="without a mask"):
        LossTable(Interface(draw(2, 3, 4), mask=Interface(draw(2, 3, 4))))
    with pytest.raises(ValueError, match="device of DLPack type 10, number 1; copy it to the CPU first"):
        LossTable(Dlpack(draw(2, 3, 4), device=1, kind=10))


def test_without_a_usable_gpu_the_error_says_why(monkeypatch):
    cuda_backend.cache_clear()
    monkeypatch.setitem(sys.modules, "mixsolve._native_cuda", None)
    monkeypatch.delattr(mixsolve, "_native_cuda", raising=False)
    with pytest.raises(RuntimeError, match="need the CUDA pass, which cannot be used: not compiled"):
        LossTable(Dlpack(draw(2, 3, 4))).rows([0], [0])


# ---- what is found in them ----


@pytest.mark.parametrize("exporter", EXPORTERS.values(), ids=EXPORTERS)
@pytest.mark.parametrize("ragged", [False, True])
def test_a_table_on_a_device_holds_what_one_on_the_host_holds(ragged, exporter, on_device):
    rng = np.random.default_rng(0)
    keywords = {"sample_weight": rng.random(4)}
    if ragged:
        losses, keywords["row_offsets"] = draw(3, 15), np.array([0, 2, 3, 10, 15])
    else:
        losses = draw(3, 8, 5)[::-1, ::2]
        keywords["attack_prior"] = rng.dirichlet(np.ones(5), 4)
    here, there = LossTable(losses, **keywords), LossTable(exporter(losses), **keywords)
    assert there.on_device
    assert not here.on_device
    np.testing.assert_array_equal(there.rows([3, 0, 2], [1, 0, 4]), here.rows([3, 0, 2], [1, 0, 4]))
    for mine, theirs in zip(there.block(1, 3), here.block(1, 3), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    picked = np.array([0, 2])
    np.testing.assert_array_equal(there.excerpt(picked).array, here.excerpt(picked).array)
    assert there.digest() == here.digest()
    assert there.nbytes == here.nbytes
    assert there.backend.extremes(there.native) == pytest.approx((losses.min(), losses.max()))
    weights = rng.dirichlet(np.ones(3), 2)
    answers = [
        run_pass(table, weights, [0.0, 0.1], per_sample=True, best_attack=True) for table in (here, there)
    ]
    np.testing.assert_allclose(answers[0].value, answers[1].value, rtol=1e-6)
    np.testing.assert_array_equal(answers[0].best_attack[0], answers[1].best_attack[0])


@pytest.mark.parametrize(
    ("temperature", "solver"),
    [
        (0.0, None),
        (0.0, RowGeneration()),
        (0.0, Fista()),
        (0.0, OracleSubgradient(iterations=5)),
        (0.05, None),
        (0.05, Newton()),
        (0.05, Fista()),
    ],
    ids=str,
)
def test_solvers_run_unchanged_on_a_device(temperature, solver, on_device):
    losses = draw(4, 12, 9, seed=3)
    options = {} if solver is None or not isinstance(solver, OracleSubgradient) else {"tol": 1.0}
    result = fit_mixture(Dlpack(losses), temperature=temperature, solver=solver, **options)
    assert_certificate(result, losses)
    assert verify(result, losses)
    assert verify(result, Dlpack(losses))
    assert result.bytes_read >= losses.nbytes


def test_zero_one_losses_are_solved_there_without_compression(on_device):
    losses = (draw(3, 10, 6, seed=1) < 0.4).astype(np.float32)
    assert_certificate(fit_mixture(Dlpack(losses)), losses)


@pytest.mark.parametrize("exporter", EXPORTERS.values(), ids=EXPORTERS)
@pytest.mark.parametrize("dtype", [np.uint8, np.bool_])
def test_bytes_are_read_there_with_a_scale_and_an_offset(dtype, exporter, on_device):
    losses = (draw(4, 8, 9, seed=2) * 200).astype(np.uint8) if dtype is np.uint8 else draw(4, 8, 9) < 0.5
    exact = 0.01 * losses - 2
    table = LossTable(exporter(losses), scale=0.01, offset=-2.0)
    assert (table.storage, table.nbytes) == (mixsolve.table.Storage.UINT8, losses.size)
    np.testing.assert_allclose(table.rows([3, 0], [8, 1]), exact[:, [3, 0], [8, 1]].T, rtol=1e-15)
    for temperature in (0.0, 0.05):
        result = fit_mixture(table, temperature=temperature)
        assert_certificate(result, exact)
        assert verify(result, LossTable(losses, scale=0.01, offset=-2.0))
    assert_certificate(fit_mixture(exporter(losses)), losses.astype(float))
    with pytest.raises(ValueError, match="scale 1 and offset 0"):
        LossTable(exporter(losses), scale=-1.0)


def test_losses_that_are_not_finite_are_named(on_device):
    for dtype in (np.float32, ml_dtypes.bfloat16):
        losses = draw(3, 5, 7, dtype=dtype)
        losses[1, 4, 2] = np.nan
        losses[2, 0, 0] = np.inf
        with pytest.raises(ValueError, match="got nan at classifier 1, sample 4, attack 2"):
            run_pass(LossTable(Dlpack(losses)), [[0.5, 0.25, 0.25]], 0.1)


def test_the_derivative_by_the_losses_is_written_there(on_device):
    losses = draw(3, 6, 5)
    here, there = np.empty_like(losses), np.empty_like(losses)
    loss_gradient(LossTable(losses), [0.5, 0.25, 0.25], 0.1, here)
    loss_gradient(LossTable(Dlpack(losses)), [0.5, 0.25, 0.25], 0.1, Dlpack(there))
    np.testing.assert_allclose(there, here, rtol=1e-5)


def test_a_gradient_elsewhere_or_read_only_is_refused(on_device):
    losses = draw(3, 6, 5)
    table = LossTable(Dlpack(losses))
    fixed = np.empty_like(losses)
    fixed.setflags(write=False)
    elsewhere = {
        "must be on CUDA device 0, as the losses are; got 1": (table, Dlpack(losses.copy(), device=1)),
        "must be on CUDA device 0, as the losses are": (table, losses.copy()),
        "contiguous and writeable": (table, Interface(fixed)),
        "must be in CPU memory, as the losses are": (LossTable(losses), Dlpack(losses.copy())),
    }
    for message, (read, gradient) in elsewhere.items():
        with pytest.raises(ValueError, match=message):
            loss_gradient(read, [0.5, 0.25, 0.25], 0.1, gradient)


def test_a_cancelled_pass_ends(on_device):
    token = _native.CancelToken()
    token.cancel()
    with pytest.raises(_native.Cancelled):
        run_pass(LossTable(Dlpack(draw(2, 3, 4))), [[0.5, 0.5]], 0.1, cancel=token)

"""The CUDA pass as nvcc emits it: its PTX, executed behind the real launcher, against the specification.

Every access to memory is watched, as it is in `test_emulated`. compute_80 and compute_100 have different front ends.
"""

from functools import cache

import numpy as np
import pytest

from mixsolve.passes import run_pass
from tests.cuda.build import Unavailable, ptx
from tests.cuda.emulated import native
from tests.cuda.ptx import Interpreter
from tests.cuda.small_cases import SMALL, check_bytes, small_cases
from tests.loss_gradient_checks import check_loss_gradient
from tests.pass_cases import STORAGES, case, draw_prior, draw_temperatures
from tests.pass_checks import check, check_sums
from tests.test_pass_accuracy import assert_as_careful_as_numpy
from tests.test_pass_hessian import check as check_hessian

ARCHITECTURES = ["compute_80", "compute_100"]


@cache
def interpreter(architecture, disturb):
    return Interpreter(ptx(architecture).read_text(), native(), disturb)


@pytest.fixture
def interpret(emulator, emulate):
    """`interpret(architecture, disturb, **sizes)`: from here on passes are executed from PTX."""

    def choose(architecture, disturb=0, **sizes):
        try:
            emulator.set_interpreter(interpreter(architecture, disturb))
        except Unavailable as reason:
            pytest.skip(f"what nvcc emits is not tested: {reason}")
        emulate(**sizes)

    yield choose
    emulator.set_interpreter(None)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("layout", ["contiguous", "attacks cut out", None])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_answer_agrees_with_the_specification(architecture, layout, storage, interpret):
    interpret(architecture, **SMALL)
    for drawn in small_cases(storage, layout, 1, most_numbers=4000):
        check(drawn)
        check(drawn, float64_scores=True)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_byte_of_the_table_is_loaded_once(architecture, interpret):
    interpret(architecture, **SMALL)
    rng = np.random.default_rng(0)
    for storage in STORAGES:
        for shape in ((3, 20, 9), (9, 1, 70), (2, 1, 600)):
            drawn = case(rng.random(shape).astype(STORAGES[storage]), np.full((2, shape[0]), 0.5), [0.0, 0.1])
            table = drawn.table()
            run_pass(
                table, drawn.weights, drawn.temperature, per_sample=True, best_attack=True, best_row=True
            )
            assert (table.native.loads == 1).all()


@pytest.mark.parametrize("sums_bytes", [0, 20_000], ids=["sums in device memory", "sums in shared memory"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_few_samples_of_many_attacks_are_split_and_merged(architecture, sums_bytes, interpret):
    interpret(architecture, **SMALL, shared_sums_bytes=sums_bytes)
    rng = np.random.default_rng(0)
    losses = rng.normal(size=(5, 2, 500)).astype(np.float32)
    prior = draw_prior(rng, losses.shape[1:])
    weights = rng.dirichlet(np.ones(5), 3)
    check(case(losses, weights, [0.0, 0.05, 1e5], attack_prior=prior))
    check(case(losses, weights, draw_temperatures(rng, 3, 2, 1.0)))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_plain_passes_and_derivatives_by_the_losses(architecture, storage, interpret):
    interpret(architecture, **SMALL)
    rng = np.random.default_rng(2)
    for shape in ((3, 20, 8), (2, 7, 33), (5, 1, 300)):
        losses = rng.random(shape).astype(STORAGES[storage])
        asked = case(losses, rng.dirichlet(np.ones(shape[0]), 1), [0.1])
        check_sums(asked)
        check_sums(asked, float64_scores=True)
        check_loss_gradient(asked)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bytes_with_scale_and_offset_agree_with_the_specification(architecture, interpret):
    interpret(architecture, **SMALL)
    for shape in ((3, 9, 8), (2, 1, 200)):
        check_bytes(shape)


@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_hessian_agrees_with_the_specification(architecture, storage, interpret):
    """Short samples, a sample of several tiles, and one in pieces."""
    interpret(architecture, **SMALL)
    rng = np.random.default_rng(1)
    for shape in ((6, 9, 10), (5, 2, 60), (3, 1, 200)):
        losses = rng.random(shape).astype(STORAGES[storage])
        asked = case(losses, rng.dirichlet(np.ones(shape[0]), 2), draw_temperatures(rng, 2, shape[1], 1.0))
        check_hessian(asked)
        check_hessian(asked, float64_scores=True)


@pytest.mark.parametrize("shape", [(10, 20, 32), (130, 3, 16), (1024, 1, 9)])
def test_tiles_as_they_are(shape, interpret):
    interpret("compute_100")
    rng = np.random.default_rng(sum(shape))
    losses = rng.random(shape, dtype=np.float32)
    check(case(losses, rng.dirichlet(np.ones(shape[0])), [0.1], sample_weight=rng.random(shape[1])))


@pytest.mark.parametrize("disturb", [-2, 2])
def test_float32_scores_are_as_careful_as_numpy(disturb, interpret):
    """Also where ex2.approx is off by two units in the last place, as it may be."""
    interpret("compute_80", disturb)
    rng = np.random.default_rng(0)
    for level in (1e-6, 0.1, 1.0, 1e6):
        for shape in ((4, 6, 100), (10, 1, 1100)):
            losses = rng.random(shape, dtype=np.float32)
            weights = rng.dirichlet(np.ones(shape[0]))
            assert_as_careful_as_numpy(None, losses, weights, level)

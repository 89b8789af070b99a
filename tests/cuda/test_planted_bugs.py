"""The checkers are checked: mistakes planted into the kernels are caught, and so is the loss of any barrier."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mixsolve import LossTable
from tests.cuda.build import Unavailable, emulated_variant, ptx
from tests.cuda.emulated import load
from tests.cuda.planted_bugs import BROKEN_RULES, WRONG_NUMBERS, barriers, plant
from tests.cuda.ptx import Interpreter
from tests.cuda.small_cases import SMALL
from tests.loss_gradient_checks import check_loss_gradient
from tests.pass_cases import case
from tests.pass_checks import check, check_sums
from tests.test_pass_hessian import check as check_hessian


def draw(rng, shape, temperatures, **keywords):
    losses = rng.random(shape, dtype=np.float32)
    return case(losses, rng.dirichlet(np.ones(shape[0]), len(temperatures)), temperatures, **keywords)


def check_and_count(drawn):
    check(drawn)
    assert (LossTable.backend.last.loads == 1).all()


def exercise():
    """Float32 cases that take every way through the kernels; raises what is wrong with the answers."""
    rng = np.random.default_rng(0)
    # One sample in pieces; several samples to a warp, in several chunks; samples of several tiles.
    check_and_count(draw(rng, (4, 1, 352), [10.0, 0.05, 0.0]))
    check_and_count(draw(rng, (4, 2, 350), [0.05]))
    check_and_count(draw(rng, (3, 30, 19), [0.0, 0.1], sample_weight=rng.random(30)))
    check_and_count(draw(rng, (17, 2, 40), [0.1, 0.0], sample_weight=np.array([1.0, 2.0])))
    tied = np.zeros((2, 2, 300), dtype=np.float32)
    tied[:, :, [100, 101]] = 1
    assert (check(case(tied, [0.5, 0.5], [0.0])).best_attack == 100).all()
    misaligned = case(rng.random(65, dtype=np.float32)[1:].reshape(2, 4, 8), [0.5, 0.5], [0.1])
    check_and_count(misaligned)
    # The kernel of plain passes: short samples, samples of several tiles, one in pieces.
    for shape in ((3, 30, 20), (17, 2, 40), (4, 1, 352)):
        check_sums(draw(rng, shape, [0.1, 10.0]))
    check_loss_gradient(draw(rng, (3, 30, 19), [0.1], sample_weight=rng.random(30)))
    check_loss_gradient(draw(rng, (4, 2, 352), [10.0, 0.0]))
    exercise_hessian(rng)
    LossTable.backend.sizes.update(tile_bytes=4096)
    check_sums(draw(rng, (2, 1, 1000), [0.1]))  # tiles of more rows than threads
    LossTable.backend.sizes.clear()  # a large tile
    check_and_count(draw(rng, (9, 3, 7), [0.1]))
    check_and_count(draw(rng, (9, 4, 32), [0.1]))  # eight classifiers a thread, and one


def exercise_hessian(rng):
    """Pieces and tiles whose means are far apart, and short samples."""
    LossTable.backend.sizes["piece_bytes"] = 1024
    check_hessian(case(np.sort(rng.random((2, 1, 900), dtype=np.float32)), [0.5, 0.5], [1.0]))
    check_hessian(draw(rng, (6, 9, 10), [0.5], sample_weight=rng.random(9)))


def compile_spoilt(bug, checker, folder):
    """The emulated module with the bug, or the PTX."""
    kernels = plant(bug, folder)
    return emulated_variant(kernels, folder) if checker == "emulator" else ptx(checker, kernels, folder)


def is_compiled(bug, checker):
    """The emulator leaves a barrier out as it runs."""
    return checker != "emulator" or (bug is not None and not bug.line)


@pytest.fixture(scope="module")
def compiled(request, tmp_path_factory, emulator):
    """{(bug, checker): what is compiled} for all tests that were chosen: on all cores, while the first ones run."""
    chosen = [item.callspec.params for item in request.session.items if item.module is request.module]
    pairs = dict.fromkeys((params.get("bug"), params["checker"]) for params in chosen)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {
            pair: pool.submit(compile_spoilt, *pair, tmp_path_factory.mktemp("spoilt"))
            for pair in pairs
            if is_compiled(*pair)
        }
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def spoil(compiled, emulator, emulate):
    """`spoil(bug, checker)`: the passes are those of the spoilt kernels, on the checker that the test names."""

    def choose(bug, checker):
        if not is_compiled(bug, checker):
            if bug is not None:
                emulator.leave_out_barrier(Path(bug.file).name, bug.line)
            return emulate(**SMALL)
        try:
            made = compiled[bug, checker].result()
        except Unavailable as reason:
            pytest.skip(f"what nvcc emits is not tested: {reason}")
        if checker == "emulator":
            return emulate(load(made), **SMALL)
        emulator.set_interpreter(Interpreter(made.read_text(), emulator))
        return emulate(**SMALL)

    yield choose
    emulator.set_interpreter(None)
    emulator.leave_out_barrier("", 0)


CHECKERS = ["emulator", "compute_80"]
ALL_THE_SAME = [
    "emulator",
    pytest.param("compute_80", marks=pytest.mark.large),
]  # either compares numbers alike


@pytest.mark.parametrize("checker", CHECKERS)
def test_kernels_without_a_bug_pass(checker, spoil):
    spoil(None, checker)
    exercise()


@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("bug", BROKEN_RULES, ids=lambda bug: bug.name)
def test_a_broken_rule_is_caught(bug, checker, spoil):
    spoil(bug, checker)
    with pytest.raises((RuntimeError, AssertionError), match=bug.caught or None):
        exercise()


@pytest.mark.parametrize("checker", ALL_THE_SAME)
@pytest.mark.parametrize("bug", WRONG_NUMBERS, ids=lambda bug: bug.name)
def test_wrong_numbers_are_caught(bug, checker, spoil):
    spoil(bug, checker)
    with pytest.raises((RuntimeError, AssertionError)):
        exercise()


@pytest.mark.parametrize("checker", ALL_THE_SAME)
@pytest.mark.parametrize("bug", barriers(), ids=lambda bug: bug.name)
def test_no_barrier_can_be_left_out(bug, checker, spoil):
    spoil(bug, checker)
    with pytest.raises((RuntimeError, AssertionError), match=r"race|the error is|not written"):
        exercise()

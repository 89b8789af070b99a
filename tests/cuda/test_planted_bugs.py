"""The checkers are checked: mistakes planted into the kernels are caught, and so is the loss of any barrier."""

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
    LossTable.backend.sizes.clear()  # a large tile
    check_and_count(draw(rng, (9, 3, 7), [0.1]))
    check_and_count(draw(rng, (9, 4, 32), [0.1]))  # eight classifiers a thread, and one


def exercise_hessian(rng):
    """Pieces and tiles whose means are far apart, and short samples."""
    LossTable.backend.sizes["piece_bytes"] = 1024
    check_hessian(case(np.sort(rng.random((2, 1, 900), dtype=np.float32)), [0.5, 0.5], [1.0]))
    check_hessian(draw(rng, (6, 9, 10), [0.5], sample_weight=rng.random(9)))


@pytest.fixture
def spoil(tmp_path, emulator, emulate):
    """`spoil(bug)`: the passes are those of the spoilt kernels, on the checker that the test names."""

    def choose(bug, checker):
        kernels = plant(bug, tmp_path)
        if checker == "emulator":
            emulate(load(emulated_variant(kernels, tmp_path)), **SMALL)
        else:
            try:
                text = ptx(checker, kernels, tmp_path).read_text()
            except Unavailable as reason:
                pytest.skip(f"what nvcc emits is not tested: {reason}")
            emulator.set_interpreter(Interpreter(text, emulator))
            emulate(**SMALL)

    yield choose
    emulator.set_interpreter(None)


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

"""The checkers are checked: mistakes planted into the kernels are caught, and so is the loss of any barrier."""

import numpy as np
import pytest

from mixsolve import LossTable
from mixsolve.passes import run_pass
from tests.cuda.build import Unavailable, emulated_variant, ptx
from tests.cuda.emulated import load
from tests.cuda.planted_bugs import BUGS, barriers, plant
from tests.cuda.ptx import Interpreter
from tests.cuda.small_cases import SMALL
from tests.pass_cases import case, draw_prior
from tests.pass_checks import check


def exercise():
    """Float32 cases that take every way through the kernels; raises what is wrong with the answers."""
    rng = np.random.default_rng(0)

    def draw(shape, temperatures, **keywords):
        losses = rng.random(shape, dtype=np.float32)
        weights = rng.dirichlet(np.ones(shape[0]), len(temperatures))
        return case(losses, weights, temperatures, **keywords)

    def check_and_count(drawn):
        check(drawn)
        table = drawn.table()
        run_pass(table, drawn.weights, drawn.temperature, per_sample=True)
        assert (table.native.loads == 1).all()

    # One sample in pieces; several samples to a warp, in several chunks; samples of several tiles; a large tile.
    check_and_count(draw((4, 1, 700), [10.0, 0.05, 0.0]))
    check_and_count(draw((3, 60, 19), [0.0, 0.1], sample_weight=rng.random(60)))
    check_and_count(draw((17, 2, 40), [0.1, 0.0], sample_weight=np.array([1.0, 2.0])))
    check(draw((3, 6, 90), [0.01], attack_prior=draw_prior(rng, (6, 90))))
    tied = np.zeros((2, 2, 300), dtype=np.float32)
    tied[:, :, [100, 101]] = 1
    assert (check(case(tied, [0.5, 0.5], [0.0])).best_attack == 100).all()
    LossTable.backend.sizes.clear()
    check_and_count(draw((9, 3, 7), [0.1]))


@pytest.fixture
def spoil(tmp_path, emulator, emulate):
    """`spoil(bug)`: the passes are those of the spoilt kernels, on the checker that the test names."""

    def choose(bug, checker):
        kernels = plant(bug, tmp_path)
        if checker == "emulator":
            emulate(load(emulated_variant(kernels, tmp_path)), **SMALL)
        else:
            try:
                text = ptx(checker, kernels, tmp_path)
            except Unavailable as reason:
                pytest.skip(f"what nvcc emits is not tested: {reason}")
            emulator.set_interpreter(Interpreter(text, emulator))
            emulate(**SMALL)

    yield choose
    emulator.set_interpreter(None)


CHECKERS = ["emulator", "compute_80"]


@pytest.mark.parametrize("checker", CHECKERS)
def test_kernels_without_a_bug_pass(checker, spoil):
    spoil(None, checker)
    exercise()


@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(bug, checker, spoil):
    spoil(bug, checker)
    with pytest.raises((RuntimeError, AssertionError, ValueError), match=bug.caught or None):
        exercise()


@pytest.mark.parametrize("checker", ["emulator", pytest.param("compute_80", marks=pytest.mark.large)])
@pytest.mark.parametrize("bug", barriers(), ids=lambda bug: bug.name)
def test_no_barrier_can_be_left_out(bug, checker, spoil):
    spoil(bug, checker)
    with pytest.raises((RuntimeError, AssertionError), match=r"race|the error is|not written"):
        exercise()

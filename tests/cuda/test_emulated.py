"""The CUDA pass, its launcher and its kernels, compiled for the CPU: every answer against the specification.

Every access of a kernel to memory is watched while these tests run: one outside an array, one that races with another
thread's or one to what nobody has written ends the pass with an error.
"""

from functools import partial

import ml_dtypes
import numpy as np
import pytest

from mixsolve import LossTable, worst_case
from mixsolve.passes import run_pass
from tests.cuda.small_cases import SMALL, check_bytes, small_cases
from tests.loss_gradient_checks import check_loss_gradient
from tests.pass_cases import KINDS, LAYOUTS, STORAGES, case, draw_prior, draw_temperatures
from tests.pass_checks import check, check_sums
from tests.test_pass_accuracy import assert_as_careful_as_numpy
from tests.test_pass_hessian import check as check_hessian
from tests.tolerances import loss_scale


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_answer_agrees_with_the_specification(layout, storage, emulate):
    emulate(**SMALL)
    for drawn in small_cases(storage, layout, 2):
        check(drawn)
        check(drawn, float64_scores=True)


def draw_losses(rng, dtype, *shape):
    return rng.random(shape).astype(dtype)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("layout", ["contiguous", "every third sample", "attacks cut out", "windows"])
def test_plain_passes_agree_with_the_specification(layout, storage, emulate):
    for sizes in (SMALL, {}):
        emulate(**sizes)
        for shape in ((3, 20, 8), (2, 7, 33), (5, 3, 700), (40, 2, 36)):
            rng = np.random.default_rng(6)
            losses = LAYOUTS[layout](partial(draw_losses, rng, STORAGES[storage]), *shape)
            asked = case(losses, rng.dirichlet(np.ones(shape[0]), 3), [0.01, 0.3, 1e4])
            check_sums(asked)
            check_sums(asked, float64_scores=True)


@pytest.mark.parametrize(
    "layout", ["contiguous", "every third sample", "attacks cut out", "samples backwards"]
)
def test_bytes_with_scale_and_offset_agree_with_the_specification(layout, emulate):
    for sizes in (SMALL, {}):
        emulate(**sizes)
        for shape in ((3, 20, 8), (2, 7, 33), (5, 3, 300), (40, 2, 36), (70, 2, 100)):
            check_bytes(shape, LAYOUTS[layout])


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("layout", ["contiguous", "samples backwards", "attacks cut out", None])
def test_the_derivative_by_the_losses_agrees_with_the_specification(layout, storage, emulate):
    for sizes in (SMALL, {}):
        emulate(**sizes)
        for drawn in small_cases(storage, layout, 2, most_numbers=6000):
            check_loss_gradient(drawn)
            check_loss_gradient(drawn, float64_scores=True, scale=300.0)


def test_the_derivative_by_the_losses_of_long_samples_reads_them_once(emulate):
    emulate(**SMALL)
    rng = np.random.default_rng(4)
    prior = draw_prior(rng, (2, 700))
    check_loss_gradient(case(rng.random((3, 2, 700)), [0.5, 0.25, 0.25], [0.01], attack_prior=prior))
    assert (LossTable.backend.last.loads == 1).all()


@pytest.mark.parametrize("sizes", [SMALL, {}], ids=["small tiles", "tiles as they are"])
@pytest.mark.parametrize("storage", STORAGES)
def test_every_answer_on_ragged_tables_agrees_with_the_specification(storage, sizes, emulate):
    emulate(**sizes)
    for drawn in small_cases(storage, None, 3):
        check(drawn)
        check(drawn, float64_scores=True)


@pytest.mark.parametrize(
    "shape",
    [
        (2, 300, 3),
        (4, 40, 32),
        (5, 9, 100),
        (10, 3, 700),
        (33, 2, 90),
        (100, 3, 100),
        (130, 5, 16),
        (300, 2, 40),
        (1024, 2, 9),
    ],
)
@pytest.mark.parametrize("storage", ["float32", "float64"])
def test_tiles_as_they_are(shape, storage, emulate):
    """Several samples to a warp, a warp to a sample, samples beyond a tile, and the most classifiers promised."""
    emulate()
    rng = np.random.default_rng(sum(shape))
    losses = rng.random(shape).astype(STORAGES[storage])
    check_sums(case(losses, rng.dirichlet(np.ones(shape[0])), [0.1]))
    temperature = draw_temperatures(rng, 2, shape[1], 1.0)
    check(case(losses, rng.dirichlet(np.ones(shape[0]), 2), temperature, sample_weight=rng.random(shape[1])))


@pytest.mark.parametrize("sums_bytes", [0, 20_000], ids=["sums in device memory", "sums in shared memory"])
def test_few_samples_of_many_attacks_are_split_and_merged(sums_bytes, emulate):
    emulate(**SMALL, shared_sums_bytes=sums_bytes)
    rng = np.random.default_rng(0)
    for shape in ((3, 2, 2000), (17, 1, 500), (5, 3, 257)):
        losses = rng.normal(size=shape).astype(np.float32)
        prior = draw_prior(rng, shape[1:])
        weights = rng.dirichlet(np.ones(shape[0]), 3)
        check(case(losses, weights, [0.0, 0.05, 1e5], attack_prior=prior))
        check(case(losses, weights, draw_temperatures(rng, 3, shape[1], 1.0)))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("layout", ["contiguous", "every third sample", "windows", None])
def test_the_hessian_agrees_with_the_specification(layout, storage, emulate):
    emulate(**SMALL)
    for drawn in small_cases(storage, layout, 2, most_numbers=6000):
        check_hessian(drawn)
        check_hessian(drawn, float64_scores=True)


@pytest.mark.parametrize("shape", [(3, 2, 1000), (1, 1, 300), (13, 3, 100), (34, 5, 20), (9, 40, 7)])
@pytest.mark.parametrize("sums_bytes", [0, 20_000], ids=["sums in device memory", "sums in shared memory"])
def test_the_hessian_of_split_long_and_short_samples(shape, sums_bytes, emulate):
    """With the second of three queries at temperature 0, whose Hessian is 0, and the third without one."""
    rng = np.random.default_rng(sum(shape))
    losses = rng.random(shape, dtype=np.float32)
    asked = case(
        losses, rng.dirichlet(np.ones(shape[0]), 3), [0.05, 0.0, 0.3], attack_prior=draw_prior(rng, shape[1:])
    )
    for sizes in (SMALL, {}):
        emulate(**sizes, shared_sums_bytes=sums_bytes)
        every = check_hessian(asked).hessian
        few = run_pass(asked.table(), asked.weights, asked.temperature, hessian=1)
        np.testing.assert_array_equal(few.hessian, every[:1])


def test_losses_that_are_equal_have_no_curvature(emulate):
    emulate(**SMALL)
    for shape in ((6, 20, 9), (3, 2, 700)):
        losses = np.broadcast_to(np.random.default_rng(5).random((*shape[:2], 1), dtype=np.float32), shape)
        hessian = run_pass(LossTable(losses), np.full((1, shape[0]), 1 / shape[0]), 0.1, hessian=True).hessian
        assert np.abs(hessian).max() <= 1e-12


def test_many_queries_share_one_read(emulate):
    emulate(**SMALL)
    rng = np.random.default_rng(1)
    losses = rng.random((6, 20, 15))
    weights = rng.dirichlet(np.ones(6), 40)
    check(case(losses, weights, draw_temperatures(rng, 40, 20, 1.0)))


@pytest.mark.parametrize("storage", STORAGES)
def test_every_byte_of_the_table_is_loaded_once(storage, emulate):
    emulate(**SMALL)
    for layout in ("contiguous", "samples backwards", "every third sample", "attacks cut out", None):
        for drawn in small_cases(storage, layout, 2):
            table = drawn.table()
            run_pass(
                table,
                drawn.weights,
                drawn.temperature,
                per_sample=True,
                best_attack=True,
                best_row=True,
                samples=drawn.samples,
            )
            expected = np.zeros(table.array.shape, dtype=int)
            for sample in range(table.n_samples) if drawn.samples is None else drawn.samples:
                if table.row_offsets is None:
                    expected[:, sample] = 1
                else:
                    expected[:, table.row_offsets[sample] : table.row_offsets[sample + 1]] = 1
            assert (table.native.loads == expected[..., None]).all()


@pytest.mark.parametrize("disturbance", [-2, 0, 2])
@pytest.mark.parametrize("level", [0.0, 1e-6, 1e-2, 0.1, 1.0, 10.0, 1e6])
def test_float32_scores_are_as_careful_as_numpy(level, disturbance, emulate, emulator):
    """Also where the exponentials of the device are off by two units in the last place, as they may be."""
    emulate()
    emulator.disturb_exponentials(disturbance)
    rng = np.random.default_rng(0)
    for kind in ("uniform", "zero or one", "mostly tiny"):
        for shape in ((1, 20, 8), (4, 12, 100), (10, 2, 2500), (128, 4, 16)):
            losses = KINDS[kind](rng, shape).astype(np.float32)
            weights = rng.dirichlet(np.ones(shape[0]))
            assert_as_careful_as_numpy(None, losses, weights, level * loss_scale(losses))
    losses = rng.random((4, 9, 40)).astype(ml_dtypes.bfloat16)
    prior = np.maximum(draw_prior(rng, (9, 40), dtype=np.float32), np.float32(1e-12))
    assert_as_careful_as_numpy(None, losses, rng.dirichlet(np.ones(4)), level, prior)


@pytest.mark.parametrize("storage", STORAGES)
def test_of_identical_rows_the_first_is_best(storage, emulate):
    emulate(**SMALL)
    rng = np.random.default_rng(2)
    for n_attacks in (2, 3, 9, 33, 100, 700):
        for n_classifiers in (1, 7, 40):
            pair = np.sort(rng.choice(n_attacks, size=2, replace=False))
            losses = rng.random((n_classifiers, 2, n_attacks))
            losses[:, :, pair] = 1 + rng.random((n_classifiers, 2))[:, :, None]
            weights = rng.dirichlet(np.ones(n_classifiers), 2)
            table = LossTable(losses.astype(STORAGES[storage]))
            found = run_pass(table, weights, [0.0, 0.1], best_attack=True)
            assert (found.best_attack == pair[0]).all()


def test_losses_that_are_not_finite_are_named(emulate):
    emulate(**SMALL)
    for n_attacks in (5, 3000):
        for odd in (np.nan, np.inf, -np.inf):
            losses = np.random.default_rng(3).random((3, 4, n_attacks), dtype=np.float32)
            losses[1, 2, n_attacks // 2] = odd
            with pytest.raises(
                ValueError, match=f"got {odd} at classifier 1, sample 2, attack {n_attacks // 2}"
            ):
                worst_case(losses, [1.0, 0.0, 0.0])
            with pytest.raises(ValueError, match="classifier 1, sample 2"):
                run_pass(LossTable(losses), [[0.5, 0.0, 0.5]], 0.1)


def test_scores_that_overflow_float32_are_taken_in_float64(emulate):
    emulate(**SMALL)
    losses = np.full((2, 3, 4), 2e38, dtype=np.float32)
    assert worst_case(losses, [2.0, 2.0]).value == pytest.approx(8e38)


def test_more_samples_than_a_grid_has_rows(emulate):
    emulate()
    rng = np.random.default_rng(9)
    losses = rng.random((1, 70_000, 2), dtype=np.float32)
    check(case(losses, [[0.5]], [0.1], samples=np.arange(0, 70_000, 3)))


def test_rows_beyond_two_to_the_31(emulator):
    """The first and the last sample of a table of 8.6 GB, of whose memory no other page is ever touched."""
    n_samples = 2**29 + 50
    losses = np.zeros((1, n_samples, 4), dtype=np.float32)
    losses[0, 0], losses[0, -1] = [1, 2, 3, 4], [8, 7, 6, 9]
    table = emulator.Table(losses.__array_interface__["data"][0], 1, losses.shape, losses.strides)
    ends = [losses[0, place].__array_interface__["data"][0] for place in (0, -1)]
    for address in ends:
        emulator.add_array(address, 16)
    try:
        samples, everything = np.array([0, n_samples - 1]), 7
        found = emulator.run_pass(table, np.ones((1, 1)), np.zeros(1), everything, samples)
        np.testing.assert_array_equal(found["per_sample"], [[4, 9]])
        np.testing.assert_array_equal(found["best_attack"], [[3, 3]])
        assert found["value"][0] == pytest.approx(13 / n_samples)
        np.testing.assert_array_equal(emulator.gather(table, samples, np.array([1, 2])), [[2], [6]])
    finally:
        for address in ends:
            emulator.remove_array(address)


def test_tables_of_too_many_classifiers_are_refused(emulate):
    emulate()
    with pytest.raises(ValueError, match="classifiers; got 20000"):
        worst_case(np.ones((20_000, 1, 1)), np.full(20_000, 1 / 20_000))

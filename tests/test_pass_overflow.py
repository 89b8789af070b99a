"""Losses that are not finite are named on every path; finite ones are answered however large they are."""

import numpy as np
import pytest

from mixsolve import LossTable, _native, smoothed_value_and_grad, worst_case
from mixsolve.passes import run_pass
from tests.pass_cases import STORAGES, case
from tests.pass_checks import FLOAT32_ACCURACY, assert_within, check

ODD = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("float64_scores", [False, True])
def test_an_odd_loss_is_named_by_every_kernel(float64_scores, storage, isa):
    """Wherever it stands, and whichever of several queries gives its classifier a weight, if any."""
    rng = np.random.default_rng(0)
    for n_attacks in (1, 5, 17, 100, 1300):
        for n_classifiers in (2, 9, 40):
            losses = rng.random((n_classifiers, 6, n_attacks)).astype(STORAGES[storage])
            weights = rng.dirichlet(np.ones(n_classifiers), 6)
            at = tuple(int(rng.integers(length)) for length in losses.shape)
            weights[:, at[0]] = 0
            losses[at] = ODD[n_attacks % 3]
            table, message = LossTable(losses), "classifier {}, sample {}, attack {}$".format(*at)
            for n_queries, temperature in ((1, 0.0), (1, 0.1), (6, 0.0), (6, 0.1)):
                with pytest.raises(ValueError, match=message):
                    run_pass(table, weights[:n_queries], temperature, float64_scores=float64_scores)


@pytest.mark.parametrize("storage", STORAGES)
def test_of_several_odd_losses_the_first_in_the_order_of_indices_is_named(storage, isa):
    losses = np.zeros((3, 40, 30)).astype(STORAGES[storage])
    losses[2, 0, 0], losses[1, 39, 0], losses[1, 38, 29], losses[1, 38, 28] = np.nan, np.inf, np.nan, -np.inf
    assert _native.first_nonfinite(LossTable(losses).native) == (1, 38, 28, -np.inf)
    offsets = np.array([0, 1000, 1001, 1170, 1200])
    ragged = LossTable(losses.reshape(3, -1), row_offsets=offsets)
    assert _native.first_nonfinite(ragged.native) == (1, 2, 1168 - 1001, -np.inf)


def test_samples_that_are_not_asked_for_are_not_looked_at(isa):
    losses = np.random.default_rng(1).random((2, 10, 20))
    losses[0, 5, 3] = np.nan
    table = LossTable(losses)
    others = [0, 4, 6, 9]
    expected = run_pass(LossTable(losses[:, others]), [[0.5, 0.5]], 0.1).value[0] * 4 / 10
    assert run_pass(table, [[0.5, 0.5]], 0.1, samples=others).value[0] == pytest.approx(expected, rel=1e-14)
    with pytest.raises(ValueError, match="sample 5"):
        run_pass(table, [[0.5, 0.5]], 0.1, samples=[4, 5])


@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
@pytest.mark.parametrize("temperature", [0.0, 1e33, 1e38])
@pytest.mark.parametrize("n_attacks", [1, 8, 70, 1500])
def test_scores_beyond_float32_are_taken_in_float64(n_attacks, temperature, storage, isa):
    rng = np.random.default_rng(2)
    losses = (3e38 * rng.uniform(-1, 1, size=(4, 30, n_attacks))).astype(STORAGES[storage])
    check(
        case(losses, [[3.0, 4.0, -5.0, 6.0], [1.0, 0.0, 0.0, 0.0]], [temperature, 0.0]), float64_scores=False
    )


@pytest.mark.parametrize("temperature", [0.0, 1e30, 1e36])
@pytest.mark.parametrize("n_attacks", [1, 8, 70, 1500])
def test_sums_beyond_float32_are_taken_in_float64(n_attacks, temperature, isa):
    """Each score fits, their sum over the samples of a block does not; nor does one that counts a thousandfold."""
    losses = np.random.default_rng(3).uniform(0.5, 3e38, size=(2, 600, n_attacks)).astype(np.float32)
    weights, lonely = np.array([0.3, 0.7]), np.where(np.arange(600) == 77, 1.0, 1e-7)
    for sample_weight in (None, lonely):
        table = LossTable(losses, sample_weight=sample_weight)
        found, expected = (
            run_pass(table, [weights], temperature, float64_scores=wide) for wide in (False, True)
        )
        assert np.isfinite(found.gradient).all()
        conditioning = 1 + 3e38 / temperature if temperature else 1
        assert_within(found.value - expected.value, FLOAT32_ACCURACY * 3e38)
        assert_within(found.gradient - expected.gradient, FLOAT32_ACCURACY * 3e38 * conditioning)


def test_sums_beyond_float64_are_refused_with_a_remedy(isa):
    losses = np.full((2, 3, 4), 3e307)
    for call in (worst_case, lambda *arguments: smoothed_value_and_grad(*arguments, 1.0)):
        with pytest.raises(ValueError, match=r"overflow float64; rescale the losses"):
            call(losses, [90.0, 90.0])
    assert worst_case(losses, [0.5, 0.5]).value == pytest.approx(3e307, rel=1e-15)


@pytest.mark.parametrize("temperature", [0.0, 1e-310, 1e-20, 1.0])
def test_the_smallest_losses_are_losses_too(temperature, isa):
    """Subnormal numbers of every storage, whose scores in float64 are as good as any."""
    for storage, smallest in (
        ("float64", 1e-310),
        ("float32", 1e-45),
        ("float16", 6e-8),
        ("bfloat16", 1e-40),
    ):
        losses = (smallest * np.arange(24).reshape(2, 3, 4)).astype(STORAGES[storage])
        found = run_pass(LossTable(losses), [[1.0, 0.0]], temperature, float64_scores=True)
        exact = losses.astype(np.float64)[0]
        if temperature == 0:
            assert found.value[0] == pytest.approx(exact.max(axis=1).mean(), rel=1e-14, abs=5e-324)
        else:
            assert (
                exact.mean() * (1 - 1e-14)
                <= found.value[0]
                <= exact.max(axis=1).mean() * (1 + 1e-14) + 5e-324
            )

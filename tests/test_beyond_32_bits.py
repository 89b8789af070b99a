"""Tables of more elements than 32 bits count, with known answers: zeros but for what is planted at their far end.

Zeros that nobody wrote take no memory: the system maps one page again and again. So these tables of up to 4 GB, read in
seconds, hold a few megabytes; as bits, what they are packed to.
"""

import numpy as np
import pytest

from mixsolve import LossTable, fit_mixture
from mixsolve.passes import run_pass
from mixsolve.streams import open_stream

pytestmark = pytest.mark.large

LOSS = 255.0


def planted(n_classifiers, n_samples, n_attacks):
    """The last sample's last attack fools the first classifier, the one before it the last classifier."""
    losses = np.zeros((n_classifiers, n_samples, n_attacks), dtype=np.uint8)
    assert losses.size > 2**31
    losses[0, -1, -1] = LOSS
    losses[-1, -1, -2] = LOSS
    return losses


SHAPES = [(2, 1100, 1_000_000), (2, 1, 1_100_000_000), (1024, 1, 2_200_000), (1024, 1_050_000, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_pass_finds_what_lies_beyond_two_to_the_31(shape):
    table = LossTable(planted(*shape))
    n_classifiers, n_samples, n_attacks = shape
    weights = np.zeros((2, n_classifiers))
    weights[0, 0], weights[0, -1] = 0.75, 0.25
    weights[1] = 1 / n_classifiers
    found = run_pass(table, weights, 0.0, per_sample=True, best_attack=True)
    assert found.per_sample[0, -1] == 0.75 * LOSS
    assert not found.per_sample[0, :-1].any()
    assert found.best_attack[0, -1] == n_attacks - 1
    assert found.best_attack[1, -1] == n_attacks - 2  # the lowest of two equal ones
    np.testing.assert_allclose(found.value[0], 0.75 * LOSS / n_samples, rtol=1e-12)
    np.testing.assert_allclose(found.gradient[0, 0], LOSS / n_samples, rtol=1e-12)
    assert not found.gradient[0, 1:].any()
    assert found.bytes_read == table.array.size


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_smoothed_values_beyond_two_to_the_31(shape):
    table = LossTable(planted(*shape))
    n_classifiers, n_samples, n_attacks = shape
    weights = np.zeros((1, n_classifiers))
    weights[0, 0], weights[0, -1] = 0.75, 0.25
    level = LOSS / 4
    mass = n_attacks - 2 + np.exp(0.75 * 4) + np.exp(0.25 * 4)
    excess = (np.expm1(0.75 * 4) + np.expm1(0.25 * 4)) / n_attacks
    found = run_pass(table, weights, level, float64_scores=True)
    wanted = level * np.log1p(excess) / n_samples  # errors are of the scale of the losses, far above it
    np.testing.assert_allclose(found.value[0], wanted, rtol=1e-9, atol=1e-14 * LOSS)
    gradient = np.zeros(n_classifiers)
    gradient[0], gradient[-1] = np.exp(3.0), np.exp(1.0)
    np.testing.assert_allclose(found.gradient[0], gradient * LOSS / mass / n_samples, rtol=1e-9)


@pytest.mark.parametrize("shape", [(1024, 2_200_000, 1), (2, 1_100_000_000, 1)], ids=str)
def test_samples_of_a_single_attack_beyond_two_to_the_31(shape):
    losses = np.zeros(shape, dtype=np.uint8)
    assert losses.size > 2**31
    losses[0, -1, 0], losses[-1, -1, 0] = LOSS, 51
    table, n_samples = LossTable(losses), shape[1]
    weights = np.zeros((1, shape[0]))
    weights[0, 0], weights[0, -1] = 0.75, 0.25
    for level in (0.0, LOSS / 4):  # one attack leaves nothing to smooth
        found = run_pass(table, weights, level, float64_scores=True)
        np.testing.assert_allclose(found.value[0], (0.75 * LOSS + 0.25 * 51) / n_samples, rtol=1e-12)
        np.testing.assert_allclose(found.gradient[0, [0, -1]], [LOSS / n_samples, 51 / n_samples], rtol=1e-12)
        assert not found.gradient[0, 1:-1].any()


@pytest.mark.parametrize("shape", [(16, 1100, 125_000), (16, 1, 137_500_000), (64, 34_500_000, 1)], ids=str)
def test_bits_of_more_than_two_to_the_31_losses(shape):
    losses = np.zeros(shape, dtype=np.bool_)
    assert losses.size > 2**31
    losses[[0, -1], -1, -1] = True
    table, n_samples = LossTable(losses), shape[1]
    weights = np.full((1, shape[0]), 1 / shape[0])
    found = run_pass(table, weights, 0.0, per_sample=True, best_attack=True)
    assert found.per_sample[0, -1] == 2 / shape[0]
    assert not found.per_sample[0, :-1].any()
    assert found.best_attack[0, -1] == shape[2] - 1
    np.testing.assert_allclose(found.value[0], 2 / shape[0] / n_samples, rtol=1e-12)
    np.testing.assert_allclose(found.gradient[0, [0, -1]], 1 / n_samples, rtol=1e-12)
    assert not found.gradient[0, 1:-1].any()
    assert found.bytes_read == table.nbytes == n_samples * shape[2] * shape[0] // 8


def test_a_game_of_more_than_two_to_the_31_losses_is_solved():
    losses = planted(*SHAPES[0])
    found = fit_mixture(losses, tol=1e-9)
    np.testing.assert_allclose(found.weights, [0.5, 0.5], atol=1e-8)
    np.testing.assert_allclose([found.value, found.lower_bound], 0.5 * LOSS / 1100, rtol=1e-8)
    last = found.attack.sample == 1099
    assert set(found.attack.attack[last]) == {999_998, 999_999}


def test_ragged_offsets_beyond_two_to_the_32():
    """Every classifier is the same plane, a stride of 0 apart."""
    n_rows = 2**32 + 1000
    plane = np.zeros((1, n_rows), dtype=np.uint8)
    plane[0, 7], plane[0, 2**32 - 3], plane[0, -1] = 10, 20, 30
    offsets = np.array([0, 2**32 - 5, 2**32 + 1, n_rows])
    table = LossTable(np.broadcast_to(plane, (3, n_rows)), row_offsets=offsets)
    found = run_pass(table, [[0.5, 0.25, 0.25]], 0.0, per_sample=True, best_attack=True, best_row=True)
    np.testing.assert_array_equal(found.per_sample[0], [10, 20, 30])
    np.testing.assert_array_equal(found.best_attack[0], [7, 2, 998])
    np.testing.assert_array_equal(found.best_row[0], [[10] * 3, [20] * 3, [30] * 3])
    assert found.value[0] == pytest.approx(20)
    level = 1e6
    softened = run_pass(table, [[0.5, 0.25, 0.25]], level, float64_scores=True)
    means = [10 / (2**32 - 5), 20 / 6, 30 / 999]
    assert softened.value[0] == pytest.approx(np.mean(means), rel=1e-4)


def test_a_file_of_more_than_two_to_the_31_losses(tmp_path):
    """The file is a hole but for its end: it takes no room on the disk."""
    shape = SHAPES[0]
    path = tmp_path / "losses.npy"
    losses = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    losses[0, -1, -1] = losses[1, -1, -2] = LOSS
    losses.flush()
    del losses
    stream = open_stream(path, memory_limit=200_000_000)
    found = fit_mixture(stream, tol=1e-9)
    np.testing.assert_allclose([found.value, found.lower_bound], 0.5 * LOSS / 1100, rtol=1e-8)
    assert found.bytes_read == found.passes * 2 * 1100 * 1_000_000

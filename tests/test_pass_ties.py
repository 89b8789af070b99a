"""Of equal scores the lowest index wins, wherever the rows stand in vectors, tiles, blocks and pieces."""

import numpy as np
import pytest

from mixsolve import LossTable, worst_case
from mixsolve.passes import run_pass
from tests.pass_cases import STORAGES

LENGTHS = [2, 3, 7, 8, 9, 16, 17, 31, 33, 40, 64, 100, 513, 1030, 5000]


def places(rng, n_attacks, n):
    """Where twins stand: at both ends, side by side, and anywhere."""
    pairs = [(0, n_attacks - 1), (n_attacks - 2, n_attacks - 1), (0, 1)]
    pairs += [np.sort(rng.choice(n_attacks, size=2, replace=False)) for _ in range(n - len(pairs))]
    return np.array(pairs)


@pytest.mark.parametrize("float64_scores", [False, True])
@pytest.mark.parametrize("storage", STORAGES)
def test_of_identical_rows_the_first_is_best(storage, float64_scores, isa):
    """Weights and losses are no round numbers: were equal rows treated differently, their scores would differ."""
    rng = np.random.default_rng(0)
    for n_attacks in LENGTHS:
        for n_classifiers in (1, 3, 7, 12, 40):
            pairs = places(rng, n_attacks, 7)
            losses = rng.random((n_classifiers, len(pairs), n_attacks))
            top = 1 + rng.random((n_classifiers, len(pairs)))
            for sample, pair in enumerate(pairs):
                losses[:, sample, pair] = top[:, sample, None]
            weights = rng.dirichlet(np.ones(n_classifiers), 5)
            found = run_pass(
                LossTable(losses.astype(STORAGES[storage])),
                weights,
                [0.0, 0.1, 0.0, 0.0, 0.0],
                best_attack=True,
                float64_scores=float64_scores,
            )
            np.testing.assert_array_equal(found.best_attack, np.tile(pairs[:, 0], (5, 1)))


@pytest.mark.parametrize("storage", STORAGES)
def test_attacks_of_zero_or_one_loss_tie_as_the_specification_says(storage, isa):
    """Dyadic weights: the scores are exact, most of them tie, and every answer is exact too."""
    rng = np.random.default_rng(1)
    for n_attacks in LENGTHS:
        losses = rng.integers(0, 2, size=(4, 16, n_attacks)).astype(STORAGES[storage])
        weights = np.array([0.5, 0.25, 0.125, 0.125])
        exact = losses.astype(np.float64)
        scores = np.tensordot(weights, exact, axes=1)
        found = worst_case(losses, weights)
        np.testing.assert_array_equal(found.best_attack, scores.argmax(axis=1))
        np.testing.assert_array_equal(found.per_sample, scores.max(axis=1))
        assert found.value == scores.max(axis=1).mean()
        best = np.take_along_axis(exact, scores.argmax(axis=1)[None, :, None], axis=2)[:, :, 0]
        np.testing.assert_array_equal(found.grad, best.mean(axis=1))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("loss", [0.0, -0.0, 0.3, -7.0])
def test_where_every_attack_is_the_same_the_first_is_best(loss, storage, isa):
    for n_attacks in LENGTHS:
        losses = np.full((3, 5, n_attacks), loss).astype(STORAGES[storage])
        assert not worst_case(losses, [0.2, 0.3, 0.5]).best_attack.any()


def test_zeros_of_either_sign_tie(isa):
    losses = np.where(np.arange(50) % 2, 0.0, -0.0)[None, None].repeat(3, axis=1)
    losses[0, 1, 0] = -1.0
    losses[0, 2, :30] = -1.0
    assert worst_case(losses, [1.0]).best_attack.tolist() == [0, 1, 30]
    assert worst_case(losses.astype(np.float32), [1.0]).best_attack.tolist() == [0, 1, 30]


def test_ties_in_ragged_tables_and_subsets(isa):
    rng = np.random.default_rng(2)
    sizes = np.array([3, 40, 1, 2000, 17, 9])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    losses = rng.random((5, offsets[-1]))
    first, last = offsets[:-1] + sizes // 3, offsets[1:] - 1
    losses[:, last] = losses[:, first] = 1 + rng.random((5, sizes.size))
    table, weights = LossTable(losses.astype(np.float32), row_offsets=offsets), rng.dirichlet(np.ones(5), 1)
    for samples in (None, [1, 3, 5], [3]):
        found = run_pass(table, weights, 0.0, best_attack=True, samples=samples)
        expected = (sizes // 3)[slice(None) if samples is None else samples]
        assert found.best_attack[0].tolist() == expected.tolist()

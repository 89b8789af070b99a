"""Making a strategy of the attacker pure on all but few samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixsolve.solvers.purify import purify


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    n_classifiers=st.integers(1, 8),
    n_samples=st.integers(1, 40),
    kind=st.sampled_from(["real", "0/1", "equal"]),
)
def test_the_bound_stays_and_few_samples_mix(seed, n_classifiers, n_samples, kind):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 7, n_samples)
    sample = np.repeat(np.arange(n_samples), counts)
    losses = rng.random((sample.size, n_classifiers))
    losses = {"real": losses, "0/1": np.round(losses), "equal": np.ones_like(losses)}[kind]
    weight = rng.dirichlet(np.ones(n_samples)) + 1e-6
    share = weight[sample]
    probability = rng.random(sample.size) * (rng.random(sample.size) < 0.8)
    probability[np.cumsum(counts) - 1] += 0.1
    probability /= np.add.reduceat(probability, np.cumsum(counts) - counts)[sample]
    pure = purify(losses, sample, share, probability)
    assert pure.min() >= 0
    np.testing.assert_allclose(np.bincount(sample, pure), 1.0, rtol=1e-12)
    assert np.count_nonzero(pure) - n_samples < n_classifiers
    before, after = ((share * q) @ losses for q in (probability, pure))
    assert after.min() >= before.min() - 1e-13
    assert np.ptp(after - before) <= 1e-13  # all mean losses change by the same amount


def test_a_pure_strategy_stays_as_it_is():
    probability = np.array([1.0, 0.0, 0.5, 0.5])
    pure = purify(np.eye(4), np.array([0, 0, 1, 1]), np.full(4, 0.5), probability)
    assert pure.tolist() == probability.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_of_many_equal_rows_one_is_left(seed):
    losses = np.tile(np.random.default_rng(seed).random(3), (50, 1))
    pure = purify(losses, np.zeros(50, dtype=np.int64), np.ones(50), np.full(50, 0.02))
    assert np.count_nonzero(pure) <= 3
    assert pure.sum() == pytest.approx(1.0, rel=1e-12)

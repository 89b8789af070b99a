"""The NumPy specification of the pass against 60-digit decimal arithmetic."""

from decimal import Decimal, localcontext

import numpy as np
import pytest

from mixsolve.reference import BLOCK_ELEMENTS, reference_pass, sample_blocks

# What a pass with float64 scores promises, relative to the scale of the losses.
ACCURACY = 1e-14
TEMPERATURES = [0.0, 1e-9, 1e-6, 1e-3, 0.03, 1.0, 30.0, 1e3, 1e6, 1e9]


def exact_pass(tables, weights, temperatures, shares, priors):
    """Value, gradient and per-sample values in decimals; `tables` holds one (L, m_i) array per sample."""
    with localcontext() as context:
        context.prec = 60
        per_sample, gradient = [], [Decimal(0)] * len(weights)
        share_sum = sum(map(Decimal, shares))
        for table, t, share, prior in zip(tables, temperatures, shares, priors, strict=True):
            rows = [list(map(Decimal, row)) for row in table.T.tolist()]
            scores = [sum(Decimal(w) * x for w, x in zip(weights, row, strict=True)) for row in rows]
            value, response = _respond(scores, Decimal(t), [Decimal(u) for u in prior])
            per_sample.append(value)
            for k in range(len(weights)):
                mean = sum(p * row[k] for p, row in zip(response, rows, strict=True))
                gradient[k] += Decimal(share) / share_sum * mean
        total = sum(Decimal(s) / share_sum * v for s, v in zip(shares, per_sample, strict=True))
        return float(total), np.array(gradient, dtype=float), np.array(per_sample, dtype=float)


def _respond(scores, t, prior):
    largest = max(scores)
    if t == 0:
        first = scores.index(largest)
        return largest, [Decimal(j == first) for j in range(len(scores))]
    masses = [u / sum(prior) * ((s - largest) / t).exp() for u, s in zip(prior, scores, strict=True)]
    return largest + t * sum(masses).ln(), [mass / sum(masses) for mass in masses]


def draw(rng, scale=1.0, sizes=(4, 1, 7, 3)):
    """Per-sample tables of 3 classifiers, sample weights and priors, all of them uneven."""
    tables = [scale * rng.normal(size=(3, size)) for size in sizes]
    priors = [rng.dirichlet(np.ones(size)) for size in sizes]
    return tables, rng.random(len(sizes)), priors


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("level", TEMPERATURES)
def test_ragged_pass_is_exact_to_rounding(level, scale):
    rng = np.random.default_rng(3)
    tables, shares, priors = draw(rng, scale)
    weights = rng.dirichlet(np.ones(3))
    temperatures = level * scale * rng.uniform(0.5, 2, size=4)
    value, gradient, per_sample = exact_pass(tables, weights.tolist(), temperatures, shares, priors)
    answer = reference_pass(
        np.concatenate(tables, axis=1),
        weights,
        temperatures[None],
        row_offsets=np.cumsum([0, *(table.shape[1] for table in tables)]),
        sample_weight=shares,
        attack_prior=np.concatenate(priors),
    )
    size = max(np.abs(table).max() for table in tables)
    assert abs(answer.value[0] - value) <= ACCURACY * size
    np.testing.assert_allclose(answer.per_sample[0], per_sample, rtol=0, atol=ACCURACY * size)
    # A score's rounding moves a probability by that rounding over the temperature.
    slack = ACCURACY * size * (1 if level == 0 else 1 + 2 / level)
    np.testing.assert_allclose(answer.gradient[0], gradient, rtol=0, atol=slack)


@pytest.mark.parametrize("level", TEMPERATURES)
def test_rectangular_pass_with_defaults_is_exact_to_rounding(level):
    rng = np.random.default_rng(4)
    losses = rng.random((3, 5, 6))
    weights = rng.normal(size=3)  # off the simplex
    tables = list(losses.transpose(1, 0, 2))
    uniform = [np.ones(6)] * 5
    value, gradient, per_sample = exact_pass(tables, weights.tolist(), [level] * 5, [1.0] * 5, uniform)
    answer = reference_pass(losses, weights, level)
    size = np.abs(weights).sum()
    assert abs(answer.value[0] - value) <= ACCURACY * size
    np.testing.assert_allclose(answer.per_sample[0], per_sample, rtol=0, atol=ACCURACY * size)
    slack = ACCURACY * size * (1 if level == 0 else 1 + 1 / level)
    np.testing.assert_allclose(answer.gradient[0], gradient, rtol=0, atol=slack)


def test_best_attack_is_the_lowest_on_ties_at_any_temperature():
    losses = np.zeros((2, 3, 4))
    losses[:, 1, 2:] = 1.0
    losses[:, 2, 0] = -1.0
    for level in (0.0, 0.5):
        answer = reference_pass(losses, [0.5, 0.5], level)
        assert answer.best_attack.tolist() == [[0, 2, 1]]
    assert reference_pass(losses, [0.5, 0.5], 0.0).gradient.tolist() == [[1 / 3, 1 / 3]]


def test_queries_mix_temperatures_and_do_not_touch_each_other():
    rng = np.random.default_rng(5)
    losses = rng.normal(size=(3, 8, 5))
    weights = rng.normal(size=(4, 3))
    levels = np.stack([np.zeros(8), np.full(8, 1e-3), rng.uniform(1, 2, 8), np.full(8, 1e9)])
    together = reference_pass(losses, weights, levels)
    for query in range(4):
        alone = reference_pass(losses, weights[query], levels[query : query + 1])
        np.testing.assert_allclose(together.value[query], alone.value[0], rtol=1e-15)
        np.testing.assert_allclose(together.gradient[query], alone.gradient[0], rtol=0, atol=1e-15)
        assert together.best_attack[query].tolist() == alone.best_attack[0].tolist()


def test_samples_are_answered_with_the_weights_of_the_whole_table():
    rng = np.random.default_rng(6)
    losses, share = rng.random((3, 9, 4)), rng.random(9)
    weights = rng.dirichlet(np.ones(3))
    prior = rng.dirichlet(np.ones(4), size=9)
    everything = reference_pass(losses, weights, 0.1, sample_weight=share, attack_prior=prior)
    parts = [
        reference_pass(losses, weights, 0.1, sample_weight=share, attack_prior=prior, samples=samples)
        for samples in ([0, 2, 3], [1, 4, 5, 6, 7, 8])
    ]
    assert parts[0].per_sample.tolist() == everything.per_sample[:, [0, 2, 3]].tolist()
    np.testing.assert_allclose(sum(part.value for part in parts), everything.value, rtol=1e-15)
    np.testing.assert_allclose(sum(part.gradient for part in parts), everything.gradient, rtol=1e-14)


def test_a_table_of_several_blocks_equals_its_samples():
    rng = np.random.default_rng(7)
    losses = rng.random((3, 600, 2000), dtype=np.float32)
    assert losses.size > BLOCK_ELEMENTS
    answer = reference_pass(losses, [0.2, 0.3, 0.5], 0.05)
    for sample in (0, 299, 599):
        alone = reference_pass(losses[:, sample : sample + 1], [0.2, 0.3, 0.5], 0.05)
        assert answer.best_attack[0, sample] == alone.best_attack[0, 0]
        np.testing.assert_allclose(answer.per_sample[0, sample], alone.value[0], rtol=1e-14)
    np.testing.assert_allclose(answer.value[0], answer.per_sample.mean(), rtol=1e-14)


def test_blocks_cover_all_samples_in_order_whatever_their_sizes():
    sizes = np.array([1, BLOCK_ELEMENTS * 3, 5, BLOCK_ELEMENTS - 5, 1, 1])
    blocks = list(sample_blocks(sizes))
    assert [i for block in blocks for i in range(block.start, block.stop)] == list(range(6))
    assert all(sizes[block].sum() <= BLOCK_ELEMENTS or block.stop - block.start == 1 for block in blocks)


def test_extreme_temperatures_and_losses_give_numbers():
    losses = np.array([[[0.0, 1e300, -1e300]]])
    for level in (5e-324, 1e-300, 1.0, 1e300):
        answer = reference_pass(losses, [1.0], level)
        assert np.isfinite(answer.value).all()
        assert np.isfinite(answer.gradient).all()


def test_the_smoothed_value_rises_to_the_maximum_and_falls_to_the_mean():
    rng = np.random.default_rng(8)
    losses, weights = rng.random((2, 6, 5)), np.array([0.5, 0.5])
    values = [reference_pass(losses, weights, level).value[0] for level in (0, 1e-4, 1e-2, 1, 1e2, 1e6, 1e9)]
    # Strictly until rounding: at 1e6 and 1e9 the smoothed value is the mean to within 1e-7 and 1e-10.
    assert values == sorted(values, reverse=True)
    assert abs(values[-1] - losses.mean()) < 1e-9


def test_a_repeated_classifier_is_as_exact_as_one():
    """Its memory repeats, which leaves NumPy without its careful sums; so hot that the gradient is the mean."""
    losses = np.random.default_rng(0).random((1, 4, 25_000))
    repeated = np.broadcast_to(losses, (2, 4, 25_000))
    found = reference_pass(repeated, np.full(2, 1 / 2), 1e15)
    exact = losses.astype(np.longdouble).mean()
    np.testing.assert_allclose(found.gradient[0], float(exact), rtol=ACCURACY / 10)

"""Random numbers by key: uniform, normal, independent, and the same for a sample in any company."""

import numpy as np
import torch
from scipy import stats

from mixsolve.neural.noise import Noise, generator_of, mixed

NUMBERS = torch.arange(400)


def test_uniform_and_normal_by_a_test_of_kolmogorov_and_smirnov():
    like = torch.empty(400, 50)
    assert stats.kstest(Noise(1, NUMBERS).uniform(like).flatten().numpy(), "uniform").pvalue > 1e-3
    normal = Noise(2, NUMBERS).normal(like).flatten().numpy()
    assert stats.kstest(normal, "norm").pvalue > 1e-3
    assert np.isfinite(normal).all()


def test_samples_places_draws_and_seeds_are_uncorrelated():
    like = torch.empty(400, 50, dtype=torch.float64)
    noise = Noise(1, NUMBERS)
    first, second = noise.uniform(like), noise.uniform(like)
    pairs = {
        "samples": (first[:-1], first[1:]),
        "places": (first[:, :-1], first[:, 1:]),
        "draws": (first, second),
        "seeds": (first, Noise(2, NUMBERS).uniform(like)),
        "keys": (first, Noise(1, NUMBERS).keyed(0).uniform(like)),
    }
    for name, (one, other) in pairs.items():
        r = np.corrcoef(one.flatten().numpy(), other.flatten().numpy())[0, 1]
        assert abs(r) < 5 / np.sqrt(one.numel()), name  # five standard deviations


def test_a_sample_draws_the_same_in_any_company():
    like = torch.empty(400, 3, 4)
    whole = Noise(7, NUMBERS)
    whole.uniform(like)
    part = torch.tensor([5, 399, 12])
    alone = whole.at(part)
    torch.testing.assert_close(alone.uniform(like[part]), whole.uniform(like)[part], rtol=0, atol=0)
    torch.testing.assert_close(
        Noise(7, part).keyed(3).normal(like[part]), whole.keyed(3).normal(like)[part], rtol=0, atol=0
    )


def test_integers_are_uniform():
    counts = np.bincount(Noise(3, torch.arange(9000)).integers(9).numpy(), minlength=9)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_seeds_are_scattered():
    seeds = {mixed(a, b) for a in range(50) for b in range(50)}
    assert len(seeds) == 2500
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert not torch.equal(
        torch.rand(3, generator=generator_of(1, 2)), torch.rand(3, generator=generator_of(2, 1))
    )

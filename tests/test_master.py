"""The master of row generation, against its own certificate and against HiGHS."""

import math

import numpy as np
import pytest

from mixsolve.master import CoreStatus, solve_core, solve_core_by_highs


def bounds(rows, offsets, share, solution):
    """Both bounds, recomputed; and that the strategies are strategies."""
    assert np.all(solution.weights >= 0)
    assert math.fsum(solution.weights) == 1.0
    assert np.all(solution.duals >= 0)
    assert np.add.reduceat(solution.duals, offsets[:-1]) == pytest.approx(share, rel=1e-14, abs=0)
    value = share @ np.maximum.reduceat(rows @ solution.weights, offsets[:-1])
    return float((solution.duals @ rows).min()), float(value)


def random_core(rng, n_samples=20, longest=6, n_classifiers=5):
    counts = rng.integers(1, longest + 1, size=n_samples)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return rng.random((offsets[-1], n_classifiers)), offsets, rng.dirichlet(np.ones(n_samples))


@pytest.mark.parametrize("solve", [solve_core, solve_core_by_highs])
def test_bounds_are_what_the_strategies_prove(solve):
    rng = np.random.default_rng(0)
    for _ in range(20):
        core = random_core(rng)
        solution = solve(*core, gap=1e-8)
        lower, value = bounds(*core, solution)
        assert solution.status is CoreStatus.OPTIMAL
        assert solution.value == pytest.approx(value, abs=1e-14)
        assert solution.lower_bound == pytest.approx(lower, abs=1e-14)
        assert -1e-14 <= solution.gap <= 1e-8

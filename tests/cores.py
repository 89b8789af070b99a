"""Random cores for the master of row generation, and the check of its answers. NumPy only, never mixsolve."""

import math

import numpy as np

from tests.tolerances import ROUNDING_SLACK

KINDS = (
    "real",
    "0/1",
    "few values",
    "copied rows",
    "constant rows",
    "all equal",
    "near-duplicate classifiers",
    "near-duplicate rows",
    "peaked",
    "uneven samples",
)


def random_core(seed, most_samples=30, most_rows=10, most_classifiers=12):
    """Rows (n_rows, n_classifiers), offsets and shares of one of `KINDS`, sometimes with a large common offset."""
    rng = np.random.default_rng(seed)
    n_classifiers, n_samples = (
        int(rng.integers(1, most_classifiers + 1)),
        int(rng.integers(1, most_samples + 1)),
    )
    counts = rng.integers(1, rng.integers(1, most_rows + 1) + 1, size=n_samples)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    rows = rng.random((offsets[-1], n_classifiers))
    kind = KINDS[seed % len(KINDS)]
    if kind == "0/1":
        rows = (rows < 0.3).astype(np.float64)
    elif kind == "few values":
        rows = np.round(rows * 3) / 3
    elif kind == "copied rows":
        rows[rng.random(len(rows)) < 0.5] = rows[0]
    elif kind == "constant rows":
        rows = np.repeat(rows[:, :1], n_classifiers, axis=1)
    elif kind == "all equal":
        rows[:] = rows[0, 0]
    elif kind == "near-duplicate classifiers":
        half = n_classifiers // 2
        rows[:, half:] = rows[:, : n_classifiers - half]
        rows[:, half:] += rng.choice([0.0, 1e-7, 1e-12]) * rng.random((len(rows), n_classifiers - half))
    elif kind == "near-duplicate rows":
        rows = rows[0] + rng.choice([1e-6, 1e-9, 1e-13]) * rows
    elif kind == "peaked":
        rows = rows ** rng.choice([8, 30])
    elif kind == "uneven samples":
        rows *= np.repeat(10.0 ** -rng.integers(0, 12, size=n_samples), counts)[:, None]
    rows += rng.choice([0.0, 0.0, -0.5, 1000.0])
    share = rng.dirichlet(np.full(n_samples, rng.choice([0.05, 1.0, 100.0])))
    if n_samples > 1 and rng.random() < 0.2:
        share[np.argmin(share)] = 0.0
    return rows, offsets, share / share.sum()


def equal_samples(losses):
    """The core of all rows of a table (n_samples, n_attacks, n_classifiers)."""
    n_samples, n_attacks, n_classifiers = losses.shape
    offsets = np.arange(n_samples + 1) * n_attacks
    return losses.reshape(-1, n_classifiers), offsets, np.full(n_samples, 1 / n_samples)


def correlated_sigmoids(n_samples, n_attacks, n_classifiers, seed=0):
    """Losses as real classifiers give them: sigmoids of a part common to the classifiers and a private one."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n_samples, 1, 1)) + 0.5 * rng.normal(size=(n_samples, n_attacks, 1))
    private = rng.normal(size=(n_samples, n_attacks, n_classifiers))
    return equal_samples(1 / (1 + np.exp(-common - private)))


def check_solution(core, solution):
    """Both strategies are strategies, and the bounds are what they prove; returns the rounding slack."""
    rows, offsets, share = core
    slack = ROUNDING_SLACK * max(float(np.abs(rows).max()), np.finfo(float).tiny)
    assert np.all(solution.weights >= 0)
    assert math.fsum(solution.weights) == 1.0
    assert np.all(solution.duals >= 0)
    np.testing.assert_allclose(np.add.reduceat(solution.duals, offsets[:-1]), share, rtol=1e-14, atol=0)
    value = share @ np.maximum.reduceat(rows @ solution.weights, offsets[:-1])
    assert abs(value - solution.value) <= slack
    assert abs(np.min(solution.duals @ rows) - solution.lower_bound) <= slack
    assert solution.gap >= -slack
    return slack

"""The games of tests/group_jobs.py, how the processes share them, and what a process tells of a result."""

import numpy as np

from tests.test_binary_losses import zero_one
from tests.test_streams import game


def whole_game(seed=5, n_samples=1300):
    """A table whose samples are of rising difficulty, and weights for them."""
    return game(seed, n_samples), np.random.default_rng(seed).random(n_samples) + 0.1


def cuts(kind, size, n_samples):
    """Where the parts of the processes begin and end."""
    if kind == "even":
        return np.linspace(0, n_samples, size + 1).astype(int)
    if kind == "uneven":
        return np.concatenate([[0], n_samples - 2 ** np.arange(size - 1, -1, -1) + 1])
    return np.concatenate([[0, 0], np.linspace(0, n_samples, size).astype(int)[1:]])  # the first has none


def part(kind, rank, size):
    losses, weight = whole_game()
    ends = cuts(kind, size, losses.shape[1])
    own = slice(ends[rank], ends[rank + 1])
    return losses[:, own].copy(), weight[own], own


def zero_one_game(seed=6, n_samples=500):
    """0/1 losses, of classifiers that are fooled more or less often."""
    density = np.array([0.1, 0.12, 0.15, 0.2, 0.3])[:, None, None]
    return zero_one(seed, 5, n_samples, 30, density), np.random.default_rng(seed).random(n_samples) + 0.1


def described(result):
    attack = result.attack.to_dict()
    return {
        "weights": result.weights.tolist(),
        "value": result.value,
        "lower_bound": result.lower_bound,
        "worst_case_value": result.worst_case_value,
        "status": result.status.name,
        "passes": result.passes,
        "evaluations": result.evaluations,
        "bytes_read": result.bytes_read,
        "history": [(p.passes, p.value, p.lower_bound) for p in result.history],
        "communicated": dict(result.statistics.communicated),
        "attack": attack,
        "message": result.message,
    }

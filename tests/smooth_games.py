"""Games with smooth losses, as trained classifiers give them, of a size where a first-order method is the choice."""

import numpy as np


def correlated_sigmoids(n_classifiers=10, n_samples=1000, n_attacks=200, seed=0):
    """1 - probability of the right label, where what fools one classifier tends to fool the others."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(1, n_samples, n_attacks))
    private = rng.normal(size=(n_classifiers, n_samples, n_attacks))
    offset = rng.normal(size=(n_classifiers, n_samples, 1))
    return 1 / (1 + np.exp(-(2 * np.sqrt(0.7) * common + 2 * np.sqrt(0.3) * private + offset - 1)))


def linear_margins(n_classifiers, n_samples, n_attacks, seed, dimension=5, radius=1.0):
    """y f_k(x_i + delta_ij) for random linear classifiers of two Gaussian classes, delta uniform in an l2 ball."""
    rng = np.random.default_rng(seed)
    label = rng.choice([-1.0, 1.0], size=n_samples)
    mean = np.eye(dimension)[0]
    points = rng.normal(size=(n_samples, dimension)) + label[:, None] * mean
    moves = rng.normal(size=(n_samples, n_attacks, dimension))
    moves *= radius * rng.random((n_samples, n_attacks, 1)) ** (1 / dimension)
    moves /= np.linalg.norm(moves, axis=2, keepdims=True)
    normals = 2 * mean + rng.normal(size=(n_classifiers, dimension))
    decision = np.einsum("ijd,kd->kij", points[:, None] + moves, normals)
    return label[:, None] * (decision + 0.3 * rng.normal(size=n_classifiers)[:, None, None])


def linear_cross_entropy(n_classifiers=10, n_samples=1000, n_attacks=100, seed=0):
    return np.logaddexp(0, -linear_margins(n_classifiers, n_samples, n_attacks, seed))


def linear_probability(n_classifiers=10, n_samples=1000, n_attacks=100, seed=0):
    return 1 / (1 + np.exp(linear_margins(n_classifiers, n_samples, n_attacks, seed)))

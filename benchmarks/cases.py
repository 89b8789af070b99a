"""Seeded loss tables for timing: hard enough that no softmax is one-hot and no optimum sits at a single classifier.

Every generator returns float32 losses of shape (n_classifiers, n_samples, n_attacks). The first two are one game seen
through two losses: random linear classifiers, labelled Gaussian points and attacks uniform in an l2 ball.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, int, int]


def linear_margins(
    shape: Shape, seed: int, dimension: int = 6, radius: float = 1.0, variety: float = 1.5
) -> Array:
    """y f_k(x_i + delta_ij) of related linear classifiers; a negative margin is an error.

    ``variety`` is how far classifiers stray from their common direction: their losses are correlated, as those of
    models trained for one task are.
    """
    n_classifiers, n_samples, n_attacks = shape
    rng = np.random.default_rng(seed)
    common = np.eye(dimension)[0] * np.sqrt(dimension)
    normals = common + variety * rng.standard_normal((n_classifiers, dimension))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    intercepts = 0.2 * rng.standard_normal(n_classifiers)
    labels = rng.choice([-1.0, 1.0], n_samples)
    points = 0.8 * labels[:, None] * common / np.sqrt(dimension) + rng.standard_normal((n_samples, dimension))
    moves = rng.standard_normal((n_samples, n_attacks, dimension))
    moves *= (
        radius
        * rng.random((n_samples, n_attacks, 1)) ** (1 / dimension)
        / np.linalg.norm(moves, axis=2, keepdims=True)
    )
    attacked = points[:, None, :] + moves
    margins = np.empty(shape, dtype=np.float32)
    for k in range(n_classifiers):
        margins[k] = labels[:, None] * (attacked @ normals[k] + intercepts[k])
    return margins


def sigmoid_losses(shape: Shape, seed: int) -> Array:
    """1 - probability of the right label: smooth, in (0, 1), correlated between classifiers."""
    margins = linear_margins(shape, seed)
    return 1 / (1 + np.exp(2 * margins))


def cross_entropy_losses(shape: Shape, seed: int) -> Array:
    """Logistic loss log(1 + exp(-margin))."""
    return np.logaddexp(np.float32(0), -linear_margins(shape, seed))


def paper_game_losses(shape: Shape, seed: int, radius: float = 3.0) -> Array:
    """0/1 errors in the game of Meunier et al. (2021), section 5.1: many ties; mixing pays."""
    from mixsolve.attacks import Loss, Norm, UniformBall, loss_table
    from mixsolve.demo.plane import sample_classifiers, sample_points

    n_classifiers, n_samples, n_attacks = shape
    rng = np.random.default_rng(seed)
    points, labels = sample_points(n_samples, rng)
    classifiers = sample_classifiers(n_classifiers, points, labels, rng)
    ball = UniformBall(Norm.L2, radius, n_attacks, seed=seed)
    return np.asarray(loss_table(classifiers, points, labels, ball, Loss.ZERO_ONE).array, dtype=np.float32)


def uniform_losses(shape: Shape, seed: int) -> Array:
    """Independent uniform losses: no structure at all."""
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


FAMILIES: dict[str, Callable[[Shape, int], Array]] = {
    "sigmoid": sigmoid_losses,
    "cross_entropy": cross_entropy_losses,
    "paper_game": paper_game_losses,
    "uniform": uniform_losses,
}


@dataclass(frozen=True)
class Instance:
    """One named game: family, shape, seed and temperature decide every number in it."""

    family: str
    shape: Shape
    temperature: float = 0.0
    seed: int = 0

    @property
    def name(self) -> str:
        n_classifiers, n_samples, n_attacks = self.shape
        return f"{self.family}/{n_classifiers}x{n_samples}x{n_attacks}/t={self.temperature:g}"

    @property
    def n_rows(self) -> int:
        return self.shape[1] * self.shape[2]

    def losses(self) -> Array:
        return FAMILIES[self.family](self.shape, self.seed)


def mixture(n_classifiers: int, seed: int) -> Array:
    """A point inside the simplex, (n_classifiers,) float64."""
    return np.random.default_rng(seed).dirichlet(np.ones(n_classifiers))


def block_shape(n_classifiers: int, n_attacks: int, n_values: int) -> Shape:
    """Shape of the block that :func:`tiled` repeats: at most ``n_values`` and 8 million losses, at least one sample."""
    return n_classifiers, max(1, min(n_values, 1 << 23) // (n_classifiers * n_attacks)), n_attacks


def tiled(block: Array, n_bytes: int) -> Array:
    """The block's samples repeated until the table holds at least ``n_bytes``, in memory of its own.

    Value and gradient of the table are those of the block, so a table of any size is verified at the cost of its block.
    """
    n_classifiers, n_samples, n_attacks = block.shape
    copies = -(-n_bytes // block.nbytes)
    table = np.empty((n_classifiers, copies * n_samples, n_attacks), dtype=block.dtype)
    table.reshape(n_classifiers, copies, n_samples, n_attacks)[:] = block[:, None]
    return table

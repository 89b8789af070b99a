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


def near_duplicate_losses(shape: Shape, seed: int) -> Array:
    """Uniform losses of classifiers in pairs 1e-6 apart; the second half of the attacks repeats the first."""
    n_classifiers, n_samples, n_attacks = shape
    rng = np.random.default_rng(seed)
    distinct = -(-n_attacks // 2)
    half = rng.random((-(-n_classifiers // 2), n_samples, distinct), dtype=np.float32)
    pairs = np.concatenate([half, half + np.float32(1e-6) * rng.random(half.shape, dtype=np.float32)])
    return np.concatenate([pairs, pairs], axis=2)[:n_classifiers, :, :n_attacks]


def digits_losses(shape: Shape, seed: int, radius: float = 8.0) -> Array:
    """Cross-entropy of linear classifiers of scikit-learn's digits under noise in an l2 ball; grey levels from 0 to 16.

    Each classifier is a ridge regression on the classes from 300 images, and sees two thirds of the pixels.
    """
    from sklearn.datasets import load_digits

    _, n_samples, n_attacks = shape
    rng = np.random.default_rng(seed)
    images, labels = load_digits(return_X_y=True)
    chosen = rng.integers(labels.size, size=n_samples)
    moves = rng.standard_normal((n_samples, n_attacks, 64), dtype=np.float32)
    moves *= radius / np.linalg.norm(moves, axis=2, keepdims=True)
    moves += images[chosen, None, :].astype(np.float32)
    losses = np.empty(shape, dtype=np.float32)
    for plane in losses:
        seen = (rng.random(64) < 2 / 3).astype(np.float64)
        taught = rng.integers(labels.size, size=300)
        inputs = np.hstack([images[taught] * seen, np.ones((300, 1))])
        normal = inputs.T @ inputs + 100 * np.eye(65)
        fitted = np.linalg.solve(normal, inputs.T @ (10 * np.eye(10)[labels[taught]]))
        logits = moves @ (fitted[:-1] * seen[:, None]).astype(np.float32) + fitted[-1].astype(np.float32)
        right = np.take_along_axis(logits, labels[chosen, None, None], axis=2)
        plane[:] = np.log(np.exp(logits - right).sum(axis=2))
    return losses


FAMILIES: dict[str, Callable[[Shape, int], Array]] = {
    "sigmoid": sigmoid_losses,
    "cross_entropy": cross_entropy_losses,
    "paper_game": paper_game_losses,
    "uniform": uniform_losses,
    "near_duplicates": near_duplicate_losses,
    "digits": digits_losses,
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

    @property
    def description(self) -> dict[str, Any]:
        """What a row says of the game."""
        return {
            "family": self.family,
            "shape": list(self.shape),
            "n_rows": self.n_rows,
            "temperature": self.temperature,
            "seed": self.seed,
        }

    def losses(self) -> Array:
        return FAMILIES[self.family](self.shape, self.seed)


ROW_GENERATION = tuple(
    Instance(family, shape, seed=seed)
    for family, shapes in {
        "sigmoid": (
            (2, 2_000, 100),
            (10, 1_000, 200),
            (10, 300, 2_000),
            (10, 20_000, 100),
            (10, 100_000, 40),
            (30, 2_000, 100),
            (60, 5_000, 50),
            (100, 1_000, 100),
        ),
        "cross_entropy": (
            (5, 20_000, 100),
            (10, 5_000, 200),
            (10, 100_000, 20),
            (30, 300, 100),
            (50, 2_000, 100),
        ),
        "digits": ((5, 1_000, 100), (10, 5_000, 100), (20, 1_000, 200), (10, 20_000, 20)),
        "uniform": (
            (3, 10_000, 200),
            (10, 1_000, 100),
            (20, 5_000, 100),
            (20, 50_000, 20),
            (20, 50, 500),
            (100, 2_000, 50),
        ),
        "paper_game": ((5, 20_000, 100), (10, 1_000, 200), (10, 5_000, 200), (20, 1_000, 100)),
        "near_duplicates": ((10, 5_000, 100), (10, 100, 100), (20, 1_000, 100), (60, 2_000, 40)),
    }.items()
    for shape in shapes
    for seed in (0, 1)
)
"""Instances of the bars on reads of the table; 20 to 2,000 attacks, 2 to 100 classifiers, up to 100,000 samples."""

NEWTON = tuple(
    Instance(family, shape)
    for family in FAMILIES
    for shape in ((2, 2_000, 100), (10, 1_000, 200), (10, 5_000, 100), (30, 1_000, 100), (100, 500, 100))
)
"""Instances of the bar on Newton's reads of the table; their temperatures are chosen by the size of the losses."""

NEWTON_COMPARED = tuple(
    Instance(family, shape, temperature=0.05)
    for family in ("sigmoid", "cross_entropy")
    for shape in ((10, 30, 100), (10, 300, 100))
)
"""Small enough for solvers of exponential cones."""

NEWTON_PATHS = tuple(Instance(family, (10, 5_000, 200)) for family in ("sigmoid", "cross_entropy", "uniform"))
"""Games solved at a path of temperatures."""

ONE_GIGABYTE = Instance("sigmoid", (10, 50_000, 500))
FOUR_GIGABYTES = Instance("uniform", (10, 1_000_000, 100))
MANY_CLASSIFIERS = Instance("sigmoid", (1_000, 2_000, 50))
PAPER_GAME = Instance("paper_game", (10, 1_000, 1_000))
MANY_SAMPLES_PAPER_GAME = Instance("paper_game", (10, 20_000, 1_000))
COMPARED = Instance("sigmoid", (10, 1_000, 200))
MANY_ROWS_COMPARED = Instance("sigmoid", (10, 2_000, 500))


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

"""Tables and queries for the tests of the pass: every storage type, memory layout, prior and temperature."""

import time
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
from numpy.lib.stride_tricks import as_strided

from mixsolve import LossTable
from mixsolve.passes import run_pass
from mixsolve.storage import widen
from tests.tolerances import loss_scale

STORAGES = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
}


@dataclass(frozen=True)
class Case:
    """What one pass is asked: a stored table, what belongs to it, and K queries."""

    losses: np.ndarray
    weights: np.ndarray
    temperature: np.ndarray
    keywords: dict = field(default_factory=dict)
    samples: np.ndarray | None = None

    def table(self):
        return LossTable(self.losses, **self.keywords)

    def exact(self):
        """The stored losses in float64."""
        table = self.table()
        return widen(table.array, table.storage)


def case(losses, weights, temperature, samples=None, **keywords):
    given = {name: value for name, value in keywords.items() if value is not None}
    return Case(losses, np.atleast_2d(weights), np.asarray(temperature), given, samples)


# Each layout takes the generator of losses, `draw(*shape)`, and a shape (L, N, m), and lays the losses out in memory.
def _windows(draw, n_classifiers, n_samples, n_attacks):
    """Samples that share attacks with their neighbours, like windows over a sequence."""
    step = max(n_attacks // 2, 1)
    line = draw(n_classifiers, (n_samples - 1) * step + n_attacks)
    return as_strided(
        line, (n_classifiers, n_samples, n_attacks), (line.strides[0], step * line.itemsize, line.itemsize)
    )


LAYOUTS = {
    "contiguous": lambda draw, k, n, m: draw(k, n, m),
    "samples backwards": lambda draw, k, n, m: draw(k, n, m)[:, ::-1],
    "classifiers backwards": lambda draw, k, n, m: draw(k, n, m)[::-1],
    "every third sample": lambda draw, k, n, m: draw(k, 3 * n, m)[:, 1::3],
    "attacks cut out": lambda draw, k, n, m: draw(k, n, m + 9)[:, :, 5 : 5 + m],
    "samples outermost": lambda draw, k, n, m: draw(n, k, m).swapaxes(0, 1),
    "one sample repeated": lambda draw, k, n, m: np.broadcast_to(draw(k, 1, m), (k, n, m)),
    "one classifier repeated": lambda draw, k, n, m: np.broadcast_to(draw(1, n, m), (k, n, m)),
    "windows": _windows,
}

KINDS = {
    "uniform": lambda rng, shape: rng.random(shape),
    "zero or one": lambda rng, shape: (rng.random(shape) < 0.4) * 1.0,
    "signed": lambda rng, shape: rng.normal(size=shape),
    "rising": lambda rng, shape: np.sort(rng.random(shape), axis=-1),
    "falling": lambda rng, shape: -np.sort(-rng.random(shape), axis=-1),
    "mostly tiny": lambda rng, shape: rng.random(shape) ** 20,
}


def draw_case(rng, storage, layout=None, most_rows=20_000):
    """A random case; ragged when there is no layout."""
    kind, scale = KINDS[str(rng.choice(list(KINDS)))], rng.choice([1e-3, 1.0, 100.0])

    def draw(*shape):
        return (scale * kind(rng, shape)).astype(STORAGES[storage])

    n_classifiers = int(rng.choice([1, 2, 3, 4, 5, 8, 10, 13, 17, 31, 33, 70]))
    if layout is None:
        sizes = rng.integers(1, rng.choice([2, 4, 20, 200, 3000]), size=rng.integers(1, 40))
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        losses = draw(n_classifiers, offsets[-1] + 4)[:: rng.choice([-1, 1]), 3:-1]
    else:
        n_attacks = int(rng.choice([1, 2, 3, 5, 8, 15, 16, 17, 31, 64, 100, 333, 1100, 2500]))
        n_samples = max(min(int(rng.integers(1, 150)), most_rows // n_attacks // n_classifiers), 1)
        offsets, losses = None, LAYOUTS[layout](draw, n_classifiers, n_samples, n_attacks)
    n_samples = losses.shape[1] if offsets is None else offsets.size - 1
    weights = draw_weights(rng, int(rng.integers(1, 10)), n_classifiers)
    return Case(
        losses,
        weights,
        draw_temperatures(rng, weights.shape[0], n_samples, loss_scale(losses)),
        {
            **({} if offsets is None else {"row_offsets": offsets}),
            **({} if rng.random() < 0.5 else {"sample_weight": draw_sample_weight(rng, n_samples)}),
            **({} if rng.random() < 0.5 else {"attack_prior": draw_prior(rng, losses.shape[1:], offsets)}),
        },
        None if rng.random() < 0.7 else draw_subset(rng, n_samples),
    )


def draw_weights(rng, n_queries, n_classifiers):
    """Mixtures or points off the simplex."""
    if rng.random() < 0.7:
        return rng.dirichlet(np.ones(n_classifiers), n_queries)
    return rng.normal(size=(n_queries, n_classifiers))


def draw_temperatures(rng, n_queries, n_samples, scale):
    """From 1e-9 to 1e9 of the scale of the losses, with worst cases among them; one for all samples or one for each."""
    level = scale * 10 ** rng.uniform(-9, 9, size=n_queries)
    level[rng.random(n_queries) < 0.3] = 0
    if rng.random() < 0.6:
        return level
    return level[:, None] * rng.uniform(0.5, 2, size=(n_queries, n_samples))


def draw_sample_weight(rng, n_samples):
    """Uneven, with zeros among them."""
    weight = rng.random(n_samples) * (rng.random(n_samples) < 0.9)
    weight[rng.integers(n_samples)] = 1
    return weight


def draw_prior(rng, plane_shape, row_offsets=None, dtype=None):
    """Even or uneven down to 1e-300, or to the smallest float32."""
    prior = np.maximum(rng.random(plane_shape) ** rng.choice([1, 30, 1000]), 1e-300)
    if row_offsets is None:
        prior /= prior.sum(axis=1, keepdims=True)
    else:
        prior /= np.repeat(np.add.reduceat(prior, row_offsets[:-1]), np.diff(row_offsets))
    if (dtype or rng.choice([np.float32, np.float64])) is np.float64:
        return np.maximum(prior, 1e-300)
    return np.maximum(prior.astype(np.float32), np.float32(1e-45))


def draw_subset(rng, n_samples):
    return np.sort(rng.choice(n_samples, size=rng.integers(1, n_samples + 1), replace=False))


def endless_table(seconds):
    """A table of a few kilobytes that takes about so long to read: one sample, repeated by a stride of 0."""
    losses = np.random.default_rng(0).random((2, 1, 500), dtype=np.float32)

    def repeated(n_samples):
        return LossTable(np.broadcast_to(losses, (2, n_samples, 500)))

    begun, trial = time.perf_counter(), 40_000
    run_pass(repeated(trial), [[0.5, 0.5]], 0.1)
    return repeated(int(trial * seconds / (time.perf_counter() - begun)))

"""Cases of the backend tests that an emulator gets through quickly."""

from itertools import count

import numpy as np

from mixsolve import LossTable
from mixsolve.passes import run_pass
from mixsolve.reference import reference_pass
from tests.pass_cases import LAYOUTS, draw_case, draw_prior
from tests.test_compact import FLOAT32, assert_agrees, bytes_like

# How small tables are cut as large ones are: tiles of a few rows, several chunks, samples in several pieces.
SMALL = {"tile_bytes": 1024, "chunk_bytes": 2048, "piece_bytes": 2048}


def small_cases(storage, layout, number, most_numbers=12_000):
    """The first cases of at most so many losses times queries."""
    found = []
    for seed in count():
        drawn = draw_case(np.random.default_rng([seed, 77]), storage, layout, most_rows=2000)
        if drawn.losses.size * len(drawn.weights) <= most_numbers:
            found.append(drawn)
        if len(found) == number:
            return found


def check_bytes(shape, layout=LAYOUTS["contiguous"]):
    """Bytes with a scale and an offset: everything asked for, and plain passes; each byte is loaded once."""
    rng = np.random.default_rng(sum(shape))
    stored = layout(lambda *lengths: bytes_like(rng, *lengths), *shape)
    exact, weights = stored * 0.0125 - 1.5, rng.dirichlet(np.ones(shape[0]), 3)
    prior = np.maximum(draw_prior(rng, shape[1:], dtype=np.float64), 1e-9)
    own = {
        "sample_weight": rng.random(shape[1]),
        "attack_prior": prior / prior.sum(axis=1, keepdims=True),
    }
    for belongings in (own, {}):
        table = LossTable(stored, scale=0.0125, offset=-1.5, **belongings)
        for float64_scores in (False, True):
            level = np.array([0.0, 0.3, 1e5])
            assert_agrees(table, exact, weights, level, float64_scores=float64_scores, **belongings)
            assert (table.native.loads == 1).all()
    plain = run_pass(table, weights[:1], 0.3)
    truth = reference_pass(exact, weights[:1], 0.3)
    slack = FLOAT32 * np.abs(exact).max()
    np.testing.assert_allclose(plain.value, truth.value, rtol=0, atol=slack)
    np.testing.assert_allclose(
        plain.gradient, truth.gradient, rtol=0, atol=slack * (1 + 4 * np.abs(exact).max() / 0.3)
    )
    assert (table.native.loads == 1).all()

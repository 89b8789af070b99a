"""One query on a table of many classifiers, which has loops of its own (csrc/cpu/many_planes.h)."""

import numpy as np
import pytest

from mixsolve.passes import run_pass
from tests.pass_cases import STORAGES, Case, case, draw_prior
from tests.pass_checks import check

COUNTS = [31, 32, 33, 39, 40, 100, 257, 1024]
"""Groups of eight, and groups that overlap."""
LEVELS = [0.0, 0.01, 1e3]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("n_classifiers", COUNTS)
def test_one_query_agrees_with_the_specification(n_classifiers, storage, isa):
    rng = np.random.default_rng(n_classifiers)
    for n_attacks, n_samples in ((1, 50), (3, 40), (100, 5), (700, 2), (2500, 1)):
        losses = rng.random((n_classifiers, n_samples, n_attacks)).astype(STORAGES[storage])
        weights = rng.dirichlet(np.ones(n_classifiers))
        for level in LEVELS:
            check(case(losses, weights, [level]))
        check(case(losses, weights, [0.01]), float64_scores=True)


@pytest.mark.parametrize("n_classifiers", [33, 100])
def test_ragged_tables_priors_and_some_of_the_samples(n_classifiers, isa):
    rng = np.random.default_rng(n_classifiers)
    sizes = np.array([1, 3000, 17, 2, 500, 700, 1, 64, 5000, 3])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    losses = rng.random((n_classifiers, offsets[-1]), dtype=np.float32)
    weights = rng.dirichlet(np.ones(n_classifiers))
    for level in LEVELS:
        check(case(losses, weights, [level], row_offsets=offsets))
        drawn = case(
            losses,
            weights,
            [level],
            row_offsets=offsets,
            attack_prior=draw_prior(rng, offsets[-1], offsets),
            sample_weight=rng.dirichlet(np.ones(sizes.size)),
        )
        check(drawn)
        check(
            Case(losses, drawn.weights, drawn.temperature, drawn.keywords, samples=np.array([1, 2, 5, 6, 9]))
        )


@pytest.mark.parametrize("temperature", [0.0, 0.05])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_is_found_in_every_plane_and_row(bad, temperature, isa):
    rng = np.random.default_rng(0)
    losses = rng.random((37, 2, 75), dtype=np.float32)
    weights = np.full(37, 1 / 37)
    for place in [(0, 0, 0), (7, 1, 74), (28, 0, 63), (29, 1, 10), (31, 0, 74), (32, 1, 0), (36, 1, 74)]:
        spoiled = losses.copy()
        spoiled[place] = bad
        with pytest.raises(
            ValueError, match=rf"classifier {place[0]}, sample {place[1]}, attack {place[2]}$"
        ):
            run_pass(case(spoiled, weights, [temperature]).table(), weights[None], temperature)


@pytest.mark.parametrize("temperature", [0.0, 0.02])
def test_the_bits_are_the_same_for_every_number_of_threads(temperature):
    rng = np.random.default_rng(1)
    losses = rng.random((65, 700, 100), dtype=np.float32)
    drawn = case(losses, rng.dirichlet(np.ones(65)), [temperature])
    answers = [
        run_pass(drawn.table(), drawn.weights, temperature, per_sample=True, threads=threads)
        for threads in (1, 2, 3, 8)
    ]
    for answer in answers[1:]:
        assert answer.value.tobytes() == answers[0].value.tobytes()
        assert answer.gradient.tobytes() == answers[0].gradient.tobytes()
        assert answer.per_sample.tobytes() == answers[0].per_sample.tobytes()

"""bool losses as words, one per attack: every answer of a pass, and everything that a table does."""

import pickle

import numpy as np
import pytest
import torch

from mixsolve import Fista, LossTable, Newton, RowGeneration, Status, fit_mixture, worst_case
from mixsolve.passes import loss_gradient, loss_range, run_pass
from mixsolve.reference import reference_pass
from mixsolve.storage import Storage
from tests.certificates import assert_certificate
from tests.pass_cases import LAYOUTS, case, draw_prior
from tests.pass_checks import FLOAT32_ACCURACY, FLOAT64_ACCURACY, assert_within, check, check_sums

WORDS = {1: Storage.BITS16, 16: Storage.BITS16, 17: Storage.BITS32, 32: Storage.BITS32, 64: Storage.BITS64}


def coins(rng, *shape, density=0.4):
    return rng.random(shape) < density


def draw_case(seed, layout, n_classifiers, n_attacks, temperature, n_samples=11, **keywords):
    rng = np.random.default_rng(seed)
    losses = LAYOUTS[layout](lambda *shape: coins(rng, *shape), n_classifiers, n_samples, n_attacks)
    weights = rng.normal(size=(len(temperature), n_classifiers))
    weights[0] = rng.dirichlet(np.ones(n_classifiers))
    return case(losses, weights, np.asarray(temperature, dtype=np.float64), **keywords)


@pytest.mark.parametrize("n_classifiers", WORDS)
def test_the_shortest_word_is_taken(n_classifiers):
    losses = coins(np.random.default_rng(0), n_classifiers, 30, 7)
    table = LossTable(losses)
    assert table.storage is WORDS[n_classifiers]
    assert table.nbytes == 30 * 7 * table.storage.itemsize
    assert table.array.shape == losses.shape
    assert table.array.strides[0] == 0
    words = sum(losses[k].astype(np.uint64) << np.uint64(k) for k in range(n_classifiers))
    np.testing.assert_array_equal(table.array[0], words)
    assert LossTable(coins(np.random.default_rng(0), 65, 3, 2)).storage is Storage.UINT8


@pytest.mark.parametrize("float64_scores", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_passes_agree_with_the_specification(layout, float64_scores, isa):
    shapes = [(1, 3), (2, 16), (4, 1), (5, 90), (10, 100), (12, 70), (16, 33), (17, 40), (33, 17), (64, 5)]
    shapes += [(10, 1500), (12, 2)]
    for seed, (n_classifiers, n_attacks) in enumerate(shapes):
        level = [0.0, 0.07, 1.0, 1e5]
        given = draw_case(seed, layout, n_classifiers, n_attacks, level)
        check(given, float64_scores=float64_scores)
        check_sums(
            draw_case(seed, layout, n_classifiers, n_attacks, [0.07, 0.5]), float64_scores=float64_scores
        )


@pytest.mark.parametrize("n_classifiers", [3, 10, 20, 50])
def test_what_belongs_to_a_table(n_classifiers, isa):
    rng = np.random.default_rng(n_classifiers)
    n_samples, n_attacks = 40, 37
    prior = np.maximum(draw_prior(rng, (n_samples, n_attacks), dtype=np.float64), 1e-9)
    own = {"sample_weight": rng.random(n_samples), "attack_prior": prior / prior.sum(axis=1, keepdims=True)}
    level = [0.0, 0.2, 3.0, 0.05, 0.0]
    given = draw_case(1, "contiguous", n_classifiers, n_attacks, level, n_samples, **own)
    check(given)
    check(case(given.losses, given.weights, given.temperature, np.array([0, 3, 4, 5, 20, 39]), **own))
    varying = np.where(np.arange(5)[:, None] % 2 == 0, 0.0, rng.uniform(0.05, 2, (5, n_samples)))
    check(case(given.losses, given.weights, varying, **own))


def test_ragged_tables_and_huge_samples(isa):
    rng = np.random.default_rng(3)
    sizes = np.array([1, 30_000, 2, 1, 700, 16, 1, 5000, 3])
    losses = coins(rng, 10, sizes.sum())
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    weights, level = rng.dirichlet(np.ones(10), 4), np.array([0.0, 0.1, 0.02, 5.0])
    check(case(losses, weights, level, row_offsets=offsets))
    check(case(losses, weights, level, np.array([1, 2, 5, 8]), row_offsets=offsets), float64_scores=True)


@pytest.mark.parametrize("float64_scores", [False, True])
@pytest.mark.parametrize("n_classifiers", [2, 10, 16, 40])
def test_hessians(n_classifiers, float64_scores, isa):
    rng = np.random.default_rng(n_classifiers)
    accuracy = FLOAT64_ACCURACY if float64_scores else FLOAT32_ACCURACY
    for n_attacks in (2, 50, 6000):
        losses = coins(rng, n_classifiers, 12, n_attacks)
        weights, level = rng.dirichlet(np.ones(n_classifiers), 3), np.array([0.3, 0.0, 1.0])
        found = run_pass(LossTable(losses), weights, level, hessian=2, float64_scores=float64_scores)
        truth = reference_pass(losses.astype(np.float64), weights, level, hessian=True)
        assert_within(found.hessian - truth.hessian[:2], 40 * accuracy / 0.3)
        assert_within(found.gradient - truth.gradient, 10 * accuracy)


@pytest.mark.parametrize("n_attacks", [1, 16, 90, 5000])
@pytest.mark.parametrize("threads", [2, 3, 8])
def test_every_number_of_threads_gives_the_same_bits(n_attacks, threads):
    rng = np.random.default_rng(n_attacks)
    table = LossTable(coins(rng, 10, 2_000_000 // n_attacks, n_attacks))
    weights, level = rng.dirichlet(np.ones(10), 3), np.array([0.0, 0.05, 0.4])
    one, many = (run_pass(table, weights, level, best_attack=True, threads=count) for count in (1, threads))
    for name in ("value", "gradient", "best_attack"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))


def test_queries_together_have_the_bits_of_each_alone(isa):
    rng = np.random.default_rng(5)
    table = LossTable(coins(rng, 10, 300, 100))
    weights, level = rng.dirichlet(np.ones(10), 6), np.array([0.05, 0.0, 0.1, 0.3, 2.0, 0.01])
    together = run_pass(table, weights, level)
    for q in range(6):
        alone = run_pass(table, weights[q : q + 1], level[q : q + 1])
        assert alone.value[0] == together.value[q]
        np.testing.assert_array_equal(alone.gradient[0], together.gradient[q])


def test_scale_and_offset_stay_apart_from_the_bits():
    losses = coins(np.random.default_rng(4), 6, 50, 20)
    table = LossTable(losses, scale=0.5, offset=-3.0)
    exact = losses * 0.5 - 3.0
    assert table.storage is Storage.BITS16
    weights, level = np.random.default_rng(0).dirichlet(np.ones(6), 2), np.array([0.0, 0.2])
    found = run_pass(table, weights, level, per_sample=True, best_row=True, hessian=True, float64_scores=True)
    truth = reference_pass(exact, weights, level, hessian=True)
    for name in ("value", "gradient", "per_sample", "hessian"):
        np.testing.assert_allclose(getattr(found, name), getattr(truth, name), rtol=0, atol=1e-13)
    np.testing.assert_array_equal(table.rows([3, 7], [1, 0]), exact[:, [3, 7], [1, 0]].T)
    np.testing.assert_array_equal(table.sample_losses(4), exact[:, 4])
    assert loss_range(table) == (-3.0, -2.5)
    falling = LossTable(losses, scale=-1.0, offset=1.0)
    assert falling.storage is Storage.FLOAT32
    known = reference_pass(~losses, weights[:1], 0.0).value[0]
    assert worst_case(falling, weights[0]).value == pytest.approx(known)


def test_what_a_table_does():
    rng = np.random.default_rng(6)
    losses = coins(rng, 5, 40, 9)
    table = LossTable(losses)
    some = np.array([3, 4, 30])
    np.testing.assert_array_equal(table.excerpt(some).block(0, 3).losses, losses[:, some].reshape(5, -1))
    assert table.excerpt(some).storage is Storage.BITS16
    copy = pickle.loads(pickle.dumps(table))
    assert copy.array.strides[0] == 0
    np.testing.assert_array_equal(copy.block(0, 40).losses, losses.reshape(5, -1))
    assert LossTable(losses[:, ::-1][:, ::-1]).digest() == table.digest() == copy.digest()
    other = losses.copy()
    other[4, 39, 8] ^= True
    assert LossTable(other).digest() != table.digest()
    assert LossTable(torch.from_numpy(losses)).digest() == table.digest()
    assert loss_range(LossTable(np.ones((3, 4, 5), dtype=bool))) == (1.0, 1.0)
    losses[:] = False
    np.testing.assert_array_equal(table.block(0, 40).losses, copy.block(0, 40).losses)  # the bits are a copy


def test_what_sets_refuse():
    table = LossTable(coins(np.random.default_rng(0), 3, 4, 5))
    with pytest.raises(ValueError, match="`gradient` must be like the losses, bits16"):
        loss_gradient(table, np.ones(3), 0.1, np.empty((3, 4, 5), dtype=np.float32))
    with pytest.raises(ValueError, match="held as bytes 0 and 1"):
        LossTable(np.full((2, 3, 4), 2, dtype=np.uint8).view(np.bool_))
    with pytest.raises(ValueError, match="`scale` must be finite"):
        LossTable(coins(np.random.default_rng(0), 3, 4, 5), scale=np.inf)


@pytest.mark.parametrize("solver", [RowGeneration(), Newton(), Fista()])
@pytest.mark.parametrize("n_classifiers", [6, 20])
def test_solvers_certify_games_of_sets(solver, n_classifiers):
    losses = coins(np.random.default_rng(7), n_classifiers, 900, 30, density=0.2)
    weight = np.random.default_rng(8).random(900)
    temperature = 0.0 if isinstance(solver, RowGeneration) else 0.05
    for scale, offset in ((1.0, 0.0), (0.5, 0.25)):
        table = LossTable(losses, scale=scale, offset=offset, sample_weight=weight)
        found = fit_mixture(table, solver=solver, temperature=temperature, tol=1e-5)
        assert found.status is Status.OPTIMAL
        assert_certificate(found, losses * scale + offset, tol=1e-5, sample_weight=weight)

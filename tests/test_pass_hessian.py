"""The Hessian of the smoothed value: against the specification and against differences of gradients, to the bit."""

from itertools import product

import numpy as np
import pytest

from mixsolve import LossTable, _native
from mixsolve.passes import run_pass
from mixsolve.reference import reference_pass
from tests.pass_cases import LAYOUTS, STORAGES, case, draw_case, draw_prior, endless_table
from tests.pass_checks import accuracy_of, assert_within
from tests.test_pass_threads import assert_same_bits, large_case
from tests.tolerances import loss_scale


def ask(asked, table=None, **options):
    return run_pass(
        table or asked.table(),
        asked.weights,
        asked.temperature,
        samples=asked.samples,
        **{"hessian": True, **options},
    )


def check(asked, *, float64_scores=False, threads=None):
    """Value, gradient and Hessian against the specification.

    A deviation from the mean is off by the rounding of a loss and of the mean, a probability, as in the gradient, by
    twice a score's rounding over the temperature; the squares of deviations are at most four times the scale squared.
    """
    exact = asked.exact()
    answer = ask(asked, float64_scores=float64_scores, threads=threads)
    truth = reference_pass(
        exact, asked.weights, asked.temperature, samples=asked.samples, hessian=True, **asked.keywords
    )
    accuracy, scale = accuracy_of(asked, float64_scores), loss_scale(exact)
    size = scale * np.maximum(np.abs(asked.weights).sum(axis=1), 1)
    assert_within(answer.value - truth.value, accuracy * size)
    for q in range(len(asked.weights)):
        coldest = np.min(np.asarray(asked.temperature)[q])
        if coldest == 0:
            assert not answer.hessian[q].any()
            continue
        slack = accuracy * scale * (1 + 2 * size[q] / coldest)
        assert_within(answer.gradient[q] - truth.gradient[q], slack)
        assert_within(answer.hessian[q] - truth.hessian[q], 8 * slack * scale / coldest)
        np.testing.assert_array_equal(answer.hessian[q], answer.hessian[q].T)
    return answer


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("layout", [*LAYOUTS, None])
def test_the_hessian_agrees_with_the_specification(layout, storage, isa):
    """All layouts and ragged tables; priors, sample weights, subsets and temperatures per sample among them."""
    for seed in range(2):
        drawn = draw_case(np.random.default_rng([seed, 7]), storage, layout, most_rows=8000)
        check(drawn)
        check(drawn, float64_scores=True)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("n_attacks", [1, 2, 15, 16, 17, 31, 33, 511, 512, 513, 1040, 4096, 4097, 9001])
def test_samples_of_every_length_agree_with_the_specification(n_attacks, storage, isa):
    rng = np.random.default_rng(n_attacks)
    losses = rng.random((3, 3, n_attacks)).astype(STORAGES[storage])
    prior = draw_prior(rng, losses.shape[1:])
    check(case(losses, rng.dirichlet(np.ones(3), 2), [0.05, 2.0], attack_prior=prior))
    check(case(losses[:, :1], rng.dirichlet(np.ones(3), 2), [0.05, 0.0]))


@pytest.mark.parametrize("n_classifiers", [*range(1, 14), 16, 26, 61, 257])
def test_any_number_of_classifiers_agrees_with_the_specification(n_classifiers, isa):
    rng = np.random.default_rng(n_classifiers)
    losses = rng.random((n_classifiers, 3, 40)).astype(np.float32)
    check(case(losses, rng.dirichlet(np.ones(n_classifiers), 2), [0.01, 1e3]))


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 10.0])
def test_the_hessian_is_the_derivative_of_the_gradient(temperature, isa):
    """Central differences of the pass's own gradients; their error is h^2 / 6 times a third derivative."""
    rng = np.random.default_rng(0)
    table = LossTable(rng.random((4, 50, 30)), sample_weight=rng.random(50))
    weights, step = rng.dirichlet(np.ones(4)), 1e-4 * temperature
    moved = np.concatenate([weights + step * np.eye(4), weights - step * np.eye(4)])
    ahead, behind = run_pass(table, moved, temperature).gradient.reshape(2, 4, 4)
    hessian = run_pass(table, weights[None], temperature, hessian=True).hessian[0]
    assert_within((ahead - behind) / (2 * step) - hessian, 1e-7 / temperature)


def test_losses_far_from_zero_keep_their_curvature(isa):
    """What all losses have in common cancels: it is taken away before anything is squared."""
    rng = np.random.default_rng(1)
    near, far = rng.integers(0, 64, (5, 40, 33)) / 64, 1024.0
    weights = rng.dirichlet(np.ones(5))
    for dtype in (np.float32, np.float64):
        expected = run_pass(LossTable(near), weights[None], 50.0, hessian=True).hessian[0]
        found = run_pass(LossTable((near + far).astype(dtype)), weights[None], 50.0, hessian=True).hessian[0]
        # Scores are off by an ulp of 1024, which moves probabilities by that over the temperature.
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_all_losses_of_a_sample_equal_have_no_curvature(isa):
    losses = np.broadcast_to(np.random.default_rng(2).random((6, 20, 1), dtype=np.float32), (6, 20, 9))
    hessian = run_pass(LossTable(losses), np.full((1, 6), 1 / 6), 0.1, hessian=True).hessian[0]
    assert_within(hessian, 1e-12)
    alone = run_pass(LossTable(losses[:, :, :1]), np.full((1, 6), 1 / 6), 0.1, hessian=True).hessian
    assert not alone.any()


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(("n_attacks", "n_classifiers"), [(3, 20), (100, 5), (700, 11)])
def test_any_number_of_threads_gives_the_same_bits(n_attacks, n_classifiers, storage, isa):
    asked = large_case(storage, n_attacks, n_classifiers, n_bytes=3_000_000)
    table = asked.table()
    alone = ask(asked, table, threads=1)
    for threads in (2, 3, 8, None, 1):
        again = ask(asked, table, threads=threads)
        assert_same_bits(again, alone)
        assert again.hessian.tobytes() == alone.hessian.tobytes()


def test_hessians_of_the_first_queries_are_those_of_all():
    asked = large_case("float32", 60, 7, n_bytes=400_000)
    every = ask(asked).hessian
    for n in (1, 2):
        few = ask(asked, hessian=n)
        assert few.hessian.shape == (n, 7, 7)
        assert few.hessian.tobytes() == every[:n].tobytes()
    assert ask(asked, hessian=False).hessian is None
    with pytest.raises(ValueError, match="hessians must be at most K"):
        ask(asked, hessian=4)


@pytest.mark.parametrize("n_attacks", [35, 100, 511, 1500])
def test_the_bits_of_a_query_do_not_depend_on_the_others(n_attacks):
    asked = large_case("float32", n_attacks, 10, n_bytes=3_000_000)
    table = asked.table()
    every = ask(asked, table, best_attack=True)
    for q in range(3):
        alone = run_pass(table, asked.weights[q : q + 1], asked.temperature[q : q + 1], hessian=True)
        assert alone.hessian.tobytes() == every.hessian[q : q + 1].tobytes()
        assert alone.gradient.tobytes() == every.gradient[q : q + 1].tobytes()
        assert alone.value.tobytes() == every.value[q : q + 1].tobytes()


def test_other_answers_agree_with_those_of_a_pass_without():
    for n_attacks, n_classifiers in product((3, 60, 1500, 5000), (4, 40)):
        asked = large_case("float32", n_attacks, n_classifiers, n_bytes=800_000)
        options = {"per_sample": True, "best_attack": True, "best_row": True}
        with_it, without = ask(asked, **options), ask(asked, hessian=False, **options)
        assert with_it.best_row.tobytes() == without.best_row.tobytes()
        for name, slack in (("value", 1e-6), ("per_sample", 1e-6), ("gradient", 1e-5)):
            assert_within(getattr(with_it, name) - getattr(without, name), slack)


def test_a_loss_that_is_not_finite_is_named():
    losses = np.random.default_rng(3).random((3, 40, 20), dtype=np.float32)
    losses[1, 7, 3] = np.nan
    with pytest.raises(ValueError, match="got nan at classifier 1, sample 7, attack 3"):
        run_pass(LossTable(losses), [[1.0, 0.0, 0.0]], 0.1, hessian=True)


def test_squares_that_overflow_float32_are_taken_in_float64():
    losses = 1e25 * np.random.default_rng(4).random((3, 10, 20), dtype=np.float32)
    asked = case(losses, [[0.2, 0.3, 0.5]], [1e24])
    found = ask(asked).hessian
    np.testing.assert_allclose(found, ask(asked, float64_scores=True).hessian, rtol=1e-12)


def test_a_cancelled_pass_ends():
    cancel = _native.CancelToken()
    cancel.cancel()
    with pytest.raises(_native.Cancelled):
        run_pass(endless_table(seconds=0.2), [[0.5, 0.5]], 0.1, hessian=True, cancel=cancel)

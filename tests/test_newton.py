"""Newton: passes to a tight gap, certificates on every kind of game, the step itself, and what it leaves to Fista."""

import numpy as np
import pytest

from benchmarks.cases import FAMILIES as BENCHMARK_FAMILIES
from mixsolve import Fista, Newton, OracleAnswer, Status, fit_mixture
from mixsolve.solvers.trust_region import minimise_model
from tests.certificates import assert_certificate
from tests.pass_cases import draw_prior
from tests.problems import FAMILIES, family
from tests.solvers.recording import Recording
from tests.tolerances import EPS, loss_scale

TEMPERATURES = (1.0, 0.1, 0.01, 0.001)
TOL = 1e-8


class Plain(Recording):
    """A solver that reads the table itself, whatever its losses."""

    evaluates_start = True


@pytest.mark.parametrize("name", BENCHMARK_FAMILIES)
def test_passes_to_a_relative_gap_of_1e_8_are_few(name):
    """A median of 15 is asked for over all families; each of them is held to it, with 0/1 losses as they are."""
    counts = []
    for shape in ((2, 50, 40), (10, 300, 50), (100, 200, 20)):
        losses = BENCHMARK_FAMILIES[name](shape, 0)
        for relative in TEMPERATURES:
            temperature = relative * loss_scale(losses)
            result = fit_mixture(losses, temperature=temperature, solver=Plain(Newton()), tol=TOL)
            assert result.status is Status.OPTIMAL
            assert_certificate(result, losses, tol=TOL)
            counts.append(result.passes)
    assert np.median(counts) <= 15, counts
    assert max(counts) <= 30, counts


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("relative_temperature", [1e-3, 0.02, 0.5, 100.0])
def test_every_family_is_solved(name, relative_temperature):
    problem = family(name)
    temperature = relative_temperature * loss_scale(problem.losses)
    result = fit_mixture(
        problem.losses, temperature=temperature, solver=Newton(), tol=TOL, **problem.keywords
    )
    assert result.status is Status.OPTIMAL
    interval = problem.value_interval(temperature)
    assert_certificate(result, problem.losses, tol=TOL, value_interval=interval, **problem.keywords)


def draw_game(seed):
    """Small and degenerate: ties, equal classifiers, one attack, constant losses, powers of two, uneven priors."""
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 9), rng.integers(1, 20), rng.integers(1, 8)
    losses, kind = rng.random(shape), rng.integers(7)
    if kind == 0:
        losses = (losses < 0.4) * 1.0
    elif kind == 1:
        losses = np.round(3 * losses) / 3
    elif kind == 2:
        losses = np.broadcast_to(losses[:1], losses.shape).copy()
    elif kind == 3:
        losses = np.full(losses.shape, 0.5)
    elif kind == 4:
        losses = np.concatenate([losses, losses + 1e-9 * rng.random(losses.shape)])
    elif kind == 5:
        losses = losses - 0.5
    else:
        losses = losses * 2.0 ** rng.integers(-27, 28)
    losses = losses.astype(rng.choice([np.float32, np.float64]))
    belongings = {}
    if rng.random() < 0.3:
        belongings["sample_weight"] = rng.random(losses.shape[1]) * (rng.random(losses.shape[1]) < 0.8) + 1e-3
    if rng.random() < 0.3:
        belongings["attack_prior"] = draw_prior(rng, losses.shape[1:], dtype=np.float64)
    temperature = 10.0 ** rng.uniform(-9, 9) * loss_scale(losses)
    if rng.random() < 0.2:
        temperature = temperature * rng.uniform(0.5, 2, size=losses.shape[1])
    return losses, temperature, belongings


def test_small_degenerate_games_are_solved_at_any_temperature():
    for seed in range(250):
        losses, temperature, belongings = draw_game(seed)
        solver = Newton() if seed % 2 else Plain(Newton())
        result = fit_mixture(losses, temperature=temperature, solver=solver, tol=TOL, **belongings)
        assert result.status is Status.OPTIMAL, (seed, result.message)
        assert_certificate(result, losses, tol=TOL, **belongings)
        assert result.passes <= 60, seed


@pytest.mark.large
def test_thousands_of_small_degenerate_games_are_solved():
    for seed in range(1000, 4000):
        losses, temperature, belongings = draw_game(seed)
        solver = Newton() if seed % 2 else Plain(Newton())
        result = fit_mixture(losses, temperature=temperature, solver=solver, tol=TOL, **belongings)
        assert result.status is Status.OPTIMAL, (seed, result.message)
        assert_certificate(result, losses, tol=TOL, **belongings)


@pytest.mark.parametrize("factor", [2.0**-27, 2.0**20])
def test_losses_scaled_by_a_power_of_two_are_solved_alike(factor):
    losses = BENCHMARK_FAMILIES["sigmoid"]((6, 100, 30), 1)
    plain = fit_mixture(losses, temperature=0.01, tol=TOL)
    scaled = fit_mixture(losses * np.float32(factor), temperature=0.01 * factor, tol=TOL)
    assert scaled.passes == plain.passes
    assert scaled.value == plain.value * factor
    assert scaled.lower_bound == plain.lower_bound * factor
    assert scaled.weights.tobytes() == plain.weights.tobytes()


def test_any_number_of_threads_gives_the_same_result():
    losses = BENCHMARK_FAMILIES["cross_entropy"]((10, 2000, 40), 2)
    alone = fit_mixture(losses, temperature=0.01, tol=TOL, threads=1)
    for threads in (2, 5):
        other = fit_mixture(losses, temperature=0.01, tol=TOL, threads=threads)
        assert other.weights.tobytes() == alone.weights.tobytes()
        assert (other.value, other.lower_bound) == (alone.value, alone.lower_bound)


def test_it_is_the_default_at_positive_temperature():
    losses = BENCHMARK_FAMILIES["uniform"]((4, 30, 10), 0)
    assert fit_mixture(losses, temperature=0.1).solver == repr(Newton())
    wide = np.random.default_rng(0).random((Newton.largest + 1, 4, 3))
    assert fit_mixture(wide, temperature=0.5, tol=1e-3).solver == repr(Fista())


def test_with_more_classifiers_than_it_takes_it_says_that_fista_did_the_work():
    losses = BENCHMARK_FAMILIES["sigmoid"]((5, 60, 20), 0)
    result = fit_mixture(losses, temperature=0.1, solver=Newton(largest=4))
    assert result.status is Status.OPTIMAL
    assert "by Fista: there are more than 4 classifiers" in result.message
    assert_certificate(result, losses, tol=1e-6)


def test_a_start_that_is_nearly_optimal_saves_passes():
    losses = BENCHMARK_FAMILIES["sigmoid"]((10, 500, 50), 0)
    cold = fit_mixture(losses, temperature=1e-3, tol=TOL)
    warm = fit_mixture(losses, temperature=1e-3, tol=TOL, start=cold)
    assert warm.passes <= 2 < cold.passes
    assert_certificate(warm, losses, tol=TOL)


def test_the_last_pass_proves_what_is_returned():
    """No pass is spent on the proof alone: values at temperature 0 come with the steps."""
    losses = BENCHMARK_FAMILIES["sigmoid"]((10, 300, 50), 0)
    solver = Plain(Newton())
    result = fit_mixture(losses, temperature=0.01, solver=solver, tol=TOL)
    assert result.passes == len(solver.asked)
    assert_certificate(result, losses, tol=TOL)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 6])
def test_a_limit_on_passes_leaves_a_true_certificate(limit):
    losses = BENCHMARK_FAMILIES["paper_game"]((10, 200, 40), 0)
    result = fit_mixture(losses, temperature=1e-3, solver=Plain(Newton()), tol=1e-12, pass_limit=limit)
    assert result.status is Status.PASS_LIMIT
    assert result.passes <= limit
    assert_certificate(result, losses)


def test_it_goes_down_to_rounding_and_stops_there():
    losses = BENCHMARK_FAMILIES["sigmoid"]((6, 100, 30), 0)
    result = fit_mixture(losses, temperature=0.05, tol=0)
    assert result.status in (Status.OPTIMAL, Status.NUMERICAL_ERROR)
    assert result.gap <= 1e-13 * result.value
    assert result.passes < 30


def test_steps_are_counted_and_limited():
    losses = BENCHMARK_FAMILIES["sigmoid"]((6, 100, 30), 0)
    result = fit_mixture(losses, temperature=1e-3, solver=Newton(iterations=2), tol=1e-12)
    assert result.status is Status.ITERATION_LIMIT
    assert_certificate(result, losses)


def test_other_games_are_refused():
    losses = np.ones((2, 3, 4))
    with pytest.raises(ValueError, match="`temperature` must be > 0 for Newton; got 0"):
        fit_mixture(losses, solver=Newton())
    with pytest.raises(ValueError, match="DoubleOracle for a game behind an oracle; got Newton"):
        fit_mixture(lambda w: OracleAnswer(losses), temperature=0.1, solver=Newton(), start=[0.5, 0.5])
    with pytest.raises(ValueError, match="`iterations` must be an integer >= 1; got 0"):
        Newton(iterations=0)


def linear_optimum(slope, lower, upper):
    """min <slope, x> over lower <= x <= upper, sum x = 1: fill the cheapest coordinates first."""
    x, left = lower.copy(), 1 - lower.sum()
    for k in np.argsort(slope):
        x[k] += min(left, upper[k] - lower[k])
        left -= min(left, upper[k] - lower[k])
    return slope @ x


@pytest.mark.parametrize("n", [2, 3, 10, 60])
def test_the_step_minimises_the_model(n):
    """Convexity bounds what is missed by the linear programme in the model's slope at the answer."""
    for seed in range(200):
        rng = np.random.default_rng([n, seed])
        factor = rng.normal(size=(rng.integers(1, 2 * n), n))
        hessian = factor.T @ factor * 10.0 ** rng.uniform(-6, 6)
        if seed % 4 == 0:  # equal classifiers
            hessian[1], hessian[:, 1] = hessian[0], hessian[:, 0]
        slope = rng.normal(size=n) * 10.0 ** rng.uniform(-6, 6)
        weights = np.eye(n)[0] if seed % 3 == 0 else rng.dirichlet(np.ones(n))
        radius = rng.choice([1.0, 0.1, 1e-3, 1e-7])
        x = minimise_model(weights, slope, hessian, radius)
        move = x - weights
        assert x.min() >= 0
        assert np.abs(move).max() <= (1 + 1e-6) * radius
        lower, upper = np.maximum(weights - radius, 0), np.minimum(weights + radius, 1)
        steepness = slope + hessian @ move
        missed = steepness @ x - linear_optimum(steepness, lower, upper)
        decrease = -(slope @ move + move @ hessian @ move / 2)
        # weights are rounded, by an ulp of 1 in all: that moves them, and the slope by the Hessian's entries
        across = min(2, 2 * n * radius)
        rounding = 2 * EPS * (np.abs(steepness).max() + across * np.abs(hessian).max())
        assert missed <= 1e-7 * max(decrease, 0) + rounding


def test_the_step_from_a_flat_model_is_none():
    weights = np.array([0.2, 0.3, 0.5])
    np.testing.assert_array_equal(minimise_model(weights, np.ones(3), np.zeros((3, 3)), 1.0), weights)
    np.testing.assert_array_equal(minimise_model(np.ones(1), np.ones(1), np.ones((1, 1)), 1.0), [1.0])

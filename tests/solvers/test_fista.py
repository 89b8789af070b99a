"""Fista: the paper's guarantee, the continuation's cost, and certificates in every setting."""

from functools import cache

import numpy as np
import pytest

from mixsolve import Fista, Status, fit_mixture
from mixsolve.reference import reference_pass
from tests.certificates import assert_certificate
from tests.problems import family
from tests.smooth_games import correlated_sigmoids, linear_cross_entropy, linear_probability
from tests.solvers.recording import Recording
from tests.tolerances import rounding_slack


def lipschitz(problem, temperature):
    """L_f = (L / 4) R^2 sum_i s_i / t_i, as Fista's docstring states it."""
    losses = problem.losses
    n_samples = losses.shape[1] if problem.row_offsets is None else len(problem.row_offsets) - 1
    weight = np.ones(n_samples) if problem.sample_weight is None else problem.sample_weight
    reach = np.ptp(losses)  # at least the range of one classifier's losses on one sample
    return losses.shape[0] / 4 * reach**2 * float((weight / weight.sum() / temperature).sum())


@cache
def optimum(name, temperature):
    problem = family(name)
    keywords = {"temperature": temperature, "tol": 0, **problem.keywords}
    return fit_mixture(problem.losses, solver=Fista(iterations=1000), **keywords)


@pytest.mark.parametrize("name", ["random_real", "random_zero_one", "ragged_weighted_prior", "signed_losses"])
@pytest.mark.parametrize("temperature", [0.02, 0.3, 20.0])
@pytest.mark.parametrize("backtracking", [1.3, 2.0, 8.0])
def test_without_restart_it_keeps_the_rate_of_accelerated_gradient(name, temperature, backtracking):
    """F_t(w_T) - F* <= 2 beta L_f |w_0 - w*|^2 / (T + 1)^2 after every number of steps T."""
    problem = family(name)
    best = optimum(name, temperature)
    start = np.eye(problem.n_classifiers)[0]
    allowed = 2 * backtracking * lipschitz(problem, temperature) * np.sum((start - best.weights) ** 2)
    for steps in (1, 2, 3, 5, 10, 30, 100):
        solver = Recording(Fista(restart=False, backtracking=backtracking, iterations=steps))
        keywords = {"temperature": temperature, "tol": 0, "start": start, **problem.keywords}
        result = fit_mixture(problem.losses, solver=solver, **keywords)
        if result.status is Status.OPTIMAL:  # to rounding: nothing is left to bound
            break
        last = solver.asked[-1].weights[0]  # the iterate that the last pass accepted
        value = reference_pass(problem.losses, last, temperature, **problem.keywords).value[0]
        excess = value - best.lower_bound
        # `best` is optimal to rounding; its own gap is all that can be added to the bound
        assert excess <= allowed / (steps + 1) ** 2 + best.gap + rounding_slack(problem.losses)


def test_the_guarantee_is_not_void():
    """The bound above is within a factor that a wrong rate, 1 / T, would break."""
    problem, temperature, steps = family("random_real"), 0.3, 100
    best = optimum("random_real", temperature)
    start = np.eye(problem.n_classifiers)[0]
    allowed = 4 * lipschitz(problem, temperature) * np.sum((start - best.weights) ** 2) / (steps + 1) ** 2
    first = reference_pass(problem.losses, start, temperature).value[0] - best.value
    assert allowed < first / 10


@pytest.mark.parametrize(
    ("make", "seeds"),
    [(correlated_sigmoids, (0, 1)), (linear_cross_entropy, (0, 1, 2)), (linear_probability, (0, 1))],
)
def test_the_worst_case_of_smooth_losses_takes_few_evaluations(make, seeds):
    """A certified relative 1e-4 in a median of at most 300 evaluations; these take 60 to 120."""
    counts = []
    for seed in seeds:
        losses = make(seed=seed).astype(np.float32)
        result = fit_mixture(losses, solver=Fista(), tol=1e-4)
        assert result.status is Status.OPTIMAL
        assert result.gap <= 1e-4 * result.value
        counts.append(result.evaluations)
    assert_certificate(result, losses, tol=1e-4)
    assert np.median(counts) <= 150, counts


@pytest.mark.parametrize("restart", [True, False])
@pytest.mark.parametrize("temperature", [0.0, 1e-3, 0.1, 50.0])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_certificates_hold_for_every_storage(restart, temperature, dtype):
    losses = correlated_sigmoids(5, 40, 30).astype(dtype)
    result = fit_mixture(losses, temperature=temperature, solver=Fista(restart=restart), tol=1e-4)
    assert result.status is Status.OPTIMAL
    assert_certificate(result, losses, tol=1e-4)


def test_narrow_storage_is_solved_as_far_as_wide():
    """Below 1e-5 all passes have float64 scores: float16 storage costs no accuracy of the bounds."""
    losses = correlated_sigmoids(5, 40, 30).astype(np.float16)
    result = fit_mixture(losses, temperature=0.1, solver=Fista(), tol=1e-12)
    assert result.status is Status.OPTIMAL
    assert_certificate(result, losses, tol=1e-12)


def test_a_point_off_the_simplex_proves_no_upper_bound():
    """Extrapolated points leave the simplex, where F can be far below the value of the game."""
    lowest = 0.0
    for name in ("weighted", "single_sample", "signed_losses", "random_real_wide"):
        problem = family(name)
        solver, start = Recording(Fista(restart=False, iterations=60)), np.eye(problem.n_classifiers)[0]
        keywords = {"temperature": 0.01, "start": start, "tol": 0, **problem.keywords}
        result = fit_mixture(problem.losses, solver=solver, **keywords)
        lowest = min(lowest, *(queries.weights.min() for queries in solver.asked))
        for entry in result.history:
            assert entry.value >= result.lower_bound - rounding_slack(problem.losses)
            assert entry.iterate is None or entry.iterate.min() >= 0
    assert lowest < -0.01


def test_iterations_are_counted_and_limited():
    losses = correlated_sigmoids(5, 40, 30)
    result = fit_mixture(losses, solver=Fista(iterations=7), tol=1e-9)
    assert result.status is Status.ITERATION_LIMIT
    assert_certificate(result, losses)


def test_it_goes_down_to_rounding_and_stops_there():
    losses = correlated_sigmoids(4, 30, 20)
    result = fit_mixture(losses, temperature=0.1, solver=Fista(), tol=0, atol=0)
    assert result.status in (Status.OPTIMAL, Status.NUMERICAL_ERROR)
    assert result.gap <= 1e-13 * result.value
    assert result.passes < 2000


@pytest.mark.parametrize("backtracking", [1.0, 0.5, float("inf"), float("nan")])
def test_a_wrong_backtracking_factor_is_refused(backtracking):
    with pytest.raises(ValueError, match="`backtracking` must be a finite number > 1; got"):
        Fista(backtracking=backtracking)


@pytest.mark.parametrize(("iterations", "error"), [(0, ValueError), (2.5, TypeError), (True, TypeError)])
def test_a_wrong_number_of_iterations_is_refused(iterations, error):
    with pytest.raises(error, match="`iterations` must be an integer >= 1; got"):
        Fista(iterations=iterations)

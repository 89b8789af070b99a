"""Every family of games by every solver: OPTIMAL at the family's tolerance, with a certificate that holds."""

import sys

import ml_dtypes
import numpy as np
import pytest

from mixsolve import (
    Fista,
    LinearProgram,
    LossTable,
    OracleSubgradient,
    RowGeneration,
    Status,
    fit_mixture,
    verify,
)
from tests.certificates import assert_certificate
from tests.lp_value import lp_value_interval
from tests.problems import FAMILIES, family
from tests.tolerances import loss_scale, rounding_slack

WORST_CASE_SOLVERS = {
    "default": None,
    "RowGeneration": RowGeneration(),
    "LinearProgram": LinearProgram(),
    "LinearProgram CLARABEL": LinearProgram(backend="CLARABEL"),
    "Fista": Fista(),
    "OracleSubgradient": OracleSubgradient(iterations=20_000),
}
TOLERANCE = {
    "LinearProgram CLARABEL": "interior_point_tol",
    "Fista": "first_order_tol",
    "OracleSubgradient": "subgradient_tol",
}

# A smoothed solve is smooth and strongly certified: one tolerance serves all families.
SMOOTHED_TOL = 1e-5


def written_out(result, problem):
    """The attacker's rows where a response at temperature 0 may hang on the last bit of a score, else None."""
    if np.all(np.asarray(result.temperature) == 0.0):
        return result.attack.rows(LossTable(problem.losses, **problem.keywords))
    return None


def check(result, problem, tol, value_interval):
    assert result.status is Status.OPTIMAL, result.message
    rows = written_out(result, problem)
    expected = {"rows": rows, "tol": tol, "value_interval": value_interval}
    assert_certificate(result, problem.losses, **expected, **problem.keywords)
    assert verify(result, problem.losses, **problem.keywords)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("solver", WORST_CASE_SOLVERS)
def test_the_worst_case_game_is_solved(name, solver):
    problem = family(name)
    tol = getattr(problem, TOLERANCE.get(solver, "tol"))
    result = fit_mixture(problem.losses, solver=WORST_CASE_SOLVERS[solver], tol=tol, **problem.keywords)
    check(result, problem, tol, problem.value_interval(0.0))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_linear_programme_needs_no_cvxpy(name, monkeypatch):
    """None in sys.modules is how Python itself marks a package as not importable."""
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    problem = family(name)
    result = fit_mixture(problem.losses, solver=LinearProgram(), tol=problem.tol, **problem.keywords)
    check(result, problem, problem.tol, problem.value_interval(0.0))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("relative_temperature", [0.02, 0.5, 100.0])
@pytest.mark.parametrize("solver", [None, Fista()], ids=["default", "Fista"])
def test_the_smoothed_game_is_solved(name, relative_temperature, solver):
    problem = family(name)
    temperature = relative_temperature * loss_scale(problem.losses)
    result = fit_mixture(
        problem.losses, temperature=temperature, solver=solver, tol=SMOOTHED_TOL, **problem.keywords
    )
    check(result, problem, SMOOTHED_TOL, problem.value_interval(temperature))


@pytest.mark.parametrize("name", ["random_real", "ragged_weighted_prior", "matching_pennies_5"])
def test_a_temperature_of_each_samples_own_is_solved(name):
    problem = family(name)
    n_samples = problem.losses.shape[1] if problem.row_offsets is None else len(problem.row_offsets) - 1
    temperature = np.random.default_rng(3).uniform(0.01, 1.0, size=n_samples)
    result = fit_mixture(problem.losses, temperature=temperature, tol=SMOOTHED_TOL, **problem.keywords)
    low, high = problem.value_interval(float(temperature.max()))
    check(result, problem, SMOOTHED_TOL, (low, high))


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name
)
@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_the_certificate_is_about_the_table_as_stored(dtype, temperature):
    """The stored numbers are the game: bounds are float64 whatever the storage."""
    problem = family("random_real")
    stored = problem.losses.astype(dtype)
    tol = 1e-9 if temperature == 0.0 else SMOOTHED_TOL
    result = fit_mixture(stored, temperature=temperature, tol=tol)
    assert result.status is Status.OPTIMAL
    interval = lp_value_interval(stored.astype(np.float64)) if temperature == 0.0 else None
    rows = result.attack.rows(LossTable(stored)) if temperature == 0.0 else None
    assert_certificate(result, stored.astype(np.float64), rows=rows, tol=tol, value_interval=interval)


@pytest.mark.parametrize("solver", WORST_CASE_SOLVERS)
def test_a_dominated_classifier_gets_no_more_than_the_gap_pays_for(solver):
    problem = family("dominated_classifier")
    result = fit_mixture(problem.losses, solver=WORST_CASE_SOLVERS[solver], tol=1e-3)
    wasted = result.weights[problem.facts["dominated"]] * problem.facts["margin"]
    assert wasted <= result.gap + rounding_slack(problem.losses)


def test_the_motivating_example_is_three_quarters():
    problem = family("motivating_example")
    result = fit_mixture(problem.losses, tol=1e-9, **problem.keywords)
    assert result.value == pytest.approx(0.75, rel=1e-9)
    np.testing.assert_allclose(
        result.weights, 0.5, atol=2e-9
    )  # unique here: F_0 rises by half of any deviation


@pytest.mark.parametrize("size", range(2, 9))
def test_matching_pennies_has_one_equilibrium(size):
    """F_0(w) is the largest weight: a value within g of 1 / size puts every weight within size * g of it."""
    result = fit_mixture(family(f"matching_pennies_{size}").losses, tol=1e-9)
    np.testing.assert_allclose(result.weights, 1.0 / size, atol=size * (result.gap + 1e-15))


@pytest.mark.parametrize("solver", WORST_CASE_SOLVERS)
def test_all_the_losses_shifted_and_scaled_are_solved_alike(solver):
    """2**20 times the losses: the same passes, the same weights, the value in the new scale, to the bit."""
    problem = family("random_real")
    factor = 2.0**20
    plain = fit_mixture(problem.losses, solver=WORST_CASE_SOLVERS[solver], tol=1e-3)
    scaled = fit_mixture(problem.losses * factor, solver=WORST_CASE_SOLVERS[solver], tol=1e-3)
    assert scaled.status is plain.status is Status.OPTIMAL
    assert scaled.passes == plain.passes
    assert scaled.value == plain.value * factor
    assert scaled.lower_bound == plain.lower_bound * factor


def test_a_solve_cut_short_proves_what_it_has_and_no_more():
    problem = family("random_real")
    result = fit_mixture(problem.losses, solver=Fista(), tol=1e-9, pass_limit=3)
    assert result.status is Status.PASS_LIMIT
    assert result.passes <= 3
    rows = written_out(result, problem)
    assert_certificate(result, problem.losses, rows=rows, value_interval=problem.value_interval(0.0))
    with pytest.raises(AssertionError, match="misses tol"):
        assert_certificate(result, problem.losses, rows=rows, tol=1e-9)

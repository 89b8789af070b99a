"""The front door: defaults, warm starts, the log, equal bits, reserved arguments."""

import re

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
    compare_mixtures,
    fit_mixture,
)
from tests.certificates import Game, assert_certificate, worst_case
from tests.problems import family
from tests.smooth_games import correlated_sigmoids
from tests.tolerances import rounding_slack

SETTINGS = {
    "Fista": (Fista(), 0.0),
    "Fista smoothed": (Fista(), 0.05),
    "Fista without restart": (Fista(restart=False), 0.05),
    "OracleSubgradient": (OracleSubgradient(50), 0.0),
    "LinearProgram": (LinearProgram(), 0.0),
    "RowGeneration": (RowGeneration(), 0.0),
}


def assert_same_bits(one, other, power=0):
    """Equal but for time and the scale of the losses."""
    scale = 2.0**power
    np.testing.assert_array_equal(one.weights, other.weights)
    assert other.value == one.value * scale
    assert other.lower_bound == one.lower_bound * scale
    assert other.worst_case_value == one.worst_case_value * scale
    assert (one.status, one.passes, one.evaluations) == (other.status, other.passes, other.evaluations)
    for before, after in zip(one.history, other.history, strict=True):
        assert after.value == before.value * scale
        assert after.lower_bound == before.lower_bound * scale
    kept, again = one.attack.to_dict(), other.attack.to_dict()
    temperatures = np.array(kept.pop("temperature", 0.0)), np.array(again.pop("temperature", 0.0))
    np.testing.assert_array_equal(temperatures[0] * scale, temperatures[1])
    assert kept == again


def test_the_default_is_exact_at_temperature_zero_and_newton_above():
    losses = correlated_sigmoids(5, 40, 30)
    assert fit_mixture(losses).solver == "RowGeneration()"
    assert fit_mixture(losses, temperature=0.1).solver.startswith("Newton(")


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("setting", SETTINGS)
def test_two_runs_and_any_number_of_threads_give_equal_bits(setting, dtype):
    solver, temperature = SETTINGS[setting]
    losses = correlated_sigmoids(6, 300, 40).astype(dtype)
    keywords = {"solver": solver, "temperature": temperature, "tol": 1e-5}
    first = fit_mixture(losses, threads=1, **keywords)
    assert_same_bits(first, fit_mixture(losses, threads=1, **keywords))
    assert_same_bits(first, fit_mixture(losses, threads=2, **keywords))
    assert_same_bits(first, fit_mixture(losses, **keywords))


@pytest.mark.parametrize("power", [-30, 1, 30])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_power_of_two_changes_nothing_but_the_scale(setting, power, dtype):
    solver, temperature = SETTINGS[setting]
    losses = correlated_sigmoids(6, 40, 30).astype(dtype)
    scale = dtype(2.0**power)
    for tol in (1e-4, 0.0):
        solver = Fista(solver.restart, iterations=60) if isinstance(solver, Fista) else solver
        one = fit_mixture(losses, solver=solver, temperature=temperature, tol=tol)
        other = fit_mixture(losses * scale, solver=solver, temperature=temperature * float(scale), tol=tol)
        assert_same_bits(one, other, power)


@pytest.mark.parametrize(
    "setting", ["Fista", "Fista smoothed", "OracleSubgradient", "LinearProgram", "RowGeneration"]
)
def test_a_warm_start_from_a_result_is_at_least_as_good_at_once(setting):
    solver, temperature = SETTINGS[setting]
    losses = correlated_sigmoids(6, 40, 30)
    earlier = fit_mixture(losses, temperature=temperature, tol=1e-6)
    again = fit_mixture(losses, solver=solver, temperature=temperature, start=earlier, pass_limit=1)
    assert again.value == earlier.value
    np.testing.assert_array_equal(again.weights, earlier.weights)


def test_a_warm_start_with_fewer_classifiers_is_padded():
    losses = correlated_sigmoids(6, 40, 30)
    earlier = fit_mixture(losses[:4])
    again = fit_mixture(losses, start=earlier, pass_limit=1)
    np.testing.assert_array_equal(again.weights, [*earlier.weights, 0.0, 0.0])
    assert again.value == earlier.value
    with pytest.raises(ValueError, match="`start` must have at most 4 classifiers; got a result with 6"):
        fit_mixture(losses[:4], start=again)


def test_a_warm_start_saves_passes():
    losses = correlated_sigmoids(8, 200, 50)
    cold = fit_mixture(losses, temperature=0.01, solver=Fista(), tol=1e-8)
    warm = fit_mixture(losses, temperature=0.01, solver=Fista(), tol=1e-8, start=cold)
    assert warm.passes < cold.passes / 2


def test_the_log_has_a_line_a_pass(capsys):
    result = fit_mixture(correlated_sigmoids(5, 40, 30), solver=Fista(), tol=1e-4, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert [name.strip() for name in lines[0].split("|")] == [
        "pass",
        "rows",
        "upper",
        "lower",
        "gap",
        "GB/s",
        "time",
    ]
    assert len(lines) == 1 + result.passes
    number = r" *-?[\d.]+(e[+-]\d+)?"
    for line in lines[1:]:
        assert re.fullmatch(rf" *\d+ \| +1200 \|{number} \|{number} \|{number} \|{number} \|{number}s", line)
    silent = fit_mixture(correlated_sigmoids(5, 40, 30), solver=Fista(), tol=1e-4)
    assert capsys.readouterr().out == ""
    assert silent.passes == result.passes


def test_the_log_shows_the_rows_that_a_programme_holds(capsys):
    losses = np.round(correlated_sigmoids(3, 50, 100), 1)
    result = fit_mixture(losses, solver=LinearProgram(), verbose=True)
    assert f"| {result.statistics.compressed_rows:>10} |" in capsys.readouterr().out


def test_the_result_says_what_it_cost():
    losses = correlated_sigmoids(5, 40, 30).astype(np.float32)
    result = fit_mixture(losses, solver=Fista(), tol=1e-4)
    assert result.bytes_read == result.passes * losses.nbytes
    assert result.seconds > 0
    assert set(result.statistics.phase_seconds) == {"passes", "other"}
    assert sum(result.statistics.phase_seconds.values()) <= result.seconds
    assert result.statistics.peak_memory > 0
    assert result.message == Status.OPTIMAL.message


def test_a_temperature_of_zero_per_sample_is_the_worst_case():
    losses = correlated_sigmoids(5, 40, 30)
    result = fit_mixture(losses, temperature=np.zeros(40))
    assert result.temperature == 0
    assert_certificate(result, losses, tol=1e-6)


def test_a_loss_table_is_taken_as_it_is():
    problem = family("ragged_weighted_prior")
    table = LossTable(problem.losses, **problem.keywords)
    for temperature in (0.0, 0.1):
        by_table = fit_mixture(table, temperature=temperature)
        by_array = fit_mixture(problem.losses, temperature=temperature, **problem.keywords)
        assert_same_bits(by_array, by_table)


@pytest.mark.parametrize("temperature", [0.0, 0.05])
@pytest.mark.parametrize(
    "name", ["random_real", "ragged_weighted_prior", "random_zero_one", "single_classifier"]
)
def test_a_comparison_is_certified_on_one_table(name, temperature):
    problem = family(name)
    found = compare_mixtures(problem.losses, temperature=temperature, tol=1e-4, **problem.keywords)
    assert found.best_single_value == found.single_values.min()
    assert found.optimal.value <= min(found.best_single_value, found.uniform_value)
    assert 0 <= found.gain <= found.largest_gain
    assert_certificate(found.optimal, problem.losses, tol=1e-4, **problem.keywords)
    if not temperature:
        game = Game.of(problem.losses, **problem.keywords)
        slack = rounding_slack(problem.losses)
        for value, mixture in zip(found.single_values, np.eye(problem.n_classifiers), strict=True):
            assert abs(value - worst_case(game, mixture)) <= slack
        assert (
            abs(
                found.uniform_value
                - worst_case(game, np.full(problem.n_classifiers, 1 / problem.n_classifiers))
            )
            <= slack
        )


def test_a_comparison_prints_as_a_table():
    problem = family("motivating_example")
    lines = str(compare_mixtures(problem.losses, **problem.keywords)).splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "best single classifier",
        "uniform mixture",
        "optimal mixture",
        "lower bound",
        "gain of randomisation",
    ]
    assert re.match(r"gain of randomisation +0.25 +at most 0.25$", lines[-1])


def test_a_comparison_starts_where_it_is_told():
    losses = family("random_real").losses
    start = np.array([0.0, 0.0, 0.0, 0.0, 1.0])
    found = compare_mixtures(losses, start=start, pass_limit=1)
    np.testing.assert_array_equal(found.optimal.weights, start)

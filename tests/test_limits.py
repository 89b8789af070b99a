"""Limits and callbacks at every stage: the status, the counts, and a certificate that is true."""

import time

import numpy as np
import pytest

import mixsolve.solvers.source as source
from mixsolve import Fista, LinearProgram, OracleSubgradient, RowGeneration, Status, fit_mixture
from tests.certificates import assert_certificate
from tests.problems import family
from tests.smooth_games import correlated_sigmoids

SETTINGS = {
    "Fista": (Fista(), 0.0),
    "Fista smoothed": (Fista(), 0.05),
    "Fista without restart": (Fista(restart=False), 0.05),
    "OracleSubgradient": (OracleSubgradient(50), 0.0),
    "LinearProgram": (LinearProgram(), 0.0),
    "RowGeneration": (RowGeneration(), 0.0),
}
STORAGE = [np.float64, np.float32]


@pytest.fixture(scope="module")
def losses():
    return correlated_sigmoids(5, 30, 20)


@pytest.mark.parametrize("dtype", STORAGE)
@pytest.mark.parametrize("pass_limit", [1, 2, 3, 4, 5, 6, 9, 14, 20])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_limit_on_passes(setting, pass_limit, dtype, losses):
    solver, temperature = SETTINGS[setting]
    table = losses.astype(dtype)
    result = fit_mixture(table, solver=solver, temperature=temperature, tol=1e-13, pass_limit=pass_limit)
    assert result.passes <= pass_limit
    assert len(result.history) == result.passes
    assert result.status in (Status.PASS_LIMIT, Status.OPTIMAL, Status.NUMERICAL_ERROR)
    assert (result.status is Status.OPTIMAL) == (result.gap <= 1e-13 * result.value)
    assert_certificate(result, table)


@pytest.mark.parametrize("dtype", STORAGE)
@pytest.mark.parametrize("stage", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_callback_that_stops(setting, stage, dtype, losses):
    solver, temperature = SETTINGS[setting]
    table, seen = losses.astype(dtype), []

    def callback(progress):
        seen.append(progress)
        return progress.passes >= stage

    result = fit_mixture(table, solver=solver, temperature=temperature, tol=1e-13, callback=callback)
    if len(seen) >= stage and result.status is not Status.OPTIMAL:
        assert result.status in (Status.STOPPED_BY_CALLBACK, Status.NUMERICAL_ERROR)
        assert result.passes <= stage + 1  # and the proof
    assert tuple(seen) == result.history
    assert_certificate(result, table)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("time_limit", [0.0, 0.003, 0.03])
def test_a_time_limit(setting, time_limit, losses):
    solver, temperature = SETTINGS[setting]
    begun = time.perf_counter()
    result = fit_mixture(losses, solver=solver, temperature=temperature, tol=1e-15, time_limit=time_limit)
    assert result.status in (
        Status.TIME_LIMIT,
        Status.NUMERICAL_ERROR,
        Status.OPTIMAL,
        Status.ITERATION_LIMIT,
    )
    assert time_limit > 0 or result.status is Status.TIME_LIMIT
    assert time.perf_counter() - begun < time_limit + 5  # a pass and the proof, on a machine that is busy
    assert_certificate(result, losses)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("dtype", STORAGE)
def test_what_is_counted_is_what_was_done(setting, dtype, losses, monkeypatch):
    """Every pass goes through the one seam; a spy beside it counts what the driver reports."""
    solver, temperature = SETTINGS[setting]
    table, passes, queries, read = losses.astype(dtype), [], [], []

    def spy(table, weights, temperature, **keywords):
        answer = real(table, weights, temperature, **keywords)
        passes.append(1)
        queries.append(len(weights))
        read.append(answer.bytes_read)
        return answer

    real = source.run_pass
    monkeypatch.setattr(source, "run_pass", spy)
    result = fit_mixture(table, solver=solver, temperature=temperature, tol=1e-3)
    other_reads = {"OracleSubgradient": 1, "LinearProgram": 1}.get(
        setting, 0
    )  # the range; the programme's rows
    assert result.passes == len(passes) + other_reads
    assert result.evaluations == sum(queries)
    assert result.bytes_read == sum(read) + other_reads * table.nbytes
    assert read == [table.nbytes] * len(passes)
    last = result.history[-1]
    assert (last.passes, last.evaluations, last.bytes_read) == (
        result.passes,
        result.evaluations,
        result.bytes_read,
    )


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_history_only_improves_and_never_lies(setting, losses):
    solver, temperature = SETTINGS[setting]
    keywords = {"solver": solver, "temperature": temperature}
    result = fit_mixture(losses, tol=1e-6, **keywords)
    exact = fit_mixture(losses, temperature=temperature, tol=1e-12)
    values = [entry.value for entry in result.history]
    lowers = [entry.lower_bound for entry in result.history]
    assert values == sorted(values, reverse=True)
    assert lowers == sorted(lowers)
    assert max(lowers) <= exact.value + 1e-12  # float64 storage: every entry is proved
    assert min(values) >= exact.lower_bound - 1e-12
    assert [entry.passes for entry in result.history] == list(range(1, result.passes + 1))
    for entry in result.history:
        if entry.iterate is not None:
            assert entry.iterate_value >= entry.value
    seconds = [entry.seconds for entry in result.history]
    assert seconds == sorted(seconds)
    assert seconds[-1] <= result.seconds


def test_a_time_limit_that_never_comes(losses):
    assert fit_mixture(losses, time_limit=np.inf).status is Status.OPTIMAL


def test_an_error_in_the_callback_is_the_callers():
    def callback(progress):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fit_mixture(family("random_real").losses, callback=callback)


def test_the_absolute_tolerance():
    losses = family("signed_losses").losses
    result = fit_mixture(losses, solver=Fista(), tol=0, atol=1e-3)
    assert result.status is Status.OPTIMAL
    assert 1e-6 < result.gap <= 1e-3

"""A path of temperatures: certified results, fewer reads than solves on their own, values that rise."""

from itertools import pairwise

import numpy as np
import pytest

from benchmarks.cases import FAMILIES as BENCHMARK_FAMILIES
from mixsolve import LossTable, Newton, RowGeneration, Status, fit_mixture, fit_path, verify
from tests.certificates import assert_certificate
from tests.problems import FAMILIES, family
from tests.tolerances import loss_scale, rounding_slack

RELATIVE = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0)
TOL = 1e-8


def check(results, losses, **belongings):
    for result in results:
        assert result.status is Status.OPTIMAL, result.message
        exact = result.temperature == 0
        rows = result.attack.rows(LossTable(losses, **belongings)) if exact else None
        assert_certificate(result, losses, tol=TOL, rows=rows, **belongings)
        assert verify(result, losses, **belongings)


@pytest.mark.parametrize("name", BENCHMARK_FAMILIES)
def test_a_path_reads_less_than_its_solves(name):
    losses = BENCHMARK_FAMILIES[name]((10, 300, 50), 0)
    levels = [level * loss_scale(losses) for level in RELATIVE]
    path = fit_path(losses, levels, tol=TOL)
    check(path, losses)
    apart = [fit_mixture(losses, temperature=level, tol=TOL) for level in levels]
    reads, apart_reads = sum(r.passes for r in path), sum(r.passes for r in apart)
    if "RowGeneration" in path[0].solver or path[0].statistics.compressed_rows is not None:
        assert (
            reads <= apart_reads
        )  # 0/1 losses: one read compresses, one proves, and nothing is left to share
    else:
        assert reads <= 0.75 * apart_reads
    read = sum(r.bytes_read for r in path) / losses.nbytes
    assert reads <= read + 1e-9 <= reads + 0.7, (
        "passes are full reads; the rest are subsamples at temperature 0"
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_certified_along_the_path(name):
    problem = family(name)
    levels = [level * loss_scale(problem.losses) for level in (1.0, 0.05, 0.0)]
    results = fit_path(problem.losses, levels, tol=TOL, **problem.keywords)
    check(results, problem.losses, **problem.keywords)
    for result in results:
        low, high = problem.value_interval(result.temperature)
        assert low - rounding_slack(problem.losses) <= result.value
        assert result.lower_bound <= high + rounding_slack(problem.losses)
    for hot, cold in pairwise(results):  # F_t rises as t falls
        assert hot.lower_bound <= cold.value + rounding_slack(problem.losses)


def test_solvers_are_the_defaults_and_temperatures_those_asked_for():
    losses = BENCHMARK_FAMILIES["uniform"]((4, 60, 20), 0)
    results = fit_path(losses, [0.5, 0.1, 0.0])
    assert [r.temperature for r in results] == [0.5, 0.1, 0.0]
    assert [r.solver for r in results] == [repr(Newton()), repr(Newton()), repr(RowGeneration())]


def test_a_read_that_answers_two_temperatures_is_counted_once():
    losses = BENCHMARK_FAMILIES["uniform"]((4, 60, 20), 0).astype(np.float64)
    results = fit_path(losses, [10.0, 5.0, 2.0], tol=1e-6)
    assert sum(r.bytes_read for r in results) == sum(r.passes for r in results) * losses.nbytes
    for result in results:
        assert len(result.history) == result.passes


def test_limits_hold_for_each_solve():
    losses = BENCHMARK_FAMILIES["sigmoid"]((8, 80, 30), 0)
    results = fit_path(losses, [0.01, 0.001], tol=1e-14, pass_limit=2)
    for result in results:
        assert result.status is Status.PASS_LIMIT
        assert result.passes <= 2
        assert_certificate(result, losses)


@pytest.mark.parametrize(
    ("temperatures", "message"),
    [
        ([], "must be a list of numbers"),
        (0.1, "must be a list of numbers"),
        ([0.1, 0.2], "must fall"),
        ([0.1, 0.1], "must fall"),
        ([0.1, -0.1], "must be finite and >= 0"),
        ([np.nan], "must be finite and >= 0"),
    ],
)
def test_wrong_temperatures_are_refused(temperatures, message):
    with pytest.raises(ValueError, match=f"`temperatures` {message}"):
        fit_path(np.ones((2, 3, 4)), temperatures)

"""The linear programme: merged rows, repaired duals, every backend, and the status of inaccurate answers."""

import sys

import numpy as np
import pytest

from mixsolve import LinearProgram, LossTable, Status, fit_mixture
from mixsolve.row_game import DUAL_THRESHOLD
from mixsolve.solvers.distinct_rows import distinct_rows
from mixsolve.solvers.linear_program import repaired_strategy
from tests.certificates import Game, assert_certificate, attacker_bound, strategy_errors
from tests.problems import family
from tests.smooth_games import linear_probability

BACKENDS = ["HIGHS", "SCIPY", "CLARABEL", "SCS", "OSQP"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["random_real", "ragged_weighted_prior", "weighted", "motivating_example"])
def test_every_backend_is_certified_and_judged_by_its_certificate(backend, name):
    problem = family(name)
    for tol in (1e-2, 1e-6, 1e-12):
        result = fit_mixture(problem.losses, solver=LinearProgram(backend), tol=tol, **problem.keywords)
        solved = result.gap <= tol * result.value
        assert result.status is (Status.OPTIMAL if solved else Status.NUMERICAL_ERROR)
        assert solved or backend in result.message
        assert_certificate(
            result, problem.losses, value_interval=problem.value_interval(0), **problem.keywords
        )


def test_an_answer_cut_short_is_certified_all_the_same():
    problem = family("random_real_wide")
    solver = LinearProgram("SCS", options={"max_iters": 20})
    result = fit_mixture(problem.losses, solver=solver)
    assert result.status is Status.NUMERICAL_ERROR
    assert 0 < result.gap < 0.1
    assert_certificate(result, problem.losses, value_interval=problem.value_interval(0))


def test_a_backend_without_an_answer_leaves_the_start():
    problem = family("random_real_wide")
    solver = LinearProgram("HIGHS", options={"time_limit": 0.0})
    result = fit_mixture(problem.losses, solver=solver)
    assert result.status is Status.NUMERICAL_ERROR
    assert "gave no solution" in result.message or result.gap > 0
    assert_certificate(result, problem.losses)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("shift", [0.0, -50.0, 1e4])
def test_losses_of_any_unit_and_offset_are_solved(scale, shift):
    problem = family("random_real")
    losses = (problem.losses + shift) * scale
    # the offset costs digits before any solver sees the losses
    tol = 1e-12 * (1 + abs(shift))
    result = fit_mixture(losses, solver=LinearProgram(), tol=0, atol=tol * scale)
    assert result.status is Status.OPTIMAL
    assert_certificate(result, losses)


def test_identical_rows_of_a_sample_are_merged():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2, size=(3, 20, 100)).astype(np.float64)
    base[:, 0] = 0.5
    base[0, 1, :50], base[0, 1, 50:] = 0.0, -0.0
    base[1:, 1] = 1.0
    rows = distinct_rows(LossTable(base))
    for sample in range(20):
        expected = np.unique(base[:, sample].T + 0.0, axis=0)
        got = rows.attack[rows.sample == sample]
        np.testing.assert_array_equal(np.unique(base[:, sample, got].T + 0.0, axis=0), expected)
        assert len(got) == len(expected)
        assert np.all(np.diff(got) > 0)
    result = fit_mixture(base, solver=LinearProgram())
    assert result.statistics.rows == 2000
    assert result.statistics.compressed_rows == rows.sample.size <= 20 * 8
    assert_certificate(result, base, tol=1e-6)


def test_the_first_of_identical_rows_stands_for_all():
    losses = np.tile(np.random.default_rng(0).random((3, 5, 4)), (1, 1, 3))
    rows = distinct_rows(LossTable(losses))
    np.testing.assert_array_equal(rows.attack, np.tile(np.arange(4), 5))
    assert rows.losses.min() == 0
    assert 0.5 <= rows.losses.max() <= 1


def test_identical_rows_of_different_samples_stay_apart():
    rows = distinct_rows(LossTable(np.full((3, 6, 1), 0.5)))
    np.testing.assert_array_equal(rows.sample, np.arange(6))


def test_samples_of_weight_0_are_left_out_and_still_attacked():
    weight = np.array([0.0, 1.0, 0.0, 3.0])
    losses = np.random.default_rng(0).random((3, 4, 5))
    rows = distinct_rows(LossTable(losses, sample_weight=weight))
    np.testing.assert_array_equal(rows.kept, [1, 3])
    np.testing.assert_array_equal(rows.share, [0.25, 0.75])
    result = fit_mixture(losses, solver=LinearProgram(), sample_weight=weight)
    assert set(result.attack.sample) == {0, 1, 2, 3}
    assert_certificate(result, losses, tol=1e-6, sample_weight=weight)


@pytest.mark.parametrize("spoil", ["noise", "negative", "zero", "tiny"])
def test_any_duals_become_a_strategy(spoil):
    """The bound that repaired duals prove may be weak, but it is one."""
    problem = family("ragged_weighted_prior")
    table = LossTable(problem.losses, **problem.keywords)
    rows, rng = distinct_rows(table), np.random.default_rng(0)
    duals = {
        "noise": rng.normal(size=rows.sample.size),
        "negative": -rng.random(rows.sample.size),
        "zero": np.zeros(rows.sample.size),
        "tiny": np.full(rows.sample.size, DUAL_THRESHOLD * 1e-6),
    }[spoil]
    attack = repaired_strategy(rows, np.full(4, 0.25), duals, table.n_samples)
    game = Game.of(problem.losses, **problem.keywords)
    assert strategy_errors(game, attack) == []
    assert attacker_bound(game, attack) <= problem.value_high
    if spoil == "noise":
        used = {(rows.kept[i], j): y for i, j, y in zip(rows.sample, rows.attack, duals, strict=True)}
        several = np.bincount(attack.sample)[attack.sample] > 1  # a single one may stand in for none
        cited = zip(attack.sample[several], attack.attack[several], strict=True)
        assert all(used[row] > 0 for row in cited)


def test_duals_below_the_threshold_are_dropped():
    losses = np.random.default_rng(0).random((3, 2, 4))
    rows = distinct_rows(LossTable(losses))
    duals = np.tile([0.5, 0.5 * DUAL_THRESHOLD * 0.1, 0.0, 0.25], 2)
    attack = repaired_strategy(rows, np.full(3, 1 / 3), duals, 2)
    np.testing.assert_array_equal(attack.attack, [0, 3, 0, 3])
    np.testing.assert_allclose(attack.probability, [2 / 3, 1 / 3, 2 / 3, 1 / 3], rtol=1e-15)


def test_a_larger_game_is_exact():
    losses = linear_probability(8, 150, 60)
    result = fit_mixture(losses, solver=LinearProgram(), tol=1e-10)
    assert result.status is Status.OPTIMAL
    assert_certificate(result, losses, tol=1e-10)
    assert result.passes == 3  # the start, the rows, the proof


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match=r"`backend` must be one of cvxpy's \['CLARABEL', .*\]; got 'NONE'"):
        fit_mixture(np.eye(2)[:, None], solver=LinearProgram("NONE"))
    with pytest.raises(TypeError, match="`backend` must be the name of a solver; got None"):
        LinearProgram(None)


def test_a_backend_without_cvxpy_names_the_extra(monkeypatch):
    """None in sys.modules is how Python itself marks a package as not importable."""
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    with pytest.raises(ImportError, match=r"pip install mixsolve\[lp\]"):
        fit_mixture(np.eye(2)[:, None], solver=LinearProgram("CLARABEL"))


def test_scipy_takes_over_without_cvxpy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    problem = family("ragged_weighted_prior")
    result = fit_mixture(problem.losses, solver=LinearProgram(), tol=1e-9, time_limit=60, **problem.keywords)
    assert result.status is Status.OPTIMAL
    assert_certificate(result, problem.losses, tol=1e-9, **problem.keywords)


def test_it_is_for_temperature_0():
    with pytest.raises(ValueError, match=r"`temperature` must be 0 for LinearProgram; got 0.1"):
        fit_mixture(np.ones((2, 2, 2)), temperature=0.1, solver=LinearProgram())

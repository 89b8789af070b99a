"""0/1 losses: recognised, compressed without changing any mixture's value, and proved on the table itself."""

from dataclasses import dataclass
from typing import ClassVar

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixsolve import (
    Fista,
    LossTable,
    Newton,
    OracleSubgradient,
    RowGeneration,
    Status,
    fit_mixture,
    smoothed_value_and_grad,
    worst_case,
)
from mixsolve.solvers.binary_sets import MOST_CLASSIFIERS, compress_binary
from tests.certificates import assert_certificate
from tests.lp_value import lp_value_interval
from tests.problems import family
from tests.refusals import refuse
from tests.solvers.recording import Recording
from tests.tolerances import rounding_slack

DTYPES = [bool, np.uint8, np.int64, np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


def zero_one(seed, n_classifiers=5, n_samples=40, n_attacks=30, density=0.3):
    """Samples in pairs that are attacked alike: in the same order, or in another one."""
    rng = np.random.default_rng(seed)
    losses = (rng.random((n_classifiers, n_samples, n_attacks)) < density).astype(np.float64)
    losses[:, 1::4] = losses[:, :-1:4][:, : losses[:, 1::4].shape[1]]
    losses[:, 3::4] = losses[:, 2::4, ::-1][:, : losses[:, 3::4].shape[1]]
    return losses


def ragged_zero_one(seed, n_classifiers=4, n_samples=50):
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 40, n_samples))])
    return (rng.random((n_classifiers, offsets[-1])) < 0.35).astype(np.float64), offsets


def maximal_sets(rows):
    """Of the rows of one sample (n_classifiers, n): sets that are part of no other one, and their first row."""
    sets = [frozenset(np.flatnonzero(row)) for row in rows.T]
    return {found: sets.index(found) for found in set(sets) if not any(found < other for other in sets)}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_every_storage_is_recognised(dtype):
    losses = zero_one(0)
    low, high = lp_value_interval(losses, None, None)
    result = fit_mixture(losses.astype(dtype), tol=1e-9)
    assert result.status is Status.OPTIMAL
    assert_certificate(result, losses, tol=1e-9, value_interval=(low, high))
    assert result.statistics.rows == 1200
    assert result.statistics.compressed_rows < 300


def test_only_maximal_sets_remain_and_equal_samples_are_one():
    losses = zero_one(1)
    bytes_read, game = compress_binary(LossTable(losses), 0.0)
    assert bytes_read == losses.nbytes
    expected = [maximal_sets(losses[:, i]) for i in range(losses.shape[1])]
    for i, sets in enumerate(expected):
        group = game.group[i]
        block = game.table.block(group, group + 1).losses
        held = [frozenset(np.flatnonzero(row)) for row in block.T]
        assert len(set(held)) == len(held)
        assert set(held) == set(sets)
        own = game.attack[game.offsets[i] : game.offsets[i + 1]]
        assert [sets[one] for one in held] == own.tolist()  # the lowest index on ties
    assert game.table.n_samples == len({frozenset(sets) for sets in expected}) < 40
    np.testing.assert_allclose(
        game.table.sample_weight, np.bincount(game.group) / losses.shape[1], rtol=1e-15
    )


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    n_classifiers=st.integers(1, 9),
    n_attacks=st.integers(1, 40),
    density=st.floats(0, 1),
)
def test_compression_changes_no_mixtures_value(seed, n_classifiers, n_attacks, density):
    rng = np.random.default_rng(seed)
    losses = zero_one(seed, n_classifiers, 24, n_attacks, density)
    table = LossTable(losses, sample_weight=rng.exponential(size=24))
    weights = rng.dirichlet(np.ones(n_classifiers), size=5)
    _, game = compress_binary(table, 0.0)
    if game is not None:
        np.testing.assert_allclose(
            worst_case(game.table, weights).value, worst_case(table, weights).value, rtol=1e-14, atol=1e-15
        )
    levels = rng.choice([0.05, 0.4], size=24)
    _, game = compress_binary(table, levels)
    if game is not None:
        compressed = smoothed_value_and_grad(game.table, weights, game.temperature)
        full = smoothed_value_and_grad(table, weights, levels)
        for ours, theirs in zip(compressed, full, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_ragged_weighted_games_with_a_prior(seed, temperature):
    losses, offsets = ragged_zero_one(seed)
    rng = np.random.default_rng(seed)
    prior = rng.random(losses.shape[1]) + 0.1
    prior /= np.repeat(np.add.reduceat(prior, offsets[:-1]), np.diff(offsets))
    weight = rng.exponential(size=offsets.size - 1)
    weight[::7] = 0.0
    belongings = {"row_offsets": offsets, "sample_weight": weight, "attack_prior": prior}
    result = fit_mixture(losses, temperature=temperature, tol=1e-7, **belongings)
    assert result.status is Status.OPTIMAL
    assert result.statistics.compressed_rows < result.statistics.rows
    assert_certificate(result, losses, tol=1e-7, **belongings)


def test_a_prior_is_added_up_over_equal_rows():
    losses = np.array([[[1, 0, 1, 0]], [[0, 1, 0, 0]]], dtype=np.float64)
    _, game = compress_binary(LossTable(losses, attack_prior=np.array([[0.1, 0.2, 0.3, 0.4]])), 1.0)
    assert game.table.array.T.tolist() == [[0, 0], [1, 0], [0, 1]]
    np.testing.assert_allclose(game.table.attack_prior, [0.4, 0.4, 0.2], rtol=1e-15)


def test_samples_of_different_temperature_stay_apart():
    losses = np.tile(zero_one(2)[:, :1], (1, 4, 1))
    assert compress_binary(LossTable(losses), 0.3)[1].table.n_samples == 1
    _, game = compress_binary(LossTable(losses), np.array([0.3, 0.1, 0.3, 0.1]))
    assert (game.group.tolist(), game.temperature.tolist()) == ([0, 1, 0, 1], [0.3, 0.1])
    result = fit_mixture(losses, temperature=np.array([0.3, 0.1, 0.3, 0.1]), tol=1e-8)
    assert_certificate(result, losses, tol=1e-8)


@settings(max_examples=80)
@given(seed=st.integers(0, 10_000), n_attacks=st.integers(1, 6), density=st.floats(0.05, 0.9))
def test_two_classifiers_have_a_free_exact_answer(seed, n_attacks, density):
    losses = zero_one(seed, 2, 30, n_attacks, density)
    candidates = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    value = np.einsum("ck,kij->cij", candidates, losses).max(axis=2).mean(axis=1).min()
    result = fit_mixture(losses, tol=1e-9)
    assert result.status is Status.OPTIMAL
    assert result.value == pytest.approx(value, rel=2e-9, abs=rounding_slack(losses))


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), n_classifiers=st.integers(1, 8), density=st.floats(0.05, 0.95))
def test_against_the_linear_programme(seed, n_classifiers, density):
    losses = zero_one(seed, n_classifiers, 20, 12, density)
    result = fit_mixture(losses, tol=1e-9, seed=seed)
    assert_certificate(result, losses, tol=1e-9, value_interval=lp_value_interval(losses, None, None))


@pytest.mark.parametrize(
    "name", ["random_zero_one", "two_zero_one", "motivating_example", "matching_pennies_7"]
)
@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_known_games(name, temperature):
    problem = family(name)
    result = fit_mixture(problem.losses, temperature=temperature, tol=1e-7, **problem.keywords)
    interval = problem.value_interval(temperature)
    assert_certificate(result, problem.losses, tol=1e-7, value_interval=interval, **problem.keywords)


@pytest.mark.parametrize("take", [np.s_[::-1, ::-1], np.s_[::2, ::3], np.s_[:, 5:6]], ids=str)
def test_strided_views(take):
    losses = np.moveaxis(zero_one(3, 6, 30, 50), 0, 1).copy().swapaxes(0, 1)[take]
    result = fit_mixture(losses, tol=1e-9)
    assert result.statistics.rows == losses[0].size
    assert_certificate(result, losses, tol=1e-9)


def test_what_is_read_is_counted():
    losses = zero_one(4, 10, 300, 200, 0.2).astype(np.float32)
    result = fit_mixture(losses)
    assert result.passes == len(result.history) == 2  # one to compress, one to prove
    cited = result.attack.sample.size * 64 * 10
    assert 2 * losses.nbytes < result.bytes_read <= 2 * losses.nbytes + cited
    assert result.statistics.phase_seconds.keys() >= {"compression", "compressed game", "passes"}


def test_equal_bits_at_any_number_of_threads():
    losses = zero_one(5, 8, 400, 150).astype(np.float32)
    one, many = (fit_mixture(losses, threads=threads, tol=1e-9) for threads in (1, 3))
    assert one.weights.tobytes() == many.weights.tobytes()
    assert (one.value, one.lower_bound, one.bytes_read) == (many.value, many.lower_bound, many.bytes_read)
    assert one.attack.probability.tobytes() == many.attack.probability.tobytes()
    assert one.attack.attack.tolist() == many.attack.attack.tolist()


def test_few_samples_mix_though_whole_groups_do():
    """Many samples that are attacked alike: the groups mix, and their samples are split among the attacks."""
    losses = np.tile(zero_one(6, 6, 4, 60), (1, 250, 1))
    result = fit_mixture(losses, tol=1e-9)
    assert result.attack.sample.size <= 1000 + 6 * 6
    assert_certificate(result, losses, tol=1e-9)


@pytest.mark.parametrize("odd", [0.5, -1.0, 2.0, 1 + 2.0**-23])
@pytest.mark.parametrize("where", [(0, 0, 1), (3, 200, 70), (9, 399, 99)])
def test_a_single_other_value_is_seen(odd, where):
    losses = zero_one(7, 10, 400, 100).astype(np.float32)
    losses[where] = odd
    assert compress_binary(LossTable(losses), 0.0)[1] is None
    results = [fit_mixture(losses, threads=threads) for threads in (1, 4)]
    for result in results:
        assert result.statistics.compressed_rows is None
        assert_certificate(result, losses, tol=1e-6)
    assert results[0].bytes_read == results[1].bytes_read


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_still_named(value):
    losses = zero_one(8)
    losses[2, 30, 4] = value
    where = f"{value}.*classifier 2, sample 30, attack 4"
    refuse(ValueError, "losses", "finite", where, lambda: fit_mixture(losses))


def test_negative_zero_is_zero():
    losses = zero_one(9)
    result = fit_mixture(np.where(losses == 0, -0.0, losses))
    assert result.statistics.compressed_rows is not None


def test_64_classifiers_are_compressed_and_65_are_not():
    for extra in (0, 1):
        losses = zero_one(10, MOST_CLASSIFIERS + extra, 30, 40, 0.9)
        losses[:, :, ::2] = losses[:, :, :1]  # half the attacks are one
        result = fit_mixture(losses)
        assert (result.statistics.compressed_rows is None) == bool(extra)
        assert_certificate(result, losses, tol=1e-6)


def test_rows_that_are_not_alike_are_left_alone():
    """A large game that would hardly shrink is solved as it is."""
    losses = (np.random.default_rng(11).random((40, 300, 300)) < 0.3).astype(np.float32)
    result = fit_mixture(losses, temperature=1.0, tol=1e-3)
    assert result.statistics.compressed_rows is None
    assert_certificate(result, losses, tol=1e-3)


def test_the_solver_says_whether_it_compresses_and_naming_it_changes_nothing():
    losses = zero_one(12)
    for solver, temperature in ((Fista(), 0.2), (Fista(), 0.0), (OracleSubgradient(iterations=50), 0.0)):
        result = fit_mixture(losses, temperature=temperature, solver=solver, tol=1e-3, pass_limit=100)
        assert result.statistics.compressed_rows is None
    for solver, temperature in ((RowGeneration(), 0.0), (Newton(), 0.2)):
        named = fit_mixture(losses, temperature=temperature, solver=solver)
        default = fit_mixture(losses, temperature=temperature)
        assert named.statistics.compressed_rows == default.statistics.compressed_rows is not None
        assert (named.value, named.lower_bound, named.passes) == (
            default.value,
            default.lower_bound,
            default.passes,
        )
        assert named.weights.tobytes() == default.weights.tobytes()
        assert named.solver == default.solver == repr(solver)


@dataclass(frozen=True)
class Joining(Recording):
    compresses: ClassVar[bool] = True


def test_any_solver_may_join_in():
    losses = zero_one(12)
    result = fit_mixture(losses, temperature=0.2, solver=Joining(Fista()), tol=1e-3)
    assert result.statistics.compressed_rows is not None
    assert result.passes == 2
    assert_certificate(result, losses, tol=1e-3)


def test_limits_and_callbacks():
    losses = zero_one(13, 8, 200, 100)
    for pass_limit in (1, 2, 3, 4):
        result = fit_mixture(losses, pass_limit=pass_limit)
        assert result.passes <= pass_limit
        assert_certificate(result, losses)
    instant = fit_mixture(losses, time_limit=0.0)
    assert instant.status is Status.TIME_LIMIT
    stopped = fit_mixture(losses, callback=lambda progress: True)
    assert stopped.passes <= 2
    for result in (instant, stopped):
        assert_certificate(result, losses)


def test_a_limit_on_memory_is_kept():
    losses = zero_one(15, 8, 20_000, 20)
    for limit, compressed in ((6_000_000, False), (20_000_000, False), (100_000_000, True)):
        result = fit_mixture(losses, memory_limit=limit)
        assert (result.statistics.compressed_rows is not None) == compressed
        assert result.statistics.peak_memory < limit
        assert_certificate(result, losses, tol=1e-6)
    assert result.bytes_read >= 2 * losses.nbytes
    assert result.passes == 2


def test_a_result_is_continued():
    losses = zero_one(14, 8, 200, 100)
    result = fit_mixture(losses, tol=1e-9)
    again = fit_mixture(losses, start=result, tol=1e-9)
    assert again.status is Status.OPTIMAL
    assert_certificate(again, losses, tol=1e-9)

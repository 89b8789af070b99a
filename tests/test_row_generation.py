"""Row generation: never a failure on small games of every kind, few reads of large ones, honest accounts."""

import signal
import time
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from mixsolve import (
    Fista,
    LinearProgram,
    LossTable,
    OracleAnswer,
    RowGeneration,
    Status,
    fit_mixture,
    verify,
)
from tests.certificates import Game, assert_certificate
from tests.lp_value import lp_value_interval
from tests.problems import FAMILIES, family
from tests.smooth_games import correlated_sigmoids
from tests.tolerances import loss_scale, rounding_slack

# The bar on passes to a certified relative 1e-9, for every game.
MOST_PASSES = 12

GAMES = 2000
BATCHES = 10


def small_game(seed):
    """A random game of at most 12 samples, 8 attacks and 12 classifiers: plain, tied, doubled, constant, near-tied."""
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 7), rng.integers(1, 13), rng.integers(1, 9)
    losses = rng.random(shape)
    kind = ("plain", "0/1", "rounded", "classifiers twice", "attacks twice", "constant", "near ties")[
        seed % 7
    ]
    if kind == "0/1":
        losses = (losses < 0.4).astype(np.float64)
    elif kind == "rounded":
        losses = np.round(3 * losses) / 3
    elif kind == "classifiers twice":
        losses = np.repeat(losses, 2, axis=0)
    elif kind == "attacks twice":
        losses = np.tile(losses, (1, 1, 2))
    elif kind == "constant":
        losses[:] = losses.flat[0]
    elif kind == "near ties":
        losses = losses[:1] + 1e-7 * rng.standard_normal(shape)
    losses -= rng.choice([0.0, 0.5])
    weight = rng.exponential(size=shape[1]) ** 2
    weight[rng.random(shape[1]) < 0.2] = 0.0
    weighted = rng.random() < 0.4 and weight.sum() > 0
    return losses, {"sample_weight": weight} if weighted else {}, 2.0 ** rng.integers(-27, 28)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_small_games_of_every_kind_and_scale(batch):
    """Against a linear programme solved at scale 1; where the value is about 0, the gap is absolute."""
    for seed in range(batch, GAMES, BATCHES):
        losses, keywords, scale = small_game(seed)
        low, high = lp_value_interval(losses, None, keywords.get("sample_weight"))
        result = fit_mixture(losses * scale, tol=1e-9, atol=1e-9 * scale, **keywords)
        assert result.status is Status.OPTIMAL, seed
        assert result.passes <= MOST_PASSES, seed
        interval = (low * scale, high * scale)
        expected = {"tol": 1e-9, "atol": 1e-9 * scale, "value_interval": interval}
        assert_certificate(result, losses * scale, **expected, **keywords)


@pytest.mark.parametrize("name", FAMILIES)
def test_few_passes_on_every_family(name):
    problem = family(name)
    result = fit_mixture(problem.losses, tol=1e-9, **problem.keywords)
    assert result.status is Status.OPTIMAL
    assert result.passes <= MOST_PASSES
    assert result.solver == "RowGeneration()"
    expected = {"tol": 1e-9, "value_interval": problem.value_interval(0.0)}
    assert_certificate(result, problem.losses, **expected, **problem.keywords)


STORAGES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]


@pytest.mark.parametrize("ragged", [False, True], ids=["rectangular", "ragged"])
@pytest.mark.parametrize("dtype", STORAGES, ids=lambda dtype: np.dtype(dtype).name)
def test_subsamples_of_every_storage(dtype, ragged):
    """With more than 400 samples the solve starts from subsamples; some samples have weight 0."""
    losses = correlated_sigmoids(5, 900, 20).astype(dtype)
    weight = np.random.default_rng(1).integers(0, 3, 900).astype(np.float64)
    keywords = {"sample_weight": weight}
    if ragged:
        keywords["row_offsets"] = np.cumsum([0] + [20 - i % 7 for i in range(900)])
        losses = losses.reshape(5, -1)[:, : keywords["row_offsets"][-1]]
    result = fit_mixture(losses, tol=1e-9, **keywords)
    assert result.status is Status.OPTIMAL
    assert_certificate(result, losses.astype(np.float64), tol=1e-9, **keywords)
    other = fit_mixture(losses, solver=LinearProgram(), tol=1e-7, **keywords)
    assert abs(result.value - other.value) <= result.gap + other.gap


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_bit(threads):
    losses = correlated_sigmoids(6, 1500, 40).astype(np.float32)
    one, other = fit_mixture(losses, tol=1e-9, threads=threads), fit_mixture(losses, tol=1e-9)
    np.testing.assert_array_equal(one.weights, other.weights)
    assert (one.value, one.lower_bound, one.passes) == (other.value, other.lower_bound, other.passes)
    assert one.attack.to_dict() == other.attack.to_dict()
    assert [(entry.value, entry.lower_bound) for entry in one.history] == [
        (entry.value, entry.lower_bound) for entry in other.history
    ]


@pytest.mark.parametrize("make", [correlated_sigmoids, lambda *shape: np.random.default_rng(2).random(shape)])
def test_what_a_large_solve_costs(make):
    """At most (passes + 0.5) tables read, 256 bytes a sample and a fifth of the float32 table held."""
    losses = make(8, 10_000, 100).astype(np.float32)
    result = fit_mixture(losses, tol=1e-6)
    assert result.status is Status.OPTIMAL
    assert result.passes <= 4
    assert result.passes * losses.nbytes < result.bytes_read <= (result.passes + 0.5) * losses.nbytes
    assert 0 < result.statistics.peak_memory <= 256 * 10_000 + 0.2 * losses.nbytes
    assert 10_000 <= result.statistics.core_rows <= 40_000
    assert {"bootstrap", "passes", "master", "other"} == set(result.statistics.phase_seconds)
    assert_certificate(result, losses, tol=1e-6)


def test_the_attack_is_pure_but_for_few_samples():
    """A vertex of the attacker's optimal strategies mixes on fewer samples than there are classifiers."""
    for seed in range(5):
        losses = correlated_sigmoids(8, 1200, 30, seed=seed)
        result = fit_mixture(losses, tol=1e-7)
        assert result.attack.sample.size - 1200 <= 7
        assert np.count_nonzero(np.bincount(result.attack.sample) > 1) <= 7
        assert verify(result, losses)


def test_dominated_rows_doubled_samples_and_order_change_no_value():
    losses = correlated_sigmoids(5, 500, 15)
    rng = np.random.default_rng(0)
    worse = losses - 0.1 * rng.random(losses.shape)
    changed = {
        "dominated rows": np.concatenate([worse, losses], axis=2),
        "doubled samples": np.concatenate([losses, losses], axis=1),
        "doubled attacks": np.concatenate([losses, losses[:, :, ::-1]], axis=2),
        "samples in another order": losses[:, rng.permutation(500)],
        "attacks in another order": losses[:, :, rng.permutation(15)],
        "classifiers in another order": losses[rng.permutation(5)],
        "a classifier dominated": np.concatenate([losses, losses.max(axis=0, keepdims=True) + 0.1]),
    }
    plain = fit_mixture(losses, tol=1e-9)
    for what, table in changed.items():
        result = fit_mixture(table, tol=1e-9)
        assert result.status is Status.OPTIMAL, what
        assert abs(result.value - plain.value) <= result.gap + plain.gap + rounding_slack(losses), what
        assert_certificate(result, table, tol=1e-9)


def grown(losses):
    """The table of a later day: more classifiers, samples, attacks, or all of them."""
    return {
        "the same": losses,
        "classifiers": np.concatenate([losses, correlated_sigmoids(2, 600, 20, seed=7)]),
        "samples": np.concatenate([losses, correlated_sigmoids(6, 50, 20, seed=8)], axis=1),
        "attacks": np.concatenate([losses, correlated_sigmoids(6, 600, 5, seed=9)], axis=2),
        "fewer attacks": losses[:, :, :10],
    }


@pytest.mark.parametrize("what", grown(np.empty((6, 600, 20))))
def test_a_solve_goes_on_with_the_core_of_an_earlier_result(what):
    losses = correlated_sigmoids(6, 600, 20)
    earlier = fit_mixture(losses, tol=1e-9)
    table = grown(losses)[what]
    result = fit_mixture(table, tol=1e-9, start=earlier)
    cold = fit_mixture(table, tol=1e-9)
    assert result.status is Status.OPTIMAL
    assert_certificate(result, table, tol=1e-9)
    assert abs(result.value - cold.value) <= result.gap + cold.gap
    if what == "the same":
        assert result.passes == 1
        assert result.history[0].value <= earlier.value
    again = fit_mixture(table, tol=1e-9, start=fit_mixture(losses, tol=1e-3, solver=Fista()))
    assert again.status is Status.OPTIMAL


def test_a_large_solve_goes_on_with_what_it_had():
    losses = correlated_sigmoids(6, 8000, 20).astype(np.float32)
    earlier = fit_mixture(losses[:, :7000], tol=1e-9)
    result = fit_mixture(losses, tol=1e-9, start=earlier)
    assert result.status is Status.OPTIMAL
    assert_certificate(result, losses, tol=1e-9)
    again = fit_mixture(losses, tol=1e-6, start=result)
    assert again.passes == 1
    assert_certificate(again, losses, tol=1e-6)


@pytest.mark.parametrize("pass_limit", [1, 2, 3, 4])
def test_a_limit_on_passes_after_subsamples(pass_limit):
    losses = correlated_sigmoids(6, 900, 30).astype(np.float32)
    result = fit_mixture(losses, tol=1e-13, pass_limit=pass_limit)
    assert result.passes <= pass_limit
    assert result.status in (Status.PASS_LIMIT, Status.OPTIMAL)
    assert_certificate(result, losses)
    assert result.gap / result.value < (np.inf if pass_limit == 1 else 0.1)


@pytest.mark.parametrize("seconds", [0.0, 1e-3, 3e-3, 1e-2, 2e-2, 4e-2])
def test_a_limit_on_time_at_any_moment(seconds):
    losses = correlated_sigmoids(20, 3000, 40).astype(np.float32)
    result = fit_mixture(losses, tol=1e-12, time_limit=seconds)
    assert result.status in (Status.TIME_LIMIT, Status.OPTIMAL)
    assert_certificate(result, losses)


@pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is not signal.default_int_handler, reason="SIGINT is handled by others"
)
@pytest.mark.parametrize("seconds", [1e-3, 1e-2, 3e-2, 6e-2, 1e-1])
def test_ctrl_c_at_any_moment(seconds):
    """The alarm's handler sends what the key would; the handler of before comes back."""
    losses = correlated_sigmoids(20, 5000, 40).astype(np.float32)
    before = signal.signal(signal.SIGINT, lambda number, frame: None)  # a late press is harmless
    alarm = signal.signal(signal.SIGALRM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        result = fit_mixture(losses, tol=1e-12)
        signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, alarm)
        signal.signal(signal.SIGINT, before)
    assert result.status in (Status.INTERRUPTED, Status.OPTIMAL)
    assert_certificate(result, losses)


def exact_bounds(result, losses, weight):
    """Both bounds in rational numbers, from the floats of the result, normalised exactly."""
    n_classifiers, n_samples, n_attacks = losses.shape
    share = [Fraction(int(w), int(weight.sum())) for w in weight]
    mixture = [Fraction(float(w)) for w in result.weights]
    mixture = [w / sum(mixture) for w in mixture]
    mass = [[Fraction(0)] * n_attacks for _ in range(n_samples)]
    rows = result.attack.rows()
    for i, j, p in zip(rows.sample, rows.attack, rows.probability, strict=True):
        mass[i][j] += Fraction(float(p))
    mass = [[p / sum(row) for p in row] for row in mass]
    table = losses.astype(int).tolist()
    attacked = [
        max(sum(w * table[k][i][j] for k, w in enumerate(mixture)) for j in range(n_attacks))
        for i in range(n_samples)
    ]
    inflicted = [
        sum(share[i] * mass[i][j] * table[k][i][j] for i in range(n_samples) for j in range(n_attacks))
        for k in range(n_classifiers)
    ]
    return sum(s * v for s, v in zip(share, attacked, strict=True)), min(inflicted)


@pytest.mark.parametrize("seed", range(20))
def test_bounds_in_rational_numbers(seed):
    """Integer losses are exact in float64: all that is left is the rounding of the result's own numbers."""
    rng = np.random.default_rng(seed)
    losses = rng.integers(-5, 6, size=(4, 7, 5)).astype(np.float64)
    weight = rng.integers(1, 4, size=7)
    result = fit_mixture(losses, sample_weight=weight, tol=0.0)
    upper, lower = exact_bounds(result, losses, weight)
    slack = Fraction(rounding_slack(losses))
    assert lower <= upper
    assert abs(Fraction(result.value) - upper) <= slack
    assert Fraction(result.lower_bound) <= lower + slack
    assert result.gap <= 1e-12 * loss_scale(losses)


def test_a_loss_that_is_not_finite_is_named_by_its_place():
    losses = correlated_sigmoids(3, 2000, 10).astype(np.float32)
    losses[1, 1234, 5] = losses[2, 7, 3] = np.nan
    with pytest.raises(ValueError, match="classifier 1, sample 1234, attack 5"):
        fit_mixture(losses)


def test_it_refuses_what_it_does_not_solve():
    with pytest.raises(ValueError, match="`temperature` must be 0 for RowGeneration"):
        fit_mixture(np.ones((2, 2, 2)), temperature=0.1, solver=RowGeneration())
    with pytest.raises(ValueError, match="`solver` must be DoubleOracle or OracleSubgradient"):
        fit_mixture(
            lambda w: OracleAnswer(np.ones((2, 1, 1))), solver=RowGeneration(), start=np.array([0.5, 0.5])
        )


def test_a_callback_sees_every_pass():
    losses = correlated_sigmoids(6, 900, 30)
    seen = []
    result = fit_mixture(losses, tol=1e-9, callback=seen.append)
    assert tuple(seen) == result.history
    gaps = [entry.gap for entry in seen]
    assert gaps == sorted(gaps, reverse=True)
    stopped = fit_mixture(losses, tol=1e-9, callback=lambda progress: True)
    assert stopped.status is Status.STOPPED_BY_CALLBACK
    assert_certificate(stopped, losses)


def test_one_pass_of_time_beyond_the_limit_at_most():
    losses = correlated_sigmoids(10, 4000, 50).astype(np.float32)
    begun = time.perf_counter()
    fit_mixture(losses, tol=0.0, time_limit=0.05)
    assert time.perf_counter() - begun < 1.0


def test_a_table_and_its_arrays_give_equal_results():
    problem = family("ragged_weighted_prior")
    table = LossTable(problem.losses, **problem.keywords)
    one, other = fit_mixture(table), fit_mixture(problem.losses, **problem.keywords)
    assert (one.value, one.lower_bound) == (other.value, other.lower_bound)
    assert Game.of(problem.losses, **problem.keywords).share.size == one.attack.n_samples

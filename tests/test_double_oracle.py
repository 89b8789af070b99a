"""Games behind an oracle: both bounds are true of all attacks that there are, whatever the oracle answers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixsolve import (
    DoubleOracle,
    Fista,
    OracleAnswer,
    OracleSubgradient,
    RowGeneration,
    Status,
    fit_mixture,
    load_result,
)
from tests.certificates import Game, assert_certificate, certificate_errors, worst_case
from tests.lp_value import lp_value_interval
from tests.problems import family
from tests.refusals import refuse
from tests.tolerances import rounding_slack


class TableOracle:
    """Best attacks of a table (n_classifiers, n_samples, n_attacks), found by looking at all of them.

    `keep` answers with so many of the best; `lag` picks worse ones, and `delta` is declared. Every answer is kept, as
    a caller would keep the points, so that the strategy's numbers can be followed.
    """

    def __init__(self, losses, keep=1, lag=0, delta=0.0, only_changes=False):
        self.losses, self.keep, self.lag, self.delta, self.only_changes = (
            losses,
            keep,
            lag,
            delta,
            only_changes,
        )
        self.n_classifiers = len(losses)
        self.answered = [[] for _ in range(losses.shape[1])]
        self.last = None

    def __call__(self, weights):
        order = np.argsort(-np.einsum("k,kij->ij", weights, self.losses), axis=1, kind="stable")
        lag = min(self.lag, order.shape[1] - self.keep)
        chosen = order[:, lag : lag + self.keep]
        samples = np.arange(len(chosen))
        if self.only_changes and self.last is not None:
            samples = np.flatnonzero((chosen != self.last).any(axis=1))[::-1]
            samples = samples if samples.size else np.array([0])
        self.last = chosen
        for i in samples:
            self.answered[i] += chosen[i].tolist()
        losses = np.take_along_axis(self.losses[:, samples], chosen[None, samples], axis=2)
        whole = samples.size == len(chosen) and not self.only_changes
        return OracleAnswer(losses, samples=None if whole else samples, delta=self.delta)

    def in_the_table(self, attack):
        """The same strategy with the table's own numbers; probabilities of one attack answered twice added up."""
        q = np.zeros(self.losses.shape[1:])
        for sample, number, probability in zip(attack.sample, attack.attack, attack.probability, strict=True):
            q[sample, self.answered[sample][number]] += probability
        return q


def assert_proved(result, oracle, tol=None, sample_weight=None):
    """Upper bound at the weights against all attacks, lower bound of the strategy, both from the raw table."""
    game = Game.of(oracle.losses, sample_weight=sample_weight)
    slack = rounding_slack(oracle.losses)
    assert result.value >= worst_case(game, result.weights) - slack
    q = oracle.in_the_table(result.attack)
    np.testing.assert_allclose(q.sum(axis=1), 1.0, atol=1e-12)
    bound = float((oracle.losses * q).sum(axis=2).__matmul__(game.share).min())
    assert result.lower_bound <= bound + slack
    if tol is not None:
        assert result.status is Status.OPTIMAL
        assert result.gap <= max(tol * abs(result.value), slack)


NAMES = ["random_real", "random_zero_one", "signed_losses", "near_duplicates", "matching_pennies_5", "two_zero_one",
         "all_equal_losses", "single_sample", "single_classifier", "duplicated_classifiers", "weighted"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_table_behind_an_oracle_has_the_tables_value(name):
    problem = family(name)
    oracle = TableOracle(problem.losses)
    result = fit_mixture(oracle, tol=1e-8, **problem.keywords)
    assert_proved(result, oracle, 1e-8, problem.sample_weight)
    slack = rounding_slack(problem.losses)
    assert problem.value_low - slack <= result.value
    assert result.lower_bound <= problem.value_high + slack
    assert result.solver == "DoubleOracle()"
    assert result.bytes_read == 0
    assert result.passes == len(result.history)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    keep=st.integers(1, 3),
    only_changes=st.booleans(),
    kind=st.sampled_from(["real", "0/1", "ties"]),
)
def test_against_the_linear_programme(seed, keep, only_changes, kind):
    rng = np.random.default_rng(seed)
    losses = rng.random((int(rng.integers(1, 7)), int(rng.integers(1, 20)), 8))
    losses = {"real": losses, "0/1": (losses < 0.3) * 1.0, "ties": np.round(3 * losses)}[kind]
    oracle = TableOracle(losses, keep, only_changes=only_changes)
    result = fit_mixture(oracle, tol=1e-8)
    assert_proved(result, oracle, 1e-8)
    low, high = lp_value_interval(losses, None, None)
    assert low - 1e-9 <= result.value
    assert result.lower_bound <= high + 1e-9


def test_without_a_delta_the_upper_bound_is_marked_unproved(tmp_path):
    losses = family("random_real").losses
    oracle = TableOracle(losses, delta=None)
    result = fit_mixture(oracle, tol=1e-7)
    assert result.status is Status.ORACLE_LIMIT
    assert "no upper bound is proved" in result.message
    assert result.value == math.inf
    assert_proved(result, oracle)
    answered = result.statistics.answered_value
    assert answered - result.lower_bound <= 1e-7 * answered
    result.save(tmp_path / "result.json")
    assert load_result(tmp_path / "result.json").statistics.answered_value == answered


def test_a_weak_oracle_proves_a_true_lower_bound():
    """Answers that miss the two best attacks; what it declares nothing about, nothing is claimed about."""
    losses = family("random_real").losses
    oracle = TableOracle(losses, lag=2, delta=None)
    result = fit_mixture(oracle)
    assert_proved(result, oracle)
    low, _ = lp_value_interval(losses, None, None)
    answered = result.statistics.answered_value
    assert result.lower_bound <= answered + 1e-12
    assert answered <= result.lower_bound * (1 + 2e-6)
    assert result.lower_bound <= low + 1e-9


def test_a_declared_delta_is_part_of_the_value():
    losses = family("random_real").losses
    delta = 0.3
    oracle = TableOracle(losses, lag=1, delta=delta)
    result = fit_mixture(oracle, tol=1e-7)
    assert result.status is Status.ORACLE_LIMIT
    assert "they may lack up to" in result.message
    assert result.statistics.answered_value < result.value <= result.statistics.answered_value + delta
    assert_proved(result, oracle)
    loose = fit_mixture(TableOracle(losses, lag=1, delta=delta), atol=0.4)
    assert loose.status is Status.OPTIMAL


def test_far_fewer_attacks_than_there_are():
    losses = np.random.default_rng(0).random((6, 50, 400))
    oracle = TableOracle(losses)
    result = fit_mixture(oracle, tol=1e-8)
    assert_proved(result, oracle, 1e-8)
    assert result.statistics.core_rows < 50 * 12
    assert result.passes <= 15
    reference = fit_mixture(losses, tol=1e-8)
    assert abs(reference.value - result.value) <= 2e-8


def test_a_continuum_of_attacks():
    """Losses a_k sin(x) + b_k cos(x) on the circle: the best response is in closed form."""
    rng = np.random.default_rng(3)
    sine, cosine = rng.normal(size=(2, 5, 12))

    def oracle(weights):
        angle = np.arctan2(weights @ sine, weights @ cosine)
        return OracleAnswer((sine * np.sin(angle) + cosine * np.cos(angle))[:, :, None], delta=0.0)

    result = fit_mixture(oracle, start=np.full(5, 0.2), tol=1e-7)
    assert result.status is Status.OPTIMAL
    value = np.hypot(result.weights @ sine, result.weights @ cosine).mean()
    assert result.value == pytest.approx(value, rel=1e-13)
    angles = np.linspace(0, 2 * np.pi, 2000)
    grid = sine[..., None] * np.sin(angles) + cosine[..., None] * np.cos(angles)
    below = fit_mixture(grid, tol=1e-8).lower_bound
    assert below <= result.value <= below + 1e-4
    assert result.lower_bound <= result.value


def test_the_first_answer_covers_all_samples_and_later_ones_need_not():
    losses = family("random_real").losses
    changes, whole = TableOracle(losses, only_changes=True), TableOracle(losses)
    ours, theirs = fit_mixture(changes, tol=1e-8), fit_mixture(whole, tol=1e-8)
    assert ours.value == pytest.approx(theirs.value, abs=1e-7)
    assert sum(map(len, changes.answered)) < sum(map(len, whole.answered))


def test_limits_interrupts_and_callbacks_return_true_certificates():
    losses = np.random.default_rng(1).random((6, 30, 100))
    for limit in (1, 2, 4):
        oracle = TableOracle(losses)
        result = fit_mixture(oracle, pass_limit=limit, tol=1e-12)
        assert result.passes <= limit
        if result.attack is not None:
            assert_proved(result, oracle)
    oracle = TableOracle(losses)
    result = fit_mixture(oracle, time_limit=0.0)
    assert result.status is Status.TIME_LIMIT
    assert result.value < math.inf
    stopped = fit_mixture(TableOracle(losses), callback=lambda progress: progress.passes == 2, tol=1e-12)
    assert stopped.status is Status.STOPPED_BY_CALLBACK


def test_an_error_of_the_oracle_comes_through():
    def oracle(weights):
        raise RuntimeError("no attack today")

    with pytest.raises(RuntimeError, match="no attack today"):
        fit_mixture(oracle, start=[0.5, 0.5])


def answers(*given):
    """An oracle that says these one after another."""
    queue = list(given)
    return lambda weights: queue.pop(0)


ODD = {
    "samples of another number": (answers(OracleAnswer(np.ones((2, 3, 1)), samples=[0, 1])), "3 integers"),
    "a sample twice": (answers(OracleAnswer(np.ones((2, 2, 1)), samples=[0, 0])), "distinct"),
    "a sample left out at first": (answers(OracleAnswer(np.ones((2, 2, 1)), samples=[0, 2])), "in 0..1"),
    "not finite": (answers(OracleAnswer(np.full((2, 2, 1), np.nan))), "finite"),
    "a wrong shape": (answers(OracleAnswer(np.ones((3, 2, 1)))), "shape"),
    "a negative delta": (answers(OracleAnswer(np.ones((2, 2, 1)), delta=-1.0)), "delta"),
    "another number of samples": (
        answers(OracleAnswer(np.eye(2)[:, :1, None].repeat(2, 1)), OracleAnswer(np.ones((2, 3, 1)))),
        "in 0..1",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_answers_are_refused(name):
    oracle, message = ODD[name]
    with pytest.raises(ValueError, match=message):
        fit_mixture(oracle, start=[0.5, 0.5], tol=0.0)


def test_solvers_and_games_that_do_not_fit():
    oracle = TableOracle(np.ones((2, 3, 4)))
    refuse(ValueError, "temperature", "must be 0", "0.1", lambda: fit_mixture(oracle, temperature=0.1))
    for solver in (RowGeneration(), Fista()):
        with pytest.raises(ValueError, match="oracle"):
            fit_mixture(oracle, solver=solver)
    with pytest.raises(ValueError, match="RowGeneration"):
        fit_mixture(np.ones((2, 3, 4)), solver=DoubleOracle())
    with pytest.raises(ValueError, match="samples"):
        fit_mixture(
            answers(OracleAnswer(np.ones((2, 2, 1)), samples=[1, 0])),
            start=[0.5, 0.5],
            solver=OracleSubgradient(3, loss_bound=1.0),
        )


def test_the_strategy_proves_its_bound_on_the_table_of_all_answers():
    """A caller who keeps the answers has a table on which the result's certificate can be checked."""
    losses = family("random_real").losses
    oracle = TableOracle(losses)
    result = fit_mixture(oracle, tol=1e-8)
    offsets = np.concatenate([[0], np.cumsum([len(own) for own in oracle.answered])])
    table = np.concatenate([losses[:, i, own] for i, own in enumerate(oracle.answered)], axis=1)
    assert_certificate(result, table, row_offsets=offsets, tol=1e-8)
    assert not certificate_errors(result, table, row_offsets=offsets)

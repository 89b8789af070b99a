"""What a certificate makes of answers: bounds that hold, at every temperature, from any point."""

from dataclasses import replace

import numpy as np
import pytest

from mixsolve import LossTable
from mixsolve.certificate import Certificate, Queries, is_mixture
from mixsolve.passes import run_pass
from mixsolve.simplex import normalise_weights
from mixsolve.solvers.limits import Limits
from tests.certificates import Game, attacker_bound, rebuilding_slack, smoothed
from tests.problems import family
from tests.tolerances import rounding_slack

NAMES = ["random_real", "ragged_weighted_prior", "random_zero_one", "signed_losses"]


class Bench:
    """A certificate fed by real passes over one table."""

    def __init__(self, name, temperature, dtype=np.float64):
        self.problem = family(name)
        self.table = LossTable(self.problem.losses.astype(dtype), **self.problem.keywords)
        self.game = Game.of(self.problem.losses.astype(dtype), **self.problem.keywords)
        self.temperature = self.own_temperature(temperature)
        self.certificate = Certificate(self.table.n_classifiers, self.temperature)
        self.start = normalise_weights(np.ones(self.table.n_classifiers))
        level = np.array([1.0, 0.0] if self.certificate.target else [0.0])
        self.certificate.begin(self.start, self.ask(np.tile(self.start, (len(level), 1)), level, True))

    def own_temperature(self, temperature):
        if temperature != "per sample":
            return temperature
        return np.random.default_rng(1).uniform(0.05, 0.5, size=self.table.n_samples)

    def ask(self, weights, level, float64=False):
        temperature = self.certificate.temperatures(np.asarray(level, dtype=np.float64))
        return run_pass(self.table, weights, temperature, float64_scores=float64, best_attack=True)

    def add(self, weights, level, exact=True):
        queries = Queries(np.atleast_2d(weights), np.atleast_1d(np.asarray(level, dtype=np.float64)))
        answer = self.ask(queries.weights, queries.level, exact)
        return self.certificate.add(queries, answer, exact=exact)

    def settle(self):
        self.certificate.tighten()
        queries = self.certificate.unproved()
        if queries is None:
            self.certificate.keep_only_exact()
        else:
            self.certificate.settle(queries, self.ask(queries.weights, queries.level, True))

    def assert_true(self):
        """Both bounds recomputed, and the strategy that is said to prove the lower one."""
        best, losses = self.certificate.best, self.problem.losses
        slack = rounding_slack(losses)
        assert abs(best.upper - smoothed(self.game, best.weights, self.temperature)) <= slack
        assert abs(best.worst_case - smoothed(self.game, best.weights, 0.0)) <= slack
        strategy = self.certificate.strategy()
        slack += rebuilding_slack(self.game, strategy)
        assert self.certificate.lower <= attacker_bound(self.game, strategy, self.temperature) + slack


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("temperature", [0.0, 0.05, 5.0, "per sample"])
def test_bounds_hold_for_any_queries(name, temperature):
    """Points on and off the simplex, at every level, in any order."""
    bench, rng = Bench(name, temperature), np.random.default_rng(0)
    target = bench.certificate.target
    for _ in range(12):
        mixture = normalise_weights(rng.exponential(size=bench.table.n_classifiers))
        elsewhere = rng.normal(size=bench.table.n_classifiers)
        before = bench.certificate.lower, bench.certificate.upper
        bench.add([mixture, mixture, elsewhere, elsewhere], [target, 0.5, target or 0.3, 3.0])
        bench.settle()
        bench.assert_true()
        assert bench.certificate.lower >= before[0] - rounding_slack(bench.problem.losses)
        assert bench.certificate.upper <= before[1]
    low, high = bench.problem.value_interval(0.0)
    assert bench.certificate.lower <= high + rounding_slack(bench.problem.losses)
    if not target:
        assert bench.certificate.upper >= low - rounding_slack(bench.problem.losses)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("temperature", [0.05, 5.0, "per sample"])
def test_one_query_leaves_exactly_the_frank_wolfe_gap(name, temperature):
    """F_t(w) - D_t(q) = <w, g> - min_k g_k, also with priors, weights and a temperature per sample."""
    bench = Bench(name, temperature)
    gradient = bench.ask(bench.start[None], [1.0], True).gradient[0]
    expected = bench.start @ gradient - gradient.min()
    assert abs(bench.certificate.gap - expected) <= rounding_slack(bench.problem.losses)


@pytest.mark.parametrize("level", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("temperature", [0.05, "per sample"])
def test_a_response_at_another_temperature_proves_its_own_bound(temperature, level):
    """D_t of a softmax response of temperature c t, from a pass at c t: equal, not merely below."""
    bench = Bench("ragged_weighted_prior", temperature)
    weights = np.array([0.7, 0.1, 0.1, 0.1])
    certificate = Certificate(4, bench.temperature)
    queries = Queries(weights[None], np.array([level]))
    certificate.add(queries, bench.ask(weights[None], [level], True), exact=True)
    certificate.tighten()
    proved = attacker_bound(bench.game, certificate.strategy(), bench.temperature)
    slack = rounding_slack(bench.problem.losses) + rebuilding_slack(bench.game, certificate.strategy())
    assert abs(certificate.lower - proved) <= slack


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_a_point_off_the_simplex_proves_no_upper_bound(temperature):
    bench = Bench("random_real", temperature)
    before = bench.certificate.upper
    outside = np.array([3.0, -2.0, 0.0, 0.0, 0.0])
    scaled = bench.start * (1 + 1e-9)
    for weights in (outside, -outside, scaled, np.zeros(5)):
        assert bench.add(weights, bench.certificate.target) is None
    assert bench.certificate.upper == before


def test_is_mixture_looks_at_the_last_bit():
    assert is_mixture(np.array([0.25, 0.75]))
    assert not is_mixture(np.array([0.25, 0.75 + 1e-15]))
    assert not is_mixture(np.array([1.5, -0.5]))


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_float32_answers_do_not_survive_the_proof(temperature):
    """Values and payoffs that were inexact are replaced; what is returned is from float64 scores alone."""
    bench, rng = Bench("random_real", temperature, np.float32), np.random.default_rng(0)
    for _ in range(5):
        mixture = normalise_weights(0.3 * bench.start + 0.7 * rng.dirichlet(np.full(5, 5.0)))
        bench.add([mixture, mixture], [bench.certificate.target, 1.0], exact=False)
    bench.settle()
    assert bench.certificate.unproved() is None
    bench.assert_true()


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_wrong_inexact_answers_leave_no_trace_in_what_is_proved(temperature):
    """As if float32 scores were off by 1e-3: what they say is asked again in float64, or forgotten."""
    bench, rng = Bench("random_real", temperature), np.random.default_rng(0)
    for _ in range(6):
        weights = np.tile(normalise_weights(rng.exponential(size=5)), (2, 1))
        queries = Queries(weights, np.array([bench.certificate.target, 1.0]))
        answer = bench.ask(queries.weights, queries.level)
        spoiled = replace(answer, value=answer.value - 1e-3, gradient=answer.gradient + 1e-3)
        bench.certificate.add(queries, spoiled, exact=False)
    bench.settle()
    bench.assert_true()
    for weights in np.eye(5):
        bench.add(np.tile(weights, (2, 1)), [bench.certificate.target, 1.0])
        bench.settle()
        bench.assert_true()


def test_best_attacks_are_cited_as_rows():
    """At level 0 ties hang on the last bit of a score, so the strategy names the rows."""
    bench = Bench("random_zero_one", 0.0)
    for weights in np.eye(5):
        bench.add(weights, 0.0)
    bench.settle()
    strategy = bench.certificate.strategy()
    assert strategy.probability.size <= 5 * bench.table.n_samples
    bench.assert_true()


def test_softened_responses_take_precedence_over_best_attacks():
    bench = Bench("random_zero_one", 0.0)
    bench.add(np.tile(bench.start, (2, 1)), [0.0, 1e-3])
    bench.add(np.eye(5), np.full(5, 1e-3))
    bench.settle()
    assert np.all(bench.certificate.strategy().temperature > 0)


def test_an_offered_strategy_counts_when_it_is_better():
    bench = Bench("random_real", 0.0)
    weak = bench.certificate.strategy()
    bench.certificate.offer(lambda: weak, bench.certificate.lower - 1)
    assert bench.certificate.strategy() is not weak
    strong = bench.certificate.strategy()
    bench.certificate.offer(lambda: strong, bench.certificate.lower)
    assert bench.certificate.strategy() is strong


@pytest.mark.parametrize("power", [-40, 40])
def test_rounding_scales_with_the_losses(power):
    one, other = Certificate(3, 0.0), Certificate(3, 0.0)
    losses = np.random.default_rng(0).random((3, 5, 4))
    for certificate, table in ((one, losses), (other, losses * 2.0**power)):
        answer = run_pass(LossTable(table), np.full((1, 3), 1 / 3), 0.0, best_attack=True)
        certificate.begin(np.full(3, 1 / 3), answer)
    assert other.rounding == one.rounding * 2.0**power
    assert 0 < one.rounding < 1e-14


def test_limits_have_defaults_that_one_can_read():
    assert repr(Limits()) == "Limits(tol=1e-06, atol=0.0, pass_limit=None, time_limit=None)"

"""The paper's propositions, checked numerically against the independent checker's own evaluations."""

import itertools
import math

import numpy as np
import pytest

from mixsolve import LinearProgram, LossTable, bounds, fit_mixture
from mixsolve.attacks import Norm, UniformBall, loss_table
from mixsolve.strategy import RowAttack
from tests import certificates
from tests.certificates import Game
from tests.problems import FAMILIES, family
from tests.tolerances import ROUNDING_SLACK, loss_scale, rounding_slack

SMOOTHED = ["random_real", "random_zero_one", "signed_losses", "near_duplicates", "ragged_weighted_prior"]


def game_and_mixtures(problem, count=4):
    game = Game.of(problem.losses, **problem.keywords)
    return game, np.random.default_rng(7).dirichlet(np.ones(problem.n_classifiers), size=count)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_smoothed_risk_rises_to_the_worst_case_as_the_temperature_falls(name):
    """Proposition 3, with the rate of `table_smoothing_error`."""
    problem = family(name)
    game, mixtures = game_and_mixtures(problem)
    slack = rounding_slack(problem.losses)
    for weights in mixtures:
        worst, previous = certificates.worst_case(game, weights), -np.inf
        for temperature in np.logspace(4, -12, 33):
            smoothed = certificates.smoothed(game, weights, temperature)
            error = bounds.table_smoothing_error(problem.losses, temperature, **problem.keywords)
            assert smoothed >= previous - slack
            assert worst - error - slack <= smoothed <= worst + slack
            previous = smoothed
        assert worst - previous <= 1e-10 * loss_scale(
            problem.losses
        )  # 1e-12 * log(1 / prior), below 100 of them


def test_table_smoothing_error_of_a_uniform_prior_is_t_log_m():
    assert bounds.table_smoothing_error(np.zeros((2, 3, 7)), 0.5) == pytest.approx(
        0.5 * math.log(7), rel=1e-15
    )
    assert bounds.table_smoothing_error(np.zeros((2, 3, 7)), 0.0) == 0.0
    per_sample = bounds.table_smoothing_error(np.zeros((2, 3, 7)), [0.1, 0.2, 0.6])
    assert per_sample == pytest.approx(0.3 * math.log(7), rel=1e-15)


@pytest.mark.parametrize("name", ["random_real", "ragged", "with_prior", "ragged_weighted_prior"])
def test_temperature_for_error_is_the_inverse(name):
    table = LossTable(family(name).losses, **family(name).keywords)
    temperature = bounds.temperature_for_error(table, 1e-3)
    assert bounds.table_smoothing_error(table, temperature) == pytest.approx(1e-3, rel=1e-14)
    assert bounds.temperature_for_error(np.zeros((3, 4, 1)), 1e-3) == math.inf


@pytest.mark.parametrize("name", SMOOTHED)
def test_near_best_mass_bounds_the_smoothing_of_its_mixture(name):
    """Proposition 5, one mixture at a time, sharper by the factor 2 than the paper's form."""
    problem = family(name)
    game, mixtures = game_and_mixtures(problem)
    for weights, slack in itertools.product(mixtures, [0.0, 0.05, 0.3, 10.0]):
        mass = bounds.near_best_mass(problem.losses, weights, slack, **problem.keywords)
        assert 0.0 < mass <= 1.0 + 1e-15
        worst = certificates.worst_case(game, weights)
        for temperature in (1e-3, 0.1, 2.0):
            loss = worst - certificates.smoothed(game, weights, temperature)
            assert loss <= temperature * -math.log(mass) + slack + rounding_slack(problem.losses)
            assert loss <= bounds.smoothing_error(temperature, min(mass, 1.0), slack)


def test_near_best_mass_counts_the_attacks_within_the_slack():
    losses = np.array([[[0.0, 0.4, 0.5], [1.0, 1.0, 0.2]]])
    assert bounds.near_best_mass(losses, [1.0], 0.0) == pytest.approx(1 / 3, rel=1e-15)
    assert bounds.near_best_mass(losses, [1.0], 0.2) == pytest.approx(2 / 3, rel=1e-15)
    assert bounds.near_best_mass(losses, [1.0], 0.0, sample_weight=[0.0, 1.0]) == pytest.approx(
        2 / 3, rel=1e-15
    )
    prior = [[0.2, 0.2, 0.6], [0.1, 0.1, 0.8]]
    assert bounds.near_best_mass(losses, [1.0], 0.0, attack_prior=prior) == pytest.approx(0.2, rel=1e-15)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_smoothing_moves_the_value_by_at_most_proposition_5(temperature):
    problem = family("random_real")
    smoothed = fit_mixture(problem.losses, temperature=temperature, tol=1e-5)
    allowed = bounds.smoothing_error(temperature, 1.0 / problem.losses.shape[2])
    slack = rounding_slack(problem.losses)
    assert smoothed.value >= problem.value_low - allowed - slack
    assert smoothed.lower_bound <= problem.value_high + slack
    # The direct form, half as wide.
    assert (
        smoothed.value
        >= problem.value_low - bounds.table_smoothing_error(problem.losses, temperature) - slack
    )


def test_the_constants_of_propositions_4_and_5_are_the_papers():
    assert bounds.smoothing_error(0.1, 0.25, 0.02) == pytest.approx(0.2 * math.log(4) + 0.02, rel=1e-15)
    by_hand = math.exp(2.0) * (2 * 0.3 + 6 * 1.0 * math.sqrt(math.log(4 / 0.1) / (2 * 50 * 20)))
    given = bounds.sampling_error_from_complexity(0.3, 0.5, 20, 50, failure_probability=0.1)
    assert given == pytest.approx(by_hand, rel=1e-15)
    wide = bounds.sampling_error_from_complexity(0.3, 3.0, 20, 50, loss_bound=3.0, failure_probability=0.1)
    by_hand = math.e * (2 * 0.3 + 6 * 3.0 * math.sqrt(math.log(40) / 2000))
    assert wide == pytest.approx(by_hand, rel=1e-15)
    massart = math.sqrt(2 * math.log(7) / 50)
    assert bounds.sampling_error(0.5, 7, 20, 50) == bounds.sampling_error_from_complexity(
        massart, 0.5, 20, 50
    )


def test_the_sampling_error_vanishes_like_the_root_of_the_attacks():
    errors = [bounds.sampling_error(1.0, 10, 100, n_attacks) for n_attacks in (100, 10_000, 1_000_000)]
    assert errors[0] / errors[1] == pytest.approx(10.0, rel=1e-12)
    assert errors[1] / errors[2] == pytest.approx(10.0, rel=1e-12)
    assert bounds.sampling_error(1e-4, 10, 100, 1000) == math.inf


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_sampled_attacks_miss_no_more_of_the_smoothed_risk_than_proposition_4_allows(temperature):
    """The prior is a population of 2,000 attacks; 40 draws of 50 of them each; every mixture at once."""
    rng = np.random.default_rng(5)
    population = rng.random((3, 12, 2000)) ** 2
    mixtures = rng.dirichlet(np.ones(3), size=10)
    whole = Game.of(population)
    truth = np.array([certificates.smoothed(whole, w, temperature) for w in mixtures])
    allowed = bounds.sampling_error(temperature, 3, 12, 50, failure_probability=0.05)
    estimated = bounds.sampling_error_from_complexity(
        bounds.estimate_complexity(population[:, :, :50], seed=1).value, temperature, 12, 50
    )
    assert estimated <= allowed
    failures = 0
    for _ in range(40):
        drawn = np.stack([population[:, i, rng.integers(2000, size=50)] for i in range(12)], axis=1)
        sample = Game.of(drawn)
        error = max(
            abs(certificates.smoothed(sample, w, temperature) - exact)
            for w, exact in zip(mixtures, truth, strict=True)
        )
        failures += error > allowed
    assert failures <= 2  # 40 * 0.05


def test_the_complexity_estimate_agrees_with_every_sign_pattern():
    losses = np.random.default_rng(0).random((4, 3, 6))
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=6)))
    exact = np.einsum("kij,rj->kir", losses, signs).max(axis=0).mean(axis=1) / 6
    estimate = bounds.estimate_complexity(losses, draws=4000, seed=2)
    # Five standard errors on each of three samples: one false alarm in 600,000 seeds, and the seed is fixed.
    assert np.all(np.abs(estimate.value - exact) <= 5.0 * estimate.standard_error)
    assert np.all(estimate.standard_error < 0.01)
    assert np.all(exact <= math.sqrt(2.0 * math.log(4) / 6))


def test_the_complexity_of_ragged_attack_sets_is_each_their_own():
    problem = family("ragged")
    estimate = bounds.estimate_complexity(problem.losses, draws=50, row_offsets=problem.row_offsets)
    first = bounds.estimate_complexity(problem.losses[:, np.newaxis, :1], draws=50)
    assert estimate.value.shape == (len(problem.row_offsets) - 1,)
    assert estimate.value[0] == first.value[0]  # the first sample has one attack and sees the same signs


@pytest.mark.parametrize("name", FAMILIES)
def test_weak_duality_holds_and_the_gap_closes(name):
    """Equation 5 and Theorem 1."""
    problem = family(name)
    result = fit_mixture(problem.losses, solver=LinearProgram(), tol=problem.tol, **problem.keywords)
    chain = bounds.duality_chain(problem.losses, result.weights, result.attack, **problem.keywords)
    game = Game.of(problem.losses, **problem.keywords)
    single = [certificates.worst_case(game, vertex) for vertex in np.eye(problem.n_classifiers)]
    slack = rounding_slack(problem.losses)
    assert chain.dual <= chain.randomised + slack
    assert chain.dual <= problem.value_high + slack
    assert problem.value_low <= chain.randomised + slack
    assert chain.randomised - chain.dual <= problem.tol * abs(chain.randomised) + slack
    assert chain.deterministic == pytest.approx(min(single), rel=0.0, abs=slack)
    assert single[chain.best_classifier] <= min(single) + slack
    assert chain.gain >= -problem.tol * abs(chain.randomised) - slack


def test_randomisation_gains_a_quarter_in_the_motivating_example():
    problem = family("motivating_example")
    result = fit_mixture(problem.losses, **problem.keywords)
    chain = bounds.duality_chain(problem.losses, result.weights, result.attack, **problem.keywords)
    assert chain.deterministic == 1.0
    assert chain.gain == pytest.approx(0.25, rel=0.0, abs=1e-6)  # the tolerance of the solve


@pytest.mark.parametrize("name", ["random_real", "random_zero_one", "signed_losses", "motivating_example"])
def test_without_perturbations_randomisation_gains_nothing(name):
    """Remark 1: at radius 0 all attacks on a sample are the sample itself."""
    problem = family(name)
    unmoved = np.repeat(problem.losses[:, :, 2:3], 6, axis=2)
    result = fit_mixture(unmoved, solver=LinearProgram(), tol=1e-9, **problem.keywords)
    chain = bounds.duality_chain(unmoved, result.weights, result.attack, **problem.keywords)
    slack = 1e-9 * abs(chain.deterministic) + rounding_slack(unmoved)
    assert chain.dual - slack <= chain.deterministic <= chain.dual + slack
    smoothed = fit_mixture(unmoved, temperature=0.1, tol=1e-6, **problem.keywords)
    assert smoothed.value == pytest.approx(chain.deterministic, rel=1e-6, abs=rounding_slack(unmoved))


class Halfplane:
    """Label 1 where <normal, x> > offset, else -1."""

    def __init__(self, normal, offset):
        self.normal, self.offset = np.asarray(normal), offset

    def predict(self, inputs):
        return np.where(inputs @ self.normal > self.offset, 1, -1)


def test_randomisation_pays_under_sampled_attacks_and_not_at_radius_zero():
    """Remark 1 and equation 5 on the points of a ball, for data like the paper's: 1 on both sides of -1."""
    rng = np.random.default_rng(4)
    labels = np.where(np.arange(60) < 30, 1, -1)
    centre = np.where(np.arange(60) < 15, 3.0, -3.0) * (labels > 0)
    inputs = rng.normal(size=(60, 2)) + centre[:, np.newaxis] * np.array([1.0, 0.0])
    classifiers = [Halfplane([side, tilt], 1.2) for side in (1.0, -1.0) for tilt in (-0.3, 0.0, 0.3)]
    gains = {}
    for radius in (0.0, 3.0):
        table = loss_table(classifiers, inputs, labels, UniformBall(Norm.L2, radius, n_attacks=40))
        result = fit_mixture(table, solver=LinearProgram(), tol=1e-9)
        chain = bounds.duality_chain(table, result.weights, result.attack)
        assert chain.dual <= chain.randomised + ROUNDING_SLACK
        assert chain.randomised <= chain.deterministic + 1e-9
        gains[radius] = chain.gain
    assert gains[0.0] == pytest.approx(0.0, abs=1e-9)  # the tolerance of the solve
    assert gains[3.0] > 0.01


@pytest.mark.parametrize("temperature", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("name", SMOOTHED)
def test_what_a_player_gains_by_deviating_is_at_most_the_gap(name, temperature):
    """Corollary 1, against every pure deviation, recomputed from the raw table."""
    problem = family(name)
    result = fit_mixture(problem.losses, temperature=temperature, tol=1e-2, **problem.keywords)
    gains = bounds.deviation_gains(
        problem.losses, result.weights, result.attack, temperature, **problem.keywords
    )
    slack = ROUNDING_SLACK * loss_scale(problem.losses) * (1.0 + 1.0 / max(temperature, 0.01))
    assert gains.classifier >= -slack
    assert gains.attacker >= -slack
    assert gains.classifier + gains.attacker <= result.gap + slack

    game = Game.of(problem.losses, **problem.keywords)
    rows = result.attack.rows(LossTable(problem.losses, **problem.keywords))
    bound = certificates.attacker_bound(game, rows, temperature)
    relative = certificates.density(game, rows)
    answers = game.rows @ (game.prior * (1.0 + relative) * game.over_rows(game.share))
    payoff = result.weights @ answers - (answers.min() - bound)
    assert payoff - answers.min() + (answers.min() - bound) <= result.gap + slack
    assert certificates.smoothed(game, result.weights, temperature) - payoff <= result.gap + slack


def test_deviation_gains_of_a_poor_pair_are_what_they_are():
    """Half-half against an attacker who always takes one side: the classifier gains 1/4, the attacker nothing."""
    problem = family("motivating_example")
    one_side = RowAttack(np.array([0, 1, 2]), np.array([0, 0, 4]), np.ones(3), 3)
    gains = bounds.deviation_gains(problem.losses, [0.5, 0.5], one_side, **problem.keywords)
    assert gains == bounds.DeviationGains(classifier=0.25, attacker=0.0)


BAD_CALLS = {
    "temperature": lambda: bounds.smoothing_error(0.0, 0.5),
    "mass": lambda: bounds.smoothing_error(0.1, 0.0),
    "slack": lambda: bounds.smoothing_error(0.1, 0.5, -1.0),
    "error": lambda: bounds.temperature_for_error(np.zeros((1, 1, 2)), 0.0),
    "weights": lambda: bounds.near_best_mass(np.zeros((2, 1, 2)), [0.5, 0.6], 0.0),
    "n_attacks": lambda: bounds.sampling_error(0.1, 2, 3, 0),
    "loss_bound": lambda: bounds.sampling_error(0.1, 2, 3, 4, loss_bound=-1.0),
    "failure_probability": lambda: bounds.sampling_error(0.1, 2, 3, 4, failure_probability=1.0),
    "draws": lambda: bounds.estimate_complexity(np.zeros((2, 1, 2)), draws=1),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_an_argument_out_of_range_is_named(name):
    with pytest.raises(ValueError, match=rf"`{name}` must .*; got "):
        BAD_CALLS[name]()

"""The independent checker: right on games worked out by hand or in many digits, and deaf to no lie."""

from dataclasses import dataclass, replace
from decimal import Decimal, localcontext

import numpy as np
import pytest

from tests import certificates
from tests.certificates import Game, assert_certificate, certificate_errors
from tests.lp_value import lp_equilibrium
from tests.problems import FAMILIES, family, random_real
from tests.tolerances import ROUNDING_SLACK, loss_scale


@dataclass(frozen=True)
class Rows:
    sample: np.ndarray
    attack: np.ndarray
    probability: np.ndarray


@dataclass(frozen=True)
class Responses:
    coefficient: np.ndarray
    weights: np.ndarray
    temperature: np.ndarray


@dataclass(frozen=True)
class Claim:
    """The attributes of a result that the checker reads."""

    weights: np.ndarray
    temperature: float
    value: float
    lower_bound: float
    worst_case_value: float
    attack: object

    @property
    def gap(self):
        return self.value - self.lower_bound


@dataclass(frozen=True)
class ClaimWithGap(Claim):
    stated_gap: float = 0.0

    @property
    def gap(self):
        return self.stated_gap


def honest(problem):
    """A true claim about the worst-case game of a problem, from its linear programme, with explicit rows."""
    game = Game.of(problem.losses, **problem.keywords)
    weights, mass = lp_equilibrium(problem.losses, problem.row_offsets, problem.sample_weight)
    sample = np.repeat(np.arange(len(game.share)), np.diff(game.offsets))
    total = np.add.reduceat(mass, game.offsets[:-1])[sample]
    uniform = 1.0 / np.diff(game.offsets)[sample]
    probability = np.where(total > 0.0, mass / np.where(total > 0.0, total, 1.0), uniform)
    attack = np.arange(len(sample)) - game.offsets[sample]
    used = probability > 0.0
    rows = Rows(sample[used], attack[used], probability[used])
    value = certificates.worst_case(game, weights)
    return Claim(weights, 0.0, value, certificates.attacker_bound(game, rows), value, rows)


def honest_smoothed(problem, temperature, points=1, seed=0):
    """A true claim, though no tight one: some mixture, and a combination of responses to some others."""
    game = Game.of(problem.losses, **problem.keywords)
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(problem.n_classifiers))
    others = np.vstack([weights, rng.dirichlet(np.ones(problem.n_classifiers), size=points - 1)])
    attack = Responses(rng.dirichlet(np.ones(points)), others, np.full(points, temperature))
    value = certificates.smoothed(game, weights, temperature)
    lower = certificates.attacker_bound(game, attack, temperature)
    return Claim(weights, temperature, value, lower, certificates.worst_case(game, weights), attack)


@pytest.mark.parametrize("name", FAMILIES)
def test_true_claims_about_every_family_pass(name):
    problem = family(name)
    claim = honest(problem)
    interval = problem.value_interval(0.0)
    assert_certificate(claim, problem.losses, tol=1e-9, value_interval=interval, **problem.keywords)


@pytest.mark.parametrize("temperature", [1e-6, 1e-2, 1.0, 1e4, 1e9])
@pytest.mark.parametrize("name", ["random_real", "random_zero_one", "ragged_weighted_prior", "with_prior"])
def test_true_claims_from_responses_pass(name, temperature):
    problem = family(name)
    for points in (1, 3):
        claim = honest_smoothed(problem, temperature, points)
        interval = problem.value_interval(temperature)
        assert_certificate(claim, problem.losses, value_interval=interval, **problem.keywords)


LIES = {
    "value": lambda c: replace(c, value=c.value - 1e-9),
    "lower_bound": lambda c: replace(c, lower_bound=c.lower_bound + 1e-9),
    "worst_case_value": lambda c: replace(c, worst_case_value=c.worst_case_value + 1e-9),
    "gap": lambda c: ClaimWithGap(**vars(c), stated_gap=c.gap - 1e-9),
    "weights sum": lambda c: replace(c, weights=c.weights * (1.0 + 1e-12)),
    "weights are not": lambda c: replace(
        c, weights=np.where(np.arange(len(c.weights)) == 0, -0.5, c.weights)
    ),
    "weights have": lambda c: replace(c, weights=c.weights[:-1]),
    "not all finite": lambda c: replace(c, weights=np.full_like(c.weights, np.nan)),
    "value nan": lambda c: replace(c, value=float("nan")),
    "lower_bound nan": lambda c: replace(c, lower_bound=float("nan")),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_a_false_number_is_found(lie, temperature):
    problem = family("random_real")
    claim = honest(problem) if temperature == 0.0 else honest_smoothed(problem, temperature)
    errors = certificate_errors(LIES[lie](claim), problem.losses)
    assert any(lie.removesuffix(" nan") in error for error in errors), errors


STRATEGY_LIES = {
    "do not sum to 1": lambda a: replace(a, probability=a.probability * (1.0 + 1e-12)),
    "negative": lambda a: replace(
        a, probability=np.where(np.arange(len(a.sample)) == 0, -0.1, a.probability)
    ),
    "not have": lambda a: replace(a, attack=a.attack + 8),
    "of 40": lambda a: replace(a, sample=a.sample + 1),
    "sum to 1": lambda a: replace(a, sample=a.sample[1:], attack=a.attack[1:], probability=a.probability[1:]),
}


@pytest.mark.parametrize("lie", STRATEGY_LIES)
def test_a_strategy_that_is_none_is_found(lie):
    problem = family("random_real")
    claim = honest(problem)
    errors = certificate_errors(replace(claim, attack=STRATEGY_LIES[lie](claim.attack)), problem.losses)
    assert any(lie in error for error in errors), errors


@pytest.mark.parametrize("coefficient", [(0.5, 0.5 + 1e-12), (1.5, -0.5)])
def test_coefficients_that_are_none_are_found(coefficient):
    problem = family("random_real")
    claim = honest_smoothed(problem, 0.1, points=2)
    spoiled = replace(claim.attack, coefficient=np.array(coefficient))
    assert certificate_errors(replace(claim, attack=spoiled), problem.losses)


def test_another_strategy_than_the_one_behind_the_bound_is_found():
    problem = family("random_real")
    claim = honest(problem)
    first = np.unique(claim.attack.sample, return_index=True)[1]
    pure = Rows(claim.attack.sample[first], np.zeros(len(first), dtype=int), np.ones(len(first)))
    assert any(
        "lower_bound" in error for error in certificate_errors(replace(claim, attack=pure), problem.losses)
    )
    spoiled = honest_smoothed(problem, 0.1, points=2)
    wrong = replace(spoiled.attack, temperature=np.array([1e-3, 1e-3]))
    assert any(
        "lower" in error for error in certificate_errors(replace(spoiled, attack=wrong), problem.losses)
    )


def test_a_claim_about_another_table_is_found():
    claim = honest(random_real(seed=0))
    assert certificate_errors(claim, random_real(seed=1).losses)


@pytest.mark.parametrize(
    ("name", "forgotten"), [("weighted", "sample_weight"), ("with_prior", "attack_prior")]
)
def test_a_claim_that_forgot_what_belongs_to_the_table_is_found(name, forgotten):
    problem = family(name)
    claim = honest_smoothed(replace(problem, **{forgotten: None}), 0.1)
    errors = certificate_errors(claim, problem.losses, **problem.keywords)
    assert any("value" in error for error in errors)


def test_a_worst_case_claimed_as_smoothed_is_found():
    problem = family("random_real")
    claim = honest(problem)
    errors = certificate_errors(replace(claim, temperature=0.05), problem.losses)
    assert any("value" in error for error in errors)


def test_a_gap_above_its_tolerance_and_a_value_out_of_its_interval_are_found():
    problem = family("random_real")
    claim = honest_smoothed(problem, 0.1)
    assert any("misses tol" in error for error in certificate_errors(claim, problem.losses, tol=1e-9))
    assert not certificate_errors(claim, problem.losses, tol=1.0)
    assert not certificate_errors(claim, problem.losses, tol=0.0, atol=1.0)
    above = (claim.value + 1e-9, claim.value + 1.0)
    assert any(
        "is below" in error for error in certificate_errors(claim, problem.losses, value_interval=above)
    )
    below = (claim.lower_bound - 1.0, claim.lower_bound - 1e-9)
    assert any(
        "is above" in error for error in certificate_errors(claim, problem.losses, value_interval=below)
    )


def test_assert_certificate_fails_with_every_contradiction():
    problem = family("random_real")
    claim = replace(honest(problem), worst_case_value=0.0, lower_bound=1.0)
    with pytest.raises(AssertionError, match=r"(?s)worst_case_value.*lower_bound"):
        assert_certificate(claim, problem.losses)


def in_many_digits(game, weights, temperature):
    """F_t with 60 digits."""
    with localcontext() as context:
        context.prec = 60
        level, total = Decimal(float(temperature)), Decimal(0)
        exact = [[Decimal(float(loss)) for loss in plane] for plane in game.rows]
        for i, share in enumerate(game.share):
            rows = range(game.offsets[i], game.offsets[i + 1])
            prior = [Decimal(float(game.prior[r])) for r in rows]
            scores = [
                sum(Decimal(float(w)) * plane[r] for w, plane in zip(weights, exact, strict=True))
                for r in rows
            ]
            top = max(scores)
            mass = sum(u * ((s - top) / level).exp() for u, s in zip(prior, scores, strict=True)) / sum(prior)
            total += Decimal(float(share)) * (top + level * mass.ln())
        return float(total)


@pytest.mark.parametrize("temperature", [1e-9, 1e-4, 1e-2, 0.3, 1.0, 3.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("name", ["random_real", "signed_losses", "ragged_weighted_prior"])
def test_the_smoothed_value_is_right_to_rounding_at_every_temperature(name, temperature):
    problem = family(name)
    game = Game.of(problem.losses, **problem.keywords)
    weights = np.random.default_rng(1).dirichlet(np.ones(problem.n_classifiers))
    error = certificates.smoothed(game, weights, temperature) - in_many_digits(game, weights, temperature)
    assert abs(error) <= ROUNDING_SLACK * loss_scale(problem.losses)


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 1.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("name", ["random_real", "signed_losses", "ragged_weighted_prior"])
def test_one_response_proves_exactly_the_frank_wolfe_gap(name, temperature):
    """F_t(w) - D_t(q) = <w, g> - min_k g_k, with q the softmax at w and g the gradient there."""
    problem = family(name)
    game = Game.of(problem.losses, **problem.keywords)
    claim = honest_smoothed(problem, temperature)
    relative = certificates.density(game, claim.attack)
    gradient = game.rows @ (game.prior * (1.0 + relative) * game.over_rows(game.share))
    scale = loss_scale(problem.losses)
    # The response's rounding (a relative eps * scale / temperature in each probability) enters both sides.
    slack = ROUNDING_SLACK * scale * (1.0 + scale / temperature)
    assert claim.gap == pytest.approx(claim.weights @ gradient - gradient.min(), rel=0.0, abs=slack)


def test_a_response_at_temperature_zero_is_the_first_best_attack():
    losses = np.array([[[0.0, 1.0, 1.0], [0.5, 0.5, 0.2]]])
    game = Game.of(losses)
    pure = certificates.response(game, np.ones(1), 0.0)
    np.testing.assert_allclose(game.prior * (1.0 + pure), [0, 1, 0, 1, 0, 0], atol=1e-16)


def test_rows_written_out_stand_in_for_responses():
    """Responses among tied attacks hang on the last bit; their rows prove the bound instead."""
    problem = family("matching_pennies_3")
    claim = honest(problem)
    tied = Responses(np.ones(1), np.full((1, 3), 1.0 / 3.0), np.zeros(1))
    assert any("lower" in e for e in certificate_errors(replace(claim, attack=tied), problem.losses))
    assert not certificate_errors(replace(claim, attack=tied), problem.losses, rows=claim.attack)


def test_the_motivating_example_by_hand():
    problem = family("motivating_example")
    game = Game.of(problem.losses, **problem.keywords)
    assert certificates.worst_case(game, [0.5, 0.5]) == 0.75
    assert certificates.worst_case(game, [1.0, 0.0]) == 1.0
    coin = Rows(np.array([0, 0, 1, 2]), np.array([0, 4, 0, 4]), np.array([0.5, 0.5, 1.0, 1.0]))
    assert certificates.attacker_bound(game, coin) == 0.75
    one_side = Rows(np.array([0, 1, 2]), np.array([0, 0, 4]), np.ones(3))
    assert certificates.attacker_bound(game, one_side) == 0.5
    # The coin keeps 2 of 5 attacks equally, the others 1 of 5: 1/2 log(5/2) + 1/2 log 5 of divergence.
    cost = 0.5 * np.log(2.5) + 0.5 * np.log(5.0)
    assert certificates.attacker_bound(game, coin, 0.1) == pytest.approx(0.75 - 0.1 * cost, rel=1e-15)

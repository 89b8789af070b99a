"""Algorithm 1: its steps, its guarantee for exact and inexact oracles, and the oracle protocol."""

import math

import numpy as np
import pytest

from mixsolve import Fista, LinearProgram, OracleAnswer, OracleSubgradient, Status, fit_mixture
from mixsolve.simplex import project_to_simplex
from tests.certificates import assert_certificate
from tests.problems import family
from tests.tolerances import rounding_slack

EXACT = ["random_real", "random_zero_one", "signed_losses", "weighted", "ragged", "matching_pennies_5"]


def mean_losses(losses, attack):
    """(n_classifiers,) under one attack per sample."""
    return losses[:, np.arange(losses.shape[1]), attack].mean(axis=1)


def worst_attack(losses, weights):
    return np.einsum("k,kij->ij", weights, losses).argmax(axis=1)


def test_its_iterates_are_those_of_algorithm_1():
    problem, iterations = family("random_real"), 25
    losses = problem.losses
    result = fit_mixture(losses, solver=OracleSubgradient(iterations, loss_bound=1.0), tol=0)
    step = 2 / (1.0 * math.sqrt(len(losses) * iterations))
    w = np.full(len(losses), 1 / len(losses))
    iterates, answers = [], []
    for entry in result.history[:iterations]:
        np.testing.assert_allclose(entry.iterate, w, rtol=0, atol=1e-14)  # the same steps, other rounding
        iterates.append(w)
        answers.append(mean_losses(losses, worst_attack(losses, w)))
        w = project_to_simplex(w - step * answers[-1])
    np.testing.assert_allclose(result.statistics.average_weights, np.mean(iterates, axis=0), atol=1e-14)
    np.testing.assert_allclose(result.statistics.average_answer, np.mean(answers, axis=0), atol=1e-14)
    np.testing.assert_allclose(result.history[iterations].iterate, np.mean(iterates, axis=0), atol=1e-14)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("iterations", [1, 4, 30, 300])
def test_the_guarantee_of_proposition_6(name, iterations):
    """min over w_0..w_{T-1} of F_0 - V <= 2 M sqrt(L) / sqrt(T); the mean pair meets it as well."""
    problem = family(name)
    bound = float(np.ptp(problem.losses))
    result = fit_mixture(problem.losses, solver=OracleSubgradient(iterations), tol=0, **problem.keywords)
    allowed = 2 * bound * math.sqrt(problem.n_classifiers / iterations) + rounding_slack(problem.losses)
    values = [entry.iterate_value for entry in result.history if entry.iterate is not None]
    assert min(values[:iterations]) - problem.value_low <= allowed
    assert result.gap <= allowed
    assert min(result.statistics.average_answer) <= result.lower_bound + rounding_slack(problem.losses)
    assert_certificate(result, problem.losses, **problem.keywords)


def lazy_oracle(losses, delta, calls):
    """Best responses, then spoiled: samples switch to other attacks while no mean loss moves by more than delta."""

    def oracle(weights):
        calls.append(weights)
        best = worst_attack(losses, weights)
        attack, target = best.copy(), mean_losses(losses, best)
        for sample, other in enumerate(
            np.random.default_rng(len(calls)).integers(0, losses.shape[2], best.size)
        ):
            attack[sample], before = other, attack[sample]
            if np.abs(mean_losses(losses, attack) - target).max() > delta:
                attack[sample] = before
        chosen = losses[:, np.arange(best.size), attack]
        return OracleAnswer(chosen[:, :, None], delta=delta)

    return oracle


@pytest.mark.parametrize("delta", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("iterations", [10, 200])
def test_the_guarantee_of_proposition_6_for_an_inexact_oracle(delta, iterations):
    """2 delta more; `value` includes delta, so that it stays an upper bound."""
    problem, calls = family("random_real"), []
    solver = OracleSubgradient(iterations, loss_bound=1.0)
    start = np.full(problem.n_classifiers, 1 / problem.n_classifiers)
    result = fit_mixture(lazy_oracle(problem.losses, delta, calls), solver=solver, start=start, tol=0)
    allowed = 2 * delta + 2 * math.sqrt(problem.n_classifiers / iterations)
    true_values = [float(mean_losses(problem.losses, worst_attack(problem.losses, w)) @ w) for w in calls]
    assert min(true_values[:iterations]) - problem.value_low <= allowed
    assert result.value >= problem.value_low - rounding_slack(problem.losses)
    assert result.lower_bound <= problem.value_high + rounding_slack(problem.losses)
    assert len(calls) == result.passes == iterations + 1  # T iterates and their mean
    assert result.status is Status.ITERATION_LIMIT
    if delta == 0:
        table = fit_mixture(problem.losses, solver=solver, tol=0)
        assert abs(table.value - result.value) <= rounding_slack(problem.losses)
        assert abs(table.lower_bound - result.lower_bound) <= rounding_slack(problem.losses)


def test_an_oracle_of_unknown_accuracy_proves_a_lower_bound_only():
    problem = family("random_real")

    def oracle(weights):
        return OracleAnswer(problem.losses, points="kept for the caller")

    oracle.n_classifiers = problem.n_classifiers
    result = fit_mixture(oracle, solver=OracleSubgradient(100, loss_bound=1.0))
    assert result.value == math.inf
    assert (
        problem.value_low - 0.3 <= result.lower_bound <= problem.value_high + rounding_slack(problem.losses)
    )
    assert result.attack is None
    assert result.weights.max() < 1  # the best by the oracle's own account


def test_an_oracle_may_offer_several_attacks_and_samples_may_weigh_differently():
    problem = family("weighted")

    def oracle(weights):
        return OracleAnswer(problem.losses, samples=np.arange(problem.losses.shape[1]), delta=0.0)

    start = np.full(problem.n_classifiers, 1 / problem.n_classifiers)
    solver = OracleSubgradient(50, loss_bound=1.0)
    by_oracle = fit_mixture(oracle, solver=solver, start=start, sample_weight=problem.sample_weight, tol=0)
    by_table = fit_mixture(problem.losses, solver=solver, sample_weight=problem.sample_weight, tol=0)
    np.testing.assert_allclose(
        by_oracle.weights, by_table.weights, atol=1e-12
    )  # the same steps, other rounding
    assert abs(by_oracle.value - by_table.value) <= rounding_slack(problem.losses)


def test_the_loss_bound_is_found_in_one_read():
    problem = family("signed_losses")
    result = fit_mixture(problem.losses, solver=OracleSubgradient(5), tol=0)
    told = fit_mixture(problem.losses, solver=OracleSubgradient(5, float(np.ptp(problem.losses))), tol=0)
    assert result.passes == told.passes + 1
    np.testing.assert_array_equal(result.weights, told.weights)


ANSWERS = {
    "no answer": (lambda losses: losses, TypeError, "must return an OracleAnswer; got ndarray"),
    "two dimensions": (
        lambda losses: OracleAnswer(losses[0]),
        ValueError,
        r"shape \(5, samples, attacks\); got",
    ),
    "other classifiers": (lambda losses: OracleAnswer(losses[:2]), ValueError, r"got shape \(2, 40, 8\)"),
    "nan": (lambda losses: OracleAnswer(losses * np.nan), ValueError, r"finite; got nan at \(0, 0, 0\)"),
    "some samples": (
        lambda losses: OracleAnswer(losses[:, :3], samples=[0, 1, 3]),
        ValueError,
        "all samples in order; got",
    ),
    "negative delta": (lambda losses: OracleAnswer(losses, delta=-1.0), ValueError, ">= 0 or None; got -1.0"),
    "strings": (lambda losses: OracleAnswer([["a"]]), TypeError, "real numbers; got"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_a_wrong_answer_is_refused(case):
    spoil, error, message = ANSWERS[case]
    losses = family("random_real").losses
    with pytest.raises(error, match=message):
        fit_mixture(
            lambda weights: spoil(losses), solver=OracleSubgradient(5, loss_bound=1.0), start=np.full(5, 0.2)
        )


def test_a_change_of_the_number_of_samples_is_refused():
    losses, calls = family("random_real").losses, []

    def oracle(weights):
        calls.append(weights)
        return OracleAnswer(losses[:, len(calls) :], delta=0.0)

    with pytest.raises(ValueError, match="must have 39 samples like the first answer; got 38"):
        fit_mixture(oracle, solver=OracleSubgradient(5, loss_bound=1.0), start=np.full(5, 0.2))


def test_what_an_oracle_needs_is_said():
    def oracle(weights):
        raise AssertionError("not asked")

    start = [0.5, 0.5]
    bounded = OracleSubgradient(5, loss_bound=1.0)
    with pytest.raises(ValueError, match="`start` must be given when `losses` is an oracle"):
        fit_mixture(oracle, solver=bounded)
    with pytest.raises(ValueError, match="`loss_bound` must be given"):
        fit_mixture(oracle, start=start, solver=OracleSubgradient(5))
    for solver in (Fista(), LinearProgram()):
        with pytest.raises(ValueError, match="`solver` must be OracleSubgradient"):
            fit_mixture(oracle, start=start, solver=solver)
    with pytest.raises(ValueError, match="`row_offsets` must be None when `losses` is an oracle"):
        fit_mixture(oracle, start=start, solver=bounded, row_offsets=[0, 1])


def test_it_is_for_temperature_0():
    with pytest.raises(ValueError, match=r"`temperature` must be 0 for OracleSubgradient; got 0.1"):
        fit_mixture(np.ones((2, 2, 2)), temperature=0.1, solver=OracleSubgradient(5))

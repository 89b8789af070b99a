"""The families of games: each has the value it claims, and the property it is named for."""

import numpy as np
import pytest

from tests import problems
from tests.lp_value import lp_value_interval
from tests.problems import FAMILIES, family
from tests.tolerances import CLOSED_FORM, LP_INTERVAL, loss_scale


def worst(losses, weights, share=None):
    per_sample = np.tensordot(weights, losses, axes=1).max(axis=-1)
    return per_sample.mean() if share is None else share @ per_sample


@pytest.mark.parametrize("name", FAMILIES)
def test_the_value_lies_in_its_interval_by_the_linear_programme(name):
    problem = family(name)
    low, high = lp_value_interval(problem.losses, problem.row_offsets, problem.sample_weight)
    slack = CLOSED_FORM * loss_scale(problem.losses)
    assert problem.value_low <= high + slack
    assert problem.value_high >= low - slack
    assert high - low <= LP_INTERVAL * loss_scale(problem.losses)
    assert problem.value_high - problem.value_low <= LP_INTERVAL * loss_scale(problem.losses)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_finite_and_consistent_and_the_same_each_time(name):
    problem, again = family(name), FAMILIES[name]()
    assert np.isfinite(problem.losses).all()
    np.testing.assert_array_equal(problem.losses, again.losses)
    assert problem.keywords.keys() == again.keywords.keys()
    for key, given in problem.keywords.items():
        np.testing.assert_array_equal(given, again.keywords[key])
    assert not problem.losses.flags.writeable
    if problem.row_offsets is None:
        assert problem.losses.ndim == 3
    else:
        assert problem.row_offsets[-1] == problem.losses.shape[1]
        assert np.diff(problem.row_offsets).min() >= 1


@pytest.mark.parametrize("name", [name for name in FAMILIES if "prior" in name])
def test_priors_are_positive_and_sum_to_one(name):
    problem = family(name)
    offsets = problem.row_offsets
    if offsets is None:
        offsets = np.arange(problem.losses.shape[1] + 1) * problem.losses.shape[2]
    mass = np.add.reduceat(problem.attack_prior.ravel(), offsets[:-1])
    assert problem.attack_prior.min() > 0.0
    np.testing.assert_allclose(mass, 1.0, rtol=1e-12)  # far inside the 1e-6 that a prior may be off


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 10.0])
def test_the_smoothed_interval_lies_below_the_worst_case(temperature):
    for name in FAMILIES:
        low, high = family(name).value_interval(temperature)
        assert low <= high <= family(name).value_high + CLOSED_FORM * loss_scale(family(name).losses)


@pytest.mark.parametrize("seed", range(5))
def test_the_linear_programme_agrees_with_every_breakpoint_of_two_classifiers(seed):
    """For L = 2 the worst case is piecewise linear in one number: its best breakpoint is the value."""
    losses = np.random.default_rng(seed).normal(size=(2, 12, 4))
    first, second = losses[0][:, :, np.newaxis], losses[1][:, :, np.newaxis]
    slope = (first - second) - np.swapaxes(first - second, 1, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = (np.swapaxes(second, 1, 2) - second) / slope
    candidates = np.concatenate([crossing[(crossing >= 0.0) & (crossing <= 1.0)], [0.0, 1.0]])
    value = min(worst(losses, np.array([w, 1.0 - w])) for w in candidates)
    low, high = lp_value_interval(losses)
    slack = CLOSED_FORM * loss_scale(losses)
    assert low - slack <= value <= high + LP_INTERVAL


@pytest.mark.parametrize("size", range(2, 9))
def test_matching_pennies_costs_the_largest_weight(size):
    losses = problems.matching_pennies(size).losses
    weights = np.random.default_rng(size).dirichlet(np.ones(size))
    assert worst(losses, weights) == pytest.approx(
        weights.max(), rel=1e-14
    )  # two orders of one sum of `size` terms


def test_the_motivating_example_has_the_risks_of_the_paper():
    problem = problems.motivating_example()
    unmoved = problem.losses[:, :, 2]
    assert tuple(unmoved @ problem.sample_weight) == problem.facts["standard risks"]
    for classifier in range(2):
        assert worst(problem.losses, np.eye(2)[classifier], problem.sample_weight) == 1.0
    assert worst(problem.losses, np.array([0.5, 0.5]), problem.sample_weight) == 0.75


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_an_attacker_of_the_example_who_always_takes_one_side_can_be_answered(side):
    """Moving 0 to the same side every time, and +-1 to 0, leaves one classifier with risk 1/2."""
    moves = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    losses, share = problems.motivating_example(tuple(moves)).losses, np.array([0.5, 0.25, 0.25])
    answer = sum(
        share[sample] * losses[:, sample, np.flatnonzero(moves == move)[0]]
        for sample, move in enumerate([side, -1.0, 1.0])
    )
    assert sorted(answer) == [0.5, 1.0]


def test_two_classifiers_are_best_at_an_end_or_in_the_middle_and_both_occur():
    best = {int(np.argmin(problems.two_zero_one(8, 2, seed).facts["worst"])) for seed in range(20)}
    assert 1 in best
    assert best & {0, 2}


def test_duplicates_are_exact():
    losses = problems.duplicated_classifiers(4, copies=3).losses
    np.testing.assert_array_equal(losses[:4], losses[4:8])
    np.testing.assert_array_equal(losses[:4], losses[8:])


def test_the_dominated_classifier_is_worse_everywhere():
    problem = problems.dominated_classifier(margin=0.1)
    others = np.delete(problem.losses, problem.facts["dominated"], axis=0)
    margin = problem.losses[problem.facts["dominated"]] - others.max(axis=0)
    np.testing.assert_allclose(
        margin, problem.facts["margin"], rtol=1e-12
    )  # one subtraction of numbers near 1


def test_near_duplicates_have_exact_ties_and_near_ones():
    losses = problems.near_duplicates(6, 30, 8).losses
    np.testing.assert_array_equal(losses[:, :, 4:], losses[:, :, :4])
    difference = np.abs(losses[:3] - losses[3:])
    assert 0.0 < difference.max() <= 1e-7 * (1.0 + 1e-6)


def test_ragged_has_sets_of_one_and_of_many():
    length = np.diff(problems.ragged(longest=12).row_offsets)
    assert length.min() == 1
    assert length.max() == 12


def test_weighted_has_a_weight_of_zero_and_no_sum_of_one():
    weight = problems.weighted().sample_weight
    assert weight.min() == 0.0
    assert abs(weight.sum() - 1.0) > 0.1


@pytest.mark.parametrize("name", ["random_zero_one", "two_zero_one", "motivating_example"])
def test_zero_one_losses_are_zero_and_one(name):
    assert set(np.unique(family(name).losses)) == {0.0, 1.0}

"""The matrix game between known attacks and the classifiers."""

import numpy as np
import pytest

from mixsolve.matrix_game import LARGEST_PROGRAMME, solve_matrix_game


def both_sides(payoff, found):
    """What each player is sure of: the attacker's least, the mixture's most."""
    attacker = (found.coefficient @ payoff[found.attack]).min()
    return attacker, (payoff @ found.mixture).max()


@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (2, 2), (30, 5), (5, 30), (200, 60)])
@pytest.mark.parametrize("seed", range(3))
def test_both_strategies_are_optimal(shape, seed):
    payoff = np.random.default_rng(seed).normal(size=shape)
    found = solve_matrix_game(payoff)
    attacker, classifiers = both_sides(payoff, found)
    assert found.value == attacker
    assert abs(classifiers - attacker) <= 1e-9 * np.ptp(payoff)  # tolerance of the linear programme: 1e-10
    assert found.attack.size <= shape[1]
    assert found.coefficient.sum() == pytest.approx(1, abs=1e-15)
    assert found.mixture.sum() == pytest.approx(1, abs=1e-14)


def test_more_attacks_than_one_programme_holds():
    """All attacks count, also those that the first programme leaves out."""
    rng = np.random.default_rng(0)
    payoff = rng.normal(size=(5 * LARGEST_PROGRAMME, 6))
    payoff[:3] += 2.0  # decisive, and neither recent nor known
    found = solve_matrix_game(payoff, np.array([7, 8]))
    attacker, classifiers = both_sides(payoff, found)
    assert abs(classifiers - attacker) <= 1e-9 * np.ptp(payoff)
    assert set(found.attack) & {0, 1, 2}


@pytest.mark.parametrize("power", [-300, -1, 3, 300])
def test_a_power_of_two_changes_no_bit(power):
    payoff = np.random.default_rng(0).normal(size=(20, 6))
    found, scaled = solve_matrix_game(payoff), solve_matrix_game(payoff * 2.0**power)
    np.testing.assert_array_equal(found.coefficient, scaled.coefficient)
    np.testing.assert_array_equal(found.mixture, scaled.mixture)
    assert scaled.value == found.value * 2.0**power


def test_an_attack_that_is_best_alone_is_never_missed():
    """By less than the tolerance of a linear programme, which would take either."""
    payoff = np.array([[0.3, -5e-10, 0.4], [0.3, 0.0, 0.4], [0.3, -3e-10, 0.5]])
    found = solve_matrix_game(payoff)
    assert found.value == 0.0
    assert both_sides(payoff, found)[0] == 0.0


def test_equal_payoffs():
    found = solve_matrix_game(np.full((4, 3), 2.5))
    assert found.value == 2.5
    assert found.mixture.sum() == pytest.approx(1)


def test_a_duplicated_attack_changes_nothing():
    payoff = np.random.default_rng(0).normal(size=(10, 4))
    once, often = solve_matrix_game(payoff), solve_matrix_game(np.tile(payoff, (5, 1)))
    assert often.value == pytest.approx(once.value, abs=1e-10)

"""ARC and the lattice climber on linear members, beside the exact attacker of `mixsolve.attacks`."""

import numpy as np
import pytest
import torch

from mixsolve.neural import ARC, LatticeClimber
from tests.neural.linear import INFINITE, LinearGame

ENOUGH = 0.99
"""Share of the samples on which an attack has to be as good as the exact one."""

SCENES = [
    ("l2", 2, 0.6, INFINITE),
    ("l2", 10, 0.6, INFINITE),
    ("linf", 2, 0.4, INFINITE),
    ("linf", 10, 0.2, INFINITE),
    ("linf", 3, 0.3, (0.0, 1.0)),
]
NAMES = [f"{norm}-{dimension}{'-boxed' if bounds[0] == 0 else ''}" for norm, dimension, _, bounds in SCENES]


def games(scene, n_members):
    norm, dimension, radius, bounds = scene
    size = (
        100 if (norm, dimension) == ("linf", 10) else 250
    )  # the exact attacker solves linear programmes there
    return [LinearGame(seed, n_members, size, dimension, norm, radius, bounds) for seed in range(4)]


@pytest.mark.parametrize("scene", SCENES, ids=NAMES)
@pytest.mark.parametrize("attack", [ARC(), LatticeClimber()], ids=["ARC", "climber"])
def test_two_members_meet_the_exact_best_response(attack, scene):
    equal, attackable = [], []
    for game in games(scene, 2):
        assert game.exact.is_exact
        x, y = game.tensors
        best = game.best_fraction()
        found = game.mixture.fraction(attack(game.mixture, x, y, game.budget), y).numpy()
        assert np.all(found >= best - 1e-12), "nothing beats the exact attacker"
        equal.append(np.abs(found - best) < 1e-9)
        attackable.append(best < game.mixture.fraction(x, y).numpy())
    assert np.mean(equal) >= ENOUGH
    assert np.mean(attackable) > 0.3, "there is something to find"


@pytest.mark.parametrize("scene", SCENES, ids=NAMES)
def test_the_climber_is_effective_and_maximal(scene):
    """Of four members, the set fooled is one of the maximal sets that the ball reaches."""
    effective, maximal, proper = [], [], []
    for game in games(scene, 4):
        x, y = game.tensors
        points = LatticeClimber()(game.mixture, x, y, game.budget)
        fooled = ~game.mixture.right(points, y).numpy()
        table = game.exact.table()
        for i in range(table.n_samples):
            sets = table.sample_losses(i).T.astype(bool)
            reachable = sets.any()
            effective.append(fooled[:, i].any() == reachable)
            maximal.append((sets == fooled[:, i]).all(axis=1).any())
            proper.append(reachable and len(sets) > 1)
    assert np.mean(effective) >= ENOUGH
    assert np.mean(maximal) >= 0.98  # of four members it takes three steps, each as good as ENOUGH
    assert np.mean(proper) > 0.05, "some balls reach several maximal sets"


def test_the_climber_lets_go_of_nobody():
    """Begun at a point that fools one member, it ends at one that fools it still."""
    game = LinearGame(5, 3, 300, 6, "l2", 0.6)
    x, y = game.tensors
    start = game.budget.project(torch.from_numpy(game.x + 0.2 * np.sign(game.normals[0])), x)
    before = ~game.mixture.right(start, y)
    after = ~game.mixture.right(LatticeClimber()(game.mixture, x, y, game.budget, start=start), y)
    clean = ~game.mixture.right(x, y)
    improved = game.mixture.weights @ before.double() > game.mixture.weights @ clean.double()
    assert improved.any()
    assert (after | ~before)[:, improved].all()

"""The level bundle method on its own: the projection, and games solved by nothing else."""

from dataclasses import dataclass

import numpy as np
import pytest

from mixsolve import Status, fit_mixture
from mixsolve.solvers.bundle import level_bundle, project_to_level
from tests.certificates import assert_certificate
from tests.problems import family


@dataclass(frozen=True)
class LevelBundle:
    """Nothing but the fallback of RowGeneration."""

    def check(self, source, temperature):
        pass

    def iterate(self, problem):
        return (yield from level_bundle(problem))


@pytest.mark.parametrize("seed", range(30))
def test_the_projection_is_the_nearest_point_of_the_level_set(seed):
    """The variational inequality of a projection: <z - p, p - x> <= 0 for every feasible z, here the best known."""
    rng = np.random.default_rng(seed)
    n, n_cuts = int(rng.integers(2, 8)), int(rng.integers(1, 6))
    point, cuts = rng.dirichlet(np.ones(n)), rng.random((n_cuts, n))
    feasible = rng.dirichlet(np.ones(n), size=2000)
    worst = (feasible @ cuts.T).max(axis=1)
    level = float(np.quantile(worst, 0.2))
    found = project_to_level(point, cuts, level)
    assert abs(found.sum() - 1) <= 1e-15
    assert found.min() >= 0
    assert (cuts @ found).max() <= level + 1e-12
    inside = feasible[worst <= level]
    assert ((inside - found) @ (point - found)).max() <= 1e-10
    assert np.linalg.norm(found - point) <= np.linalg.norm(inside - point, axis=1).min() + 1e-12


def test_an_empty_level_set_is_told():
    assert project_to_level(np.array([0.5, 0.5]), np.array([[1.0, 2.0]]), 0.5) is None


def test_a_point_in_the_level_set_stays():
    point = np.array([0.25, 0.75])
    np.testing.assert_array_equal(project_to_level(point, np.array([[1.0, 2.0]]), 1.9), point)


NAMES = [
    "random_real",
    "random_zero_one",
    "near_duplicates",
    "ragged",
    "weighted",
    "matching_pennies_5",
    "single_sample",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [2.0**-20, 1.0])
def test_it_solves_games_alone(name, scale):
    problem = family(name)
    losses = problem.losses * scale
    result = fit_mixture(losses, solver=LevelBundle(), tol=1e-6, **problem.keywords)
    assert result.status is Status.OPTIMAL
    assert_certificate(result, losses, tol=1e-6, **problem.keywords)

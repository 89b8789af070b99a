"""Uniform samples of balls, compared with points of a cube that happen to fall into the body."""

import numpy as np
import pytest
from scipy.stats import ks_2samp, kstest

from mixsolve.attacks import Norm, sample_ball, sample_ball_in_box

NORMS = list(Norm)
# Seeds are fixed, so a test passes or fails for good; each p-value of a correct sampler would be below this
# once in 10,000.
SMALLEST_P = 1e-4


def length(norm, points):
    order = {Norm.L1: 1, Norm.L2: 2, Norm.LINF: np.inf}[norm]
    return np.linalg.norm(points, ord=order, axis=-1)


def points_of_cube_in_body(norm, low, high, rng):
    """Uniform on the unit ball and the box by plain rejection: slow, and obviously right."""
    cube = rng.uniform(low, high, size=(200_000, len(low)))
    return cube[length(norm, cube) <= 1.0]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dimension", [1, 2, 3, 50])
def test_length_of_a_uniform_point_has_the_distribution_of_the_ball(norm, dimension):
    points = sample_ball(norm, 2.5, dimension, 20_000, np.random.default_rng(1))
    assert points.shape == (20_000, dimension)
    # The share of the ball within a fraction r of the radius is r**dimension, in every norm.
    share = (length(norm, points) / 2.5) ** dimension
    assert kstest(share, "uniform").pvalue > SMALLEST_P


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_ball_matches_rejection_from_the_cube(norm, dimension):
    rng = np.random.default_rng(2)
    reference = points_of_cube_in_body(norm, -np.ones(dimension), np.ones(dimension), rng)
    points = sample_ball(norm, 1.0, dimension, 20_000, rng)
    for direction in [*np.eye(dimension), np.ones(dimension), rng.standard_normal(dimension)]:
        assert ks_2samp(points @ direction, reference @ direction).pvalue > SMALLEST_P


BOXES = {
    "one side tight": ([-0.1, -2.0, -2.0], [2.0, 2.0, 2.0]),
    "corner": ([0.0, 0.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]),
    "slab": ([-0.05, -0.9, -0.3], [0.05, 0.4, 2.0]),
    "box inside the ball": ([-0.2, -0.1], [0.2, 0.1]),
    "one coordinate": ([-0.3], [2.0]),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("box", BOXES)
def test_ball_cut_by_a_box_matches_rejection_from_the_cube(norm, box):
    low, high = (np.array(side) for side in BOXES[box])
    rng = np.random.default_rng(3)
    reference = points_of_cube_in_body(norm, np.maximum(low, -1), np.minimum(high, 1), rng)
    points = sample_ball_in_box(norm, 1.0, low, high, 20_000, rng)
    assert points.shape == (20_000, len(low))
    assert np.all((points >= low) & (points <= high))
    assert length(norm, points).max() <= 1 + 1e-15
    for direction in [*np.eye(len(low)), np.ones(len(low)), rng.standard_normal(len(low))]:
        assert ks_2samp(points @ direction, reference @ direction).pvalue > SMALLEST_P
    assert ks_2samp(length(norm, points), length(norm, reference)).pvalue > SMALLEST_P


@pytest.mark.parametrize("norm", NORMS)
def test_a_corner_in_high_dimension_is_the_folded_ball(norm):
    """There the cut ball is one orthant: the whole ball, folded. Plain rejection would accept 2**-200."""
    rng = np.random.default_rng(4)
    points = sample_ball_in_box(norm, 3.0, np.zeros(200), np.full(200, 10.0), 2_000, rng)
    folded = np.abs(sample_ball(norm, 3.0, 200, 2_000, rng))
    for statistic in (
        lambda z: z[:, 0],
        lambda z: z.max(axis=1),
        lambda z: length(norm, z),
        lambda z: z.sum(axis=1),
    ):
        assert ks_2samp(statistic(points), statistic(folded)).pvalue > SMALLEST_P


@pytest.mark.parametrize("norm", NORMS)
def test_a_fixed_coordinate_stays_and_the_others_fill_their_ball(norm):
    rng = np.random.default_rng(5)
    low, high = np.array([-1.0, 0.0, -0.2]), np.array([1.0, 0.0, 0.5])
    points = sample_ball_in_box(norm, 1.0, low, high, 20_000, rng)
    assert np.all(points[:, 1] == 0.0)
    reference = points_of_cube_in_body(norm, low[[0, 2]], high[[0, 2]], rng)
    assert ks_2samp(points[:, 2], reference[:, 1]).pvalue > SMALLEST_P


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("radius", [1e-200, 1e200])
def test_extreme_radii_keep_their_scale(norm, radius):
    box = np.array([0.1, 2.0]) * radius
    points = sample_ball_in_box(norm, radius, -box, box, 1_000, np.random.default_rng(6))
    assert np.abs(points[:, 0]).max() > 0.09 * radius
    assert np.abs(points[:, 1]).max() > 0.9 * radius
    assert length(norm, points / radius).max() <= 1 + 1e-15


@pytest.mark.parametrize("norm", NORMS)
def test_radius_zero_gives_the_centre(norm):
    points = sample_ball_in_box(norm, 0.0, -np.ones(3), np.ones(3), 5, np.random.default_rng(7))
    np.testing.assert_array_equal(points, np.zeros((5, 3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": -1.0}, "`radius` must be finite and >= 0; got -1.0"),
        ({"radius": np.nan}, "`radius` must be finite"),
        ({"low": np.array([0.5, 0.0])}, "`low` and `high` must satisfy low <= 0 <= high"),
        ({"high": np.ones(3)}, "`low` and `high` must satisfy low <= 0 <= high"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"radius": 1.0, "low": -np.ones(2), "high": np.ones(2)} | change
    with pytest.raises(ValueError, match=message):
        sample_ball_in_box(Norm.L2, size=3, rng=np.random.default_rng(8), **arguments)

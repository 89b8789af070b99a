"""UniformBall: reproducible whatever the batches, inside ball and box, clear about bad input."""

import numpy as np
import pytest

from mixsolve.attacks import Norm, UniformBall

ORDER = {Norm.L1: 1, Norm.L2: 2, Norm.LINF: np.inf}


@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_points_lie_in_the_ball_and_in_the_pixel_range(norm, dtype):
    images = np.random.default_rng(0).random((6, 4, 5)).astype(dtype)
    images[0], images[1] = 0.0, 1.0
    points = UniformBall(norm, 0.4, 30, lower=0.0, upper=1.0).points(images)
    assert points.shape == (6, 30, 4, 5)
    assert points.dtype == dtype
    assert points.min() >= 0.0
    assert points.max() <= 1.0
    moves = (points - images[:, None]).astype(np.float64).reshape(6, 30, -1)
    # Rounding of the points themselves: half an ulp of 1 per pixel, at most 20 pixels.
    slack = 20 * np.finfo(dtype).eps
    assert np.linalg.norm(moves, ord=ORDER[norm], axis=-1).max() <= 0.4 + slack
    assert np.ptp(points[2], axis=0).max() > 0.0


def test_a_batch_gets_the_points_of_the_whole():
    inputs = np.random.default_rng(1).standard_normal((7, 3))
    ball = UniformBall(Norm.L2, 0.5, 11, seed=4)
    whole = ball.points(inputs)
    np.testing.assert_array_equal(ball.points(inputs, [5, 2]), whole[[5, 2]])
    np.testing.assert_array_equal(ball.points(inputs[:4]), whole[:4])


def test_seeds_and_samples_get_different_points():
    inputs = np.zeros((2, 3))
    first, second = (UniformBall(Norm.L2, 0.5, 4, seed=seed).points(inputs) for seed in (0, 1))
    assert not np.any(first == second)
    assert not np.any(first[0] == first[1])


def test_radii_share_their_points_up_to_scale():
    inputs = np.zeros((3, 2))
    small, large = (UniformBall(Norm.L2, radius, 9).points(inputs) for radius in (1.0, 4.0))
    np.testing.assert_allclose(4.0 * small, large, rtol=1e-15)


def test_bounds_may_differ_by_coordinate_and_integers_become_floats():
    points = UniformBall(Norm.LINF, 9.0, 500, lower=[0, -1], upper=[5, 1]).points(np.array([[2, 0]]))
    assert points.dtype == np.float64
    np.testing.assert_allclose(points.min(axis=(0, 1)), [0, -1], atol=0.1)
    np.testing.assert_allclose(points.max(axis=(0, 1)), [5, 1], atol=0.1)


def test_float32_end_of_the_range_is_inside():
    """0.1 as float32 lies above 0.1: the range must be read in the type of the inputs."""
    inputs = np.full((1, 3), 0.1, dtype=np.float32)
    assert UniformBall(Norm.LINF, 0.05, 4, lower=0.0, upper=0.1).points(inputs).max() <= np.float32(0.1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"norm": "l2"}, TypeError, "`norm` must be Norm.L1, Norm.L2 or Norm.LINF; got 'l2'"),
        ({"radius": -0.1}, ValueError, "`radius` must be finite and >= 0; got -0.1"),
        ({"radius": float("inf")}, ValueError, "`radius` must be finite"),
        ({"n_attacks": 0}, ValueError, "`n_attacks` must be an integer >= 1; got 0"),
        ({"seed": -1}, ValueError, "`seed` must be an integer >= 0; got -1"),
        (
            {"lower": [0, 0, 0]},
            ValueError,
            r"`lower` must broadcast to the shape of one input, \(2,\); got shape \(3,\)",
        ),
        ({"upper": 0.5}, ValueError, "`X` must lie between `lower` and `upper`; sample 0 has"),
        ({"X": np.array([[0.1, np.nan]])}, ValueError, "`X` must be finite; sample 0 is not"),
        ({"X": np.zeros(3)}, ValueError, r"`X` must have shape \(n_samples, features, ...\)"),
    ],
)
def test_bad_input_is_named(change, error, message):
    arguments = {
        "norm": Norm.L2,
        "radius": 1.0,
        "n_attacks": 3,
        "lower": 0.0,
        "upper": 1.0,
        "X": np.full((2, 2), 0.75),
    } | change
    inputs = arguments.pop("X")
    with pytest.raises(error, match=message):
        UniformBall(**arguments).points(inputs)

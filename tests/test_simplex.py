"""Projection onto the simplex against exact rational arithmetic, and normalisation to the last ulp."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixsolve.simplex import check_simplex, normalise_weights, project_to_simplex
from tests.tolerances import EPS

coordinates = st.floats(-1e300, 1e300) | st.floats(-2, 2) | st.floats(-1e-300, 1e-300)
points = st.lists(coordinates, min_size=1, max_size=12).map(np.array)
magnitudes = st.sampled_from([1e-300, 1e-30, 1e-8, 1.0, 1e8, 1e30, 1e300])


def exact_projection(point):
    """The projection in rational arithmetic, by trying every size of the support."""
    exact = sorted(map(Fraction, point.tolist()), reverse=True)
    for size in range(len(exact), 0, -1):
        tau = (sum(exact[:size]) - 1) / size
        if exact[size - 1] > tau:
            return [max(Fraction(x) - tau, Fraction(0)) for x in point.tolist()]
    raise AssertionError("the largest coordinate always supports a projection")


def assert_on_simplex(weights):
    assert np.all(weights >= 0)
    assert math.fsum(weights) == 1.0


def assert_is_projection(weights, point):
    """Within the roundings of: one difference per coordinate, tau, and the residual moved to the largest."""
    assert_on_simplex(weights)
    exact = exact_projection(point)
    error = max(abs(Fraction(w) - x) for w, x in zip(weights.tolist(), exact, strict=True))
    assert error <= (4 + len(point)) * EPS


@given(points)
def test_projection_is_the_exact_one(point):
    assert_is_projection(project_to_simplex(point), point)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=12).map(np.array), magnitudes, magnitudes)
def test_projection_at_any_scale_and_offset(point, scale, offset):
    spoiled = point * min(scale, 1e299) + offset
    assert_is_projection(project_to_simplex(spoiled), spoiled)


@given(points)
def test_projection_is_idempotent_bit_for_bit(point):
    once = project_to_simplex(point)
    assert project_to_simplex(once).tobytes() == once.tobytes()


@given(points)
def test_no_point_of_the_simplex_is_closer(point):
    """Variational inequality: <point - w, v - w> <= 0 at every vertex v, hence on the simplex."""
    weights = project_to_simplex(point)
    scale = max(1.0, float(np.abs(point).max()))
    residual = point / scale - weights / scale
    assert residual.max() - residual @ weights <= (8 + len(point)) * EPS


def test_projection_does_not_touch_its_argument():
    point = np.array([3.0, 1.0, 2.5])
    project_to_simplex(point)
    assert point.tolist() == [3.0, 1.0, 2.5]


def test_projection_survives_a_spread_beyond_the_range_of_floats():
    assert project_to_simplex(np.array([-1.7e308, 1.7e308])).tolist() == [0.0, 1.0]


def test_projection_keeps_small_differences_beside_a_huge_offset():
    offset = 2.0**52
    weights = project_to_simplex(offset + np.array([0.0, 0.0, -1.0]))
    assert weights.tolist() == [0.5, 0.5, 0.0]


def test_projection_of_a_thousand_coordinates():
    rng = np.random.default_rng(1)
    for point in (rng.normal(size=1024), rng.normal(size=1024) * 1e-6, rng.random(1024) / 512):
        assert_is_projection(project_to_simplex(point), point)


@pytest.mark.parametrize("point", [[], [[1.0]], [np.nan, 1.0], [np.inf, 0.0]])
def test_projection_refuses(point):
    with pytest.raises(ValueError, match="`point` must be a non-empty, finite vector"):
        project_to_simplex(np.array(point))


positive = st.floats(5e-324, 1e300)


@given(st.lists(st.just(0.0) | positive, min_size=1, max_size=30).map(np.array).filter(np.any))
def test_normalised_weights_sum_to_one_and_keep_their_ratios(weights):
    normalised = normalise_weights(weights)
    assert_on_simplex(normalised)
    assert normalise_weights(normalised).tobytes() == normalised.tobytes()
    total = sum(map(Fraction, weights.tolist()))
    for given_weight, weight in zip(weights.tolist(), normalised.tolist(), strict=True):
        # Two divisions and the residual, which is at most an ulp for each weight.
        assert abs(Fraction(weight) - Fraction(given_weight) / total) <= (3 + weights.size) * EPS


@pytest.mark.parametrize("count", [3, 7, 49, 1000, 1024])
def test_uniform_weights_sum_to_one(count):
    assert_on_simplex(normalise_weights(np.ones(count)))
    assert_on_simplex(normalise_weights(np.full(count, 1.7e308)))


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1e-9], [np.nan, 1.0], [np.inf, 1.0], []])
def test_normalisation_refuses(weights):
    with pytest.raises(ValueError, match="`weights` must be non-negative, finite and not all zero"):
        normalise_weights(np.array(weights))


def test_check_accepts_float32_and_lists():
    assert_on_simplex(check_simplex(np.full(10, 0.1, dtype=np.float32), 10))
    assert check_simplex([0.25, 0.75], 2).tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([0.5, 0.5, 0.0], ValueError, r"`start` must have shape \(2,\), .*got shape \(3,\)"),
        ([0.5, 0.4], ValueError, "`start` must sum to 1 within 1e-06; got a sum of 0.9"),
        ([1.25, -0.25], ValueError, "`start` must be non-negative; got -0.25 for classifier 1"),
        ([np.nan, 1.0], ValueError, "`start` must be finite; got nan"),
        (["a", "b"], TypeError, "`start` must be an array of real numbers"),
        ([1j, 1.0], TypeError, "`start` must be an array of real numbers; got type complex128"),
    ],
)
def test_check_names_what_is_wrong(weights, error, message):
    with pytest.raises(error, match=message):
        check_simplex(weights, 2)

"""The plane game is drawn as section 5.1 of the paper says."""

import numpy as np
import pytest

from mixsolve.demo.plane import LinearClassifier, sample_classifiers, sample_points


def test_points_follow_the_mixture_of_gaussians():
    points, labels = sample_points(40_000, np.random.default_rng(0))
    assert np.count_nonzero(labels == 1) == np.count_nonzero(labels == -1) == 20_000
    inner, outer = points[labels == -1], points[labels == 1]
    right, left = outer[outer[:, 0] > 0], outer[outer[:, 0] < 0]
    # Standard errors are 1/sqrt(10,000) = 0.01 and below; a centre 3 from the border loses 0.13 % of its tail.
    np.testing.assert_allclose(inner.mean(axis=0), [0, 0], atol=0.04)
    np.testing.assert_allclose(right.mean(axis=0), [3, 0], atol=0.04)
    np.testing.assert_allclose(left.mean(axis=0), [-3, 0], atol=0.04)
    assert abs(len(right) - len(left)) < 4 * np.sqrt(20_000)
    np.testing.assert_allclose(np.cov(inner.T), np.eye(2), atol=0.05)
    np.testing.assert_allclose(np.cov(outer.T), np.diag([10, 1]), atol=0.2)


def test_an_odd_number_of_points_is_split_as_evenly_as_can_be():
    _, labels = sample_points(7, np.random.default_rng(0))
    assert sorted(labels.tolist()) == [-1, -1, -1, 1, 1, 1, 1]


def test_the_classifiers_beat_the_paper_s_standard_risk_on_both_sides():
    rng = np.random.default_rng(1)
    points, labels = sample_points(1000, rng)
    classifiers = sample_classifiers(200, points, labels, rng)
    risks = [np.mean(classifier.predict(points) != labels) for classifier in classifiers]
    assert max(risks) < 0.4
    # No line does better than about a quarter: it cuts one of the two outer groups off.
    assert min(risks) > 0.2
    facing_right = np.mean([classifier.normal[0] > 0 for classifier in classifiers])
    assert 0.35 < facing_right < 0.65


@pytest.mark.parametrize(("point", "label"), [([2.0, 0.0], 1), ([0.5, 9.0], -1), ([1.0, 0.0], -1)])
def test_a_linear_classifier_cuts_at_its_offset(point, label):
    assert LinearClassifier(np.array([1.0, 0.0]), 1.0).predict(np.array([point])) == [label]

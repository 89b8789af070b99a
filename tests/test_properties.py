"""What must hold for every table: symmetries of the pass and of the solve, convexity, and the simplex projection."""

import math
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mixsolve import fit_mixture, smoothed_value_and_grad, worst_case
from mixsolve.simplex import project_to_simplex
from tests.tolerances import EPS, ROUNDING_SLACK, WEIGHT_SUM_SLACK, loss_scale

# float32 numbers, held in float64: their products and their multiples by 2**40 stay clear of subnormal numbers,
# where scaling by a power of two rounds.
LOSSES = st.floats(-4.0, 4.0, width=32, allow_subnormal=False)
TEMPERATURES = st.one_of(st.just(0.0), st.sampled_from([1e-4, 1e-2, 0.3, 1.0, 20.0, 1e3, 1e6]))
SEEDS = st.integers(0, 2**32 - 1)


@dataclass(frozen=True)
class Query:
    """A table, a vector of weights (a mixture or not) and a temperature."""

    losses: np.ndarray
    weights: np.ndarray
    temperature: float
    rng: np.random.Generator

    @property
    def scale(self):
        return loss_scale(self.losses) * max(1.0, float(np.abs(self.weights).sum()))

    @property
    def slack(self):
        """Of a value: rounding of the scores."""
        return ROUNDING_SLACK * self.scale

    @property
    def gradient_slack(self):
        """Of a gradient: a score's rounding error moves a probability by that error over the temperature."""
        return self.slack * (1.0 + self.scale / self.temperature)

    def answer(self, **changed):
        """(value, gradient), of this query or with some of it changed."""
        called = {"losses": self.losses, "weights": self.weights, "temperature": self.temperature} | changed
        temperature = called.pop("temperature")
        if np.all(temperature == 0.0):
            worst = worst_case(**called)
            return worst.value, worst.grad
        return smoothed_value_and_grad(temperature=temperature, **called)


@st.composite
def queries(draw, temperatures=TEMPERATURES, mixture=False):
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 9)))
    losses = draw(hnp.arrays(np.float64, shape, elements=LOSSES))
    rng = np.random.default_rng(draw(SEEDS))
    weights = rng.dirichlet(np.ones(shape[0]))
    if not mixture and draw(st.booleans()):
        weights = draw(hnp.arrays(np.float64, shape[0], elements=LOSSES))
    return Query(losses, weights, draw(temperatures), rng)


SMOOTHED = st.sampled_from([1e-4, 1e-2, 0.3, 1.0, 20.0, 1e3, 1e6])


@given(queries(), st.floats(-10.0, 10.0))
def test_adding_a_constant_adds_it_to_the_value_and_to_the_gradient(query, constant):
    value, gradient = query.answer()
    moved, moved_gradient = query.answer(losses=query.losses + constant)
    scale = query.scale + abs(constant) * max(1.0, float(np.abs(query.weights).sum()))
    slack = ROUNDING_SLACK * scale
    assert moved == pytest.approx(value + constant * query.weights.sum(), rel=0.0, abs=slack)
    if query.temperature > 0.0:
        slack *= 1.0 + scale / query.temperature
        np.testing.assert_allclose(moved_gradient, gradient + constant, rtol=0.0, atol=slack)


@given(queries(), st.integers(-40, 40))
def test_scaling_by_a_power_of_two_with_the_temperature_changes_the_scale_alone(query, exponent):
    """To the bit: no threshold of the pass may have a unit."""
    factor = 2.0**exponent
    value, gradient = query.answer()
    scaled, scaled_gradient = query.answer(
        losses=query.losses * factor, temperature=query.temperature * factor
    )
    assert scaled == value * factor
    np.testing.assert_array_equal(scaled_gradient, gradient * factor)


@given(queries(), st.floats(1e-3, 1e3))
def test_scaling_with_the_temperature_scales_the_value(query, factor):
    value, _ = query.answer()
    scaled, _ = query.answer(losses=query.losses * factor, temperature=query.temperature * factor)
    assert scaled == pytest.approx(value * factor, rel=0.0, abs=query.slack * factor)


@given(queries())
def test_the_order_of_samples_attacks_and_classifiers_does_not_matter(query):
    n_classifiers, n_samples, n_attacks = query.losses.shape
    share, prior = query.rng.random(n_samples) + 0.1, query.rng.random((n_samples, n_attacks)) + 0.1
    prior /= prior.sum(axis=1, keepdims=True)
    attacks = np.stack([query.rng.permutation(n_attacks) for _ in range(n_samples)])
    samples, classifiers = query.rng.permutation(n_samples), query.rng.permutation(n_classifiers)
    moved = np.take_along_axis(query.losses, attacks[np.newaxis], axis=2)[classifiers][:, samples]
    moved_prior = np.take_along_axis(prior, attacks, axis=1)[samples]
    value, gradient = query.answer(sample_weight=share, attack_prior=prior)
    moved_value, moved_gradient = query.answer(
        losses=moved,
        weights=query.weights[classifiers],
        sample_weight=share[samples],
        attack_prior=moved_prior,
    )
    assert moved_value == pytest.approx(value, rel=0.0, abs=query.slack)
    if query.temperature > 0.0:
        np.testing.assert_allclose(moved_gradient, gradient[classifiers], rtol=0.0, atol=query.gradient_slack)


@given(queries(), st.integers(2, 4))
def test_duplicating_every_attack_set_changes_nothing(query, copies):
    """The prior is spread over the copies, so the smoothed maximum stays too."""
    value, gradient = query.answer()
    copied, copied_gradient = query.answer(losses=np.tile(query.losses, (1, 1, copies)))
    assert copied == pytest.approx(value, rel=0.0, abs=query.slack)
    if query.temperature > 0.0:
        np.testing.assert_allclose(copied_gradient, gradient, rtol=0.0, atol=query.gradient_slack)


@given(queries())
def test_a_sample_weight_counts_like_repeating_the_sample(query):
    times = query.rng.integers(0, 4, size=query.losses.shape[1])
    times[0] = max(1, times[0])
    value, gradient = query.answer(sample_weight=times.astype(np.float64))
    repeated, repeated_gradient = query.answer(losses=np.repeat(query.losses, times, axis=1))
    assert repeated == pytest.approx(value, rel=0.0, abs=query.slack)
    np.testing.assert_allclose(repeated_gradient, gradient, rtol=0.0, atol=query.slack)


@given(queries())
def test_a_prior_counts_like_repeating_the_attack(query):
    if query.temperature == 0.0:
        return
    times = query.rng.integers(1, 4, size=query.losses.shape[2])
    prior = np.broadcast_to(times / times.sum(), query.losses.shape[1:])
    value, gradient = query.answer(attack_prior=prior)
    repeated, repeated_gradient = query.answer(losses=np.repeat(query.losses, times, axis=2))
    assert repeated == pytest.approx(value, rel=0.0, abs=query.slack)
    np.testing.assert_allclose(repeated_gradient, gradient, rtol=0.0, atol=query.gradient_slack)


@given(queries())
def test_one_ragged_layout_of_a_rectangular_table_is_the_table(query):
    n_classifiers, n_samples, n_attacks = query.losses.shape
    offsets = np.arange(n_samples + 1) * n_attacks
    value, gradient = query.answer()
    ragged, ragged_gradient = query.answer(
        losses=query.losses.reshape(n_classifiers, -1), row_offsets=offsets
    )
    assert ragged == pytest.approx(value, rel=0.0, abs=query.slack)
    if query.temperature > 0.0:
        np.testing.assert_allclose(ragged_gradient, gradient, rtol=0.0, atol=query.gradient_slack)


@given(queries(temperatures=SMOOTHED))
def test_a_temperature_per_sample_is_the_mean_of_one_sample_tables(query):
    n_samples = query.losses.shape[1]
    levels = query.temperature * query.rng.uniform(0.5, 2.0, size=n_samples)
    share = query.rng.dirichlet(np.ones(n_samples))
    value, gradient = query.answer(temperature=levels, sample_weight=share)
    alone = [
        query.answer(losses=query.losses[:, i : i + 1], temperature=float(level))
        for i, level in enumerate(levels)
    ]
    assert value == pytest.approx(share @ [each for each, _ in alone], rel=0.0, abs=query.slack)
    mean_gradient = share @ np.array([each for _, each in alone])
    np.testing.assert_allclose(gradient, mean_gradient, rtol=0.0, atol=2.0 * query.gradient_slack)


@given(queries(), st.sampled_from([np.float32, np.float16, ml_dtypes.bfloat16]))
def test_float64_scores_see_a_narrow_table_as_its_exact_copy_in_float64(query, dtype):
    stored = query.losses.astype(dtype)
    value, gradient = query.answer(losses=stored, float64_scores=True)
    exact, exact_gradient = query.answer(losses=stored.astype(np.float64))
    assert value == pytest.approx(exact, rel=0.0, abs=query.slack)
    if query.temperature > 0.0:
        np.testing.assert_allclose(gradient, exact_gradient, rtol=0.0, atol=query.gradient_slack)


@given(queries())
def test_the_gradient_lies_in_the_hull_of_the_rows(query):
    """In no direction does it reach beyond the outermost row of every sample."""
    _, gradient = query.answer()
    n_classifiers = len(query.weights)
    directions = np.vstack([np.eye(n_classifiers), query.rng.normal(size=(32, n_classifiers))])
    reach = np.einsum("dk,kij->dij", directions, query.losses)
    slack = ROUNDING_SLACK * loss_scale(query.losses) * np.abs(directions).sum(axis=1)
    assert np.all(directions @ gradient <= reach.max(axis=2).mean(axis=1) + slack)
    assert np.all(directions @ gradient >= reach.min(axis=2).mean(axis=1) - slack)


@given(queries(), st.floats(0.0, 1.0))
def test_the_value_is_convex_along_segments_and_above_its_tangents(query, step):
    other = query.rng.normal(size=len(query.weights)) * 2.0
    value, gradient = query.answer()
    far, _ = query.answer(weights=other)
    between, _ = query.answer(weights=(1.0 - step) * query.weights + step * other)
    scale = loss_scale(query.losses) * (1.0 + np.abs(query.weights).sum() + np.abs(other).sum())
    assert between <= (1.0 - step) * value + step * far + ROUNDING_SLACK * scale
    tangent = value + gradient @ (other - query.weights)
    # The tangent's slope is off by the gradient's rounding, which only matters along the step.
    sharpness = query.scale / query.temperature if query.temperature > 0.0 else 0.0
    assert far >= tangent - ROUNDING_SLACK * scale * (1.0 + sharpness)


@pytest.mark.parametrize("prior", [None, np.array([[1e-30, 0.25, 0.75 - 1e-30]])], ids=["uniform", "uneven"])
@pytest.mark.parametrize("temperature", [5e-324, 5e-309, 1e-300, 1e-150, 1e150, 1e300])
def test_no_temperature_is_too_extreme_for_the_pass(temperature, prior):
    """1 / t overflows below 5.6e-309: what is left is the worst case, and the prior's mean at the other end."""
    losses = np.array([[[1.0, 0.25, -1.0]], [[0.0, 0.5, 3.0]]])
    scores = np.array([0.75, 0.3125, 0.0])
    value, gradient = smoothed_value_and_grad(losses, [0.75, 0.25], temperature, attack_prior=prior)
    mean = scores.mean() if prior is None else float(scores @ prior[0])
    assert value == pytest.approx(0.75 if temperature < 1.0 else mean, rel=1e-15)
    assert np.isfinite(gradient).all()


@given(queries(temperatures=SMOOTHED), st.floats(1.0, 100.0))
def test_a_higher_temperature_gives_a_lower_value_within_t_log_m(query, factor):
    worst, _ = query.answer(temperature=0.0)
    value, _ = query.answer()
    hotter, _ = query.answer(temperature=query.temperature * factor)
    assert hotter <= value + query.slack
    assert value <= worst + query.slack
    assert value >= worst - query.temperature * math.log(query.losses.shape[2]) * (1 + EPS) - query.slack


@settings(max_examples=40)
@given(queries(temperatures=st.sampled_from([0.0, 0.1]), mixture=True))
def test_a_solve_has_the_symmetries_of_its_table(query):
    """Every pair of certificates must leave room for one common value."""
    problem = {"temperature": query.temperature, "tol": 1e-4, "atol": 1e-4}
    classifiers = query.rng.permutation(len(query.weights))
    samples = query.rng.permutation(query.losses.shape[1])
    base = fit_mixture(query.losses, **problem)
    moved = fit_mixture(query.losses[classifiers][:, samples], **problem)
    shifted = fit_mixture(query.losses + 1.0, **problem)
    copied = fit_mixture(np.concatenate([query.losses, query.losses[:1]]), **problem)
    slack = ROUNDING_SLACK * (loss_scale(query.losses) + 1.0)
    for other, constant in ((moved, 0.0), (shifted, 1.0), (copied, 0.0)):
        assert other.status.name == base.status.name == "OPTIMAL"
        assert other.lower_bound - constant <= base.value + slack
        assert base.lower_bound <= other.value - constant + slack


POINTS = hnp.arrays(np.float64, st.integers(1, 12), elements=st.floats(-3.0, 3.0, allow_subnormal=False))


@given(POINTS, st.integers(-300, 300))
def test_the_projection_is_a_mixture_and_idempotent_at_any_scale(point, exponent):
    projected = project_to_simplex(point * 10.0**exponent)
    assert projected.min() >= 0.0
    assert abs(math.fsum(projected) - 1.0) <= WEIGHT_SUM_SLACK
    np.testing.assert_array_equal(project_to_simplex(projected), projected)


@given(POINTS, st.sampled_from([1e-9, 1e-3, 1.0, 1e3, 1e9]))
def test_the_projection_is_the_nearest_mixture(point, scale):
    """<z - x, y - x> <= 0 for every mixture y: it suffices to ask the vertices."""
    given_point = point * scale
    projected = project_to_simplex(given_point)
    away = given_point - projected
    slack = 8.0 * EPS * len(point) * max(1.0, np.abs(given_point).max())
    assert np.all(away - away @ projected <= slack)


@given(POINTS, st.floats(-1e3, 1e3), SEEDS)
def test_the_projection_ignores_a_common_shift_and_the_order(point, shift, seed):
    projected = project_to_simplex(point)
    slack = 8.0 * EPS * (abs(shift) + np.abs(point).max() + 1.0)
    np.testing.assert_allclose(project_to_simplex(point + shift), projected, rtol=0.0, atol=slack)
    order = np.random.default_rng(seed).permutation(len(point))
    np.testing.assert_allclose(project_to_simplex(point[order]), projected[order], rtol=0.0, atol=slack)
    ranking = np.argsort(point, kind="stable")
    assert np.all(np.diff(projected[ranking]) >= -slack)

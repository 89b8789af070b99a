"""The derivative of the worst case by every loss: the pass behind the backward of `mixsolve.torch_ops`."""

import numpy as np
import pytest

from mixsolve import LossTable, _native
from mixsolve.passes import loss_gradient
from tests.loss_gradient_checks import check_loss_gradient
from tests.pass_cases import LAYOUTS, STORAGES, case, draw_case, draw_prior, draw_temperatures


@pytest.fixture(params=_native.available_isas())
def isa(request):
    before = _native.isa()
    _native.set_isa(request.param)
    yield request.param
    _native.set_isa(before)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("layout", [*LAYOUTS, None])
def test_it_agrees_with_the_specification(layout, storage, isa):
    for seed in range(3):
        drawn = draw_case(np.random.default_rng([seed, 5]), storage, layout, most_rows=2000)
        check_loss_gradient(drawn)
        check_loss_gradient(drawn, float64_scores=True, scale=300.0)


@pytest.mark.parametrize("shape", [(3, 2, 20_000), (40, 700, 1), (5, 300, 33), (1030, 4, 3)])
def test_long_short_and_many(shape):
    rng = np.random.default_rng(sum(shape))
    losses = rng.random(shape, dtype=np.float32)
    weights = rng.dirichlet(np.ones(shape[0]), 3)
    check_loss_gradient(
        case(losses, weights, draw_temperatures(rng, 3, shape[1], 1.0), sample_weight=rng.random(shape[1]))
    )


def test_a_best_attack_of_tiny_prior_is_rescued():
    losses = np.array([[[1.0, 0.0, 0.5]]], dtype=np.float32)
    prior = np.array([[1e-300, 0.5, 0.5]])
    check_loss_gradient(case(losses, [[1.0]], [1e-3], attack_prior=prior))


def test_it_is_the_same_at_any_number_of_threads():
    rng = np.random.default_rng(3)
    losses = rng.random((6, 900, 40), dtype=np.float32)
    found = [np.empty_like(losses) for _ in range(3)]
    for threads, gradient in zip((1, 2, 5), found, strict=True):
        loss_gradient(LossTable(losses), np.full(6, 1 / 6), 0.05, gradient, threads=threads)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_losses_that_are_not_finite_are_named():
    losses = np.random.default_rng(0).random((3, 4, 5))
    losses[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match="got nan at classifier 1, sample 2, attack 3"):
        loss_gradient(LossTable(losses), [0.5, 0.25, 0.25], 0.1, np.empty_like(losses))


def test_scores_that_overflow_float32_are_taken_in_float64():
    losses = np.full((2, 3, 4), 2e38, dtype=np.float32)
    gradient = np.empty_like(losses)
    loss_gradient(LossTable(losses), [2.0, 2.0], 1e37, gradient)
    np.testing.assert_allclose(gradient, 2 / 12, rtol=1e-6)


@pytest.mark.parametrize(
    "gradient", [np.empty((2, 3, 4)), np.empty((2, 3, 5), dtype=np.float32)], ids=["type", "shape"]
)
def test_a_gradient_unlike_the_losses_is_refused(gradient):
    table = LossTable(np.ones((2, 3, 4), dtype=np.float32))
    with pytest.raises(ValueError, match=r"`gradient` must be like the losses, float32 \(2, 3, 4\)"):
        loss_gradient(table, [0.5, 0.5], 0.1, gradient)


def test_a_cancelled_one_ends():
    table = LossTable(np.ones((2, 3, 4)))
    token = _native.CancelToken()
    token.cancel()
    with pytest.raises(_native.Cancelled):
        loss_gradient(table, [0.5, 0.5], 0.1, np.empty((2, 3, 4)), cancel=token)


def test_sums_of_the_gradient_are_those_of_the_pass():
    """sum_j over a sample's attacks and all samples of d value / d losses[k] is weights[k]."""
    rng = np.random.default_rng(8)
    losses = rng.random((4, 50, 30))
    gradient, weights = np.empty_like(losses), rng.dirichlet(np.ones(4))
    prior = draw_prior(rng, (50, 30))
    loss_gradient(LossTable(losses, attack_prior=prior), weights, 0.2, gradient)
    np.testing.assert_allclose(gradient.sum(axis=(1, 2)), weights, rtol=1e-13)

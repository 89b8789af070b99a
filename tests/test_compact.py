"""Losses of one byte: read as they are, with a scale and an offset; and what quantising costs."""

import numpy as np
import pytest

from mixsolve import Fista, LossTable, Newton, RowGeneration, Status, fit_mixture, smoothed_value_and_grad
from mixsolve.passes import loss_range, run_pass
from mixsolve.reference import reference_pass
from mixsolve.storage import Storage
from tests.certificates import assert_certificate
from tests.pass_cases import LAYOUTS, draw_prior

FLOAT32, FLOAT64 = 4e-6, 1e-13
"""Relative to the largest loss, for scores of 70 classifiers at most."""


def bytes_like(rng, *shape):
    return rng.integers(0, 256, shape).astype(np.uint8)


def assert_agrees(table, exact, weights, temperature, *, float64_scores, **belongings):
    found = run_pass(
        table,
        weights,
        temperature,
        per_sample=True,
        best_attack=True,
        best_row=True,
        hessian=True,
        float64_scores=float64_scores,
    )
    truth = reference_pass(exact, weights, temperature, **belongings)
    slack = (FLOAT64 if float64_scores else FLOAT32) * np.abs(exact).max()
    np.testing.assert_allclose(found.value, truth.value, rtol=0, atol=slack)
    np.testing.assert_allclose(found.per_sample, truth.per_sample, rtol=0, atol=slack)
    cold = np.asarray(temperature) == 0
    np.testing.assert_array_equal(found.best_attack[cold], truth.best_attack[cold])
    rows = np.array(
        [[exact[:, i, j] for i, j in enumerate(best)] for best in found.best_attack], dtype=np.float64
    )
    np.testing.assert_allclose(found.best_row, rows, rtol=0, atol=FLOAT64 * np.abs(exact).max())
    sharpness = np.abs(exact).max() / np.where(cold, np.inf, temperature)
    np.testing.assert_allclose(found.gradient[cold], truth.gradient[cold], rtol=0, atol=slack)
    np.testing.assert_allclose(
        found.gradient[~cold], truth.gradient[~cold], rtol=0, atol=slack * (1 + 4 * sharpness.max())
    )
    assert found.bytes_read == table.array.size


@pytest.mark.parametrize("float64_scores", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bytes_with_scale_and_offset_agree_with_the_specification(layout, float64_scores, isa):
    """Distinct scores: a mixture of random weights tells all rows apart."""
    rng = np.random.default_rng(len(layout))
    for n_classifiers, n_attacks in [(1, 3), (2, 16), (4, 1), (10, 100), (33, 17), (70, 5), (10, 1500)]:
        stored = LAYOUTS[layout](lambda *shape: bytes_like(rng, *shape), n_classifiers, 9, n_attacks)
        exact = stored * 0.0125 - 1.5
        weight, prior = rng.random(stored.shape[1]), draw_prior(rng, stored.shape[1:], dtype=np.float64)
        prior = np.maximum(prior, 1e-9)
        prior /= prior.sum(axis=1, keepdims=True)
        own = {"sample_weight": weight, "attack_prior": prior}
        table = LossTable(stored, scale=0.0125, offset=-1.5, **own)
        assert table.storage is Storage.UINT8
        weights = rng.dirichlet(np.ones(n_classifiers), size=4)
        level = np.array([0.0, 0.3, 2.0, 1e5])
        assert_agrees(table, exact, weights, level, float64_scores=float64_scores, **own)


def test_nothing_is_copied_and_rows_are_losses():
    stored = bytes_like(np.random.default_rng(0), 4, 30, 20)
    table = LossTable(stored, scale=0.5, offset=3.0)
    assert np.shares_memory(table.array, stored)
    assert table.nbytes == stored.nbytes
    np.testing.assert_array_equal(table.rows([2, 7], [5, 0]), (stored * 0.5 + 3)[:, [2, 7], [5, 0]].T)
    np.testing.assert_array_equal(table.sample_losses(4), stored[:, 4] * 0.5 + 3)
    np.testing.assert_array_equal(
        table.excerpt(np.array([1, 9])).block(0, 2).losses,
        (stored[:, [1, 9]] * 0.5 + 3).reshape(4, -1),
    )
    assert loss_range(table) == (0.5 * stored.min() + 3, 0.5 * stored.max() + 3)
    assert table.digest() != LossTable(stored, scale=0.5, offset=2.0).digest() != LossTable(stored).digest()


def test_a_falling_scale_is_converted():
    stored = bytes_like(np.random.default_rng(1), 3, 20, 10)
    table = LossTable(stored, scale=-1.0, offset=255.0)
    assert table.storage is Storage.FLOAT32
    weights = [0.2, 0.3, 0.5]
    exact = reference_pass(255.0 - stored, np.array([weights]), np.array([0.0]))
    assert run_pass(table, [weights], 0.0).value == pytest.approx(exact.value, rel=1e-6)


@pytest.mark.parametrize("solver", [RowGeneration(), Newton(), Fista()])
def test_solvers_certify_games_of_bytes(solver):
    stored = bytes_like(np.random.default_rng(2), 5, 1000, 20)
    table = LossTable(stored, scale=1 / 255, offset=0.25)
    temperature = 0.0 if isinstance(solver, RowGeneration) else 0.05
    found = fit_mixture(table, solver=solver, temperature=temperature)
    assert found.status is Status.OPTIMAL
    assert_certificate(found, stored * (1 / 255) + 0.25, tol=1e-6)


def test_zeros_and_ones_with_an_offset_are_not_taken_for_sets():
    """Stored 1 stands for a loss of 1, but stored 0 for one half."""
    stored = (np.random.default_rng(3).random((4, 200, 10)) < 0.5).astype(np.uint8)
    stored[0, 0, 0] = 1
    found = fit_mixture(LossTable(stored, scale=0.5, offset=0.5))
    assert_certificate(found, stored * 0.5 + 0.5, tol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.uint8])
def test_quantising_costs_at_most_delta(dtype):
    rng = np.random.default_rng(4)
    losses = (
        (3 * rng.random((6, 80, 25)) - 1).astype(dtype) if dtype != np.uint8 else bytes_like(rng, 6, 80, 25)
    )
    exact = losses.astype(np.float64)
    table, delta = LossTable.quantise(losses)
    copy = np.stack([table.sample_losses(i) for i in range(80)], axis=1)
    assert np.abs(copy - exact).max() == delta
    assert delta <= np.ptp(exact) / 255 / 2 * (1 + 1e-9)
    for temperature in (0.05, 1.0):
        weights = rng.dirichlet(np.ones(6))
        here = smoothed_value_and_grad(table, weights, temperature, float64_scores=True)[0]
        there = smoothed_value_and_grad(losses, weights, temperature, float64_scores=True)[0]
        assert abs(here - there) <= delta * (1 + 1e-9)


def test_quantising_two_values_to_bool_is_exact():
    losses = np.where(np.random.default_rng(5).random((3, 40, 8)) < 0.3, 0.7, -0.2)
    table, delta = LossTable.quantise(losses, np.bool_)
    assert delta <= 1e-16
    assert table.storage is Storage.BITS16
    weights = np.array([[0.2, 0.3, 0.5]])
    exact = reference_pass(losses, weights, np.array([0.0]))
    assert run_pass(table, weights, 0.0, float64_scores=True).value == pytest.approx(exact.value, rel=1e-14)
    _, delta = LossTable.quantise(np.array([[[0.0, 0.4, 1.0]]]), bool)
    assert delta == 0.4


def test_equal_losses_are_quantised_exactly():
    table, delta = LossTable.quantise(np.full((2, 3, 4), 0.3))
    assert delta == 0
    assert run_pass(table, [[0.5, 0.5]], 0.0).value == pytest.approx([0.3])


def test_what_quantising_refuses():
    with pytest.raises(TypeError, match="`dtype` must be uint8 or bool; got int16"):
        LossTable.quantise(np.ones((2, 2, 2)), np.int16)
    with pytest.raises(ValueError, match="`losses` must be finite to be quantised"):
        LossTable.quantise(np.full((2, 2, 2), np.nan))

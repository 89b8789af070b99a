"""Float32 scores against a careful float32 computation in NumPy, both measured against float64."""

import ml_dtypes
import numpy as np
import pytest

from mixsolve import LossTable, _native
from mixsolve.passes import run_pass
from mixsolve.reference import reference_pass
from tests.pass_cases import KINDS, STORAGES, draw_prior
from tests.pass_checks import EPS32, FLOAT64_ACCURACY, assert_within
from tests.tolerances import loss_scale

# The promise: at most twice the error of the careful computation, and a few ulp in the scores and in the sums.
FACTOR, FEW_ULP = 2, 4 * EPS32

# In units of the largest loss.
LEVELS = [0.0, 1e-9, 1e-6, 1e-4, 1e-2, 0.1, 1.0, 10.0, 1e3, 1e6, 1e9]

SHAPES = [
    (1, 200, 8),
    (4, 120, 100),
    (10, 60, 300),
    (10, 6, 2500),
    (40, 100, 8),
    (128, 40, 40),
    (1024, 12, 16),
]


def careful_float32(losses, weights, temperature, prior):
    """Per-sample values and gradients, (N,) and (N, L), with every operation in float32.

    The exponents are shifted by the maximum; where the mass is close to the total, expm1 and log1p take the value;
    NumPy sums over the attacks in pairs. No sum over samples: that is left to the caller's float64.
    """
    losses, t = np.asarray(losses, dtype=np.float32), np.float32(temperature)
    n_classifiers, n_samples, n_attacks = losses.shape
    scores = np.float32(weights) @ losses.reshape(n_classifiers, -1)
    scores = scores.reshape(n_samples, n_attacks)
    largest = scores.max(axis=1)
    if t == 0:
        return largest, losses[:, np.arange(n_samples), scores.argmax(axis=1)].T
    prior = np.ones_like(scores) if prior is None else np.float32(prior)
    exponent = (scores - largest[:, None]) / t
    chance, total = prior * np.exp(exponent), prior.sum(axis=1)
    mass, lack = chance.sum(axis=1), (prior * np.expm1(exponent)).sum(axis=1) / total
    logarithm = np.where(lack > -0.5, np.log1p(np.maximum(lack, np.float32(-0.5))), np.log(mass / total))
    chance /= mass[:, None]
    gradient = np.stack([(chance * plane).sum(axis=1) for plane in losses], axis=1)
    assert gradient.dtype == logarithm.dtype == np.float32
    return largest + t * logarithm, gradient


def errors(per_sample, value, gradient, truth):
    """Largest error of the per-sample values, error of the value, largest error of the gradient."""
    wrong = (per_sample - truth.per_sample[0], value - truth.value[0], gradient - truth.gradient[0])
    return np.array([np.abs(error).max() for error in wrong])


def sensitivity(exact, weights, temperature, prior):
    """How far errors of 1 in the scores move the per-sample values, the value and the gradient at most."""
    if temperature == 0:
        return np.array([1.0, 1.0, 1.0])
    scores = np.tensordot(weights, exact, axes=1)
    chance = (1.0 if prior is None else prior) * np.exp(
        (scores - scores.max(axis=1, keepdims=True)) / temperature
    )
    chance /= chance.sum(axis=1, keepdims=True)
    mean = (chance * exact).sum(axis=2)
    spread = (chance * np.abs(exact - mean[:, :, None])).sum(axis=2).mean(axis=1).max()
    return np.array([1.0, 1.0, 1.0 + 2 * spread / temperature])


def assert_as_careful_as_numpy(isas, losses, weights, temperature, prior=None, few_ulp=FEW_ULP):
    exact = np.asarray(losses, dtype=np.float64)
    truth = reference_pass(exact, weights, temperature, attack_prior=prior)
    per_sample, gradient = careful_float32(losses, weights, temperature, prior)
    careful = errors(
        per_sample, per_sample.mean(dtype=np.float64), gradient.mean(axis=0, dtype=np.float64), truth
    )
    table = LossTable(losses, attack_prior=prior)
    found = run_pass(table, [weights], temperature, per_sample=True)
    room = few_ulp * loss_scale(exact) * sensitivity(exact, weights, temperature, prior)
    assert_within(
        errors(found.per_sample[0], found.value[0], found.gradient[0], truth), FACTOR * careful + room
    )


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_float32_scores_are_as_careful_as_numpy(kind, level, isas):
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        scale = rng.choice([1e-3, 1.0, 1e3])
        losses = (scale * KINDS[kind](rng, shape)).astype(np.float32)
        weights = rng.dirichlet(np.ones(shape[0]))
        assert_as_careful_as_numpy(isas, losses, weights, level * loss_scale(losses))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, ml_dtypes.bfloat16], ids=lambda dtype: np.dtype(dtype).name
)
def test_they_are_with_priors_and_on_narrow_storage(dtype, level, isas):
    rng = np.random.default_rng(1)
    for shape in SHAPES:
        losses = rng.random(shape).astype(dtype)
        weights = rng.dirichlet(np.ones(shape[0]))
        uneven = draw_prior(rng, shape[1:], dtype=np.float32)
        # NumPy, too, loses a sample whose best attacks have a prior that float32 cannot divide by.
        prior = np.maximum(uneven, np.float32(1e-12))
        assert_as_careful_as_numpy(isas, losses, weights, level, prior)


@pytest.mark.parametrize("level", [0.0, 0.01, 1.0, 10.0])
@pytest.mark.parametrize("n_attacks", [1, 2, 8, 16, 40, 100, 1000])
def test_they_are_where_many_numbers_are_equal(n_attacks, level, isas):
    """Equal numbers are rounded alike: long float32 sums of them would drift by hundreds of ulp where others wander."""
    for n_classifiers in (1, 4, 40):
        for loss in (1 / 3, 0.123, 0.77777):
            losses = np.full((n_classifiers, 4096 // n_attacks + 2, n_attacks), loss, dtype=np.float32)
            losses[:, :, 1:] /= 2
            weights = np.full(n_classifiers, 1 / n_classifiers)
            # Twice as few: a large number meets up to sixteen small ones of half its ulp before the sum is put aside.
            assert_as_careful_as_numpy(isas, losses, weights, level, few_ulp=2 * FEW_ULP)


@pytest.mark.parametrize(
    "order", ["rising", "falling", "a peak at the end", "each sample its own", "by turns"]
)
@pytest.mark.parametrize("n_classifiers", [1, 2, 4, 6, 7, 10, 12])
def test_they_are_wherever_the_largest_score_stands(n_classifiers, order, isas):
    """A pass that meets the scores in turn has to change its shift, now and then or all the time.

    It hands the shift of one sample on to the next, which may be far from it.
    """
    rng = np.random.default_rng(4)
    for n_attacks in (33, 100, 192, 500, 513, 1500):
        losses = rng.random((n_classifiers, 70, n_attacks)).astype(np.float32)
        if order == "a peak at the end":
            losses[:, ::3, -1] += 5
        elif order == "each sample its own":
            losses[:, 40:] *= 1e-3
        elif order == "by turns":
            losses[:, ::2] += 5
            losses[:, 50:60] += rng.uniform(-3, 3, size=(10, 1)).astype(np.float32)
        else:
            losses = np.sort(losses, axis=2)[:, :, :: 1 if order == "rising" else -1].copy()
        for level in (1e-4, 1e-2, 0.05, 1.0, 30.0):
            weights = rng.dirichlet(np.ones(n_classifiers))
            assert_as_careful_as_numpy(isas, losses, weights, level * np.abs(losses).max())


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("storage", STORAGES)
def test_float64_scores_are_exact_to_1e_14_of_the_scale(storage, level, isas):
    rng = np.random.default_rng(2)
    for shape in SHAPES:
        losses = (100 * rng.random(shape)).astype(STORAGES[storage])
        weights = rng.dirichlet(np.ones(shape[0]))
        exact, t = np.asarray(losses, dtype=np.float64), 100 * level
        truth = reference_pass(exact, weights, t)
        room = FLOAT64_ACCURACY * loss_scale(exact) * sensitivity(exact, weights, t, None)
        for isa in isas:
            _native.set_isa(isa)
            found = run_pass(LossTable(losses), [weights], t, per_sample=True, float64_scores=True)
            assert_within(errors(found.per_sample[0], found.value[0], found.gradient[0], truth), room)

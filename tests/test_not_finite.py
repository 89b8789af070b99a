"""NaN and infinities in a table are named by the first one's index: in every storage type, behind every weight of 0."""

import ml_dtypes
import numpy as np
import pytest

from mixsolve import Fista, LinearProgram, OracleSubgradient, fit_mixture, smoothed_value_and_grad, worst_case
from tests.refusals import refuse

LOSSES = np.random.default_rng(0).random((3, 4, 5))


def planted(value, dtype=np.float64, at=(1, 2, 3)):
    losses = LOSSES.astype(dtype)
    losses[at] = value
    return losses


DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_the_first_loss_that_is_not_finite_is_named(dtype, value, temperature):
    losses = planted(value, dtype)
    losses[2, 0, 0] = np.nan
    where = "classifier 1, sample 2, attack 3"
    refuse(
        ValueError,
        "losses",
        "finite",
        rf"{value}.*{where}",
        lambda: fit_mixture(losses, temperature=temperature),
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_it_is_found_where_the_classifiers_weight_is_zero(dtype, value):
    losses, where = planted(value, dtype), rf"{value}.*classifier 1, sample 2, attack 3"
    weights = [0.5, 0.0, 0.5]
    refuse(ValueError, "losses", "finite", where, lambda: worst_case(losses, weights))
    refuse(ValueError, "losses", "finite", where, lambda: smoothed_value_and_grad(losses, weights, 0.1))
    refuse(ValueError, "losses", "finite", where, lambda: fit_mixture(losses, start=weights))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("solver", [None, Fista(), LinearProgram(), OracleSubgradient(iterations=10)])
def test_it_is_found_by_every_solver_where_the_samples_weight_is_zero(solver, value):
    call = {"solver": solver, "sample_weight": [1.0, 1.0, 0.0, 1.0]}
    where = rf"{value}.*classifier 1, sample 2, attack 3"
    refuse(ValueError, "losses", "finite", where, lambda: fit_mixture(planted(value), **call))


def test_in_a_ragged_table_it_is_named_by_its_sample_and_attack():
    losses = LOSSES.reshape(3, 20).copy()
    losses[2, 10] = np.nan
    where = "nan.*classifier 2, sample 2, attack 1"
    refuse(ValueError, "losses", "finite", where, lambda: fit_mixture(losses, row_offsets=[0, 2, 9, 13, 20]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n_attacks", [1, 2, 7, 16, 33, 1000, 70_000])
def test_it_is_found_wherever_it_stands(n_attacks, value):
    """First, last and in between: at the ends of vectors, of tiles and of the pieces of a long sample."""
    rng = np.random.default_rng(n_attacks)
    losses = rng.random((2, 3, n_attacks), dtype=np.float32)
    prior = np.full((3, n_attacks), 1.0 / n_attacks)
    for attack in {0, n_attacks // 2, n_attacks - 1, int(rng.integers(n_attacks))}:
        for sample, classifier in [(0, 1), (2, 0)]:
            spoiled = losses.copy()
            spoiled[classifier, sample, attack] = value
            where = rf"{value} at classifier {classifier}, sample {sample}, attack {attack}$"
            for float64 in (False, True):
                call = {"float64_scores": float64}
                with pytest.raises(ValueError, match=where):
                    worst_case(spoiled, [0.5, 0.5], **call)
                with pytest.raises(ValueError, match=where):
                    smoothed_value_and_grad(spoiled, [0.5, 0.5], 0.1, **call)
                with pytest.raises(ValueError, match=where):
                    smoothed_value_and_grad(spoiled, [0.5, 0.5], 0.1, attack_prior=prior, **call)


def test_a_table_of_nothing_but_nan_is_named_by_its_first_loss():
    losses = np.full((2, 3, 40), np.nan)
    for temperature in (0.0, 0.1):
        with pytest.raises(ValueError, match=r"got nan at classifier 0, sample 0, attack 0$"):
            fit_mixture(losses, temperature=temperature)

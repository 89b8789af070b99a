"""Saving, loading and proving anew: true results pass, altered ones fail and say by how much."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from mixsolve import (
    Fista,
    LinearProgram,
    LossTable,
    OracleAnswer,
    OracleSubgradient,
    fit_mixture,
    load_result,
    verify,
)
from mixsolve.documents import read_document, write_document
from mixsolve.strategy import RowAttack
from tests.problems import family
from tests.smooth_games import correlated_sigmoids

SETTINGS = {
    "Fista": (Fista(), 0.0),
    "Fista smoothed": (Fista(), 0.05),
    "OracleSubgradient": (OracleSubgradient(100), 0.0),
    "LinearProgram": (LinearProgram(), 0.0),
}
NAMES = ["random_real", "ragged_weighted_prior", "random_zero_one", "weighted"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_saved_result_is_loaded_and_verified(setting, name, tmp_path):
    problem = family(name)
    solver, temperature = SETTINGS[setting]
    result = fit_mixture(problem.losses, solver=solver, temperature=temperature, tol=1e-3, **problem.keywords)
    result.save(tmp_path / "result.json")
    loaded = load_result(tmp_path / "result.json")
    assert loaded.to_dict() == result.to_dict()
    np.testing.assert_array_equal(loaded.weights, result.weights)
    found = verify(loaded, problem.losses, **problem.keywords)
    assert found
    assert found.value == pytest.approx(result.value, rel=1e-14)
    assert found.lower_bound >= result.lower_bound - found.lower_slack
    assert found.lower_slack <= 1e-8 * abs(result.value)
    assert "FAILS" not in str(found)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_narrow_storage_is_verified_on_itself(dtype):
    losses = correlated_sigmoids(5, 40, 30).astype(dtype)
    for solver, temperature in SETTINGS.values():
        assert verify(fit_mixture(losses, solver=solver, temperature=temperature, tol=1e-4), losses)


@pytest.fixture(scope="module")
def solved():
    problem = family("random_real")
    return fit_mixture(problem.losses, temperature=0.05, tol=1e-6), problem.losses


def test_a_value_that_is_too_good_fails_by_as_much(solved):
    result, losses = solved
    found = verify(replace(result, value=result.value - 1e-6), losses)
    assert not found
    assert not found.upper_holds
    assert found.lower_holds
    assert found.value_deficit == pytest.approx(1e-6, rel=1e-6)
    assert "value" in str(found)
    assert "FAILS by 1e-06" in str(found)


def test_a_worst_case_value_that_is_too_good_fails(solved):
    result, losses = solved
    found = verify(replace(result, worst_case_value=result.worst_case_value - 1e-6), losses)
    assert not found
    assert found.worst_case_deficit == pytest.approx(1e-6, rel=1e-6)


def test_a_lower_bound_that_is_too_good_fails_by_as_much(solved):
    result, losses = solved
    found = verify(replace(result, lower_bound=result.lower_bound + 1e-6), losses)
    assert not found
    assert found.upper_holds
    assert found.lower_bound_excess == pytest.approx(1e-6, rel=1e-2)  # the strategy may prove a little more


def test_other_weights_fail(solved):
    result, losses = solved
    assert not verify(replace(result, weights=np.eye(5)[0]), losses)


def test_another_strategy_fails(solved):
    result, losses = solved
    weak = RowAttack(np.arange(40), np.zeros(40, dtype=np.int64), np.ones(40), 40)
    found = verify(replace(result, attack=weak), losses)
    assert not found.lower_holds
    assert found.upper_holds


def test_another_table_fails(solved):
    result, losses = solved
    assert not verify(result, 1 - losses)
    assert not verify(result, losses + 1e-3)


def test_bounds_that_are_worse_than_proved_hold(solved):
    result, losses = solved
    loose = replace(
        result,
        value=result.value + 1,
        worst_case_value=result.worst_case_value + 1,
        lower_bound=result.lower_bound - 1,
    )
    assert verify(loose, losses)


def test_without_a_strategy_only_no_lower_bound_holds(solved):
    result, losses = solved
    assert not verify(replace(result, attack=None), losses)
    assert verify(replace(result, attack=None, lower_bound=-math.inf), losses)


def test_a_result_of_an_oracle_proves_its_upper_bound_on_a_table():
    losses = family("random_real").losses
    result = fit_mixture(
        lambda weights: OracleAnswer(losses, delta=0.0),
        solver=OracleSubgradient(50, loss_bound=1.0),
        start=np.full(5, 0.2),
    )
    found = verify(result, losses)
    assert found.upper_holds
    assert not found.lower_holds


def test_what_does_not_fit_is_refused(solved):
    result, losses = solved
    with pytest.raises(TypeError, match="`result` must be a MixtureResult; got dict"):
        verify(result.to_dict(), losses)
    with pytest.raises(ValueError, match="`losses` must have the result's 5 classifiers; got 4"):
        verify(result, losses[:4])
    with pytest.raises(ValueError, match="`result` must hold a mixture"):
        verify(replace(result, weights=np.full(5, 0.3)), losses)
    with pytest.raises(ValueError, match="`sample_weight` must be None when `losses` is a LossTable"):
        verify(result, LossTable(losses), sample_weight=np.ones(40))
    per_sample = fit_mixture(losses, temperature=np.full(40, 0.1), tol=1e-3)
    assert verify(per_sample, losses)
    with pytest.raises(ValueError, match="`temperature`"):
        verify(per_sample, losses[:, :20])


def test_an_edited_file_is_refused(solved, tmp_path):
    path = tmp_path / "result.json"
    solved[0].save(path)
    text = path.read_text(encoding="ascii")
    value = json.loads(text)["content"]["value"]
    path.write_text(text.replace(repr(value), repr(value - 0.01)), encoding="ascii")
    with pytest.raises(ValueError, match="edited or damaged"):
        load_result(path)


def test_a_file_of_another_content_is_refused(solved, tmp_path):
    """A digest that matches does not make a result."""
    path = tmp_path / "result.json"
    solved[0].save(path)
    content = read_document(path)
    del content["weights"]
    write_document(path, content)
    with pytest.raises(
        ValueError, match=r"`path` must be a result of this version of mixsolve; .* lacks 'weights'"
    ):
        load_result(path)

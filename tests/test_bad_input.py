"""Bad input, one argument of a working call spoiled at a time.

Every message names the argument, says what was required and what was given.
"""

import re
import sys

import ml_dtypes
import numpy as np
import pytest

from mixsolve import (
    Fista,
    LinearProgram,
    LossTable,
    OracleSubgradient,
    compare_mixtures,
    fit_mixture,
    fit_path,
    load_result,
    smoothed_value_and_grad,
    verify,
    worst_case,
)
from tests.refusals import refuse

LOSSES = np.random.default_rng(0).random((3, 4, 5))
FLAT = LOSSES.reshape(3, 20)
OFFSETS = np.array([0, 2, 9, 13, 20])
PRIOR = np.full((4, 5), 0.2)
WORKING = {
    "losses": LOSSES,
    "temperature": 0.1,
    "sample_weight": [1.0, 2.0, 3.0, 4.0],
    "attack_prior": PRIOR,
    "tol": 1e-3,
    "atol": 0.0,
    "start": [0.5, 0.25, 0.25],
    "pass_limit": 1000,
    "time_limit": 100.0,
    "threads": 1,
    "seed": 0,
    "solver": Fista(),
}
RAGGED = {"losses": FLAT, "row_offsets": OFFSETS, "temperature": 0.1, "tol": 1e-3}


class OnAnotherDevice:
    """An array that says, as CuPy's do, that its memory belongs to CUDA device 0."""

    def __dlpack_device__(self):
        return 10, 0

    def __dlpack__(self):
        raise AssertionError("it was read all the same")


# What is spoiled: error, what the message says was required, what it says was given.
SPOILED = {
    "losses of two dimensions": ("losses", LOSSES[0], ValueError, "3 dimensions", "(4, 5)"),
    "losses of four dimensions": ("losses", LOSSES[None], ValueError, "3 dimensions", "(1, 3, 4, 5)"),
    "losses a number": ("losses", 0.5, ValueError, "3 dimensions", "()"),
    "no classifiers": ("losses", LOSSES[:0], ValueError, "at least one classifier", "(0, 4, 5)"),
    "no samples": ("losses", LOSSES[:, :0], ValueError, "one sample", "(3, 0, 5)"),
    "no attacks": ("losses", LOSSES[:, :, :0], ValueError, "one attack", "(3, 4, 0)"),
    "losses complex": ("losses", LOSSES + 0j, TypeError, "float64", "complex128"),
    "losses of strings": ("losses", LOSSES.astype(str), TypeError, "float64", "<U"),
    "losses of objects": ("losses", LOSSES.astype(object), TypeError, "float64", "object"),
    "losses of eight bits": (
        "losses",
        LOSSES.astype(ml_dtypes.float8_e4m3fn),
        TypeError,
        "float64",
        "float8",
    ),
    "losses of long doubles": (
        "losses",
        LOSSES.astype(np.longdouble),
        TypeError,
        "float64",
        "longdouble|float128",
    ),
    "losses None": ("losses", None, TypeError, "float64", "object"),
    "losses not rectangular": ("losses", [[[1.0], [2.0, 3.0]]], ValueError, "rectangular", "nested"),
    "losses on another device": ("losses", OnAnotherDevice(), ValueError, "CPU memory", "DLPack type 10"),
    "temperature negative": ("temperature", -0.5, ValueError, "non-negative", "-0.5"),
    "temperature nan": ("temperature", float("nan"), ValueError, "finite", "nan"),
    "temperature infinite": ("temperature", float("inf"), ValueError, "finite", "inf"),
    "temperature mixes": ("temperature", [0.1, 0.0, 0.1, 0.1], ValueError, "all", "1 zero"),
    "temperature of wrong shape": ("temperature", [0.1, 0.2], ValueError, r"\(4,\)", r"\(2,\)"),
    "temperature a string": ("temperature", "warm", TypeError, "real numbers", "<U4"),
    "sample weights negative": (
        "sample_weight",
        [1, -2, 3, 4],
        ValueError,
        "non-negative",
        "-2.0 for sample 1",
    ),
    "sample weights all zero": ("sample_weight", [0, 0, 0, 0], ValueError, "positive", "all zero"),
    "sample weights nan": ("sample_weight", [1, 1, np.nan, 1], ValueError, "finite", "nan for sample 2"),
    "sample weights infinite": ("sample_weight", [1, 1, 1, np.inf], ValueError, "finite", "inf for sample 3"),
    "sample weights of wrong shape": ("sample_weight", [1.0, 1.0], ValueError, r"\(4,\)", r"\(2,\)"),
    "sample weights of strings": ("sample_weight", list("abcd"), TypeError, "real numbers", "<U1"),
    "prior zero": ("attack_prior", PRIOR * [1, 1, 0, 2, 1], ValueError, "positive", r"0.0 at index \(0, 2\)"),
    "prior negative": ("attack_prior", PRIOR * [1, 1, 1, 3, -1], ValueError, "positive", "-0.2"),
    "prior nan": ("attack_prior", PRIOR * [1, 1, np.nan, 1, 1], ValueError, "positive", "nan"),
    "prior off by 1e-5": ("attack_prior", PRIOR * 1.00001, ValueError, "sum to 1", "1.00001"),
    "prior of wrong shape": ("attack_prior", PRIOR[:3], ValueError, r"\(4, 5\)", r"\(3, 5\)"),
    "start off the simplex": ("start", [0.5, 0.5, 0.5], ValueError, "sum to 1", "1.5"),
    "start negative": ("start", [1.5, -0.5, 0.0], ValueError, "non-negative", "-0.5"),
    "start nan": ("start", [np.nan, 0.5, 0.5], ValueError, "finite", "nan"),
    "start of wrong length": ("start", [0.5, 0.5], ValueError, r"\(3,\)", r"\(2,\)"),
    "start a string": ("start", "uniform", TypeError, "real numbers", "<U7"),
    "tol negative": ("tol", -1e-3, ValueError, "number >= 0", "-0.001"),
    "tol nan": ("tol", float("nan"), ValueError, "number >= 0", "nan"),
    "tol a string": ("tol", "1e-3", TypeError, "a number", "'1e-3'"),
    "atol negative": ("atol", -1.0, ValueError, "number >= 0", "-1.0"),
    "pass limit zero": ("pass_limit", 0, ValueError, "integer >= 1", "0"),
    "pass limit not whole": ("pass_limit", 2.5, TypeError, "integer >= 1", "2.5"),
    "time limit negative": ("time_limit", -1.0, ValueError, "number >= 0 of seconds", "-1.0"),
    "time limit nan": (
        "time_limit",
        float("nan"),
        ValueError,
        "number >= 0 of seconds",
        "nan",
    ),
    "threads zero": ("threads", 0, ValueError, "integer >= 1", "0"),
    "threads not whole": ("threads", 1.5, TypeError, "integer >= 1", "1.5"),
    "seed negative": ("seed", -1, ValueError, "integer >= 0", "-1"),
    "callback no function": ("callback", 3, TypeError, "callable", "3"),
    "solver a string": ("solver", "fista", TypeError, "instance", "'fista'"),
    "solver a class": ("solver", Fista, TypeError, "instance", "class Fista"),
}


def escaped(pattern):
    """Shapes are written as they print."""
    return re.escape(pattern) if pattern.startswith("(") else pattern


def test_the_unspoiled_calls_work():
    assert fit_mixture(**WORKING).status.name == "OPTIMAL"
    assert fit_mixture(**RAGGED).status.name == "OPTIMAL"


@pytest.mark.parametrize("case", SPOILED)
def test_a_spoiled_argument_is_refused(case):
    name, value, error, required, given = SPOILED[case]
    refuse(error, name, required, escaped(given), lambda: fit_mixture(**WORKING | {name: value}))


@pytest.mark.parametrize("case", ["threads zero", "threads not whole"])
def test_every_function_takes_threads_alike(case):
    name, value, error, required, given = SPOILED[case]
    weights = np.full(3, 1 / 3)
    for call in (
        lambda: smoothed_value_and_grad(LOSSES, weights, 0.1, threads=value),
        lambda: worst_case(LOSSES, weights, threads=value),
        lambda: fit_path(LOSSES, [0.1], threads=value),
    ):
        refuse(error, name, required, given, call)


SPOILED_OFFSETS = {
    "an empty sample": ([0, 2, 2, 13, 20], ValueError, "every sample", "2:2"),
    "falling": ([0, 9, 2, 13, 20], ValueError, "rise", "9:2"),
    "not from 0": ([1, 2, 9, 13, 20], ValueError, "start at 0", "1"),
    "too short": ([0, 2, 9, 13, 19], ValueError, "number of rows, 20", "19"),
    "too long": ([0, 2, 9, 13, 21], ValueError, "number of rows, 20", "21"),
    "of one entry": ([0], ValueError, "n_samples", re.escape("(1,)")),
    "of two dimensions": ([[0, 20]], ValueError, "n_samples", re.escape("(1, 2)")),
    "not whole": ([0.0, 20.0], TypeError, "integers", "float64"),
}


@pytest.mark.parametrize("case", SPOILED_OFFSETS)
def test_spoiled_offsets_are_refused(case):
    offsets, error, required, given = SPOILED_OFFSETS[case]
    refuse(error, "row_offsets", required, given, lambda: fit_mixture(**RAGGED | {"row_offsets": offsets}))


def test_a_ragged_prior_must_have_one_entry_a_row():
    call = RAGGED | {"attack_prior": np.full((4, 5), 0.2)}
    refuse(ValueError, "attack_prior", r"\(20,\)", r"\(4, 5\)", lambda: fit_mixture(**call))


def test_a_ragged_table_needs_two_dimensions_and_a_rectangular_one_needs_no_offsets():
    call = RAGGED | {"losses": LOSSES}
    refuse(ValueError, "losses", "2 dimensions", r"\(3, 4, 5\)", lambda: fit_mixture(**call))
    with pytest.raises(ValueError, match="row_offsets"):
        fit_mixture(FLAT)


def test_what_belongs_to_a_loss_table_is_not_taken_twice():
    table = LossTable(FLAT, row_offsets=OFFSETS)
    for name, value in {"row_offsets": OFFSETS, "sample_weight": np.ones(4), "attack_prior": FLAT[0]}.items():
        refuse(ValueError, name, "LossTable", "second", lambda n=name, v=value: fit_mixture(table, **{n: v}))


@pytest.mark.parametrize("name", ["scale", "offset"])
def test_a_scale_or_offset_that_is_not_finite_is_refused(name):
    refuse(ValueError, name, "finite", "nan", lambda: LossTable(LOSSES, **{name: float("nan")}))


SPOILED_WEIGHTS = {
    "of wrong length": ([0.5, 0.5], ValueError, r"\(3,\)", r"\(2,\)"),
    "of three dimensions": (np.ones((1, 1, 3)), ValueError, r"\(3,\)", r"\(1, 1, 3\)"),
    "nan": ([0.5, np.nan, 0.5], ValueError, "finite", "nan"),
    "no numbers": (["a", "b", "c"], TypeError, "real numbers", "<U1"),
}


@pytest.mark.parametrize("case", SPOILED_WEIGHTS)
@pytest.mark.parametrize("call", [worst_case, lambda losses, w: smoothed_value_and_grad(losses, w, 0.1)])
def test_spoiled_weights_of_a_pass_are_refused(case, call):
    weights, error, required, given = SPOILED_WEIGHTS[case]
    refuse(error, "weights", required, given, lambda: call(LOSSES, weights))


def test_a_smoothed_pass_needs_a_positive_temperature():
    refuse(
        ValueError, "temperature", "> 0", "0", lambda: smoothed_value_and_grad(LOSSES, [0.5, 0.5, 0.0], 0.0)
    )


SPOILED_SOLVERS = {
    "iterations": (lambda: OracleSubgradient(iterations=0), ValueError, "integer >= 1", "0"),
    "loss_bound": (
        lambda: OracleSubgradient(iterations=5, loss_bound=-1.0),
        ValueError,
        "positive number",
        "-1.0",
    ),
    "backend": (lambda: LinearProgram(backend="NO_SUCH"), ValueError, "HIGHS", "NO_SUCH"),
}


@pytest.mark.parametrize("name", SPOILED_SOLVERS)
def test_a_spoiled_option_of_a_solver_is_refused(name):
    make, error, required, given = SPOILED_SOLVERS[name]
    refuse(error, name, required, given, lambda: fit_mixture(LOSSES, solver=make()))


@pytest.mark.parametrize("solver", [LinearProgram(), OracleSubgradient(iterations=10)])
def test_a_solver_of_the_worst_case_refuses_a_temperature(solver):
    refuse(ValueError, "temperature", "0", "0.1", lambda: fit_mixture(LOSSES, temperature=0.1, solver=solver))


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, part):
    path = tmp_path / "result.json"
    fit_mixture(**WORKING).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ValueError, match=r"`path` must be a result written by .*truncated"):
        load_result(path)


def test_an_edited_file_is_refused(tmp_path):
    path = tmp_path / "result.json"
    result = fit_mixture(**WORKING)
    result.save(path)
    path.write_text(path.read_text().replace(repr(result.value), repr(result.value - 1e-3)))
    with pytest.raises(ValueError, match=r"`path` must be .*unchanged"):
        load_result(path)


def test_a_missing_file_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_result(tmp_path / "none.json")


def test_verifying_against_a_table_of_another_shape_is_refused():
    result = fit_mixture(**WORKING)
    refuse(ValueError, "losses", "3 classifiers", r"2|\(2, 4, 5\)", lambda: verify(result, LOSSES[:2]))


def test_comparing_mixtures_checks_its_table_too():
    refuse(ValueError, "losses", "3 dimensions", r"\(4, 5\)", lambda: compare_mixtures(LOSSES[0]))


def test_a_proxy_is_a_table():
    refuse(ValueError, "losses", "3 dimensions", r"\(\)", lambda: fit_mixture(LOSSES, proxy=3))


def test_a_group_is_one_of_torch():
    pytest.importorskip("torch")
    refuse(ValueError, "group", "torch.distributed", "3", lambda: fit_mixture(LOSSES, group=3))


def test_an_unknown_keyword_is_refused():
    with pytest.raises(TypeError, match="tolerance"):
        fit_mixture(LOSSES, tolerance=1e-3)


def test_a_missing_package_names_its_extra(monkeypatch):
    """None in sys.modules is how Python itself marks a package as not importable."""
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    with pytest.raises(ImportError, match=r"pip install mixsolve\[lp\]"):
        fit_mixture(LOSSES, solver=LinearProgram(backend="CLARABEL"))

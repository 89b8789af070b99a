"""Solvers of linear programmes called directly, without a modelling layer: HiGHS, and OR-tools' PDLP.

Both get ``min mean(v)  with  v_i - <w, l_ij> >= 0,  w in the simplex`` as sparse rows, and their duals are the
attacker's strategy, as for the contenders of ``bench_solvers``. A package that is not installed makes a row that says
so.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from benchmarks.cases import Instance
from benchmarks.contenders import Answer, rows_strategy

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Programme:
    """The game as ``min cost @ x,  lower <= matrix @ x <= upper,  x >= least``; x is (w, v)."""

    cost: Array
    matrix: Any
    lower: Array
    upper: Array
    least: Array

    @classmethod
    def of(cls, losses: Array) -> Programme:
        n_classifiers, n_samples, n_attacks = losses.shape
        n_rows = n_samples * n_attacks
        rows = losses.reshape(n_classifiers, -1).T.astype(np.float64)
        sample = np.repeat(np.arange(n_samples), n_attacks)
        entries = np.concatenate([-rows, np.ones((n_rows, 1))], axis=1).ravel()
        columns = np.concatenate(
            [np.broadcast_to(np.arange(n_classifiers), rows.shape), n_classifiers + sample[:, None]], axis=1
        ).ravel()
        starts = np.arange(0, entries.size + 1, n_classifiers + 1)
        mixture = (np.ones(n_classifiers), np.arange(n_classifiers))
        matrix = scipy.sparse.csr_array(
            (
                np.concatenate([entries, mixture[0]]),
                np.concatenate([columns, mixture[1]]),
                np.append(starts, starts[-1] + n_classifiers),
            ),
            shape=(n_rows + 1, n_classifiers + n_samples),
        )
        cost = np.concatenate([np.zeros(n_classifiers), np.full(n_samples, 1 / n_samples)])
        least = np.concatenate([np.zeros(n_classifiers), np.full(n_samples, -np.inf)])
        return cls(
            cost, matrix, np.append(np.zeros(n_rows), 1.0), np.append(np.full(n_rows, np.inf), 1.0), least
        )


def installed(name: str) -> Any:
    """A module that is no dependency of the project."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise RuntimeError(f"{name.split('.')[0]} is not installed") from error


def answer(losses: Array, primal: Array, duals: Array, seconds: float, status: str, **more: Any) -> Answer:
    """What was found, as a mixture and a strategy."""
    mixture = np.maximum(primal[: losses.shape[0]], 0.0)
    if not mixture.sum() > 0 or not np.isfinite(mixture).all():
        raise RuntimeError(f"no answer, status {status}")
    mixture = mixture / mixture.sum()
    return Answer(mixture, rows_strategy(losses, mixture, np.abs(duals[:-1])), seconds, status, **more)


@dataclass(frozen=True)
class Highs:
    """HiGHS through highspy; the interior point without crossover first, since the certificate asks for no vertex."""

    method: str

    @property
    def name(self) -> str:
        return f"HiGHS {self.method}"

    def applies(self, instance: Instance) -> bool:
        return instance.temperature == 0

    def attempts(self, instance: Instance, losses: Array, tol: float, time_limit: float) -> Iterator[Answer]:
        highspy = installed("highspy")
        deadline = time.perf_counter() + time_limit
        for crossover in ("off", "on") if self.method == "ipm" else ("on",):
            begun = time.perf_counter()
            programme = Programme.of(losses)
            n_rows, n_columns = programme.matrix.shape
            lp = highspy.HighsLp()
            lp.num_col_, lp.num_row_ = n_columns, n_rows
            lp.col_cost_, lp.col_lower_ = programme.cost, programme.least
            lp.col_upper_ = np.full(n_columns, np.inf)
            lp.row_lower_, lp.row_upper_ = programme.lower, programme.upper
            lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
            lp.a_matrix_.start_ = programme.matrix.indptr
            lp.a_matrix_.index_ = programme.matrix.indices
            lp.a_matrix_.value_ = programme.matrix.data
            model = highspy.Highs()
            options = {"output_flag": False, "solver": self.method, "run_crossover": crossover}
            for option, choice in {**options, "time_limit": deadline - time.perf_counter()}.items():
                model.setOptionValue(option, choice)
            model.passModel(lp)
            model.run()
            seconds = time.perf_counter() - begun
            found, status = model.getSolution(), model.modelStatusToString(model.getModelStatus())
            yield answer(
                losses,
                np.array(found.col_value),
                np.array(found.row_dual),
                seconds,
                status,
                settings={"solver": self.method, "run_crossover": crossover},
            )


@dataclass(frozen=True)
class Pdlp:
    """OR-tools' first-order method; a pass is a multiplication by the matrix or its transpose, two of them a read."""

    name: str = "OR-tools PDLP"

    def applies(self, instance: Instance) -> bool:
        return instance.temperature == 0

    def attempts(self, instance: Instance, losses: Array, tol: float, time_limit: float) -> Iterator[Answer]:
        pdlp = installed("ortools.pdlp.python.pdlp")
        solvers = installed("ortools.pdlp.solvers_pb2")
        deadline = time.perf_counter() + time_limit
        for tightening in (0.1, 0.01, 0.001):
            begun = time.perf_counter()
            programme = Programme.of(losses)
            problem = pdlp.QuadraticProgram()
            problem.resize_and_initialize(programme.matrix.shape[1], programme.matrix.shape[0])
            problem.objective_vector = programme.cost
            problem.constraint_matrix = scipy.sparse.csc_matrix(programme.matrix)
            problem.constraint_lower_bounds, problem.constraint_upper_bounds = (
                programme.lower,
                programme.upper,
            )
            problem.variable_lower_bounds = programme.least
            problem.variable_upper_bounds = np.full(programme.cost.size, np.inf)
            parameters = solvers.PrimalDualHybridGradientParams()
            criteria = parameters.termination_criteria
            criteria.simple_optimality_criteria.eps_optimal_relative = tol * tightening
            criteria.simple_optimality_criteria.eps_optimal_absolute = tol * tightening
            criteria.time_sec_limit = max(1.0, deadline - time.perf_counter())
            parameters.num_threads = 2
            found = pdlp.primal_dual_hybrid_gradient(problem, parameters)
            seconds = time.perf_counter() - begun
            passes = found.solve_log.solution_stats.cumulative_kkt_matrix_passes
            yield answer(
                losses,
                found.primal_solution,
                found.dual_solution,
                seconds,
                str(found.solve_log.termination_reason),
                passes=round(passes),
                settings={"eps_optimal": tol * tightening},
            )

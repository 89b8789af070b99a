"""Who takes part in ``bench_solvers``: mixsolve's solvers, and cvxpy's on the problem as a user would write it.

A contender turns losses into an :class:`Answer`: a mixture and an attacker's strategy. Nobody's own word on their
accuracy is taken; the benchmark certifies every answer in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np

from benchmarks.cases import Instance

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Answer:
    """A mixture, the strategy offered as proof of its lower bound, and what it cost."""

    weights: Array
    strategy: Any
    """Explicit rows (`sample`, `attack`, `probability`) or responses (`coefficient`, `weights`, `temperature`)."""
    seconds: float
    status: str
    solver_seconds: float | None = None
    """The solver's own clock, without modelling."""
    passes: int | None = None
    evaluations: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)


class Contender(Protocol):
    """One way to solve an instance."""

    @property
    def name(self) -> str: ...

    def applies(self, instance: Instance) -> bool:
        """Whether this contender solves problems of this kind at all."""

    def attempts(self, instance: Instance, losses: Array, tol: float, time_limit: float) -> Iterator[Answer]:
        """Answers at rising accuracy, each from scratch; the benchmark takes the first that meets ``tol``."""


@dataclass(frozen=True)
class Mixsolve:
    """``fit_mixture`` with one solver."""

    name: str
    solver: Callable[[], Any]
    smoothed: bool
    worst_case: bool = True

    def applies(self, instance: Instance) -> bool:
        return self.smoothed if instance.temperature > 0 else self.worst_case

    def attempts(self, instance: Instance, losses: Array, tol: float, time_limit: float) -> Iterator[Answer]:
        from mixsolve import fit_mixture

        solver = self.solver()
        start = time.perf_counter()
        result = fit_mixture(
            losses, temperature=instance.temperature, solver=solver, tol=tol, time_limit=time_limit
        )
        seconds = time.perf_counter() - start
        # At temperature 0 as explicit rows: a response rebuilt in other arithmetic breaks ties elsewhere.
        strategy = result.attack if instance.temperature > 0 else result.attack.rows(losses)
        yield Answer(
            weights=result.weights,
            strategy=strategy,
            seconds=seconds,
            status=result.status.name,
            passes=result.passes,
            evaluations=result.evaluations,
            settings={"solver": repr(solver)},
        )


@dataclass(frozen=True)
class Cvxpy:
    """The problem written down in cvxpy and handed to one of its solvers."""

    backend: str
    time_option: str
    """What this solver calls its time limit."""
    cones: bool
    """Whether it takes exponential cones, which temperature > 0 needs."""
    accuracies: tuple[str, ...] = ()
    """Names of the tolerances tightened between attempts; none: the defaults are already beyond any tol asked for."""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"cvxpy {self.backend}"

    def applies(self, instance: Instance) -> bool:
        return self.cones or instance.temperature == 0

    def attempts(self, instance: Instance, losses: Array, tol: float, time_limit: float) -> Iterator[Answer]:
        deadline = time.perf_counter() + time_limit
        for tightening in (0.1, 0.01, 0.001) if self.accuracies else (1.0,):
            options = {**self.options, **dict.fromkeys(self.accuracies, tol * tightening)}
            left = {self.time_option: max(1.0, deadline - time.perf_counter())}
            if instance.temperature == 0:
                answer = self.solve_worst_case(losses, options | left)
            else:
                answer = self.solve_smoothed(losses, instance.temperature, options | left)
            yield replace(answer, settings=options)

    def solve_worst_case(self, losses: Array, options: dict[str, Any]) -> Answer:
        """min mean(v) over mixtures w with v_i >= <w, l_ij>; the duals of these rows are the attacker's strategy."""
        import cvxpy
        import scipy.sparse

        n_classifiers, n_samples, n_attacks = losses.shape
        rows = losses.reshape(n_classifiers, -1).T.astype(np.float64)
        sample = np.repeat(np.arange(n_samples), n_attacks)
        pick = scipy.sparse.csr_array((np.ones(sample.size), (np.arange(sample.size), sample)))
        weights, worst = cvxpy.Variable(n_classifiers, nonneg=True), cvxpy.Variable(n_samples)
        bounds = rows @ weights <= pick @ worst
        problem = cvxpy.Problem(
            cvxpy.Minimize(cvxpy.sum(worst) / n_samples), [bounds, cvxpy.sum(weights) == 1]
        )
        return self.solve(problem, weights, options, lambda w: rows_strategy(losses, w, bounds.dual_value))

    def solve_smoothed(self, losses: Array, temperature: float, options: dict[str, Any]) -> Answer:
        """min mean_i t log mean_j exp(<w, l_ij> / t); the softmax response at w is the attacker's strategy."""
        import cvxpy

        n_classifiers, n_samples, n_attacks = losses.shape
        rows = losses.reshape(n_classifiers, -1).T.astype(np.float64) / temperature
        weights = cvxpy.Variable(n_classifiers, nonneg=True)
        scores = cvxpy.reshape(rows @ weights, (n_samples, n_attacks), order="C")
        objective = temperature * (
            cvxpy.sum(cvxpy.log_sum_exp(scores, axis=1)) / n_samples - np.log(n_attacks)
        )
        problem = cvxpy.Problem(cvxpy.Minimize(objective), [cvxpy.sum(weights) == 1])
        return self.solve(problem, weights, options, lambda w: response_strategy(w, temperature))

    def solve(
        self, problem: Any, weights: Any, options: dict[str, Any], strategy: Callable[[Array], Any]
    ) -> Answer:
        start = time.perf_counter()
        problem.solve(solver=self.backend, **options)
        seconds = time.perf_counter() - start
        if weights.value is None:
            raise RuntimeError(f"no answer, status {problem.status}")
        mixture = np.maximum(weights.value, 0.0)
        mixture = mixture / mixture.sum()
        stats = problem.solver_stats
        return Answer(
            mixture,
            strategy(mixture),
            seconds,
            problem.status,
            solver_seconds=stats.solve_time,
        )


def rows_strategy(losses: Array, weights: Array, duals: Array) -> Any:
    """Row duals made a strategy: none negative, summing to 1 per sample; a sample without any attacks best."""
    mass = np.maximum(np.asarray(duals, dtype=np.float64).reshape(losses.shape[1:]), 0.0)
    silent = mass.sum(axis=1) <= 0
    best = np.tensordot(weights, losses[:, silent], 1).argmax(axis=1)
    mass[silent, best] = 1.0
    mass /= mass.sum(axis=1, keepdims=True)
    sample, attack = np.nonzero(mass)
    return SimpleNamespace(sample=sample, attack=attack, probability=mass[sample, attack])


def response_strategy(weights: Array, temperature: float) -> Any:
    return SimpleNamespace(coefficient=np.ones(1), weights=weights[None], temperature=np.array([temperature]))


def row_generation() -> Any:
    from mixsolve import RowGeneration

    return RowGeneration()


def fista() -> Any:
    from mixsolve import Fista

    return Fista()


def newton() -> Any:
    from mixsolve import Newton

    return Newton()


def oracle_subgradient() -> Any:
    from mixsolve import OracleSubgradient

    return OracleSubgradient(iterations=10_000)


def linear_program() -> Any:
    from mixsolve import LinearProgram

    return LinearProgram()


CONTENDERS: tuple[Contender, ...] = (
    Mixsolve("RowGeneration", row_generation, smoothed=False),
    Mixsolve("Fista", fista, smoothed=True),
    Mixsolve("Newton", newton, smoothed=True, worst_case=False),
    Mixsolve("OracleSubgradient", oracle_subgradient, smoothed=False),
    Mixsolve("LinearProgram", linear_program, smoothed=False),
    Cvxpy("HIGHS", "time_limit", cones=False),
    Cvxpy("CLARABEL", "time_limit", cones=True),
    Cvxpy(
        "SCS", "time_limit_secs", cones=True, accuracies=("eps_abs", "eps_rel"), options={"max_iters": 10**7}
    ),
    Cvxpy("OSQP", "time_limit", cones=False, accuracies=("eps_abs", "eps_rel"), options={"max_iter": 10**7}),
)

"""Figure 2, middle: how the paper's two algorithms approach the value of the plane game, and their guarantees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixsolve.demo.display import Display
from mixsolve.demo.solve import solve
from mixsolve.results import MixtureResult
from mixsolve.solvers import Fista, OracleSubgradient
from mixsolve.table import LossTable
from mixsolve.values import worst_case

#: Queries answered by one read of the table when iterates are evaluated afterwards.
QUERIES_PER_PASS = 16


@dataclass(frozen=True)
class ConvergenceSettings:
    """Where and how long the algorithms are followed."""

    radius: float = 3.0
    iterations: int = 400
    """T of Algorithm 1, which fixes its step, and the limit on passes of the regularised algorithm."""
    temperatures: tuple[float, ...] = (0.1, 0.03, 0.01, 0.003)


@dataclass(frozen=True, eq=False)
class Trace:
    """One run: the worst-case risk of every mixture it evaluated, and the excess that theory allows."""

    temperature: float
    """0 for Algorithm 1."""
    result: MixtureResult
    iteration: npt.NDArray[np.int64]
    risk: npt.NDArray[np.float64]
    guarantee: float
    """Largest excess of the worst-case risk at the returned mixture over the value of the game."""

    def excess(self, exact: MixtureResult) -> float:
        """Worst-case risk over the proved lower bound: never less than the excess over the value of the game."""
        return self.result.worst_case_value - exact.lower_bound

    def holds(self, exact: MixtureResult) -> bool:
        """Whether the run kept what theory promises."""
        return self.excess(exact) <= self.guarantee

    def to_dict(self, exact: MixtureResult) -> dict[str, Any]:
        """The run as JSON values."""
        return {
            "temperature": self.temperature,
            "solver": self.result.solver,
            "passes": self.result.passes,
            "worst_case_value": self.result.worst_case_value,
            "gap": self.result.gap,
            "excess": self.excess(exact),
            "guarantee": self.guarantee,
            "holds": self.holds(exact),
            "iteration": self.iteration.tolist(),
            "risk": self.risk.tolist(),
        }


def trace_algorithms(table: LossTable, settings: ConvergenceSettings, display: Display) -> list[Trace]:
    """Run Algorithm 1, then the regularised algorithm at every temperature."""
    traces = [_trace_oracle(table, settings.iterations)]
    for done, temperature in enumerate(settings.temperatures, start=1):
        display.step(done, len(settings.temperatures) + 1)
        traces.append(_trace_regularised(table, temperature, settings.iterations))
    return traces


def _trace_oracle(table: LossTable, iterations: int) -> Trace:
    """Algorithm 1 with exact best responses: excess at most 2 M sqrt(L) / sqrt(T) (Proposition 6, delta = 0, M = 1)."""
    result = solve(table, solver=OracleSubgradient(iterations=iterations, loss_bound=1.0))
    guarantee = 2.0 * math.sqrt(table.n_classifiers) / math.sqrt(iterations)
    # After its T iterates the solver evaluates their average.
    iterates = [entry.iterate for entry in result.history if entry.iterate is not None][:iterations]
    return _trace(table, 0.0, result, iterates, guarantee)


def _trace_regularised(table: LossTable, temperature: float, iterations: int) -> Trace:
    """Equation (7) by plain accelerated projected gradient: excess at most t log m plus the certified gap."""
    result = solve(table, temperature=temperature, solver=Fista(restart=False), pass_limit=iterations)
    assert table.n_attacks is not None
    guarantee = temperature * math.log(table.n_attacks) + result.gap
    # The start is evaluated twice, and trials of a step length can be far worse than it; iterates of a descent are not.
    first, *later = result.history
    descent = [entry for entry in later if entry.iterate_value < first.iterate_value]
    iterates = [entry.iterate for entry in (first, *descent) if entry.iterate is not None]
    return _trace(table, temperature, result, iterates, guarantee)


def _trace(
    table: LossTable,
    temperature: float,
    result: MixtureResult,
    iterates: list[npt.NDArray[np.float64]],
    guarantee: float,
) -> Trace:
    blocks = [
        iterates[start : start + QUERIES_PER_PASS] for start in range(0, len(iterates), QUERIES_PER_PASS)
    ]
    risk = np.concatenate([worst_case(table, np.array(block)).value for block in blocks])
    return Trace(temperature, result, np.arange(1, len(risk) + 1), risk, guarantee)

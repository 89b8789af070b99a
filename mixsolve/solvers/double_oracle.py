"""The exact solver for games without a table: the game on all attacks that an oracle has answered."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mixsolve.certificate import Queries
from mixsolve.results import Status
from mixsolve.solvers.core import solve_game
from mixsolve.solvers.protocol import Outcome
from mixsolve.strategy import RowAttack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.passes import PassAnswer
    from mixsolve.solvers.core import Equilibrium
    from mixsolve.solvers.protocol import Problem, Steps
    from mixsolve.solvers.source import Source

MASTER_GAP = 1e-3
"""The game on the answers is solved to this part of the gap, or to a tenth of the tolerance if that is more."""


@dataclass(frozen=True)
class DoubleOracle:
    """Row generation on an oracle's answers; the default for games behind an oracle.

    The attacks answered so far make a game of their own, whose solution is what the oracle is asked next::

        repeat
            the oracle attacks the mixture; its attacks join those known
            solve the game on the attacks known: the next mixture, and a strategy of the attacker
        until the mixture's value meets the bound that the strategy proves

    The strategy uses attacks that exist, so the lower bound holds for the whole game, whatever the oracle is worth.
    The value of a mixture is that against the best attacks known as it is answered, plus the answer's `delta`: an
    upper bound. An oracle that declares no `delta` proves none: the result's value is then infinite, and
    ``statistics.answered_value`` has the value against the attacks known. Where no further attack is found the solve
    ends with `Status.ORACLE_LIMIT`, unless the gap meets the tolerance.

    Notes
    -----
    The result's `attack` numbers the attacks of every sample from 0 in the order in which the oracle answered them.
    Answers may list some samples only: those are the ones with new attacks. The first one covers all.

    References
    ----------
    McMahan, Gordon and Blum, "Planning in the presence of cost functions controlled by an adversary", ICML 2003.
    """

    evaluates_start: ClassVar[bool] = True
    remembers: ClassVar[bool] = True

    def check(self, source: Source, temperature: float | NDArray[np.float64]) -> None:
        if np.any(np.asarray(temperature) > 0):
            raise ValueError(f"`temperature` must be 0 for DoubleOracle; got {temperature}")
        if source.table is not None:
            raise ValueError("`solver` must be RowGeneration for a table; got DoubleOracle")

    def iterate(self, problem: Problem) -> Steps:
        memory, certificate = problem.memory, problem.certificate
        assert memory is not None

        def visit(_: int, answer: PassAnswer) -> None:
            assert answer.best_attack is not None
            certificate.reassess(memory.rows.value)
            attack = answer.best_attack[0]
            certificate.offer(
                lambda: RowAttack(np.arange(attack.size), attack, np.ones(attack.size), attack.size),
                float(answer.gradient.min()),
            )

        weights, gap = problem.start, math.inf
        while True:
            yield Queries(weights[None], np.zeros(1), float64=True, visit=visit)
            value = min(certificate.best.value, memory.rows.value(weights))
            left = value - certificate.lower
            found = self._solve(problem, max(MASTER_GAP * left, 0.1 * problem.desk.tolerance()))
            left = value - certificate.lower
            if left <= problem.desk.tolerance() or (not memory.fresh and not left <= 0.5 * gap):
                return self._outcome(certificate.best.slack, left <= problem.desk.tolerance())
            weights, gap = found.weights, left

    def _solve(self, problem: Problem, gap: float) -> Equilibrium:
        """Solve the game on the attacks known, and offer the attacker's strategy."""
        assert problem.memory is not None
        rows = problem.memory.rows
        found = problem.desk.wait(
            "master",
            lambda cancel: solve_game(rows, max(gap, 0.0), threads=problem.threads, cancel=cancel),
        )
        problem.certificate.offer(lambda: found.as_rows(rows.share.size), found.lower)
        problem.desk.note(core_rows=rows.n_rows, peak_memory=rows.peak_memory)
        return found

    def _outcome(self, delta: float, settled: bool) -> Outcome:
        if delta == 0:
            return Outcome(Status.NUMERICAL_ERROR)
        if not math.isfinite(delta):
            return Outcome(Status.ORACLE_LIMIT, "it declares no delta, so that no upper bound is proved")
        return Outcome(
            Status.ORACLE_LIMIT if settled else Status.NUMERICAL_ERROR, f"they may lack up to {delta:.3g}"
        )

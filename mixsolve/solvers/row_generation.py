"""The exact solver: active rows of every sample, and the small game on them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mixsolve.certificate import Queries
from mixsolve.reduction import combined_largest
from mixsolve.results import Status
from mixsolve.solvers.active_rows import ActiveRows
from mixsolve.solvers.bootstrap import find_opening
from mixsolve.solvers.bundle import level_bundle
from mixsolve.solvers.core import solve_game
from mixsolve.solvers.protocol import Outcome
from mixsolve.strategy import RowAttack
from mixsolve.table import LossTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.passes import PassAnswer
    from mixsolve.solvers.core import Equilibrium
    from mixsolve.solvers.protocol import Problem, Steps
    from mixsolve.solvers.source import Source

MASTER_GAP = 1e-7
"""The game on the core is solved to this part of the proved gap, or to a tenth of the tolerance if that is more."""

LOOSE_GAP = 0.003
"""The rows that the solution leaves out may add this part of the proved gap."""

WARM_GAP = 1e-9
"""The gap, of the largest loss in it, to which the core of an earlier result is solved before the first pass."""

MASTER_MEMORY = 6
"""The rows are held about so many times while the game on them is solved."""

NEAR_ROUNDING = 64
"""A gap of so many times what rounding leaves is not worth other methods."""


@dataclass(frozen=True)
class RowGeneration:
    """Row generation for the exact worst case; the default at temperature 0.

    At an optimum all but a few samples have one best attack, so a *core* of a few rows per sample decides the game::

        start with mixtures that are optimal for small random subsamples
        repeat
            one read of the table: value of each mixture, best attack and its row for every sample
            rows that beat those in the core join it
            solve the game on the core: the next mixture, and a strategy of the attacker
        until the mixture's value meets the bound that the strategy proves

    The attacker's strategy on the core is one on the table, so every bound is proved; the mixture's value is read from
    the table. As a row joins once, and the gap closes when none does, the reads come to an end: 2 to 5 as a rule.

    Notes
    -----
    Rows in the core are float64. A row that neither side used for some rounds leaves the core, but only after the
    lower bound rose. All passes but the first are float64. If rounding keeps the game on the core from being solved
    well enough, the level bundle method goes on from the best mixture.

    References
    ----------
    Row generation is Kelley's cutting plane method with the cuts of every sample kept apart: Birge and Louveaux, "A
    multicut algorithm for two-stage stochastic linear programs", 1988.
    """

    evaluates_start: ClassVar[bool] = True
    compresses: ClassVar[bool] = True

    def check(self, source: Source, temperature: float | NDArray[np.float64]) -> None:
        if np.any(np.asarray(temperature) > 0):
            raise ValueError(f"`temperature` must be 0 for RowGeneration; got {temperature}")
        if source.table is None:
            raise ValueError(
                "`solver` must be DoubleOracle or OracleSubgradient for a game behind an oracle; got RowGeneration"
            )

    def iterate(self, problem: Problem) -> Steps:
        assert problem.table is not None
        certificate, desk = problem.certificate, problem.desk
        rows = ActiveRows(problem.table, problem.reducer)
        desk.keep(rows.snapshot)
        weights, float64 = self._open(problem, rows)
        near: NDArray[np.float64] | None = None
        while True:
            gap, lower = certificate.gap, certificate.lower

            def visit(first: int, answer: PassAnswer, asked: NDArray[np.float64] = weights) -> None:
                if problem.memory_limit is not None and MASTER_MEMORY * rows.nbytes > problem.memory_limit:
                    rows.overflows = True
                    return
                rows.absorb(asked, first, answer)
                desk.note(core_rows=rows.n_rows + rows.n_new, peak_memory=rows.peak_memory)

            yield Queries(weights, np.zeros(len(weights)), float64=float64, visit=visit)
            if combined_largest(problem.reducer, rows.overflows):
                desk.remark("by the level bundle method: the rows needed do not fit into `memory_limit`")
                return (yield from level_bundle(problem))
            fresh, float64 = rows.merge(), True
            found = self._solve(
                problem, rows, max(MASTER_GAP * certificate.gap, 0.1 * desk.tolerance()), near
            )
            if not fresh and not certificate.gap <= 0.5 * gap:
                break
            rows.drop_idle(found.game.place, now=certificate.lower > lower)
            near = found.weights
            weights = found.weights[None]
        if certificate.gap <= NEAR_ROUNDING * certificate.rounding:
            return Outcome(Status.NUMERICAL_ERROR)
        return (yield from level_bundle(problem))

    def _open(self, problem: Problem, rows: ActiveRows) -> tuple[NDArray[np.float64], bool]:
        """The queries of the first pass, and whether to ask them in float64: when they may be the last."""
        table, desk, earlier = problem.table, problem.desk, problem.earlier
        if problem.core is not None:
            rows.add(*problem.core)
        elif isinstance(earlier, RowAttack) and isinstance(table, LossTable):
            desk.count_bytes(rows.cite(table, earlier.sample, earlier.attack))
        if rows.is_complete:
            found = self._solve(problem, rows, WARM_GAP * rows.largest)
            return np.array([problem.start, found.weights]), True
        begun = time.perf_counter()
        subsamples = desk.wait("bootstrap", desk.subsamples, together=True)
        if subsamples.bytes_read is not None:
            desk.count_read(time.perf_counter() - begun, subsamples.bytes_read)
        opening = desk.wait(
            "bootstrap",
            lambda cancel: find_opening(subsamples, problem.start, problem.threads, problem.reducer, cancel),
        )
        desk.count_bytes(opening.bytes_read)
        rows.note_memory(opening.peak_memory)
        return opening.weights, False

    def _solve(
        self, problem: Problem, rows: ActiveRows, gap: float, near: NDArray[np.float64] | None = None
    ) -> Equilibrium:
        """Solve the game on the core, and offer the attacker's strategy."""
        proved = problem.certificate.gap
        loose = LOOSE_GAP * proved if math.isfinite(proved) else 0.0
        found = problem.desk.wait(
            "master",
            lambda cancel: solve_game(
                rows, gap, near=near, loose=loose, threads=problem.threads, cancel=cancel
            ),
        )
        problem.certificate.offer(lambda: found.as_rows(rows.share.size), found.lower)
        problem.desk.note(core_rows=rows.n_rows, peak_memory=rows.peak_memory)
        return found

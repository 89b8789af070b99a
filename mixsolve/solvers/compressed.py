"""A solver that works on the compressed game where the losses are 0 and 1, and proves its answer on the table."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mixsolve.certificate import Queries
from mixsolve.solvers.active_rows import CACHE_LINE
from mixsolve.solvers.binary_sets import compress_binary, may_be_binary
from mixsolve.solvers.driver import Driver
from mixsolve.solvers.journal import Journal
from mixsolve.solvers.limits import Limits
from mixsolve.solvers.source import TableSource
from mixsolve.strategy import ResponseAttack, RowAttack
from mixsolve.table import LossTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve._native import CancelToken
    from mixsolve.results import MixtureResult
    from mixsolve.solvers.binary_sets import BinaryGame
    from mixsolve.solvers.protocol import Problem, Solver, Steps
    from mixsolve.solvers.source import Source

SHARPER = 0.5
"""The compressed game is solved to this part of the tolerance: rounding on the table is left the rest."""

TIME_SHARE = 0.9
"""Of the time that is left, given to the compressed game; the proof needs some."""

FEWEST_PASSES = 4
"""With a limit on passes below this there is none to spare for compression."""


def compressing(
    solver: Solver, source: TableSource, temperature: float | NDArray[np.float64], limits: Limits
) -> Solver:
    """The solver behind a compression, where the table looks as if it could be compressed."""
    assert isinstance(source.table, LossTable)
    if not may_be_binary(source.table) or (
        limits.pass_limit is not None and limits.pass_limit < FEWEST_PASSES
    ):
        return solver
    return Compressed(solver, temperature, limits)


@dataclass(frozen=True)
class Compressed:
    """Prints and counts as the solver that it holds: passes over the compressed copy are none over the table.

    One read compresses the table, one proves the mixture and the attacker's strategy on it. Where the losses turn out
    not to be 0 and 1, or rounding leaves a gap, the solver goes on with the table itself.
    """

    solver: Solver
    temperature: float | NDArray[np.float64]
    limits: Limits

    evaluates_start: ClassVar[bool] = True

    @property
    def tightens(self) -> bool:
        """Whether the solver that it holds solves the matrix game itself."""
        return getattr(self.solver, "evaluates_start", False)

    def __repr__(self) -> str:
        return repr(self.solver)

    def check(self, source: Source, temperature: float | NDArray[np.float64]) -> None:
        self.solver.check(source, temperature)

    def iterate(self, problem: Problem) -> Steps:
        game = self._compress(problem)
        if game is not None:
            found = self._solve(problem, game)
            problem = replace(problem, start=found.weights)
            if isinstance(found.attack, RowAttack):
                problem = self._offer(problem, game.lift(found.attack))
            yield self._queries(problem, found.attack)
            problem.certificate.tighten()
        if not self.tightens:
            problem = replace(problem, first=(yield self._queries(problem, None)))
        return (yield from self.solver.iterate(problem))

    def _compress(self, problem: Problem) -> BinaryGame | None:
        table, desk = problem.table, problem.desk
        assert isinstance(table, LossTable)
        begun = time.perf_counter()
        bytes_read, game = desk.wait(
            "compression", lambda cancel: compress_binary(table, self.temperature, problem.threads, cancel)
        )
        if bytes_read == table.nbytes:
            desk.count_read(time.perf_counter() - begun)
        else:
            desk.count_bytes(bytes_read)
        if game is not None:
            desk.note(rows=table.n_rows, compressed_rows=game.table.n_rows)
        return game

    def _solve(self, problem: Problem, game: BinaryGame) -> MixtureResult:
        """Solve the compressed game by a driver of its own."""
        left = problem.desk.seconds_left()
        limits = Limits(
            SHARPER * self.limits.tol,
            SHARPER * self.limits.atol,
            time_limit=None if left is None else TIME_SHARE * left,
        )

        def solve(cancel: CancelToken) -> MixtureResult:
            journal = Journal(game.table.n_rows, False, lambda _: cancel.cancelled)
            source = TableSource(game.table, problem.threads)
            return Driver(
                source,
                self.solver,
                game.temperature,
                problem.start,
                limits,
                journal,
                problem.seed,
                problem.threads,
            ).run()

        found = problem.desk.wait("compressed game", solve)
        held = game.nbytes + (found.statistics.peak_memory or 0)
        problem.desk.note(core_rows=found.statistics.core_rows, peak_memory=held)
        return found

    def _offer(self, problem: Problem, attack: RowAttack) -> Problem:
        """Offer a strategy, with its bound from the rows of the table; the problem as the solver goes on with it."""
        table, desk = problem.table, problem.desk
        assert isinstance(table, LossTable)
        desk.count_bytes(min(attack.sample.size * CACHE_LINE * table.n_planes, table.nbytes))
        problem.certificate.offer(lambda: attack, attack.lower_bound(table))
        return replace(problem, earlier=attack)

    def _queries(self, problem: Problem, attack: Any) -> Queries:
        """What proves a mixture: its value at the problem's level and at 0, and the attacker's responses."""
        weights, level = [problem.start[None]], [problem.target]
        if problem.target:
            weights, level = [problem.start[None], problem.start[None]], [problem.target, 0.0]
        if isinstance(attack, ResponseAttack) and problem.target:
            unit = self.temperature if np.ndim(self.temperature) == 0 else np.asarray(self.temperature)[0]
            of_problem = attack.temperature if attack.temperature.ndim == 1 else attack.temperature[:, 0]
            weights.append(attack.weights)
            level += (of_problem / unit).tolist()
        return Queries(np.concatenate(weights), np.array(level), float64=True)

"""A solver that works on the compressed game where the losses are 0 and 1, and proves its answer on the table."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mixsolve.certificate import Queries
from mixsolve.chunks import Shard
from mixsolve.results import Status
from mixsolve.solvers.active_rows import CACHE_LINE
from mixsolve.solvers.binary_sets import compress_binary, may_be_binary
from mixsolve.solvers.chunk_sets import all_may_be_binary, compress_chunks
from mixsolve.solvers.chunked_source import ChunkedSource
from mixsolve.solvers.driver import Driver
from mixsolve.solvers.journal import Journal
from mixsolve.solvers.limits import Limits
from mixsolve.solvers.source import TableSource
from mixsolve.strategy import ResponseAttack, RowAttack
from mixsolve.table import LossTable

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from mixsolve._native import CancelToken
    from mixsolve.passes import PassAnswer
    from mixsolve.reduction import Reducer
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
    solver: Solver, source: Source, temperature: float | NDArray[np.float64], limits: Limits
) -> Solver:
    """The solver behind a compression, where the table looks as if it could be compressed."""
    if limits.pass_limit is not None and limits.pass_limit < FEWEST_PASSES:
        return solver
    if isinstance(source, TableSource):
        assert isinstance(source.table, LossTable)
        apt = may_be_binary(source.table)
    elif isinstance(source, ChunkedSource):
        apt = all_may_be_binary(source.chunks, source.reducer)
    else:
        return solver
    return Compressed(solver, temperature, limits) if apt else solver


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
        problem = yield from self._settle_small(problem)
        if not self.tightens:
            problem = replace(problem, first=(yield self._queries(problem, None)))
        return (yield from self.solver.iterate(problem))

    def _settle_small(self, problem: Problem) -> Generator[Queries, PassAnswer, Problem]:
        """Solve the compressed game, if there is one, and prove the answer; the problem as it is then."""
        game = self._compress(problem)
        if game is None:
            return problem
        found = self._solve(problem, game)
        problem = replace(problem, start=found.weights)
        if isinstance(found.attack, RowAttack):
            problem = self._offer(problem, *game.lift(found.attack, problem.n_classifiers))
        yield self._queries(problem, found.attack)
        problem.certificate.tighten()
        return problem

    def _compress(self, problem: Problem) -> BinaryGame | None:
        table, desk = problem.table, problem.desk
        assert table is not None
        begun = time.perf_counter()
        bytes_read, game = desk.wait("compression", lambda cancel: self._read(problem, cancel), together=True)
        if bytes_read is None:
            desk.count_read(time.perf_counter() - begun)
        else:
            desk.count_bytes(bytes_read)
        if game is not None:
            desk.note(rows=table.n_rows, compressed_rows=game.n_rows)
        return game

    def _read(self, problem: Problem, cancel: CancelToken) -> tuple[int | None, BinaryGame | None]:
        """Bytes read, None for those of the whole table, and the game."""
        table = problem.table
        assert table is not None
        if isinstance(table, LossTable) and problem.memory_limit is None:
            bytes_read, game = compress_binary(table, self.temperature, problem.threads, cancel)
            return None if bytes_read == table.nbytes else bytes_read, game
        return compress_chunks(
            Shard(table, table.n_classifiers) if isinstance(table, LossTable) else table,
            self.temperature,
            problem.reducer,
            memory_limit=problem.memory_limit,
            threads=problem.threads,
            cancel=cancel,
        )

    def _solve(self, problem: Problem, game: BinaryGame) -> MixtureResult:
        """Solve the compressed game by a driver of its own, on all processes together."""
        left = problem.desk.seconds_left()
        limits = Limits(
            SHARPER * self.limits.tol,
            SHARPER * self.limits.atol,
            time_limit=None if left is None else TIME_SHARE * left,
        )

        def solve(cancel: CancelToken) -> MixtureResult:
            journal = Journal(game.n_rows, False, lambda _: cancel.cancelled)
            return Driver(
                self._source(problem, game),
                self.solver,
                game.temperature,
                problem.start,
                limits,
                journal,
                problem.seed,
                problem.threads,
                memory_limit=_left(problem.memory_limit, game),
            ).run()

        found = problem.desk.wait("compressed game", solve)
        held = game.nbytes + (found.statistics.peak_memory or 0)
        problem.desk.note(core_rows=found.statistics.core_rows, peak_memory=held)
        # Of several processes, where that driver took Ctrl-C for itself.
        if found.status is Status.INTERRUPTED:
            problem.desk.interrupt()
        return found

    def _source(self, problem: Problem, game: BinaryGame) -> Source:
        """The compressed game, each process's part of it."""
        if problem.reducer.size == 1:
            assert game.table is not None
            return TableSource(game.table, problem.threads)
        part = Shard(game.table, problem.n_classifiers, float(game.share.sum()), always_float64=True)
        return ChunkedSource(part, problem.threads, problem.reducer)

    def _offer(self, problem: Problem, attack: RowAttack, inflicted: NDArray[np.float64]) -> Problem:
        """Offer a strategy; the problem as the solver goes on with it.

        Its bound is that of the rows of a table in memory; where there is none, of the sets that were read of it.
        """
        table, desk = problem.table, problem.desk
        if isinstance(table, LossTable):
            desk.count_bytes(min(attack.sample.size * CACHE_LINE * table.n_planes, table.nbytes))
            bound = attack.lower_bound(table)
        else:
            bound = float(problem.reducer.combine(inflicted).min())
        problem.certificate.offer(lambda: attack, bound)
        return replace(problem, earlier=attack)

    def _queries(self, problem: Problem, attack: Any) -> Queries:
        """What proves a mixture: its value at the problem's level and at 0, and the attacker's responses."""
        weights, level = [problem.start[None]], [problem.target]
        if problem.target:
            weights, level = [problem.start[None], problem.start[None]], [problem.target, 0.0]
        if isinstance(attack, ResponseAttack) and problem.target:
            weights.append(attack.weights)
            level += self._levels(attack, problem.reducer).tolist()
        return Queries(np.concatenate(weights), np.array(level), float64=True)

    def _levels(self, attack: ResponseAttack, reducer: Reducer) -> NDArray[np.float64]:
        """The levels of responses, with the same bits on all processes, of which some may have no samples."""
        # Temperatures of groups there, of samples here; the first sample is in the first group.
        if np.ndim(self.temperature):
            own = (attack.temperature[:, :1] / np.asarray(self.temperature)[:1]).max(axis=1, initial=0.0)
        else:
            own = attack.temperature / self.temperature
        return reducer.combine(own, len(own))


def _left(memory_limit: int | None, game: BinaryGame) -> int | None:
    """What the compressed game leaves of the memory."""
    return None if memory_limit is None else max(0, memory_limit - game.nbytes)

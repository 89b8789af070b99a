"""The one loop: it owns passes, stopping, time, history, callbacks, Ctrl-C and status."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np

from mixsolve import _native
from mixsolve.certificate import Certificate, Queries
from mixsolve.results import MixtureResult, Statistics, Status, TableChangedError
from mixsolve.solvers.checkpoint import Kept, agree_on
from mixsolve.solvers.desk import DriverDesk, Stopped
from mixsolve.solvers.protocol import Outcome, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.certificate import Candidate
    from mixsolve.passes import PassAnswer
    from mixsolve.results import AttackStrategy
    from mixsolve.solvers.checkpoint import Checkpoint
    from mixsolve.solvers.journal import Journal
    from mixsolve.solvers.limits import Limits
    from mixsolve.solvers.protocol import Solver, Steps
    from mixsolve.solvers.source import Source

FLOAT64_GAP = 1e-5
"""Relative gap below which every pass has float64 scores."""

TIGHTENING_GROWTH = 1.1
"""The matrix game is solved again once there are so many times more passes than at the last solve."""


class Driver:
    """Runs one algorithm on one game; `run` is called once."""

    def __init__(
        self,
        source: Source,
        solver: Solver,
        temperature: float | NDArray[np.float64],
        start: NDArray[np.float64],
        limits: Limits,
        journal: Journal,
        seed: int = 0,
        threads: int | None = None,
        earlier: AttackStrategy | None = None,
        checkpoint: Checkpoint | None = None,
        memory_limit: int | None = None,
    ) -> None:
        self._source = source
        self._solver = solver
        self._temperature = temperature
        self._start = start
        self._journal = journal
        self._seed = seed
        self._threads = threads
        self._earlier = earlier
        self._reducer = source.reducer
        self._checkpoint = checkpoint
        self._memory_limit = memory_limit
        self._certificate = Certificate(source.n_classifiers, temperature, citable=source.table is not None)
        self._float64 = source.always_float64
        self._self_starting = getattr(solver, "evaluates_start", False)
        self._next_tightening = math.inf if getattr(solver, "tightens", self._self_starting) else 1.0
        self._desk = DriverDesk(source, self._certificate, limits, journal, seed)

    def run(self) -> MixtureResult:
        """Run the algorithm until the tolerance, a limit or its own end, then prove what is returned."""
        with self._desk.interruption:
            try:
                outcome = self._solve()
                self._prove()
            except TableChangedError as error:
                self._certificate.forget_inexact()
                error.result = self._result(Outcome(Status.TABLE_CHANGED))
                raise
        if self._certificate.gap <= self._desk.tolerance():
            outcome = Outcome(Status.OPTIMAL)
        return self._result(outcome)

    def _solve(self) -> Outcome:
        steps: Steps | None = None
        try:
            steps = self._solver.iterate(self._begin())
            answer: PassAnswer | None = None
            while not self._has_converged():
                self._desk.check_limits()
                queries = next(steps) if answer is None else steps.send(answer)
                self._float64 |= queries.float64
                if self._has_converged():  # the algorithm may have offered a bound meanwhile
                    break
                self._desk.check_limits()
                answer = self._answer(queries)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        except Stopped as stop:
            return Outcome(stop.status)
        except _native.Cancelled:
            return Outcome(self._desk.what_abandoned())
        finally:
            if steps is not None:
                steps.close()
        return Outcome(Status.OPTIMAL)

    def _begin(self) -> Problem:
        kept = None if self._checkpoint is None else self._checkpoint.load()
        kept = agree_on(kept, self._source.n_classifiers, self._reducer)
        if kept is not None:
            self._start = kept.weights
            self._journal.continue_from(kept.history)
        if self._source.surveyed is not None:
            self._desk.count_read(*self._source.surveyed)
        return Problem(
            n_classifiers=self._source.n_classifiers,
            table=self._source.table,
            start=self._start,
            first=None if self._self_starting else self._evaluate_start(),
            certificate=self._certificate,
            desk=self._desk,
            seed=self._seed,
            threads=self._threads,
            earlier=self._earlier,
            core=None if kept is None else kept.core,
            reducer=self._reducer,
            memory_limit=self._memory_limit,
            memory=self._source.memory,
        )

    def _evaluate_start(self) -> PassAnswer:
        """Evaluate the start in float64: from here on there is always a certificate. Ctrl-C waits for it."""
        certificate = self._certificate
        level = np.array([1.0, 0.0] if certificate.target else [0.0])
        queries = Queries(np.tile(self._start, (len(level), 1)), level)
        answer, slack, seconds = self._ask(queries, float64=True, cite=True)
        certificate.begin(self._start, answer, slack)
        self._record(answer, seconds, certificate.best)
        return answer

    def _answer(self, queries: Queries) -> PassAnswer:
        """One pass for the algorithm."""
        with self._desk.abandoning() as cancel:
            answer, slack, seconds = self._ask(queries, float64=self._float64, cancel=cancel)
        reached = self._certificate.add(queries, answer, exact=self._float64, slack=slack)
        self._record(answer, seconds, reached)
        return answer

    def _prove(self) -> None:
        """Evaluate in float64 what the certificate still takes from float32 scores: at most one pass."""
        if not self._certificate.has_candidate:
            self._evaluate_start()
        if not self._certificate.has_offer:
            self._certificate.tighten()
        queries = self._certificate.unproved()
        if queries is None:
            self._certificate.keep_only_exact()
        else:
            answer, _, seconds = self._ask(queries, float64=True, cite=True)
            self._certificate.settle(queries, answer)
            self._record(answer, seconds, None)
        self._float64 = True

    def _ask(
        self,
        queries: Queries,
        *,
        float64: bool,
        cite: bool = False,
        cancel: _native.CancelToken | None = None,
    ) -> tuple[PassAnswer, float, float]:
        begun, received = time.perf_counter(), self._reducer.communicated
        answer, slack = self._source.answer(
            queries.weights,
            self._certificate.temperatures(queries.level),
            float64_scores=float64,
            best_attack=cite and not self._certificate.target and not queries.level.all(),
            hessians=queries.hessians,
            visit=queries.visit,
            cancel=cancel,
        )
        self._desk.count_received("passes", received)
        return answer, slack, self._journal.time("passes", begun)

    def _record(self, answer: PassAnswer, seconds: float, reached: Candidate | None) -> None:
        if answer.bytes_read == 0 and self._source.table is not None:
            return  # known from an earlier read
        self._journal.record(
            self._certificate,
            evaluations=len(answer.value),
            bytes_read=answer.bytes_read,
            pass_seconds=seconds,
            reached=reached,
        )
        if self._checkpoint is not None:
            core = None if self._desk.core is None else self._desk.core()
            self._checkpoint.save(Kept(self._certificate.best.weights, tuple(self._journal.history), core))

    def _has_converged(self) -> bool:
        """Whether the proved gap meets the tolerance; proves it when it seems to."""
        certificate, passes = self._certificate, self._journal.passes
        if not certificate.has_candidate:
            return False
        if certificate.gap > self._desk.tolerance() and passes >= self._next_tightening:
            certificate.tighten()
            self._next_tightening = passes * TIGHTENING_GROWTH
        switch = 0.0 if self._float64 else FLOAT64_GAP * abs(certificate.upper)
        if certificate.gap <= max(self._desk.tolerance(), switch):
            self._prove()
        return certificate.gap <= self._desk.tolerance()

    def _result(self, outcome: Outcome) -> MixtureResult:
        certificate, journal, best = self._certificate, self._journal, self._certificate.best
        message = "; ".join(filter(None, [outcome.status.message, outcome.message, *self._desk.remarks]))
        held = int(self._desk.statistics.pop("peak_memory", 0))
        phase_seconds = journal.phase_seconds
        if self._source.table is None:
            self._desk.statistics["answered_value"] = best.value
        self._desk.statistics.update(self._source.statistics)
        return MixtureResult(
            weights=best.weights,
            temperature=self._temperature,
            value=best.upper,
            lower_bound=min(certificate.lower, best.upper),  # rounding may leave it an ulp above
            worst_case_value=best.worst_case,
            attack=certificate.strategy(),
            status=outcome.status,
            message=message,
            passes=journal.passes,
            evaluations=journal.evaluations,
            bytes_read=journal.bytes_read,
            seconds=journal.seconds,
            history=tuple(journal.history),
            solver=repr(self._solver),
            statistics=Statistics(
                peak_memory=held + certificate.nbytes,
                phase_seconds=phase_seconds,
                communicated=self._desk.received() if self._reducer.size > 1 else None,
                **self._desk.statistics,
            ),
        )

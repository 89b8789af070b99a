"""The one loop: it owns passes, stopping, time, history, callbacks, Ctrl-C and status."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mixsolve import _native
from mixsolve.certificate import Certificate, Queries
from mixsolve.reduction import combined_largest, combined_sum
from mixsolve.results import MixtureResult, Statistics, Status, TableChangedError
from mixsolve.solvers.checkpoint import Kept, agree_on
from mixsolve.solvers.interruption import Interruption
from mixsolve.solvers.protocol import Outcome, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.certificate import Candidate
    from mixsolve.chunks import Subsamples
    from mixsolve.passes import PassAnswer
    from mixsolve.results import AttackStrategy
    from mixsolve.solvers.checkpoint import Checkpoint, Core
    from mixsolve.solvers.journal import Journal
    from mixsolve.solvers.limits import Limits
    from mixsolve.solvers.protocol import Solver, Steps
    from mixsolve.solvers.source import Source

FLOAT64_GAP = 1e-5
"""Relative gap below which every pass has float64 scores."""

TIGHTENING_GROWTH = 1.1
"""The matrix game is solved again once there are so many times more passes than at the last solve."""

POLL_SECONDS = 0.02
"""How often a long task beside the passes is looked after."""

T = TypeVar("T")


class Stopped(Exception):
    """A limit, the callback or Ctrl-C ends the algorithm."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


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
        self._limits = limits
        self._journal = journal
        self._seed = seed
        self._threads = threads
        self._earlier = earlier
        self._reducer = source.reducer
        self._checkpoint = checkpoint
        self._memory_limit = memory_limit
        self._core: Callable[[], Core] | None = None
        self._communicated: dict[str, int] = {}
        self._certificate = Certificate(source.n_classifiers, temperature, citable=source.table is not None)
        self._float64 = source.always_float64
        self._self_starting = getattr(solver, "evaluates_start", False)
        self._next_tightening = math.inf if getattr(solver, "tightens", self._self_starting) else 1.0
        self._statistics: dict[str, Any] = {}
        self._remarks: list[str] = []
        self._interruption = Interruption()

    def run(self) -> MixtureResult:
        """Run the algorithm until the tolerance, a limit or its own end, then prove what is returned."""
        with self._interruption:
            try:
                outcome = self._solve()
                self._prove()
            except TableChangedError as error:
                self._certificate.forget_inexact()
                error.result = self._result(Outcome(Status.TABLE_CHANGED))
                raise
        if self._certificate.gap <= self.tolerance():
            outcome = Outcome(Status.OPTIMAL)
        return self._result(outcome)

    def _solve(self) -> Outcome:
        steps: Steps | None = None
        try:
            steps = self._solver.iterate(self._begin())
            answer: PassAnswer | None = None
            while not self._has_converged():
                self._check_limits()
                queries = next(steps) if answer is None else steps.send(answer)
                self._float64 |= queries.float64
                if self._has_converged():  # the algorithm may have offered a bound meanwhile
                    break
                self._check_limits()
                answer = self._answer(queries)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        except Stopped as stop:
            return Outcome(stop.status)
        except _native.Cancelled:
            return Outcome(Status.INTERRUPTED)
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
            self.count_read(self._source.surveyed)
        return Problem(
            n_classifiers=self._source.n_classifiers,
            table=self._source.table,
            start=self._start,
            first=None if self._self_starting else self._evaluate_start(),
            certificate=self._certificate,
            desk=self,
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
        cancel = self._interruption.cancel if self._reducer.size == 1 else None
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
        self._count_received("passes", received)
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
            core = None if self._core is None else self._core()
            self._checkpoint.save(Kept(self._certificate.best.weights, tuple(self._journal.history), core))

    def _has_converged(self) -> bool:
        """Whether the proved gap meets the tolerance; proves it when it seems to."""
        certificate, passes = self._certificate, self._journal.passes
        if not certificate.has_candidate:
            return False
        if certificate.gap > self.tolerance() and passes >= self._next_tightening:
            certificate.tighten()
            self._next_tightening = passes * TIGHTENING_GROWTH
        switch = 0.0 if self._float64 else FLOAT64_GAP * abs(certificate.upper)
        if certificate.gap <= max(self.tolerance(), switch):
            self._prove()
        return certificate.gap <= self.tolerance()

    def _check_limits(self) -> None:
        """Raise `Stopped` at a limit, on all processes at once; the last pass allowed is kept for the proof."""
        own = self._limit_reached()
        agreed = round(combined_largest(self._reducer, -1 if own is None else own))
        if agreed >= 0:
            raise Stopped(Status(agreed))

    def _limit_reached(self) -> Status | None:
        limits, journal = self._limits, self._journal
        if journal.stop_requested:
            return Status.STOPPED_BY_CALLBACK
        if limits.pass_limit is not None and journal.passes + 1 >= limits.pass_limit:
            return Status.PASS_LIMIT
        return self._clock_reached()

    def _clock_reached(self) -> Status | None:
        if self._interruption.requested:
            return Status.INTERRUPTED
        if self._limits.time_limit is not None and self._journal.seconds >= self._limits.time_limit:
            return Status.TIME_LIMIT
        return None

    def _check_clock(self) -> None:
        reached = self._clock_reached()
        if reached is not None:
            raise Stopped(reached)

    def _result(self, outcome: Outcome) -> MixtureResult:
        certificate, journal, best = self._certificate, self._journal, self._certificate.best
        message = "; ".join(filter(None, [outcome.status.message, outcome.message, *self._remarks]))
        held = int(self._statistics.pop("peak_memory", 0))
        phase_seconds = journal.phase_seconds
        if self._source.table is None:
            self._statistics["answered_value"] = best.value
        self._statistics.update(self._source.statistics)
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
                communicated=self._received() if self._reducer.size > 1 else None,
                **self._statistics,
            ),
        )

    # What an algorithm may ask for beside answers: `mixsolve.solvers.protocol.Desk`.

    def loss_range(self) -> tuple[float, float]:
        begun = time.perf_counter()
        found = self._source.loss_range()
        self.count_read(self._journal.time("passes", begun))
        return found

    def subsamples(self, cancel: _native.CancelToken) -> Subsamples:
        return self._source.subsamples(self._seed, cancel)

    def keep(self, core: Callable[[], Core]) -> None:
        self._core = core

    def count_read(self, seconds: float) -> None:
        assert self._source.table is not None
        bytes_read = round(combined_sum(self._reducer, self._source.table.nbytes))
        self._journal.record(self._certificate, evaluations=0, bytes_read=bytes_read, pass_seconds=seconds)

    def count_bytes(self, bytes_read: int) -> None:
        self._journal.bytes_read += round(combined_sum(self._reducer, bytes_read))

    def _received(self) -> dict[str, int]:
        """Bytes received by phase; what processes tell each other between the phases is "other"."""
        known = sum(self._communicated.values())
        return {**self._communicated, "other": self._reducer.communicated - known}

    def _count_received(self, phase: str, before: int) -> None:
        self._communicated[phase] = self._communicated.get(phase, 0) + self._reducer.communicated - before

    def wait(self, phase: str, task: Callable[[_native.CancelToken], T]) -> T:
        begun, received = time.perf_counter(), self._reducer.communicated
        if self._reducer.size > 1:  # the processes are together in it: none may leave
            found = task(_native.CancelToken())
            self._count_received(phase, received)
            self._journal.time(phase, begun)
            return found
        future: Future[T] = Future()
        cancel = _native.CancelToken()
        thread = threading.Thread(
            target=_fulfil, args=(future, lambda: task(cancel)), name=f"mixsolve {phase}"
        )
        thread.start()
        try:
            while not wait([future], timeout=POLL_SECONDS).done:
                self._interruption.renew()
                self._check_clock()
        except BaseException:
            cancel.cancel()
            raise
        self._journal.time(phase, begun)
        return future.result()

    def interrupt(self) -> None:
        self._interruption.requested = True
        self._check_clock()

    def remark(self, message: str) -> None:
        self._remarks.append(message)

    def note(self, **statistics: object) -> None:
        self._statistics.update(statistics)
        self._journal.rows = self._statistics.get("compressed_rows", self._journal.rows)

    def tolerance(self) -> float:
        limits, certificate = self._limits, self._certificate
        value = certificate.upper if math.isfinite(certificate.upper) else certificate.best.value
        if not math.isfinite(value):
            return 0.0
        return max(limits.tol * abs(value), limits.atol, certificate.rounding)

    def seconds_left(self) -> float | None:
        if self._limits.time_limit is None:
            return None
        return max(0.0, self._limits.time_limit - self._journal.seconds)


def _fulfil(future: Future[T], task: Callable[[], T]) -> None:
    try:
        future.set_result(task())
    except BaseException as error:  # handed to whoever waits
        future.set_exception(error)

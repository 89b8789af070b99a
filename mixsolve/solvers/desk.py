"""What the driver does for an algorithm beside answering its queries, and when it says that it is time to stop."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from mixsolve import _native
from mixsolve.reduction import combined_largest, combined_sum
from mixsolve.results import Status
from mixsolve.solvers.interruption import Interruption

if TYPE_CHECKING:
    from mixsolve.certificate import Certificate
    from mixsolve.chunks import Subsamples
    from mixsolve.solvers.checkpoint import Core
    from mixsolve.solvers.journal import Journal
    from mixsolve.solvers.limits import Limits
    from mixsolve.solvers.source import Source

POLL_SECONDS = 0.02
"""How often a long task beside the passes is looked after."""

T = TypeVar("T")


class Stopped(Exception):
    """A limit, the callback or Ctrl-C ends the algorithm."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


class DriverDesk:
    """The `mixsolve.solvers.protocol.Desk` of one solve: its clock, its accounts, and what interrupts it."""

    def __init__(
        self, source: Source, certificate: Certificate, limits: Limits, journal: Journal, seed: int
    ) -> None:
        self.interruption = Interruption()
        self.statistics: dict[str, Any] = {}
        self.remarks: list[str] = []
        self.core: Callable[[], Core] | None = None
        self._source = source
        self._reducer = source.reducer
        self._certificate = certificate
        self._limits = limits
        self._journal = journal
        self._seed = seed
        self._communicated: dict[str, int] = {}

    # When it is time to stop.

    def check_limits(self) -> None:
        """Raise `Stopped` at a limit, on all processes at once; the last pass allowed is kept for the proof."""
        agreed = self._agreed(self._limit_reached())
        if agreed is not None:
            raise Stopped(agreed)

    def what_abandoned(self) -> Status:
        """What ended a pass that was cancelled, on whichever process."""
        return self._agreed(self.clock_reached()) or Status.TIME_LIMIT

    def _agreed(self, own: Status | None) -> Status | None:
        """What ends the solve on all processes, where one of them has something."""
        agreed = round(combined_largest(self._reducer, -1 if own is None else own))
        return Status(agreed) if agreed >= 0 else None

    def _limit_reached(self) -> Status | None:
        limits, journal = self._limits, self._journal
        if journal.stop_requested:
            return Status.STOPPED_BY_CALLBACK
        if limits.pass_limit is not None and journal.passes + 1 >= limits.pass_limit:
            return Status.PASS_LIMIT
        return self.clock_reached()

    def clock_reached(self) -> Status | None:
        """What Ctrl-C or the time limit ends the solve with, if one does."""
        if self.interruption.requested:
            return Status.INTERRUPTED
        left = self.seconds_left()
        return Status.TIME_LIMIT if left is not None and left <= 0 else None

    def _check_clock(self) -> None:
        reached = self.clock_reached()
        if reached is not None:
            raise Stopped(reached)

    @contextmanager
    def abandoning(self, proved: bool = False) -> Iterator[_native.CancelToken]:
        """The token of a pass that Ctrl-C ends, and the time limit once something is proved, or need not be."""
        cancel, left = self.interruption.cancel, self.seconds_left()
        if left is None or not (proved or self._certificate.has_candidate):
            yield cancel
            return
        timer = threading.Timer(min(left, threading.TIMEOUT_MAX), cancel.cancel)
        timer.daemon = True
        timer.start()
        try:
            yield cancel
        finally:
            timer.cancel()
            timer.join()

    # What an algorithm may ask for.

    def loss_range(self) -> tuple[float, float]:
        begun = time.perf_counter()
        found = self._source.loss_range()
        self.count_read(self._journal.time("passes", begun))
        return found

    def subsamples(self, cancel: _native.CancelToken) -> Subsamples:
        return self._source.subsamples(self._seed, cancel)

    def keep(self, core: Callable[[], Core]) -> None:
        self.core = core

    def count_read(self, seconds: float, bytes_read: int | None = None) -> None:
        assert self._source.table is not None
        own = self._source.table.nbytes if bytes_read is None else bytes_read
        total = round(combined_sum(self._reducer, own))
        self._journal.record(self._certificate, evaluations=0, bytes_read=total, pass_seconds=seconds)

    def count_bytes(self, bytes_read: int) -> None:
        self._journal.bytes_read += round(combined_sum(self._reducer, bytes_read))

    def received(self) -> dict[str, int]:
        """Bytes received by phase; what processes tell each other between the phases is "other"."""
        known = sum(self._communicated.values())
        return {**self._communicated, "other": self._reducer.communicated - known}

    def count_received(self, phase: str, before: int) -> None:
        """Count bytes received since `before` to a phase."""
        self._communicated[phase] = self._communicated.get(phase, 0) + self._reducer.communicated - before

    def wait(self, phase: str, task: Callable[[_native.CancelToken], T], *, together: bool = False) -> T:
        begun = time.perf_counter()
        if self._reducer.size > 1:
            found = self._do_together(phase, task, together)
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
                self.interruption.renew()
                self._check_clock()
        except BaseException:
            cancel.cancel()
            raise
        self._journal.time(phase, begun)
        return future.result()

    def _do_together(self, phase: str, task: Callable[[_native.CancelToken], T], may_leave: bool) -> T:
        """Run a task that the processes are in together, and leave together or not at all."""
        received = self._reducer.communicated
        if may_leave:
            with self.abandoning(proved=True) as cancel:
                found = task(cancel)
        else:
            found = task(_native.CancelToken())
        self.count_received(phase, received)
        return found

    def interrupt(self) -> None:
        self.interruption.requested = True
        self._check_clock()

    def remark(self, message: str) -> None:
        self.remarks.append(message)

    def note(self, **statistics: object) -> None:
        self.statistics.update(statistics)
        self._journal.rows = self.statistics.get("compressed_rows", self._journal.rows)

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

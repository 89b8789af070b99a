"""The account of a solve: passes, evaluations, bytes, time, one entry of history and one line a pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from mixsolve.results import Progress

if TYPE_CHECKING:
    from mixsolve.certificate import Candidate, Certificate

HEADER = (
    f"{'pass':>6} | {'rows':>10} | {'upper':>13} | {'lower':>13} | {'gap':>9} | {'GB/s':>6} | {'time':>8}"
)


class Journal:
    """Counts, history, the log, and the caller's callback.

    Parameters
    ----------
    rows : int or None
        Rows of the table, for the log.
    verbose : bool
        Print a line per pass.
    callback : callable or None
        Called with each entry of the history; True asks to stop.
    """

    def __init__(
        self, rows: int | None, verbose: bool, callback: Callable[[Progress], bool | None] | None
    ) -> None:
        self.passes = 0
        self.evaluations = 0
        self.bytes_read = 0
        self.history: list[Progress] = []
        self.rows = rows
        """Rows that the solver works on."""
        self.stop_requested = False
        """Whether the callback asked to stop."""
        self.seconds_before = 0.0
        """Wall clock of the solve that this one continues."""
        self._verbose = verbose
        self._titled = False
        self._callback = callback
        self._started = self._last = perf_counter()
        self._phases: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        return self.seconds_before + perf_counter() - self._started

    def continue_from(self, history: Sequence[Progress]) -> None:
        """Go on from the account of an earlier solve of the same game."""
        self.history = list(history)
        if history:
            last = history[-1]
            self.passes, self.evaluations, self.bytes_read = last.passes, last.evaluations, last.bytes_read
            self.seconds_before = last.seconds

    @property
    def phase_seconds(self) -> dict[str, float]:
        """Wall clock of the passes, of the matrix games, and of everything else."""
        own = self.seconds - self.seconds_before
        return {**self._phases, "other": max(0.0, own - sum(self._phases.values()))}

    def time(self, phase: str, begun: float) -> float:
        """Add the time since `begun` (`time.perf_counter`) to a phase; returns that time."""
        spent = perf_counter() - begun
        self._phases[phase] = self._phases.get(phase, 0.0) + spent
        return spent

    def record(
        self,
        certificate: Certificate,
        *,
        evaluations: int,
        bytes_read: int,
        pass_seconds: float,
        reached: Candidate | None = None,
    ) -> None:
        """Enter a pass, print its line and call the callback."""
        self.passes += 1
        self.evaluations += evaluations
        self.bytes_read += bytes_read
        entry = Progress(
            passes=self.passes,
            evaluations=self.evaluations,
            seconds=self.seconds,
            value=certificate.upper,
            lower_bound=certificate.lower,
            bytes_read=self.bytes_read,
            iterate_value=math.nan if reached is None else reached.upper,
            iterate=None if reached is None else reached.weights,
        )
        self.history.append(entry)
        if self._verbose:
            self._print(entry, bytes_read / max(pass_seconds, 1e-9))
        if self._callback is not None and self._callback(entry):
            self.stop_requested = True

    def _print(self, entry: Progress, bytes_per_second: float) -> None:
        if not self._titled:
            print(HEADER)
            self._titled = True
        rows = "-" if self.rows is None else str(self.rows)
        print(
            f"{entry.passes:>6} | {rows:>10} | {entry.value:>13.8g} | {entry.lower_bound:>13.8g} | "
            f"{entry.gap:>9.2e} | {bytes_per_second / 1e9:>6.1f} | {entry.seconds:>7.2f}s",
            flush=True,
        )

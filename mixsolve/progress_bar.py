"""The line that `mixsolve fit` draws on a terminal: passes, how far the present one is, GB/s, and the gap."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from mixsolve.results import Progress

WIDTH = 24
"""Characters of a full bar."""

PERIOD = 0.1
"""Seconds between two drawings."""


class Readable(Protocol):
    """A table that tells how much of it was handed out so far."""

    @property
    def nbytes(self) -> int: ...
    @property
    def bytes_handed_out(self) -> int: ...


class ProgressBar:
    """Draws while it is entered, on a thread of its own; as a callback of `fit_mixture` it learns of every pass.

    Parameters
    ----------
    terminal : text file
    stream : FileStream, optional
        A table whose passes take long enough to have a bar of their own.
    """

    def __init__(self, terminal: TextIO, stream: Readable | None = None) -> None:
        self._terminal = terminal
        self._stream = stream
        self._latest: Progress | None = None
        self._begun = time.perf_counter()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mixsolve progress", daemon=True)

    def __call__(self, progress: Progress) -> None:
        self._latest = progress

    def __enter__(self) -> ProgressBar:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self._write("")

    def line(self, seconds: float) -> str:
        """What to draw after so many seconds."""
        parts = []
        latest = self._latest
        passes = 0 if latest is None else latest.passes
        read = 0 if latest is None else latest.bytes_read
        if self._stream is not None:
            read = self._stream.bytes_handed_out
            done = min(max(read / self._stream.nbytes - passes, 0.0), 1.0)
            filled = round(WIDTH * done)
            parts.append(f"pass {passes + 1} [{'#' * filled}{'.' * (WIDTH - filled)}] {100 * done:3.0f} %")
        else:
            parts.append(f"pass {passes}")
        parts.append(f"{read / 1e9 / max(seconds, 1e-3):.1f} GB/s")
        parts.append(f"{seconds:.1f} s")
        if latest is not None:
            parts.append(f"gap {latest.gap:.3g}")
        return ", ".join(parts)

    def _run(self) -> None:
        while not self._end.wait(PERIOD):
            self._write(self.line(time.perf_counter() - self._begun))

    def _write(self, line: str) -> None:
        print(f"\r\x1b[K{line}", end="", file=self._terminal, flush=True)

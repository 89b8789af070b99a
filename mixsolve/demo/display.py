"""What the demo shows while it works: one line per stage on stderr, with a moving count on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

#: Seconds between two redraws of a moving count.
REDRAW_SECONDS = 0.1


class Display:
    """Progress of a sequence of stages.

    Parameters
    ----------
    quiet : bool
        Say nothing at all.
    stream : text stream, optional
        sys.stderr by default. Counts move only where it is a terminal; elsewhere each stage is one finished line.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._quiet = quiet
        self._moving = not quiet and self._stream.isatty()
        self._title = ""
        self._drawn_at = 0.0

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Announce a piece of work, and its seconds when it ends."""
        self._title, self._drawn_at = title, 0.0
        started = time.perf_counter()
        self._draw("")
        yield
        if not self._quiet:
            start = "\r\x1b[K" if self._moving else ""
            print(f"{start}{title:<58}{time.perf_counter() - started:7.1f} s", file=self._stream, flush=True)

    def step(self, done: int, total: int) -> None:
        """Move the count of the current stage."""
        now = time.perf_counter()
        if now - self._drawn_at >= REDRAW_SECONDS:
            self._drawn_at = now
            self._draw(f"{100.0 * done / total:6.0f} %")

    def _draw(self, count: str) -> None:
        if self._moving:
            print(f"\r\x1b[K{self._title:<58}{count}", end="", file=self._stream, flush=True)

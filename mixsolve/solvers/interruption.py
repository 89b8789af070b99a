"""Ctrl-C: the first one asks the solve to end with what it has, the second one raises."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from mixsolve import _native


class Interruption:
    """While entered, SIGINT sets `requested` and ends the running pass; a second SIGINT raises.

    The handler is installed in the main thread only, where Python runs handlers, and only where SIGINT is
    handled by Python at all; the previous one comes back on leaving.
    """

    def __init__(self) -> None:
        self.requested = False
        self.cancel = _native.CancelToken()
        self._previous: Any = None

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            if callable(previous):
                self._previous = previous
                signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def renew(self) -> None:
        """Install the handler again: some solvers' C code puts its own in its place (OSQP and SCS do)."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self.cancel.cancel()

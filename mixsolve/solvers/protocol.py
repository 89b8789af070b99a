"""What a solver is, and what it is given: the contract between algorithms and the driver."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from mixsolve.certificate import Certificate, Queries

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mixsolve.passes import PassAnswer
    from mixsolve.results import Status
    from mixsolve.solvers.source import Source
    from mixsolve.table import LossTable

T = TypeVar("T")

Steps = Generator[Queries, "PassAnswer", "Outcome"]
"""What an algorithm is: it yields the queries of a pass, receives the answers, and returns how it ended."""


@dataclass(frozen=True)
class Outcome:
    """How an algorithm ended by itself, before the tolerance or a limit ended it."""

    status: Status
    message: str = ""
    """What there is to say beyond the status."""


class Desk(Protocol):
    """What the driver does for an algorithm beside answering its queries."""

    def loss_range(self) -> tuple[float, float]:
        """Smallest and largest loss of the table; one read, counted as a pass."""

    def count_read(self, seconds: float) -> None:
        """Count a read of the whole table that the algorithm made itself."""

    def wait(self, phase: str, task: Callable[[], T]) -> T:
        """Run a long task beside the passes; Ctrl-C and the time limit end the waiting, not the task."""

    def interrupt(self) -> None:
        """End the solve as Ctrl-C does, which a backend took for itself."""

    def seconds_left(self) -> float | None:
        """Until the time limit; None without one."""

    def note(self, **statistics: object) -> None:
        """Fill in fields of `mixsolve.results.Statistics`; `peak_memory` counts what the algorithm holds."""


@dataclass(frozen=True, eq=False)
class Problem:
    """The game as an algorithm sees it."""

    n_classifiers: int
    table: LossTable | None
    """None when the game is known through an oracle alone."""
    start: NDArray[np.float64]
    """(n_classifiers,) a mixture, which the driver has evaluated before the algorithm begins."""
    first: PassAnswer
    """The answer for `start` from float64 scores, at level `target`, then at 0 if that differs."""
    certificate: Certificate
    """What is proved so far. Answers enter it by themselves; an algorithm reads it, tightens it or offers to it."""
    desk: Desk
    seed: int = 0

    @property
    def target(self) -> float:
        """The level of the problem's own temperature: 1 if that is positive, else 0."""
        return self.certificate.target


class Solver(Protocol):
    """An algorithm with its options: a frozen dataclass that prints as it was made."""

    def check(self, source: Source, temperature: float | NDArray[np.float64]) -> None:
        """Raise ValueError when this solver does not solve games of this kind."""

    def iterate(self, problem: Problem) -> Steps:
        """The algorithm, one pass at a time."""

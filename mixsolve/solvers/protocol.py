"""What a solver is, and what it is given: the contract between algorithms and the driver."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from mixsolve.certificate import Certificate, Queries
from mixsolve.reduction import ALONE, Reducer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mixsolve._native import CancelToken
    from mixsolve.chunks import Chunks, Subsamples
    from mixsolve.passes import PassAnswer
    from mixsolve.results import AttackStrategy, Status
    from mixsolve.solvers.checkpoint import Core
    from mixsolve.solvers.oracle_memory import OracleMemory
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

    def subsamples(self, cancel: CancelToken) -> Subsamples:
        """Small tables that are like the whole one; reading it to find them is not counted yet."""

    def keep(self, core: Callable[[], Core]) -> None:
        """Write what this returns to the checkpoint, if there is one, after every pass from now on."""

    def count_read(self, seconds: float, bytes_read: int | None = None) -> None:
        """Count a read of the whole table that the algorithm made itself; of it this process so much, or its part."""

    def count_bytes(self, bytes_read: int) -> None:
        """Count bytes of the table that the algorithm read beside the passes."""

    def wait(self, phase: str, task: Callable[[CancelToken], T], *, together: bool = False) -> T:
        """Run a long task beside the passes; Ctrl-C and the time limit end the waiting and set the task's token.

        Of several processes none leaves a task alone: its token is only set where `together` says that the task then
        raises `Cancelled` on all of them.
        """

    def tolerance(self) -> float:
        """The gap, in units of the losses, at which the solve ends; 0 before anything is evaluated."""

    def interrupt(self) -> None:
        """End the solve as Ctrl-C does, which a backend took for itself."""

    def seconds_left(self) -> float | None:
        """Until the time limit; None without one."""

    def remark(self, message: str) -> None:
        """Add to the result's message."""

    def note(self, **statistics: object) -> None:
        """Fill in fields of `mixsolve.results.Statistics`; `peak_memory` counts what the algorithm holds."""


@dataclass(frozen=True, eq=False)
class Problem:
    """The game as an algorithm sees it."""

    n_classifiers: int
    table: LossTable | Chunks | None
    """None when the game is known through an oracle alone."""
    start: NDArray[np.float64]
    """(n_classifiers,) a mixture."""
    first: PassAnswer | None
    """The answer for `start` from float64 scores, at level `target`, then at 0 if that differs.

    None for a solver that evaluates the start itself.
    """
    certificate: Certificate
    """What is proved so far. Answers enter it by themselves; an algorithm reads it, tightens it or offers to it."""
    desk: Desk
    seed: int = 0
    threads: int | None = None
    earlier: AttackStrategy | None = None
    """The attacker's strategy in the result that the solve continues, for a table that may have grown since."""
    core: Core | None = None
    """Rows of the table that an earlier solve of the same game held."""
    reducer: Reducer = ALONE
    """Of the processes that hold the table together."""
    memory_limit: int | None = None
    """Bytes to hold beside the table at most."""
    memory: OracleMemory | None = None
    """What the oracle has answered so far, for a solver with the class attribute ``remembers = True``."""

    @property
    def target(self) -> float:
        """The level of the problem's own temperature: 1 if that is positive, else 0."""
        return self.certificate.target


class Solver(Protocol):
    """An algorithm with its options: a frozen dataclass that prints as it was made.

    The driver evaluates the start before the algorithm begins, and now and then solves the matrix game over all
    responses, unless a class attribute ``evaluates_start = True`` leaves both to the algorithm. With
    ``compresses = True`` it is given the smaller game that a table of 0/1 losses is, and its answer is proved on the
    table.
    """

    def check(self, source: Source, temperature: float | NDArray[np.float64]) -> None:
        """Raise ValueError when this solver does not solve games of this kind."""

    def iterate(self, problem: Problem) -> Steps:
        """The algorithm, one pass at a time."""

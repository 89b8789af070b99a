"""Sums over processes that hold parts of one table: the protocol, and the process that holds all of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class GroupError(RuntimeError):
    """Another process of the group failed, died, timed out, or was asked something else."""


class Reducer(Protocol):
    """What a solve needs of the processes beside it. Every process makes the same calls in the same order."""

    size: int
    """Processes in the group."""
    rank: int
    """Of this process among them."""
    communicated: int
    """Bytes that this process has received from the others so far."""

    def combine(self, values: NDArray[np.float64], n_largest: int = 0) -> NDArray[np.float64]:
        """Sums over the processes of a vector; of its last `n_largest` entries, the largest.

        The answer has the same bits on every process.

        Raises
        ------
        GroupError
            On every process that is left, when one failed or died.
        """

    def fail(self, error: BaseException) -> None:
        """Tell the others, who are at `combine` or on their way there, that this process cannot go on."""


class Alone:
    """One process that holds the whole table: there is nothing to add."""

    size = 1
    rank = 0
    communicated = 0

    def combine(self, values: NDArray[np.float64], n_largest: int = 0) -> NDArray[np.float64]:
        return values

    def fail(self, error: BaseException) -> None:
        """Nobody is to be told."""


ALONE = Alone()


@contextmanager
def failing_together(reducer: Reducer) -> Iterator[None]:
    """What is raised in this block is told to the other processes, and waits for them before it is left in peace."""
    try:
        yield
        reducer.combine(np.empty(0))
    except GroupError:
        raise
    except BaseException as error:
        reducer.fail(error)
        raise


def combined_sum(reducer: Reducer, number: float | np.floating[Any]) -> float:
    """The sum of one number over the processes."""
    return float(reducer.combine(np.array([float(number)]))[0])


def combined_largest(reducer: Reducer, number: float | np.bool_ | np.floating[Any]) -> float:
    """The largest of one number over the processes."""
    return float(reducer.combine(np.array([float(number)]), 1)[0])

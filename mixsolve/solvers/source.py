"""Where answers come from: a table, read by the pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from mixsolve import _native
from mixsolve.chunks import Chunks, Shard, Subsamples
from mixsolve.passes import PassAnswer, loss_range, run_pass
from mixsolve.reduction import ALONE, Reducer
from mixsolve.solvers.binary_sets import worst_case_of_sets
from mixsolve.storage import Storage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.file_table import FileTable
    from mixsolve.solvers.oracle_memory import OracleMemory
    from mixsolve.table import LossTable

LEAST_BLOCK, LARGEST_BLOCK = 1 << 20, 1 << 23
"""Bytes of the best rows of a block of samples, a twentieth of the table in float32 if that is between these: memory
that is used again and again stays in the caches."""

BLOCK_SAMPLES = 16
"""A block has as many samples at least, for threads to share."""

Visitor = Callable[[int, PassAnswer], None]


class Source(Protocol):
    """The game behind the driver."""

    n_classifiers: int
    table: LossTable | Chunks | None
    reducer: Reducer
    """Of the processes that hold the table together."""
    surveyed: float | None
    """Seconds that a read of the whole table took which had to be made before the solve; None without one."""
    always_float64: bool
    """Whether every answer is from float64 scores."""
    memory: OracleMemory | None
    """All attacks that an oracle has answered, for a solver that asks for it; None for a table."""

    @property
    def statistics(self) -> dict[str, int]:
        """Fields of `mixsolve.results.Statistics` that only the source can count."""

    def answer(
        self,
        weights: NDArray[np.float64],
        temperature: NDArray[np.float64],
        *,
        float64_scores: bool = False,
        best_attack: bool = False,
        hessians: int = 0,
        visit: Visitor | None = None,
        cancel: _native.CancelToken | None = None,
    ) -> tuple[PassAnswer, float]:
        """Answer queries, and say how much each value may be too small; `visit` is that of `Queries`."""

    def loss_range(self) -> tuple[float, float]:
        """Smallest and largest loss, by one read."""

    def subsamples(self, seed: int, cancel: _native.CancelToken | None = None) -> Subsamples:
        """Small tables that are like the whole one."""


class TableSource:
    """A table: one pass answers all queries, exactly."""

    memory: OracleMemory | None = None
    reducer: Reducer = ALONE
    surveyed: float | None = None
    statistics: ClassVar[dict[str, int]] = {}

    def __init__(self, table: LossTable, threads: int | None) -> None:
        self.n_classifiers = table.n_classifiers
        self.table: LossTable | Chunks | None = table
        self.always_float64 = table.storage is Storage.FLOAT64
        self._table = table
        self._threads = threads

    def answer(
        self,
        weights: NDArray[np.float64],
        temperature: NDArray[np.float64],
        *,
        float64_scores: bool = False,
        best_attack: bool = False,
        hessians: int = 0,
        visit: Visitor | None = None,
        cancel: _native.CancelToken | None = None,
    ) -> tuple[PassAnswer, float]:
        if visit is not None:
            found = answer_in_blocks(
                self._table,
                weights,
                temperature,
                visit,
                float64_scores=float64_scores,
                threads=self._threads,
                cancel=cancel,
            )
            return found, 0.0
        if self._table.is_compact and not self._table.on_device and not hessians and not temperature.any():
            by_sets = worst_case_of_sets(self._table, weights, best_attack, self._threads, cancel)
            if by_sets is not None:
                return by_sets, 0.0
        found = run_pass(
            self._table,
            weights,
            temperature,
            float64_scores=float64_scores,
            best_attack=best_attack,
            hessian=hessians,
            threads=self._threads,
            cancel=cancel,
        )
        return found, 0.0

    def loss_range(self) -> tuple[float, float]:
        return loss_range(self._table, self._threads)

    def subsamples(self, seed: int, cancel: _native.CancelToken | None = None) -> Subsamples:
        return Shard(self._table, self.n_classifiers).subsamples(seed, self.reducer, cancel)


def block_samples(table: LossTable | FileTable, n_queries: int, room: float = math.inf) -> int:
    """Samples whose best rows are held together: the table, the room and the number of queries alone decide."""
    row_bytes = n_queries * 8 * (table.n_classifiers + 2)
    room = min(max(LEAST_BLOCK, 4 * table.n_rows * table.n_classifiers // 20), LARGEST_BLOCK, room)
    n_samples: int = table.n_samples
    step = max(BLOCK_SAMPLES, int(room / row_bytes))
    return -(-n_samples // -(-n_samples // step))  # no small one at the end


def answer_in_blocks(
    table: LossTable | FileTable,
    weights: NDArray[np.float64],
    temperature: NDArray[np.float64],
    visit: Visitor,
    first_sample: int = 0,
    *,
    room: float = math.inf,
    float64_scores: bool,
    threads: int | None,
    cancel: _native.CancelToken | None,
) -> PassAnswer:
    """One read of a table, block by block, so that the best rows of all samples are never held together.

    `visit` counts samples from `first_sample` on. The best rows that it is shown at once take `room` bytes at most, or
    are those of a few samples.
    """
    step = block_samples(table, len(weights), room)
    value, gradient, bytes_read = np.zeros(len(weights)), np.zeros(weights.shape), 0
    for first in range(0, table.n_samples, step):
        samples = None if step >= table.n_samples else np.arange(first, min(first + step, table.n_samples))
        answer = run_pass(
            table,
            weights,
            temperature,
            per_sample=True,
            best_attack=True,
            best_row=True,
            samples=samples,
            float64_scores=float64_scores,
            threads=threads,
            cancel=cancel,
        )
        visit(first_sample + first, answer)
        value += answer.value
        gradient += answer.gradient
        bytes_read += answer.bytes_read
    return PassAnswer(value, gradient, None, None, None, bytes_read)

"""Where answers come from: a table, read by the pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mixsolve import _native
from mixsolve.passes import run_pass
from mixsolve.storage import Storage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mixsolve.passes import PassAnswer
    from mixsolve.table import LossTable


class Source(Protocol):
    """The game behind the driver."""

    n_classifiers: int
    table: LossTable | None
    always_float64: bool
    """Whether every answer is from float64 scores."""

    def answer(
        self,
        weights: NDArray[np.float64],
        temperature: NDArray[np.float64],
        *,
        float64_scores: bool = False,
        best_attack: bool = False,
        cancel: _native.CancelToken | None = None,
    ) -> tuple[PassAnswer, float]:
        """Answer queries, and say how much each value may be too small."""

    def loss_range(self) -> tuple[float, float]:
        """Smallest and largest loss, by one read."""


class TableSource:
    """A table: one pass answers all queries, exactly."""

    def __init__(self, table: LossTable, threads: int | None) -> None:
        self.n_classifiers = table.n_classifiers
        self.table: LossTable | None = table
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
        cancel: _native.CancelToken | None = None,
    ) -> tuple[PassAnswer, float]:
        found = run_pass(
            self._table,
            weights,
            temperature,
            float64_scores=float64_scores,
            best_attack=best_attack,
            threads=self._threads,
            cancel=cancel,
        )
        return found, 0.0

    def loss_range(self) -> tuple[float, float]:
        return _native.extremes(self._table.native, self._threads or 0)

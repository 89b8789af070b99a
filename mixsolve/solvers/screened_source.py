"""Answers from a table whose compact copy says where it has to be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mixsolve.chunks import Shard, Survey
from mixsolve.passes import PassAnswer, loss_range
from mixsolve.reduction import ALONE, Reducer
from mixsolve.solvers.source import block_samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve import _native
    from mixsolve.chunks import Chunks, Subsamples
    from mixsolve.proxy import Proxy
    from mixsolve.solvers.oracle_memory import OracleMemory
    from mixsolve.solvers.source import Visitor
    from mixsolve.table import LossTable


class ScreenedSource:
    """A table and its proxy: one read of the compact copy, and some rows of the table, answer all worst-case queries.

    Answers are those of the table, in float64. Passes are reads of the copy; bytes are those of the table.
    """

    always_float64 = True
    memory: OracleMemory | None = None
    reducer: Reducer = ALONE

    def __init__(self, proxy: Proxy, threads: int | None) -> None:
        self.n_classifiers = proxy.table.n_classifiers
        self.table: LossTable | Chunks | None = proxy.table
        measured = proxy.measured
        self.surveyed = None if measured is None else Survey(measured, proxy.table.nbytes)
        self._table = proxy.table
        self._proxy = proxy
        self._threads = threads

    @property
    def statistics(self) -> dict[str, int]:
        return {"proxy_bytes_read": self._proxy.bytes_read, "rows_read": self._proxy.rows_read}

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
        assert not temperature.any(), "a softmax needs every loss"
        value, gradient, bytes_read = np.zeros(len(weights)), np.zeros(weights.shape), 0
        attacks: list[NDArray[np.int64]] = []
        step = block_samples(self._table, len(weights))
        for first in range(0, self._table.n_samples, step):
            last = min(first + step, self._table.n_samples)
            found = self._proxy.screen(weights, first, last, cancel)
            share = self._table.sample_weight[first:last]
            block = PassAnswer(
                value=found.per_sample @ share,
                gradient=share @ found.best_row,
                per_sample=found.per_sample,
                best_attack=found.best_attack,
                best_row=found.best_row,
                bytes_read=found.bytes_read,
            )
            if visit is not None:
                visit(first, block)
            value += block.value
            gradient += block.gradient
            bytes_read += block.bytes_read
            if best_attack:
                attacks.append(found.best_attack)
        best = np.concatenate(attacks, axis=1) if best_attack else None
        return PassAnswer(value, gradient, None, best, None, bytes_read), 0.0

    def loss_range(self) -> tuple[float, float]:
        return loss_range(self._table, self._threads)

    def subsamples(self, seed: int, cancel: _native.CancelToken | None = None) -> Subsamples:
        """Of the copy: where the solve begins proves nothing yet."""
        table = self._table
        copy = self._proxy.copy.reweighted(table.sample_weight if table.has_sample_weight else None)
        chosen = Shard(copy, self.n_classifiers).subsamples(seed, self.reducer, cancel)
        return replace(chosen, parts=self._counted(chosen.parts), is_counted=True)

    def _counted(self, parts: Iterator[Shard]) -> Iterator[Shard]:
        for part in parts:
            self._proxy.bytes_read += part.nbytes
            yield part

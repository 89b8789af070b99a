"""Answers from a table that is read in chunks, or that several processes hold together."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mixsolve import _native
from mixsolve.passes import PassAnswer, loss_range, raise_if_not_finite, run_pass
from mixsolve.reduction import combined_largest
from mixsolve.solvers.source import answer_in_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.chunks import Chunks, Part, Subsamples
    from mixsolve.reduction import Reducer
    from mixsolve.solvers.oracle_memory import OracleMemory
    from mixsolve.solvers.source import Visitor
    from mixsolve.table import LossTable


class ChunkedSource:
    """One pass reads every part once, and adds up over the processes.

    The sums of a pass are those of its parts times their mass, first in order over the parts, then over the
    processes: equal input in equal parts gives equal bits, on every process.
    """

    memory: OracleMemory | None = None
    statistics: ClassVar[dict[str, int]] = {}

    def __init__(self, table: Chunks, threads: int | None, reducer: Reducer) -> None:
        self.n_classifiers = table.n_classifiers
        self.table: LossTable | Chunks | None = table
        self.surveyed = table.surveyed
        self._chunks = table
        self.always_float64 = combined_largest(reducer, not table.always_float64) == 0
        self.reducer = reducer
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
        shape = (*weights.shape, hessians)
        sums = np.zeros(shape[0] * (1 + shape[1]) + hessians * shape[1] ** 2)
        attacks: list[NDArray[np.int64]] = []
        bytes_read = 0
        options = {"float64_scores": float64_scores, "threads": self._threads, "cancel": cancel}
        want = {"best_attack": best_attack, "hessian": hessians}
        with closing(self._chunks.parts(cancel)) as parts:
            for part in parts:
                found = self._answer_part(part, weights, temperature, visit, want, options)
                hessian = np.empty(0) if found.hessian is None else found.hessian
                sums += part.mass * np.concatenate([found.value, found.gradient.ravel(), hessian.ravel()])
                bytes_read += found.bytes_read
                if found.best_attack is not None:
                    attacks.append(found.best_attack)
        return self._combined(sums, bytes_read, shape, attacks if best_attack else None), 0.0

    def loss_range(self) -> tuple[float, float]:
        lowest, highest = np.inf, -np.inf
        for chunk in self._chunks.read():
            low, high = loss_range(chunk.table, self._threads)
            lowest, highest = min(lowest, low), max(highest, high)
        low, high = self.reducer.combine(np.array([-lowest, highest]), 2)
        return -float(low), float(high)

    def subsamples(self, seed: int, cancel: _native.CancelToken | None = None) -> Subsamples:
        return self._chunks.subsamples(seed, self.reducer, cancel)

    def _answer_part(
        self,
        part: Part,
        weights: NDArray[np.float64],
        temperature: NDArray[np.float64],
        visit: Visitor | None,
        want: dict[str, Any],
        options: dict[str, Any],
    ) -> PassAnswer:
        own = temperature
        if temperature.ndim == 2:
            own = temperature[:, part.first : part.first + part.table.n_samples]
        try:
            if visit is not None:
                return answer_in_blocks(
                    part.table, weights, own, visit, part.first, room=part.room, **options
                )
            return run_pass(part.table, weights, own, **want, **options)
        except ValueError:
            raise_if_not_finite(part.table, options["cancel"], part.first)
            raise

    def _combined(
        self,
        sums: NDArray[np.float64],
        bytes_read: int,
        shape: tuple[int, int, int],
        attacks: list[NDArray[np.int64]] | None,
    ) -> PassAnswer:
        """The answer for the whole game from this process's sums."""
        n_queries, n_classifiers, hessians = shape
        total = self.reducer.combine(np.append(sums, bytes_read))
        value, gradient, hessian = np.split(total[:-1], [n_queries, n_queries * (1 + n_classifiers)])
        best = None
        if attacks is not None:
            best = np.concatenate([np.empty((n_queries, 0), dtype=np.int64), *attacks], axis=1)
        return PassAnswer(
            value=value,
            gradient=gradient.reshape(n_queries, n_classifiers),
            per_sample=None,
            best_attack=best,
            best_row=None,
            bytes_read=int(total[-1]),
            hessian=hessian.reshape(hessians, n_classifiers, n_classifiers) if hessians else None,
        )

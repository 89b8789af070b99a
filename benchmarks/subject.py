"""What ``bench_pass`` times: a big table with a known answer, a query, and the two public functions of the pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import cases
from benchmarks.harness import require_close
from mixsolve.reference import reference_pass
from mixsolve.table import LossTable
from mixsolve.values import smoothed_value_and_grad, worst_case

Array = np.ndarray[Any, np.dtype[Any]]
TEMPERATURE = 0.05
"""Of losses in (0, 1): the softmax spreads over dozens of attacks."""


@dataclass(frozen=True)
class Subject:
    """A table, a query, and the two functions under test bound to them."""

    table: LossTable
    planes: Array
    """The memory behind the table, which shows it read-only."""
    weights: Array
    block: Array
    threads: int

    @classmethod
    def of(
        cls, n_classifiers: int, n_attacks: int, n_bytes: int, threads: int, storage: Any = np.float32
    ) -> Subject:
        """A tiled table of sigmoid losses; ``n_bytes`` is its size as float32 whatever the storage."""
        shape = cases.block_shape(n_classifiers, n_attacks, n_bytes // 4)
        block = cases.sigmoid_losses(shape, seed=n_classifiers + n_attacks)
        stored = block.astype(storage)
        itemsize_share = stored.itemsize / block.itemsize
        planes = cases.tiled(stored, int(n_bytes * itemsize_share))
        return cls(
            LossTable(planes),
            planes,
            cases.mixture(n_classifiers, seed=1),
            stored.astype(np.float64),
            threads,
        )

    def smoothed(self) -> object:
        return smoothed_value_and_grad(self.table, self.weights, TEMPERATURE, threads=self.threads)

    def worst(self) -> object:
        return worst_case(self.table, self.weights, threads=self.threads)

    def describe(self) -> dict[str, Any]:
        table = self.table
        return {
            "n_classifiers": table.n_classifiers,
            "n_samples": table.n_samples,
            "n_attacks": table.n_attacks,
            "storage": table.storage.name.lower(),
            "bytes": table.nbytes,
            "threads": self.threads,
        }

    def verify(self) -> dict[str, float]:
        """Largest errors of both functions against float64 NumPy; raises where one is not that of float32 scores."""
        allowed = 1e-5 if self.table.array.dtype != np.float64 else 1e-12
        wanted = reference_pass(self.block, self.weights, TEMPERATURE)
        value, grad = smoothed_value_and_grad(self.table, self.weights, TEMPERATURE, threads=self.threads)
        errors = {
            "value_error": require_close("smoothed value", value, wanted.value[0], allowed),
            "grad_error": require_close("smoothed gradient", grad, wanted.gradient[0], allowed),
        }
        hardest = reference_pass(self.block, self.weights, 0.0)
        answer = worst_case(self.table, self.weights, threads=self.threads)
        copies = self.table.n_samples // self.block.shape[1]
        errors["worst_case_value_error"] = require_close(
            "worst case", answer.value, hardest.value[0], allowed
        )
        require_close(
            "per-sample worst case", answer.per_sample, np.tile(hardest.per_sample[0], copies), allowed
        )
        return errors

"""The rows of a table that differ, shifted and scaled, as a linear programme wants them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mixsolve.row_game import RowGame

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.table import LossTable

# Odd, with no pattern in its bits (2**64 divided by the golden ratio); products wrap around.
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class DistinctRows:
    """Rows of the samples with positive weight; of identical rows of a sample the first stands for all.

    The losses are ``(loss - shift) / scale`` in [0, 1], with `scale` a power of two.
    """

    losses: NDArray[np.float64]
    """(n, n_classifiers) one row each."""
    sample: NDArray[np.int64]
    """(n,) rising; position among the samples of positive weight."""
    attack: NDArray[np.int64]
    """(n,) index within the sample."""
    share: NDArray[np.float64]
    """(n_kept,) weights of these samples, summing to 1."""
    kept: NDArray[np.int64]
    """(n_kept,) which samples of the table they are."""

    @property
    def game(self) -> RowGame:
        """The game on these rows."""
        return RowGame(self.losses, np.searchsorted(self.sample, np.arange(self.share.size + 1)), self.share)


def distinct_rows(table: LossTable) -> DistinctRows:
    """Widen the table, drop samples of weight 0, merge identical rows of a sample, shift and scale."""
    kept = np.flatnonzero(table.sample_weight > 0)
    counts = table.attack_counts
    losses = table.block(0, table.n_samples).losses
    sample = np.repeat(np.arange(table.n_samples), counts)
    attack = np.arange(sample.size) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.flatnonzero(table.sample_weight[sample] > 0)
    chosen = chosen[first_of_equals(losses[:, chosen], sample[chosen])]
    rows = np.ascontiguousarray(losses[:, chosen].T)
    rows -= rows.min()
    rows /= 2.0 ** math.frexp(float(rows.max()))[1]
    share = table.sample_weight[kept]
    return DistinctRows(
        rows, np.searchsorted(kept, sample[chosen]), attack[chosen], share / math.fsum(share), kept
    )


def first_of_equals(losses: NDArray[np.float64], sample: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions, rising, of the rows that are not equal to an earlier row of their sample.

    Rows are sorted by a hash of their bits and compared with their neighbour: a collision can at worst leave two
    equal rows apart.
    """
    code = np.zeros(sample.size, dtype=np.uint64)
    for plane in losses:
        code = (code ^ (plane + 0.0).view(np.uint64)) * _MULTIPLIER  # + 0.0 makes -0.0 equal to 0.0
        code ^= code >> np.uint64(32)
    order = np.lexsort((code, sample))
    before, after = order[:-1], order[1:]
    same = (sample[before] == sample[after]) & (code[before] == code[after])
    candidates = np.flatnonzero(same)
    same[candidates] = np.all(losses[:, before[candidates]] == losses[:, after[candidates]], axis=0)
    return np.sort(order[np.concatenate([[True], ~same])])

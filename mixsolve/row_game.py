"""The worst case over given rows of every sample: what mixtures and duals prove on it, and its linear programme."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

DUAL_THRESHOLD = 1e-9
"""Duals below this part of their sample's are left out of the attacker's strategy."""


class LinearAnswer(NamedTuple):
    """What a solver of the linear programme answered; nothing in it is trusted."""

    message: str
    weights: NDArray[np.float64] | None
    """(n_classifiers,) None when there is no answer."""
    duals: NDArray[np.float64] | None
    """(n_rows,) multipliers of the rows, positive where a row is active."""
    iterations: int


@dataclass(frozen=True, eq=False)
class RowGame:
    """``min over the simplex of sum_i share_i max_j <w, row_ij>``; nothing is checked here."""

    rows: NDArray[np.float64]
    """(n_rows, n_classifiers)"""
    offsets: NDArray[np.int64]
    """(n_samples + 1,) sample i owns ``rows[offsets[i]:offsets[i + 1]]``, at least one row."""
    share: NDArray[np.float64]
    """(n_samples,) >= 0, summing to 1."""

    @property
    def owner(self) -> NDArray[np.int64]:
        """(n_rows,) the sample of every row."""
        return np.repeat(np.arange(self.share.size), np.diff(self.offsets))

    def value(self, weights: NDArray[np.float64]) -> float:
        """Worst case of a mixture."""
        worst: NDArray[np.float64] = np.maximum.reduceat(self.rows @ weights, self.offsets[:-1])
        return math.fsum(self.share * worst)

    def lower_bound(self, duals: NDArray[np.float64]) -> float:
        """``min_k sum_r duals_r rows_rk``: a bound on the value if the duals are >= 0 and add up to the shares."""
        return float((duals @ self.rows).min())

    def strategy(self, duals: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of the rows, (n_rows,), that sum to 1 over every sample, whatever the accuracy of the duals.

        Duals below `DUAL_THRESHOLD` of their sample's are left out, the rest of the sample is normalised. A sample
        that lacks half of its share or more is attacked at its worst row for the mixture.
        """
        starts, counts = self.offsets[:-1], np.diff(self.offsets)
        mass = np.maximum(duals, 0.0)
        for sample in np.flatnonzero(~(np.add.reduceat(mass, starts) > 0.5 * self.share)).tolist():
            own = slice(self.offsets[sample], self.offsets[sample + 1])
            mass[own] = 0.0
            mass[own][np.argmax(self.rows[own] @ weights)] = 1.0
        mass[mass < DUAL_THRESHOLD * np.repeat(np.add.reduceat(mass, starts), counts)] = 0.0
        mass /= np.repeat(np.add.reduceat(mass, starts), counts)
        return mass

    def solve_by_scipy(self, method: str, options: Mapping[str, Any]) -> LinearAnswer:
        """Solve the linear programme in (w, v) by SciPy's HiGHS.

        The rows of every sample are shifted, all are scaled to unit range, and the shares to mean 1.
        """
        from scipy.optimize import linprog  # here: it takes as long to import as all of mixsolve
        from scipy.sparse import csr_array, hstack

        n_rows, n_classifiers = self.rows.shape
        n_samples, owner = self.share.size, self.owner
        shifted = self.rows - np.minimum.reduceat(self.rows.min(axis=1), self.offsets[:-1])[owner, None]
        largest = float(shifted.max())
        shifted /= 2.0 ** math.frexp(largest)[1] if largest > 0 else 1.0
        pick = csr_array((-np.ones(n_rows), (np.arange(n_rows), owner)), shape=(n_rows, n_samples))
        found = linprog(
            np.concatenate([np.zeros(n_classifiers), self.share * n_samples]),
            A_ub=hstack([csr_array(shifted), pick], format="csr"),
            b_ub=np.zeros(n_rows),
            A_eq=hstack([np.ones((1, n_classifiers)), csr_array((1, n_samples))], format="csr"),
            b_eq=[1.0],
            bounds=[(0.0, None)] * n_classifiers + [(None, None)] * n_samples,
            method=method,
            options=dict(options),
        )
        weights = None if found.x is None else found.x[:n_classifiers]
        marginals = None if weights is None else found.ineqlin.marginals
        return LinearAnswer(
            "optimal" if found.status == 0 else str(found.message),
            weights if _all_finite(weights) else None,
            -marginals / n_samples if marginals is not None and _all_finite(marginals) else None,
            int(found.nit),
        )


def _all_finite(numbers: NDArray[np.float64] | None) -> bool:
    return numbers is not None and bool(np.isfinite(numbers).all())

"""What an oracle has answered so far: rows of every sample, on which the game can be solved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mixsolve.passes import PassAnswer
from mixsolve.solvers.active_rows import ROUNDING_ULPS, ActiveRows
from mixsolve.solvers.distinct_rows import first_of_equals

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_ATTACKS = 2**31
"""On a single sample, in all answers together."""


@dataclass(frozen=True, eq=False)
class _Shape:
    """Of the table that all answers would be."""

    n_classifiers: int
    n_samples: int
    sample_weight: NDArray[np.float64]

    @property
    def attack_counts(self) -> NDArray[np.int64]:
        return np.full(self.n_samples, MOST_ATTACKS)


class OracleMemory:
    """All attacks answered so far, each row of a sample once; attacks are numbered by sample as they came.

    Attributes
    ----------
    rows : ActiveRows
        Of samples with positive weight; there after the first answer.
    fresh : int
        Samples on which the last answer beat all earlier ones by more than rounding.
    """

    rows: ActiveRows

    def __init__(self) -> None:
        self.fresh = 0
        self._counts = np.empty(0, dtype=np.int64)

    @property
    def n_samples(self) -> int:
        """0 before the first answer."""
        return self._counts.size

    def begin(self, n_classifiers: int, share: NDArray[np.float64]) -> None:
        """Fix the sample weights, before the first answer is taken in."""
        self.rows = ActiveRows(_Shape(n_classifiers, share.size, share))
        self._counts = np.zeros(share.size, dtype=np.int64)

    def take(
        self, weights: NDArray[np.float64], samples: NDArray[np.int64], losses: NDArray[np.float64]
    ) -> None:
        """Take in an answer.

        Parameters
        ----------
        weights : ndarray, (n_classifiers,)
            What it answers.
        samples : ndarray of int64, (n,)
            Distinct.
        losses : ndarray, (n_classifiers, n, r)
        """
        n_new = losses.shape[2]
        before = self.rows.highest(self.rows.rows @ weights)[samples]
        best = np.einsum("k,kij->ij", weights, losses).max(axis=1)
        slack = ROUNDING_ULPS * float(np.finfo(np.float64).eps) * float(np.abs(losses).max())
        weighted = self.rows.share[samples] > 0
        self.fresh = int(np.count_nonzero(weighted & (best > before + slack)))
        sample = np.repeat(samples, n_new)
        attack = (self._counts[samples][:, None] + np.arange(n_new)).ravel()
        self._counts[samples] += n_new
        chosen = np.flatnonzero(self.rows.share[sample] > 0)
        sample, attack = sample[chosen], attack[chosen]
        offered = losses.reshape(losses.shape[0], -1).T[chosen]
        held = self.rows.n_rows
        distinct = first_of_equals(
            np.concatenate([self.rows.rows, offered]).T, np.concatenate([self.rows.sample, sample])
        )
        new = distinct[distinct >= held] - held
        self.rows.add(sample[new], attack[new], offered[new])

    def answer(self, weights: NDArray[np.float64]) -> PassAnswer:
        """The best attack known on every sample, the first on ties, as the answer of a pass to one query."""
        rows = self.rows
        scores = rows.rows @ weights
        best = np.flatnonzero(scores == rows.highest(scores)[rows.sample])
        best = best[np.diff(rows.sample[best], prepend=-1) > 0]
        mean_losses = rows.share[rows.sample[best]] @ rows.rows[best]
        attack = np.zeros(self.n_samples, dtype=np.int64)
        attack[rows.sample[best]] = rows.attack[best]
        return PassAnswer(
            value=np.array([weights @ mean_losses]),
            gradient=mean_losses[None],
            per_sample=None,
            best_attack=attack[None],
            best_row=None,
            bytes_read=0,
        )

"""Adversarial risks of every player on one table, from a single read of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixsolve.passes import worst_case
from mixsolve.table import LossTable


@dataclass(frozen=True, eq=False)
class Scores:
    """Worst-case risks on the attacks of one table."""

    singles: npt.NDArray[np.float64]
    """(n_classifiers,) each classifier alone."""
    uniform: float
    """All classifiers with equal probability."""
    mixture: float
    choice: int
    """The classifier that was best in sample."""

    @property
    def best_single(self) -> float:
        """Risk of the chosen classifier alone."""
        return float(self.singles[self.choice])

    def to_dict(self) -> dict[str, Any]:
        """The scores as JSON values."""
        return {
            "mixture": self.mixture,
            "best_single": self.best_single,
            "best_single_classifier": self.choice,
            "uniform": self.uniform,
            "singles": self.singles.tolist(),
        }


def score_players(table: LossTable, weights: npt.NDArray[np.float64], choice: int | None = None) -> Scores:
    """Risks of every classifier alone, of their uniform mixture and of the mixture `weights`.

    Parameters
    ----------
    table : LossTable
    weights : ndarray of float64, (n_classifiers,)
    choice : int, optional
        The best single classifier as chosen elsewhere (in sample); the best here by default.
    """
    n_classifiers = table.n_classifiers
    players = np.vstack([np.eye(n_classifiers), np.full(n_classifiers, 1.0 / n_classifiers), weights])
    risks = worst_case(table, players, float64_scores=True).value
    singles = risks[:n_classifiers]
    chosen = int(np.argmin(singles)) if choice is None else choice
    return Scores(singles, float(risks[-2]), float(risks[-1]), chosen)

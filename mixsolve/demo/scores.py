"""Adversarial risks of every player on one table, from a single read of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixsolve.comparison import MixtureComparison
from mixsolve.table import LossTable
from mixsolve.values import worst_case


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

    @classmethod
    def of(cls, comparison: MixtureComparison) -> Scores:
        """The scores on the table that was solved."""
        mixture = comparison.optimal.worst_case_value
        return cls(comparison.single_values, comparison.uniform_value, mixture, comparison.best_single)

    def to_dict(self) -> dict[str, Any]:
        """The scores as JSON values."""
        return {
            "mixture": self.mixture,
            "best_single": self.best_single,
            "best_single_classifier": self.choice,
            "uniform": self.uniform,
            "singles": self.singles.tolist(),
        }


def score_players(table: LossTable, weights: npt.NDArray[np.float64], choice: int) -> Scores:
    """Risks of every classifier alone, of their uniform mixture and of the mixture `weights`.

    Parameters
    ----------
    table : LossTable
    weights : ndarray of float64, (n_classifiers,)
    choice : int
        The best single classifier as chosen in sample.
    """
    n_classifiers = table.n_classifiers
    players = np.vstack([np.eye(n_classifiers), np.full(n_classifiers, 1.0 / n_classifiers), weights])
    risks = worst_case(table, players, float64_scores=True).value
    return Scores(risks[:n_classifiers], float(risks[-2]), float(risks[-1]), choice)

"""The adversary's responses collected so far, and the matrix game in which the classifiers face them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mixsolve.matrix_game import solve_matrix_game
from mixsolve.strategy import ResponseAttack, RowAttack

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Responses:
    """Responses to queries, each with its payoff: what it proves that every classifier loses at least.

    Parameters
    ----------
    n_classifiers : int
    unit : float or ndarray, (n_samples,)
        Temperatures are multiples of it, called levels.
    citable : bool
        Whether best attacks are rows of a table, which a strategy can name.
    """

    def __init__(self, n_classifiers: int, unit: float | NDArray[np.float64], *, citable: bool) -> None:
        self._unit = unit
        self._citable = citable
        self._weights = np.empty((0, n_classifiers))
        self._payoff = np.empty((0, n_classifiers))
        self._level = np.empty(0)
        self._exact = np.empty(0, dtype=np.bool_)
        self._best_attack: dict[int, NDArray[np.int64]] = {}
        self._new: list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], bool]] = []
        self._only_exact = False
        self._tightened = 0
        self.used = np.empty(0, dtype=np.int64)
        """The responses in the best strategy found."""
        self._coefficient = np.empty(0)

    def add(
        self,
        weights: NDArray[np.float64],
        level: NDArray[np.float64],
        payoff: NDArray[np.float64],
        *,
        exact: bool,
    ) -> None:
        """Take in responses to `weights` (n, n_classifiers) at `level` (n,) with `payoff` (n, n_classifiers)."""
        if exact or not self._only_exact:
            self._new.append((weights.copy(), level.copy(), payoff, exact))

    @property
    def mean_size(self) -> float:
        """Largest mean loss seen, without its sign."""
        self._merge()
        return float(np.abs(self._payoff).max()) if self._payoff.size else 0.0

    @property
    def nbytes(self) -> int:
        arrays = [self._weights, self._payoff, self._level, *self._best_attack.values()]
        return sum(array.nbytes for array in arrays)

    def query(self, response: int) -> tuple[NDArray[np.float64], float]:
        """The weights and the level that a response answers."""
        return self._weights[response], float(self._level[response])

    def tighten(self) -> NDArray[np.float64] | None:
        """Find the best strategy over all responses; returns the mixture that answers it best.

        None when there is nothing new, or the linear programme failed: the strategy stays as it was.
        """
        self._merge()
        if self._tightened == len(self._level):
            return None
        self._tightened = len(self._level)
        usable = np.flatnonzero(self._usable())
        found = solve_matrix_game(self._payoff[usable], np.flatnonzero(np.isin(usable, self.used)))
        if found is None:
            return None
        if not self.used.size or found.value >= self.lower:
            self.used, self._coefficient = usable[found.attack], found.coefficient
        return found.mixture

    @property
    def lower(self) -> float:
        """The lower bound that the best strategy proves; -inf before there is one."""
        if not self.used.size:
            return -math.inf
        return float((self._coefficient @ self._payoff[self.used]).min())

    def unproved(self) -> list[int]:
        """Responses of the strategy not yet in float64, or whose rows are not yet known."""
        return [r for r in self.used.tolist() if not self._exact[r] or not self._is_cited(r)]

    def prove(
        self, response: int, payoff: NDArray[np.float64], best_attack: NDArray[np.int64] | None
    ) -> None:
        """Replace a payoff by the one from float64 scores, and keep the rows of a response at level 0."""
        self._payoff[response] = payoff
        self._exact[response] = True
        if best_attack is not None and self._level[response] == 0:
            self._best_attack[response] = best_attack

    def keep_only_exact(self) -> None:
        """From now on only responses from float64 scores count."""
        self._merge()
        self._only_exact = True

    def forget_inexact(self) -> None:
        """Start again from the best single response from float64 scores."""
        self.keep_only_exact()
        exact = np.flatnonzero(self._usable())
        self.used = exact[[np.argmax(self._payoff[exact].min(axis=1))]] if exact.size else exact
        self._coefficient = np.ones(self.used.size)
        self._tightened = 0

    def strategy(self) -> RowAttack | ResponseAttack | None:
        """The best strategy: explicit rows when all responses are best attacks, which ties would make ambiguous.

        Where these are not known yet, as after a pass that failed, the responses have to do.
        """
        if not self.used.size or (not self._citable and not self._level[self.used].all()):
            return None
        if self._level[self.used].any() or not all(map(self._is_cited, self.used.tolist())):
            temperature = np.multiply.outer(self._level[self.used], self._unit)
            return ResponseAttack(self._coefficient, self._weights[self.used], temperature)
        attack = np.stack([self._best_attack[r] for r in self.used.tolist()])
        n_samples, n_attacks = attack.shape[1], int(attack.max(initial=0)) + 1
        row = np.arange(n_samples) * n_attacks + attack
        rows, place = np.unique(row, return_inverse=True)
        probability = np.zeros(rows.size)
        np.add.at(probability, place.ravel(), np.repeat(self._coefficient, n_samples))
        return RowAttack(rows // n_attacks, rows % n_attacks, probability, n_samples)

    def _usable(self) -> NDArray[np.bool_]:
        """Softmax responses where there are any: best attacks hang on the last bit of tied scores."""
        softened = self._level > 0
        usable = softened if softened.any() else ~softened
        return usable & self._exact if self._only_exact else usable

    def _is_cited(self, response: int) -> bool:
        return not self._citable or self._level[response] > 0 or response in self._best_attack

    def _merge(self) -> None:
        """Move what is new into the arrays."""
        if not self._new:
            return
        weights, level, payoff, exact = zip(*self._new, strict=True)
        self._weights = np.concatenate([self._weights, *weights])
        self._level = np.concatenate([self._level, *level])
        self._payoff = np.concatenate([self._payoff, *payoff])
        flags = [np.full(len(part), flag) for part, flag in zip(level, exact, strict=True)]
        self._exact = np.concatenate([self._exact, *flags])
        self._new.clear()

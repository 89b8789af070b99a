"""The adversary's mixed strategies, and the lower bound that each of them proves.

For any distribution q_i over the attacks of every sample i, with the prior u and the problem's temperature t::

    D_t(q) = min_k sum_i s_i sum_j q_ij losses[k, i, j] - sum_i s_i t_i KL(q_i || u_i)   <=   value of the game
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve.inputs import check_temperature
from mixsolve.passes import run_pass
from mixsolve.reference import respond, sample_blocks
from mixsolve.results import AttackStrategy
from mixsolve.row_attack import RowAttack, frequent_rows, frozen, thinned
from mixsolve.simplex import check_simplex
from mixsolve.table import LossTable, as_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ResponseAttack", "RowAttack", "strategy_from_dict"]


@dataclass(frozen=True, eq=False)
class ResponseAttack(AttackStrategy):
    """A convex combination of the adversary's responses to a few vectors of weights.

    The response at temperature 0 is the best attack of every sample, the lowest index on ties; above it the
    softmax of the scores with the prior.

    Raises
    ------
    ValueError
        If the shapes do not agree, something is not finite, the coefficients are no convex combination, or a
        response's temperature mixes 0 with positive entries.
    """

    coefficient: NDArray[np.float64]
    """(R,) non-negative, sums to 1."""
    weights: NDArray[np.float64]
    """(R, n_classifiers) what is responded to; any finite weights."""
    temperature: NDArray[np.float64]
    """(R,), or (R, n_samples), of the responses."""

    def __post_init__(self) -> None:
        weights = np.array(self.weights, dtype=np.float64)
        temperature = np.array(self.temperature, dtype=np.float64)
        if weights.ndim != 2 or not np.all(np.isfinite(weights)):
            raise ValueError(
                f"`weights` must be finite with shape (responses, classifiers); got shape {weights.shape}"
            )
        if temperature.ndim not in (1, 2) or len(temperature) != len(weights):
            raise ValueError(
                f"`temperature` must have shape ({len(weights)},) or ({len(weights)}, n_samples); "
                f"got {temperature.shape}"
            )
        coefficient = check_simplex(self.coefficient, len(weights), "coefficient")
        for level in temperature:
            check_temperature(level, level.size)
        object.__setattr__(self, "coefficient", frozen(coefficient))
        object.__setattr__(self, "weights", frozen(weights))
        object.__setattr__(self, "temperature", frozen(temperature))

    def rows(self, losses: Any = None, threshold: float = 0.0) -> RowAttack:
        """The strategy written out, without the rows whose probability is at most `threshold`.

        What is left of each sample is normalised again; its most probable rows always stay.

        Parameters
        ----------
        losses : array or LossTable
            The game; a `LossTable` where there are offsets, sample weights or a prior.
        threshold : float

        Raises
        ------
        TypeError
            If `losses` is not given.
        """
        if losses is None:
            raise TypeError("`losses` must be given: responses are rebuilt from the table; got None")
        table = as_table(losses)
        self._check_fits(table)
        best = self._best_attacks(table)
        sizes = table.attack_counts * (table.n_classifiers + 2)
        parts = [self._rows_of(table, part, best, threshold) for part in sample_blocks(sizes)]
        sample, attack, probability = (np.concatenate(column) for column in zip(*parts, strict=True))
        return thinned(sample, attack, probability, table.n_samples)

    def mean_losses(self, table: LossTable, *, threads: int | None = None) -> NDArray[np.float64]:
        """Mean loss of every classifier under this strategy, (n_classifiers,); one float64 pass.

        Raises
        ------
        ValueError
            If the table has other numbers of classifiers or samples.
        """
        return self._value_and_mean_losses(table, threads)[1]

    def lower_bound(self, table: LossTable, temperature: Any = 0.0, *, threads: int | None = None) -> float:
        """A lower bound that this strategy proves, in float64, from one pass.

        At the problem's temperature 0 it is D_0. If every response is at the problem's temperature it is
        ``min_k sum_r c_r (F_t(w_r) - <w_r, g_r> + g_r[k])``, which the convexity of KL puts at or below D_t.
        For responses at other temperatures the strategy is written out, which costs a second read.

        Parameters
        ----------
        table : LossTable
        temperature : float or array, (n_samples,)
            The problem's.

        Raises
        ------
        ValueError
            If the table has other numbers of classifiers or samples.
        """
        level = check_temperature(temperature, table.n_samples)
        own = self.temperature if self.temperature.ndim == 2 else self.temperature[:, None]
        if np.any(level != 0) and np.any(own != level):
            return self.rows(table).lower_bound(table, level)
        value, mean_losses = self._value_and_mean_losses(table, threads)
        return value + float(mean_losses.min()) if np.any(level != 0) else float(mean_losses.min())

    def to_dict(self) -> dict[str, Any]:
        """The strategy as JSON values."""
        return {
            "kind": "responses",
            "coefficient": self.coefficient.tolist(),
            "weights": self.weights.tolist(),
            "temperature": self.temperature.tolist(),
        }

    def _value_and_mean_losses(
        self, table: LossTable, threads: int | None
    ) -> tuple[float, NDArray[np.float64]]:
        """Intercept and slope of the combined cut: sum_r c_r (F(w_r) - <w_r, g_r>) and sum_r c_r g_r."""
        self._check_fits(table)
        answer = run_pass(table, self.weights, self.temperature, float64_scores=True, threads=threads)
        intercept = answer.value - np.sum(self.weights * answer.gradient, axis=1)
        return float(self.coefficient @ intercept), self.coefficient @ answer.gradient

    def _best_attacks(self, table: LossTable) -> dict[int, NDArray[np.int64]]:
        """Best attacks of the responses at temperature 0; from the pass, so that ties fall as they do there."""
        cold = [r for r, level in enumerate(self.temperature) if np.all(level == 0)]
        if not cold:
            return {}
        answer = run_pass(table, self.weights[cold], 0.0, best_attack=True, float64_scores=True)
        assert answer.best_attack is not None
        return dict(zip(cold, answer.best_attack, strict=True))

    def _rows_of(
        self, table: LossTable, part: slice, best: Mapping[int, NDArray[np.int64]], threshold: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Sample, attack and probability of the frequent rows of some samples."""
        block = table.block(part.start, part.stop)
        probability = np.zeros(block.prior.size)
        levels = np.broadcast_to(self.temperature.T, (table.n_samples, self.weights.shape[0]))[part]
        for r, coefficient in enumerate(self.coefficient):
            if r in best:
                probability[block.starts + best[r][part]] += coefficient
            else:
                response = respond(self.weights[r] @ block.losses, block.starts, block.prior, levels[:, r])
                probability += coefficient * response.probability
        kept = np.flatnonzero(frequent_rows(block.starts, probability, threshold))
        sample = np.searchsorted(block.starts, kept, side="right") - 1
        return sample + part.start, kept - block.starts[sample], probability[kept]

    def _check_fits(self, table: LossTable) -> None:
        if self.weights.shape[1] != table.n_classifiers:
            raise ValueError(
                f"`losses` must have the strategy's {self.weights.shape[1]} classifiers; "
                f"got {table.n_classifiers}"
            )
        if self.temperature.ndim == 2 and self.temperature.shape[1] != table.n_samples:
            raise ValueError(
                f"`losses` must have the strategy's {self.temperature.shape[1]} samples; "
                f"got {table.n_samples}"
            )


def strategy_from_dict(content: Mapping[str, Any]) -> AttackStrategy:
    """The strategy that its `to_dict` described.

    Raises
    ------
    ValueError
        If the content is of no known kind, or describes no strategy.
    """
    fields = {name: value for name, value in content.items() if name != "kind"}
    kinds: dict[str, type[RowAttack | ResponseAttack]] = {"rows": RowAttack, "responses": ResponseAttack}
    kind = kinds.get(content.get("kind", ""))
    if kind is None:
        raise ValueError(f"`kind` must be one of {sorted(kinds)}; got {content.get('kind')!r}")
    return kind(**fields)

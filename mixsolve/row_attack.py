"""The adversary's mixed strategy written out: explicit rows of the table, with their probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve.inputs import check_temperature
from mixsolve.reference import BLOCK_ELEMENTS
from mixsolve.results import AttackStrategy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.table import LossTable

PROBABILITY_TOLERANCE = 1e-6
"""How far from 1 the given probabilities of a sample may sum; what is left is normalised away."""


@dataclass(frozen=True, eq=False)
class RowAttack(AttackStrategy):
    """A strategy written out: the attacks that each sample uses, with their probabilities.

    Rows are kept sorted by sample and attack, and the probabilities of each sample are normalised to sum 1.

    Raises
    ------
    ValueError
        If the vectors differ in length, a row is cited twice, a probability is negative or not finite, or a
        sample's probabilities do not sum to 1 within `PROBABILITY_TOLERANCE`.
    """

    sample: NDArray[np.int64]
    """(rows,) sample of each row."""
    attack: NDArray[np.int64]
    """(rows,) index of the attack within its sample."""
    probability: NDArray[np.float64]
    """(rows,) sums to 1 over each sample."""
    n_samples: int
    """Samples of the game; each is cited."""

    def __post_init__(self) -> None:
        sample, attack = _indices(self.sample, "sample"), _indices(self.attack, "attack")
        probability = np.array(self.probability, dtype=np.float64)
        if sample.ndim != 1 or not sample.shape == attack.shape == probability.shape:
            raise ValueError(
                "`sample`, `attack` and `probability` must be vectors of equal length; "
                f"got shapes {sample.shape}, {attack.shape} and {probability.shape}"
            )
        if not _rise(sample, attack):
            order = np.lexsort((attack, sample))
            sample, attack, probability = sample[order], attack[order], probability[order]
        same = (np.diff(sample) == 0) & (np.diff(attack) == 0)
        if same.any():
            twice = int(np.argmax(same))
            raise ValueError(
                "`sample` and `attack` must name each row once; "
                f"got attack {attack[twice]} of sample {sample[twice]} twice"
            )
        object.__setattr__(self, "sample", frozen(sample))
        object.__setattr__(self, "attack", frozen(attack))
        object.__setattr__(self, "probability", frozen(_normalised(sample, probability, self.n_samples)))

    def rows(self, losses: Any = None, threshold: float = 0.0) -> RowAttack:
        """This strategy, without the rows whose probability is at most `threshold`.

        What is left of each sample is normalised again; its most probable rows always stay. `losses` is not
        needed here.
        """
        kept = frequent_rows(_first_rows(self.sample), self.probability, threshold)
        return thinned(self.sample[kept], self.attack[kept], self.probability[kept], self.n_samples)

    def between(self, first: int, last: int) -> RowAttack:
        """The strategy on the samples ``first:last``, counted from 0."""
        part = slice(*np.searchsorted(self.sample, [first, last]))
        return RowAttack(self.sample[part] - first, self.attack[part], self.probability[part], last - first)

    def mean_losses(self, table: LossTable, *, threads: int | None = None) -> NDArray[np.float64]:
        """Mean loss of every classifier under this strategy, (n_classifiers,); reads the cited rows only.

        Raises
        ------
        ValueError
            If the table has another number of samples, or lacks a cited row.
        """
        self._check_fits(table)
        mass = table.sample_weight[self.sample] * self.probability
        total = np.zeros(table.n_classifiers)
        step = max(1, BLOCK_ELEMENTS // table.n_classifiers)
        for first in range(0, mass.size, step):
            part = slice(first, first + step)
            total += mass[part] @ table.rows(self.sample[part], self.attack[part])
        return total

    def lower_bound(self, table: LossTable, temperature: Any = 0.0, *, threads: int | None = None) -> float:
        """D_t of this strategy, in float64, from the cited rows alone.

        Parameters
        ----------
        table : LossTable
        temperature : float or array, (n_samples,)
            The problem's.

        Raises
        ------
        ValueError
            If the table has another number of samples, or lacks a cited row.
        """
        level = check_temperature(temperature, table.n_samples)
        inflicted = float(self.mean_losses(table).min())
        if np.all(level == 0):
            return inflicted
        return inflicted - float(table.sample_weight @ (level * self._divergence(table)))

    def to_dict(self) -> dict[str, Any]:
        """The strategy as JSON values."""
        return {
            "kind": "rows",
            "n_samples": int(self.n_samples),
            "sample": self.sample.tolist(),
            "attack": self.attack.tolist(),
            "probability": self.probability.tolist(),
        }

    def _divergence(self, table: LossTable) -> NDArray[np.float64]:
        """KL(q_i || u_i) of every sample, from terms u ((1 + r) log(1 + r) - r) >= 0 with r = q / u - 1.

        Unlike q log(q / u) they cancel nothing near the prior, where a high temperature would multiply the
        rounding. An attack that is not cited has r = -1 and adds its prior probability.
        """
        prior = table.prior_at(self.sample, self.attack)
        excess = self.probability / prior - 1
        logarithm = np.log1p(excess, where=excess > -1, out=np.zeros_like(excess))
        terms = prior * ((1 + excess) * logarithm - excess)
        starts = _first_rows(self.sample)
        all_cited = np.diff(starts, append=self.sample.size) == table.attack_counts
        uncited = np.where(all_cited, 0.0, np.maximum(1 - np.add.reduceat(prior, starts), 0.0))
        divergence: NDArray[np.float64] = np.add.reduceat(terms, starts) + uncited
        return divergence

    def _check_fits(self, table: LossTable) -> None:
        if self.n_samples != table.n_samples:
            raise ValueError(
                f"`losses` must have the strategy's {self.n_samples} samples; got {table.n_samples}"
            )


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)
    return array


def _indices(given: Any, name: str) -> NDArray[np.int64]:
    array = np.asarray(given)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"`{name}` must hold integers; got type {array.dtype}")
    return array.astype(np.int64)


def _rise(sample: NDArray[np.int64], attack: NDArray[np.int64]) -> bool:
    """Whether rows are sorted by sample and attack."""
    step = np.diff(sample)
    return bool(np.all((step > 0) | ((step == 0) & (np.diff(attack) >= 0))))


def _first_rows(sample: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each sample starts among sorted rows."""
    return np.flatnonzero(np.diff(sample, prepend=-1))


def _normalised(
    sample: NDArray[np.int64], probability: NDArray[np.float64], n_samples: int
) -> NDArray[np.float64]:
    """Probabilities of sorted rows, checked and scaled to sum 1 over each sample; unchanged where they do."""
    if sample.size and (sample[0] < 0 or sample[-1] >= n_samples):
        raise ValueError(f"`sample` must be in 0..{n_samples - 1}; got {sample[0]} to {sample[-1]}")
    if not np.all(probability >= 0):
        raise ValueError(f"`probability` must be non-negative; got {probability[~(probability >= 0)][0]}")
    total = np.zeros(n_samples)
    if sample.size:
        starts = _first_rows(sample)
        total[sample[starts]] = np.add.reduceat(probability, starts)
    off = np.abs(total - 1)
    if not off.max(initial=0.0) <= PROBABILITY_TOLERANCE:
        wrong = int(np.argmax(~(off <= PROBABILITY_TOLERANCE)))
        raise ValueError(
            f"`probability` must sum to 1 over each sample within {PROBABILITY_TOLERANCE:g}; "
            f"got {total[wrong]} for sample {wrong}"
        )
    total[off <= 4 * np.finfo(np.float64).eps] = 1.0  # so that normalising twice changes no bit
    return probability / total[sample]


def frequent_rows(
    starts: NDArray[np.int64], probability: NDArray[np.float64], threshold: float
) -> NDArray[np.bool_]:
    """Rows above the threshold, and the most probable ones of each sample in any case."""
    largest = np.maximum.reduceat(probability, starts)
    of_sample = np.repeat(largest, np.diff(starts, append=probability.size))
    frequent: NDArray[np.bool_] = (probability > threshold) | (probability == of_sample)
    return frequent


def thinned(
    sample: NDArray[np.int64], attack: NDArray[np.int64], probability: NDArray[np.float64], n_samples: int
) -> RowAttack:
    """Sorted rows whose probabilities lack what a threshold took away."""
    left = np.add.reduceat(probability, _first_rows(sample))
    return RowAttack(sample, attack, probability / left[sample], n_samples)

"""What randomisation gains: the best single classifier, the uniform mixture and the optimal one on one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve.fit import fit_mixture
from mixsolve.inputs import check_temperature
from mixsolve.passes import run_pass
from mixsolve.table import as_table

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mixsolve.results import MixtureResult


@dataclass(frozen=True, eq=False)
class MixtureComparison:
    """Values of mixtures on one table, all from float64 scores; prints as a table."""

    single_values: NDArray[np.float64]
    """(n_classifiers,) value of every classifier alone."""
    uniform_value: float
    """Value of the uniform mixture."""
    optimal: MixtureResult
    """The optimal mixture with its certificate; never worse than the others."""

    @property
    def best_single(self) -> int:
        """The classifier that does best alone; the lowest index on ties."""
        return int(np.argmin(self.single_values))

    @property
    def best_single_value(self) -> float:
        return float(self.single_values[self.best_single])

    @property
    def gain(self) -> float:
        """What the mixture found gains over the best single classifier; at least 0."""
        return self.best_single_value - self.optimal.value

    @property
    def largest_gain(self) -> float:
        """What no mixture can gain more of: the best single value less the lower bound."""
        return self.best_single_value - self.optimal.lower_bound

    def __str__(self) -> str:
        lines = [
            ("best single classifier", self.best_single_value, f"classifier {self.best_single}"),
            ("uniform mixture", self.uniform_value, ""),
            (
                "optimal mixture",
                self.optimal.value,
                f"{self.optimal.status.name}, gap {self.optimal.gap:.1e}",
            ),
            ("lower bound", self.optimal.lower_bound, "proved for every mixture"),
            ("gain of randomisation", self.gain, f"at most {self.largest_gain:.6g}"),
        ]
        return "\n".join(f"{name:<24}{value:>12.6g}   {remark}".rstrip() for name, value, remark in lines)


def compare_mixtures(
    losses: Any,
    *,
    temperature: ArrayLike = 0.0,
    row_offsets: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    attack_prior: ArrayLike | None = None,
    threads: int | None = None,
    **options: Any,
) -> MixtureComparison:
    """Compare the best single classifier, the uniform mixture and the optimal mixture on the same table.

    One read evaluates all classifiers alone and the uniform mixture; `fit_mixture` then starts from the best of
    them, so that its mixture is never worse.

    Parameters
    ----------
    losses : array or LossTable
    temperature, row_offsets, sample_weight, attack_prior, threads
        As in `fit_mixture`.
    **options
        Passed on to `fit_mixture`.

    Returns
    -------
    MixtureComparison

    Raises
    ------
    TypeError, ValueError
        As `fit_mixture` does.

    Examples
    --------
    >>> import numpy as np
    >>> from mixsolve import compare_mixtures
    >>> losses = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> print(compare_mixtures(losses).gain)
    0.5
    """
    table = as_table(losses, row_offsets=row_offsets, sample_weight=sample_weight, attack_prior=attack_prior)
    checked = check_temperature(temperature, table.n_samples)
    n_classifiers = table.n_classifiers
    mixtures = np.vstack([np.eye(n_classifiers), np.full(n_classifiers, 1 / n_classifiers)])
    levels = np.broadcast_to(checked, (len(mixtures), *np.shape(checked)))
    values = run_pass(table, mixtures, levels, float64_scores=True, threads=threads).value
    options.setdefault("start", mixtures[int(np.argmin(values))])
    optimal = fit_mixture(table, temperature=checked, threads=threads, **options)
    return MixtureComparison(values[:-1], float(values[-1]), optimal)

"""Sampling error: what finitely many sampled attacks can miss (Proposition 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve.bounds.ranges import check_fraction, check_positive
from mixsolve.table import as_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_EXPONENT = math.log(np.finfo(np.float64).max)
"""exp of anything above it is infinite in float64."""


def sampling_error(
    temperature: float,
    n_classifiers: int,
    n_samples: int,
    n_attacks: int,
    *,
    loss_bound: float = 1.0,
    failure_probability: float = 0.05,
) -> float:
    """Proposition 4 for finitely many classifiers: what m sampled attacks can miss of the smoothed value.

    `sampling_error_from_complexity` with the complexity of every sample at most ``M sqrt(2 log(L) / m)``
    (Massart's lemma: the supremum over mixtures is reached at one of L classifiers). Of order ``M exp(M / t)
    sqrt(log(L) / m)``.

    Parameters
    ----------
    temperature : float
        The same positive number for every sample, in units of the losses.
    n_classifiers, n_samples, n_attacks : int
        L, N and the number m of attacks drawn independently from the prior on every sample.
    loss_bound : float
        M: losses lie in [0, M].
    failure_probability : float
        The bound holds with probability at least 1 minus this, in (0, 1).

    Returns
    -------
    float
        In units of the losses; infinite once ``exp(M / t)`` is.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    for name, count in (("n_classifiers", n_classifiers), ("n_samples", n_samples), ("n_attacks", n_attacks)):
        if count < 1:
            raise ValueError(f"`{name}` must be at least 1; got {count!r}")
    check_positive("loss_bound", loss_bound)
    complexity = loss_bound * math.sqrt(2.0 * math.log(n_classifiers) / n_attacks)
    return sampling_error_from_complexity(
        complexity,
        temperature,
        n_samples,
        n_attacks,
        loss_bound=loss_bound,
        failure_probability=failure_probability,
    )


def sampling_error_from_complexity(
    complexity: Any,
    temperature: float,
    n_samples: int,
    n_attacks: int,
    *,
    loss_bound: float = 1.0,
    failure_probability: float = 0.05,
) -> float:
    """Proposition 4 as the paper states it, from Rademacher complexities.

    With probability at least 1 - delta over the attacks, for the values and for every mixture at once,
    ``|V_t - V_t of m sampled attacks| <= exp(M / t) (2 mean(R) + 6 max(M, 1) sqrt(log(4 / delta) / (2 m
    N)))``.

    Parameters
    ----------
    complexity : float or array, (n_samples,)
        R_i of every sample, or one bound for all, in units of the losses: a proof with a bound, an estimate
        with `estimate_complexity`.
    temperature, n_samples, n_attacks, loss_bound, failure_probability
        As for `sampling_error`.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    check_positive("temperature", temperature)
    check_positive("loss_bound", loss_bound)
    check_fraction("failure_probability", failure_probability, one_allowed=False)
    deviation = math.sqrt(math.log(4.0 / failure_probability) / (2.0 * n_attacks * n_samples))
    exponent = loss_bound / temperature
    steepness = math.exp(exponent) if exponent < LARGEST_EXPONENT else math.inf
    return steepness * (2.0 * float(np.mean(complexity)) + 6.0 * max(loss_bound, 1.0) * deviation)


@dataclass(frozen=True, eq=False)
class ComplexityEstimate:
    """Rademacher complexities of the attack sets, estimated by random signs."""

    value: NDArray[np.float64]
    """(n_samples,) in units of the losses."""
    standard_error: NDArray[np.float64]
    """(n_samples,) of the mean over the draws."""


def estimate_complexity(
    losses: Any, *, draws: int = 200, seed: int = 0, **table_keywords: Any
) -> ComplexityEstimate:
    """Estimate the Rademacher complexity of every sample's attacks by drawing signs.

    ``R_i = E max_k sum_j sigma_j losses[k, i, j] / m_i`` over independent signs sigma; unbiased.

    Parameters
    ----------
    losses : array or LossTable
        Read once, sample by sample, in float64.
    draws : int
        Sign vectors per sample, at least 2.
    seed : int
    **table_keywords
        As for `LossTable`.

    Raises
    ------
    ValueError
        If `draws` is below 2 or the table is malformed.
    """
    if draws < 2:
        raise ValueError(f"`draws` must be at least 2; got {draws!r}")
    table = as_table(losses, **table_keywords)
    rng = np.random.default_rng(seed)
    value, standard_error = np.empty(table.n_samples), np.empty(table.n_samples)
    for sample in range(table.n_samples):
        rows = table.sample_losses(sample)
        signs = rng.choice([-1.0, 1.0], size=(rows.shape[1], draws))
        largest = (rows @ signs).max(axis=0) / rows.shape[1]
        value[sample] = largest.mean()
        standard_error[sample] = largest.std(ddof=1) / math.sqrt(draws)
    return ComplexityEstimate(value, standard_error)

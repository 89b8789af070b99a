"""Smoothing error: how far the entropic term moves the value (Propositions 3 and 5)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve.bounds.ranges import check_fraction, check_positive
from mixsolve.inputs import check_temperature
from mixsolve.simplex import check_simplex
from mixsolve.table import LossTable, as_table

if TYPE_CHECKING:
    from numpy.typing import NDArray


def smoothing_error(temperature: float, mass: float, slack: float = 0.0) -> float:
    """Proposition 5: how far smoothing can move the value when near-best attacks are not too rare.

    ``|V_t - V_0| <= 2 t |log C| + slack``, if against every mixture, on every sample, the attacks whose loss
    is within `slack` of the best have prior mass at least C.

    Parameters
    ----------
    temperature : float
        Positive, in units of the losses.
    mass : float
        C, in (0, 1]. On a table with a uniform prior 1/m serves with `slack` 0.
    slack : float
        Non-negative, in units of the losses (beta in the paper).

    Returns
    -------
    float
        In units of the losses.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    The factor 2 is the paper's. Since ``F_t <= F_0`` and ``F_t >= F_0 - slack + t log C``, ``t |log C| +
    slack`` also holds; `table_smoothing_error` uses that form.
    """
    check_positive("temperature", temperature)
    check_fraction("mass", mass, one_allowed=True)
    if not 0.0 <= slack < math.inf:
        raise ValueError(f"`slack` must be finite and at least 0; got {slack!r}")
    return 2.0 * temperature * -math.log(mass) + slack


def table_smoothing_error(losses: Any, temperature: Any, **table_keywords: Any) -> float:
    """Proposition 3 with its rate, on a table: ``F_0(w) - error <= F_t(w) <= F_0(w)`` for every mixture w.

    ``error = sum_i s_i t_i log(1 / min_j u_ij)``, which is ``t log m`` for a uniform prior, since the sum
    inside the logarithm is at least its largest term. Hence F_t tends to F_0 as t falls, and it rises towards
    it: F_t(w) is a non-increasing function of t. The same interval holds for the values: ``V_0 - error <= V_t
    <= V_0``.

    Parameters
    ----------
    losses : array or LossTable
        The losses themselves are not read.
    temperature : float or array, (n_samples,)
        Non-negative, in units of the losses.
    **table_keywords
        `row_offsets`, `sample_weight`, `attack_prior`, as for `LossTable`.

    Returns
    -------
    float
        In units of the losses.

    Raises
    ------
    ValueError
        If `temperature` is negative, not finite or of another shape, or the table is malformed.
    """
    table = as_table(losses, **table_keywords)
    level = check_temperature(temperature, table.n_samples)
    return float(np.sum(table.sample_weight * level * _rarest_attack_cost(table)))


def temperature_for_error(losses: Any, error: float, **table_keywords: Any) -> float:
    """A temperature, the same for all samples, at which smoothing moves no mixture's risk by more than `error`.

    The one at which `table_smoothing_error` is `error`; infinite when every sample has a single attack, where
    nothing is smoothed.

    Parameters
    ----------
    losses : array or LossTable
    error : float
        Positive, in units of the losses.
    **table_keywords
        As for `LossTable`.

    Raises
    ------
    ValueError
        If `error` is not positive and finite, or the table is malformed.
    """
    check_positive("error", error)
    table = as_table(losses, **table_keywords)
    per_temperature = float(np.sum(table.sample_weight * _rarest_attack_cost(table)))
    return error / per_temperature if per_temperature > 0.0 else math.inf


def near_best_mass(losses: Any, weights: Any, slack: float, **table_keywords: Any) -> float:
    """Prior mass of the attacks within `slack` of the best one against a mixture: the smallest over the samples.

    Samples of weight 0 do not count. The number C of Proposition 5 is the least of these over all mixtures;
    for this mixture alone, ``F_0(w) - F_t(w) <= t |log C| + slack``.

    Parameters
    ----------
    losses : array or LossTable
        Read once, sample by sample, in float64.
    weights : array, (n_classifiers,)
        A mixture.
    slack : float
        Non-negative, in units of the losses.
    **table_keywords
        As for `LossTable`.

    Returns
    -------
    float
        In (0, 1].

    Raises
    ------
    ValueError
        If `weights` is not a mixture or `slack` is negative.
    """
    table = as_table(losses, **table_keywords)
    mixture = check_simplex(weights, table.n_classifiers, "weights")
    if not slack >= 0.0:
        raise ValueError(f"`slack` must be at least 0; got {slack!r}")
    smallest = 1.0
    for sample in np.flatnonzero(table.sample_weight).tolist():
        scores = mixture @ table.sample_losses(sample)
        smallest = min(smallest, float(table.prior_of(sample)[scores >= scores.max() - slack].sum()))
    return smallest


def _rarest_attack_cost(table: LossTable) -> NDArray[np.float64]:
    """log(1 / min_j u_ij) of every sample."""
    if table.attack_prior is None:
        return np.log(table.attack_counts)
    return np.array([-math.log(table.prior_of(sample).min()) for sample in range(table.n_samples)])

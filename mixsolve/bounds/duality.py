"""The two players: weak duality (equation 5) and what either gains by deviating (Corollary 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve.inputs import check_temperature
from mixsolve.passes import run_pass
from mixsolve.simplex import check_simplex
from mixsolve.table import as_table

if TYPE_CHECKING:
    from mixsolve.results import AttackStrategy


@dataclass(frozen=True)
class DualityChain:
    """Equation 5 with proofs: ``dual <= D <= V_rand <= randomised`` and ``V_rand <= V_det = deterministic``.

    On a table D = V_rand (Theorem 1); at radius 0, where the attacker has no choice, V_rand = V_det (Remark
    1).
    """

    dual: float
    """What the attacker's strategy inflicts on every mixture: at most D."""
    randomised: float
    """Worst case of the mixture: at least V_rand."""
    deterministic: float
    """V_det, the worst case of the best single classifier."""
    best_classifier: int
    """That classifier, the lowest index on ties."""

    @property
    def gain(self) -> float:
        """By how much the mixture beats every single classifier; negative where it does not."""
        return self.deterministic - self.randomised


def duality_chain(losses: Any, weights: Any, attack: AttackStrategy, **table_keywords: Any) -> DualityChain:
    """Equation 5, ``D <= V_rand <= V_det``, with numbers: one strategy of each player, and every single
    classifier.

    Parameters
    ----------
    losses : array or LossTable
        One pass of n_classifiers + 1 queries, and what `attack` needs: its cited rows, or a second pass.
    weights : array, (n_classifiers,)
        A mixture.
    attack : AttackStrategy
        Of a result of `fit_mixture` on this table, say.
    **table_keywords
        `row_offsets`, `sample_weight`, `attack_prior`, as for `LossTable`.

    Returns
    -------
    DualityChain
        From float64 scores.

    Raises
    ------
    ValueError
        If `weights` is not a mixture or the table is malformed.
    """
    table = as_table(losses, **table_keywords)
    mixture = check_simplex(weights, table.n_classifiers, "weights")
    queries = np.vstack([mixture, np.eye(table.n_classifiers)])
    worst = run_pass(table, queries, 0.0, float64_scores=True).value
    best = int(np.argmin(worst[1:]))
    return DualityChain(attack.lower_bound(table, 0.0), float(worst[0]), float(worst[1 + best]), best)


@dataclass(frozen=True)
class DeviationGains:
    """What each player can gain at most by deviating alone; together, the gap of the pair's certificate."""

    classifier: float
    """The mixture's payoff less the best payoff of any mixture against the same attack."""
    attacker: float
    """The best payoff of any attack against the same mixture, less this attack's."""


def deviation_gains(
    losses: Any, weights: Any, attack: AttackStrategy, temperature: Any = 0.0, **table_keywords: Any
) -> DeviationGains:
    """Corollary 1: how far a mixture and an attack strategy are from a Nash equilibrium.

    The payoff is the mean loss, less ``sum_i s_i t_i KL(q_i || u_i)`` at a positive temperature. Both gains
    are at least 0 and add up to ``F_t(w) - D_t(q)``, so neither exceeds the gap: a gap of delta is a
    delta-approximate equilibrium.

    Parameters
    ----------
    losses : array or LossTable
    weights : array, (n_classifiers,)
        A mixture.
    attack : AttackStrategy
    temperature : float or array, (n_samples,)
        The problem's, 0 for the worst case.
    **table_keywords
        As for `LossTable`.

    Returns
    -------
    DeviationGains
        In units of the losses, from float64 scores.

    Raises
    ------
    ValueError
        If `weights` is not a mixture, or `temperature` or the table is malformed.
    """
    table = as_table(losses, **table_keywords)
    mixture = check_simplex(weights, table.n_classifiers, "weights")
    level = check_temperature(temperature, table.n_samples)
    per_query = level if isinstance(level, float) else level[np.newaxis]
    upper = float(run_pass(table, mixture[np.newaxis], per_query, float64_scores=True).value[0])
    mean_losses = attack.mean_losses(table)
    classifier = float(mixture @ mean_losses - mean_losses.min())
    return DeviationGains(classifier, upper - attack.lower_bound(table, level) - classifier)

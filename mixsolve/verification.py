"""Proving a result's bounds anew from the table, and reading results from files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve.documents import read_document
from mixsolve.inputs import check_temperature
from mixsolve.reduction import ALONE
from mixsolve.results import MixtureResult
from mixsolve.row_attack import RowAttack
from mixsolve.simplex import SIMPLEX_TOLERANCE, normalise_weights
from mixsolve.solvers.chunked_source import ChunkedSource
from mixsolve.solvers.source import TableSource
from mixsolve.strategy import ResponseAttack, strategy_from_dict
from mixsolve.streams import Stream, check_memory_limit, is_stream, open_stream
from mixsolve.table import LossTable, as_table

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import ArrayLike

    from mixsolve.solvers.source import Source

SLACK_ULPS = 64
"""Rounding between two machines' passes: so many ulp of the mean losses."""


@dataclass(frozen=True)
class Verification:
    """Both bounds of a result recomputed in float64; true when all that the result claims holds."""

    value: float
    """Objective at the result's weights."""
    worst_case_value: float
    """The same at temperature 0."""
    lower_bound: float
    """What the attacker's strategy proves; -inf without one."""
    value_deficit: float
    """How far the claimed upper bound is below `value`; it holds up to `slack`."""
    worst_case_deficit: float
    lower_bound_excess: float
    """How far the claimed lower bound is above `lower_bound`; it holds up to `lower_slack`."""
    slack: float
    """Rounding allowed for the upper bounds."""
    lower_slack: float
    """Rounding allowed for the lower bound; larger where responses have to be rebuilt at a low temperature."""

    @property
    def upper_holds(self) -> bool:
        """Whether both values claimed for the mixture are upper bounds."""
        return self.value_deficit <= self.slack and self.worst_case_deficit <= self.slack

    @property
    def lower_holds(self) -> bool:
        """Whether the claimed lower bound is one."""
        return self.lower_bound_excess <= self.lower_slack

    def __bool__(self) -> bool:
        return self.upper_holds and self.lower_holds

    def __str__(self) -> str:
        def line(name: str, value: float, holds: bool, off: float) -> str:
            return f"{name:<12} {value:<18.12g} " + ("holds" if holds else f"FAILS by {off:.3g}")

        upper = self.value_deficit <= self.slack
        worst = self.worst_case_deficit <= self.slack
        return "\n".join(
            [
                line("value", self.value, upper, self.value_deficit),
                line("worst case", self.worst_case_value, worst, self.worst_case_deficit),
                line("lower bound", self.lower_bound, self.lower_holds, self.lower_bound_excess),
            ]
        )


def verify(
    result: MixtureResult,
    losses: Any,
    *,
    row_offsets: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    attack_prior: ArrayLike | None = None,
    threads: int | None = None,
) -> Verification:
    """Recompute a result's bounds from its table, in float64.

    The upper bounds cost one read; the lower bound reads the cited rows alone, or takes one more read when the
    strategy is a combination of responses. Nothing but weights, temperature and strategy is taken from the result.

    Parameters
    ----------
    result : MixtureResult
    losses : array, LossTable, path, or iterator of chunks
        The table that was solved, in any form that `fit_mixture` takes; with `row_offsets`, `sample_weight` and
        `attack_prior` as they were then.
    threads : int, optional

    Returns
    -------
    Verification
        Truthy when every bound holds; its fields say which fails, and by how much.

    Raises
    ------
    TypeError
        If `result` is not a MixtureResult.
    ValueError
        If the table does not fit the result, or the result's weights are no mixture.
    """
    if not isinstance(result, MixtureResult):
        raise TypeError(f"`result` must be a MixtureResult; got {type(result).__name__}")
    own: dict[str, Any] = {
        "row_offsets": row_offsets,
        "sample_weight": sample_weight,
        "attack_prior": attack_prior,
    }
    table: LossTable | Stream
    source: TableSource | ChunkedSource
    if is_stream(losses):
        table = open_stream(losses, **own, memory_limit=check_memory_limit(None))
        source = ChunkedSource(table, threads, ALONE)
    else:
        table = as_table(losses, **own)
        source = TableSource(table, threads)
    weights = _checked_weights(result, table)
    temperature = check_temperature(result.temperature, table.n_samples)
    level = np.stack([np.broadcast_to(temperature, np.shape(temperature)), np.zeros(np.shape(temperature))])
    answer, _ = source.answer(np.stack([weights, weights]), level, float64_scores=True)
    value, worst = float(answer.value[0]), float(answer.value[1])
    size = float(np.abs(answer.gradient).max())
    slack = SLACK_ULPS * float(np.finfo(np.float64).eps) * size
    lower, lower_slack = -math.inf, slack
    if result.attack is not None:
        if isinstance(table, LossTable):
            lower = result.attack.lower_bound(table, temperature, threads=threads)
        else:
            lower = _lower_bound_in_chunks(result.attack, table, source, temperature)
        lower_slack = slack * _sensitivity(result.attack, size)
    claimed = result.lower_bound
    return Verification(
        value=value,
        worst_case_value=worst,
        lower_bound=lower,
        value_deficit=value - result.value,
        worst_case_deficit=worst - result.worst_case_value,
        lower_bound_excess=-math.inf if claimed == -math.inf else claimed - lower,
        slack=slack,
        lower_slack=lower_slack,
    )


def _lower_bound_in_chunks(attack: Any, table: Stream, source: Source, temperature: Any) -> float:
    """What a strategy proves on a table that is read in order; one more read."""
    warm = bool(np.any(temperature != 0))
    if isinstance(attack, RowAttack):
        mean, cost = np.zeros(table.n_classifiers), 0.0
        for chunk in table.read():
            last = chunk.first + chunk.table.n_samples
            own = attack.between(chunk.first, last)
            level = temperature[chunk.first : last] if np.ndim(temperature) else temperature
            inflicted = own.mean_losses(chunk.table)
            mean += chunk.mass * inflicted
            cost += chunk.mass * (float(inflicted.min()) - own.lower_bound(chunk.table, level))
        return float(mean.min()) - cost
    own = attack.temperature if attack.temperature.ndim == 2 else attack.temperature[:, None]
    if warm and np.any(own != temperature):
        raise ValueError(
            "`losses` must be an array: the strategy has other temperatures than the problem, and is written out"
        )
    answer, _ = source.answer(attack.weights, attack.temperature, float64_scores=True)
    intercept = answer.value - np.sum(attack.weights * answer.gradient, axis=1)
    mean = attack.coefficient @ answer.gradient
    return float(mean.min()) + (float(attack.coefficient @ intercept) if warm else 0.0)


def _checked_weights(result: MixtureResult, table: LossTable | Stream) -> Any:
    if result.weights.shape != (table.n_classifiers,):
        raise ValueError(
            f"`losses` must have the result's {result.weights.size} classifiers; got {table.n_classifiers}"
        )
    total = math.fsum(result.weights)
    if not result.weights.min() >= 0 or not abs(total - 1) <= SIMPLEX_TOLERANCE:
        raise ValueError(f"`result` must hold a mixture: weights >= 0 that sum to 1; got a sum of {total!r}")
    return normalise_weights(result.weights)


def _sensitivity(attack: Any, size: float) -> float:
    """A rounding error e of a score moves a response's probabilities by e / temperature."""
    if not isinstance(attack, ResponseAttack):
        return 1.0
    positive = attack.temperature[attack.temperature > 0]
    return 1.0 + size / float(positive.min()) if positive.size else 1.0


def load_result(path: str | PathLike[str]) -> MixtureResult:
    """Read a result written by `MixtureResult.save`; `verify` then proves its bounds from the table.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is truncated, is something else, or was changed after writing.
    """
    content = read_document(path)
    try:
        attack = None if content["attack"] is None else strategy_from_dict(content["attack"])
        return MixtureResult.from_dict(content, attack)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"`path` must be a result of this version of mixsolve; {path!s} lacks {error}"
        ) from error

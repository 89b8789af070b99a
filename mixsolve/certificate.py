"""What is proved so far: an upper bound by a mixture, a lower bound by the adversary's responses.

With F the value and g the gradient that a pass returns at any weights y and temperature t', and t the problem's::

    <w, g> + (t / t') (F_t'(y) - <y, g>)   <=   F_t(w)     for every mixture w,

because g are the mean losses under the softmax response q to y, and ``F_t'(y) - <y, g>`` is minus its divergence
``t' sum_i s_i KL(q_i || u_i)``. The intercept vanishes at t = 0. A query is thus one attack with a payoff for every
classifier, and the matrix game over all of them gives the best lower bound that they prove together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mixsolve.responses import Responses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.passes import PassAnswer
    from mixsolve.results import AttackStrategy

ROUNDING_ULPS = 16
"""A gap of so many ulp of the losses' mean size is rounding: float64 scores cannot close it."""


@dataclass(frozen=True, eq=False)
class Queries:
    """What is asked of one pass.

    A level is a temperature in multiples of the problem's own, or of the unit of the losses when that is 0; the
    problem's own level, `Certificate.target`, is therefore 1 or 0.
    """

    weights: NDArray[np.float64]
    """(K, n_classifiers) any finite weights."""
    level: NDArray[np.float64]
    """(K,) >= 0."""
    float64: bool = False
    """Ask for float64 scores now; every later pass of the solve has them too."""
    forgets_float32: bool = False
    """Only what is from float64 scores counts from these answers on; the best mixture must be among the queries."""
    hessians: int = 0
    """Of how many queries, the first ones, the Hessian is wanted too."""
    visit: Callable[[int, PassAnswer], None] | None = None
    """Called with the first sample and the answer for each block of samples, per sample and with best rows."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A mixture that was evaluated at the problem's temperature."""

    weights: NDArray[np.float64]
    value: float
    slack: float = 0.0
    """What an oracle's answer may lack of the best response: `value` plus this is proved."""
    worst_case: float = math.nan
    """Value at temperature 0, once evaluated."""

    @property
    def upper(self) -> float:
        return self.value + self.slack


class Certificate:
    """The best mixture, the best strategy of the attacker, and the bounds that they prove.

    Answers from float32 scores count until `settle`; after it everything is from float64 scores.

    Parameters
    ----------
    n_classifiers : int
    temperature : float or ndarray, (n_samples,)
        The problem's.
    citable : bool
        Whether best attacks are rows of a table, which a strategy can name.
    """

    def __init__(
        self, n_classifiers: int, temperature: float | NDArray[np.float64], *, citable: bool = True
    ) -> None:
        self.target = float(np.any(np.asarray(temperature) > 0))
        self.unit = temperature if self.target else 1.0
        self.best = Candidate(np.full(n_classifiers, 1 / n_classifiers), math.inf)
        self.lower = -math.inf
        self.mixture: NDArray[np.float64] | None = None
        """The classifiers' answer to the attacker's best strategy: a mixture worth trying."""
        self._proved = self.best
        self._responses = Responses(n_classifiers, self.unit, citable=citable)
        self._offered: tuple[Callable[[], AttackStrategy], float] | None = None

    @property
    def upper(self) -> float:
        return self.best.upper

    @property
    def gap(self) -> float:
        return self.upper - self.lower

    @property
    def rounding(self) -> float:
        """A gap that rounding alone leaves."""
        return ROUNDING_ULPS * float(np.finfo(np.float64).eps) * self._responses.mean_size

    @property
    def nbytes(self) -> int:
        """Memory held by the responses."""
        return self._responses.nbytes

    def temperatures(self, level: NDArray[np.float64]) -> NDArray[np.float64]:
        """Levels (K,) as temperatures: (K,), or (K, n_samples) when the problem's differ by sample."""
        return np.multiply.outer(level, self.unit)

    def begin(self, start: NDArray[np.float64], answer: PassAnswer, slack: float = 0.0) -> None:
        """Take in the float64 answer for the start: at the problem's temperature, and at 0 when that differs."""
        level = np.array([1.0, 0.0] if self.target else [0.0])
        self.add(Queries(np.tile(start, (len(level), 1)), level), answer, exact=True, slack=slack)
        self.best = self._proved = replace(self._proved, worst_case=float(answer.value[-1]) + slack)
        self.tighten()
        if answer.best_attack is not None and not self.target:
            self._responses.prove(0, self._payoff(start[None], level, answer)[0], answer.best_attack[0])

    def add(
        self, queries: Queries, answer: PassAnswer, *, exact: bool, slack: float = 0.0
    ) -> Candidate | None:
        """Take in the answers of a pass; returns the first mixture among them, the iterate, or None without one."""
        worst = {
            weights.tobytes(): float(value) + slack
            for weights, level, value in zip(queries.weights, queries.level, answer.value, strict=True)
            if level == 0 and (exact or not self.target)
        }
        found = [
            Candidate(weights.copy(), float(value), slack, worst.get(weights.tobytes(), math.nan))
            for weights, level, value in zip(queries.weights, queries.level, answer.value, strict=True)
            if level == self.target and is_mixture(weights)
        ]
        if found:
            self.best = min(self.best, *found, key=_rank)
            if exact:
                self._proved = min(self._proved, *found, key=_rank)
        usable = (queries.level > 0) | (
            self.target == 0
        )  # at t > 0 the divergence of a best attack is unknown
        if usable.any():
            payoff = self._payoff(queries.weights, queries.level, answer)[usable]
            self._responses.add(queries.weights[usable], queries.level[usable], payoff, exact=exact)
            self.lower = max(self.lower, float(payoff.min(axis=1).max()))
        if queries.forgets_float32:
            self.forget_inexact()
        return found[0] if found else None

    def reassess(self, value: Callable[[NDArray[np.float64]], float]) -> None:
        """Take in that more attacks are known: the best mixture's value against them. Its upper bound stays."""
        best = self.best
        if not self.has_candidate:
            return
        now = max(best.value, value(best.weights))
        self.best = self._proved = replace(best, value=now, slack=max(best.upper - now, 0.0))

    @property
    def has_candidate(self) -> bool:
        """Whether a mixture was evaluated."""
        return math.isfinite(self.best.value)

    @property
    def has_offer(self) -> bool:
        """Whether a strategy was found by other means than the responses."""
        return self._offered is not None

    def offer(self, attack: Callable[[], AttackStrategy], lower: float) -> None:
        """Take in a strategy found by other means, with the bound that it proves in float64.

        `attack` writes the strategy down, once it is wanted.
        """
        if self._offered is None or lower > self._offered[1]:
            self._offered = attack, lower
        self.lower = max(self.lower, lower)

    def tighten(self) -> None:
        """Solve the matrix game over all responses: the best lower bound that they prove, and `mixture`."""
        mixture = self._responses.tighten()
        if mixture is not None:
            self.mixture = mixture
            self.lower = max(self.lower, self._responses.lower)

    def unproved(self) -> Queries | None:
        """What a float64 pass must still evaluate before the bounds are proved; None when nothing.

        The best mixture at the problem's temperature and at 0, and the responses in the attacker's strategy,
        unless one that was offered is better.
        """
        asked: list[tuple[NDArray[np.float64], float]] = []
        if self.best is not self._proved:
            asked.append((self.best.weights, self.target))
        if math.isnan(self.best.worst_case):
            asked.append((self.best.weights, 0.0))
        if not self._offer_wins:
            asked += [self._responses.query(response) for response in self._responses.unproved()]
        if not asked:
            return None
        weights, level = zip(*asked, strict=True)
        return Queries(np.array(weights), np.array(level))

    def settle(self, queries: Queries, answer: PassAnswer) -> None:
        """Take in the float64 answers to `unproved`; from now on only what is from float64 scores counts."""
        place = 0
        best = self.best
        if best is not self._proved:
            value = float(answer.value[place])
            best = Candidate(best.weights, value, 0.0, math.nan if self.target else value)
            place += 1
        if math.isnan(best.worst_case):
            best = replace(best, worst_case=float(answer.value[place]))
            place += 1
        known = not math.isnan(self._proved.worst_case)
        self.best = self._proved = min(best, self._proved, key=_rank) if known else best
        if not self._offer_wins:
            payoff = self._payoff(queries.weights, queries.level, answer)
            for query, response in enumerate(self._responses.unproved(), start=place):
                rows = None if answer.best_attack is None else answer.best_attack[query]
                self._responses.prove(response, payoff[query], rows)
        self.keep_only_exact()

    def forget_inexact(self) -> None:
        """Count only what is from float64 scores from now on, before anything is proved."""
        self.best = self._proved
        self._responses.forget_inexact()
        self.lower = max(self._responses.lower, -math.inf if self._offered is None else self._offered[1])

    def keep_only_exact(self) -> None:
        """Forget responses that were not from float64 scores; `settle` does it too."""
        self._responses.keep_only_exact()
        offered = -math.inf if self._offered is None else self._offered[1]
        self.lower = max(self._responses.lower, offered)

    def strategy(self) -> AttackStrategy | None:
        """The strategy that proves `lower`; None where it cannot be written down."""
        if self._offer_wins:
            assert self._offered is not None
            return self._offered[0]()
        return self._responses.strategy()

    @property
    def _offer_wins(self) -> bool:
        return self._offered is not None and self._offered[1] >= self._responses.lower

    def _payoff(
        self, weights: NDArray[np.float64], level: NDArray[np.float64], answer: PassAnswer
    ) -> NDArray[np.float64]:
        """What every classifier loses at least against each response, (K, n_classifiers): the cut above."""
        if not self.target:
            return answer.gradient
        intercept = answer.value - np.sum(weights * answer.gradient, axis=1)
        scale = np.divide(1.0, level, out=np.zeros_like(level), where=level > 0)
        payoff: NDArray[np.float64] = answer.gradient + (scale * intercept)[:, None]
        return payoff


def is_mixture(weights: NDArray[np.float64]) -> bool:
    """Whether weights are on the simplex to the last ulp; any other point proves no upper bound."""
    return bool(weights.min() >= 0) and math.fsum(weights) == 1.0


def _rank(candidate: Candidate) -> tuple[float, float]:
    return candidate.upper, candidate.value

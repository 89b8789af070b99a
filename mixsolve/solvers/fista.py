"""The paper's regularised algorithm: accelerated projected gradient on equation (7)."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mixsolve.certificate import Queries
from mixsolve.inputs import check_integer
from mixsolve.results import Status
from mixsolve.simplex import normalise_weights, project_to_simplex
from mixsolve.solvers.protocol import Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.passes import PassAnswer
    from mixsolve.solvers.protocol import Problem, Steps
    from mixsolve.solvers.source import Source

FIRST_TEMPERATURE = 0.1
"""Continuation begins at this part of the spread, the mean over the samples of maximum minus softened mean score."""

COOLING = 0.1
"""Each temperature of a continuation is this part of the one before."""

STAGE_GAP = 0.25
"""A temperature is left when its own duality gap, or the gap proved for the worst case, is below this part of it."""

CURVATURE_DECAY = 0.8
"""With restart, the curvature estimate shrinks by this factor a step, so that it can also fall."""

TINY = 2.0**-40
"""The curvature estimate never falls below this part of the slope; beyond, a step ends in a corner anyway."""

Query = tuple["NDArray[np.float64]", float]
"""Weights and the level that they are asked at."""


@dataclass(frozen=True)
class Fista:
    """Accelerated projected gradient with backtracking (Beck and Teboulle, 2009) on the smoothed problem.

    At temperature > 0 it minimises F_t; at temperature 0 it follows a falling sequence of temperatures.

    With `restart` off and temperature > 0, after T iterations from w_0 it has

        F_t(w_T) - F*  <=  2 beta L_f |w_0 - w*|^2 / (T + 1)^2,       L_f = (L / 4) R^2 sum_i s_i / t_i

    with beta = `backtracking`, L classifiers and R the largest difference between two losses of one classifier on one
    sample: the Hessian of F_t is ``sum_i (s_i / t_i) Cov(l_i.)``, a coordinate that stays in an interval of length R
    has variance at most R^2 / 4, and there are L of them.

    Attributes
    ----------
    restart : bool
        Restart the momentum when it points uphill, let the step grow again, and evaluate along with every other iterate
        the point halfway between the best mixture and the classifiers' answer to all attacks seen so far.
    backtracking : float
        > 1; the factor by which the curvature estimate grows when a step was too long.
    iterations : int
        Steps at most.

    Notes
    -----
    One pass answers the new iterate and the next extrapolated point together, so a step costs one pass. An
    extrapolated point can leave the simplex: it proves no upper bound, but its gradient proves a lower one. A step is
    accepted when ``F(w') <= F(y) + <g, w' - y> + c |w' - y|^2 / 2`` for the curvature estimate c, or when
    ``<g' - g, w' - y> <= c |w' - y|^2 / 2``, which implies it and survives rounding where values no longer differ.

    References
    ----------
    Meunier et al., ICML 2021, section 4.2. Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm",
    2009, Theorem 4.4. O'Donoghue and Candes, "Adaptive restart for accelerated gradient schemes", 2015.
    """

    restart: bool = True
    backtracking: float = 2.0
    iterations: int = 10_000

    def __post_init__(self) -> None:
        if not 1 < self.backtracking < math.inf:
            raise ValueError(f"`backtracking` must be a finite number > 1; got {self.backtracking!r}")
        check_integer("iterations", self.iterations, 1)

    def check(self, source: Source, temperature: float | NDArray[np.float64]) -> None:
        if source.table is None:
            raise ValueError("`solver` must be OracleSubgradient for a game behind an oracle; got Fista")

    def iterate(self, problem: Problem) -> Steps:
        point, curvature, left = problem.start, 0.0, self.iterations
        level = problem.target or (yield from _first_temperature(problem))
        coldest = TINY * level
        while left > 0 and level > coldest:
            point, curvature, used = yield from self._descend(problem, point, level, curvature, left)
            left -= used
            if problem.target:
                break
            level *= COOLING
            curvature /= math.sqrt(COOLING)
        return Outcome(Status.ITERATION_LIMIT if left <= 0 else Status.NUMERICAL_ERROR)

    def _descend(
        self, problem: Problem, start: NDArray[np.float64], level: float, curvature: float, left: int
    ) -> Generator[Queries, PassAnswer, tuple[NDArray[np.float64], float, int]]:
        """Minimise at one level; returns the last iterate, the curvature estimate and the number of steps."""
        w = y = start
        momentum, step = 1.0, 0
        assert problem.first is not None
        answer = problem.first if problem.target else (yield _evaluate((y, level), (y, 0.0)))
        value, slope = answer.value[0], answer.gradient[0]
        if not curvature:
            curvature = yield from _measure(y, slope, level)
        while step < left:
            pause = 2 + problem.n_classifiers // 32
            w_next = project_to_simplex(y - slope / curvature)
            momentum_next = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            y_next = w_next + (momentum - 1) / momentum_next * (w_next - w)
            extra = () if step % pause else self._extra(problem, w_next, level)
            answer = yield _evaluate((w_next, level), (y_next, level), *extra)

            move, turn = w_next - y, answer.gradient[0] - slope
            model = value + slope @ move + curvature / 2 * (move @ move)
            if answer.value[0] > model and turn @ move > curvature / 2 * (move @ move):
                curvature = max(self.backtracking * curvature, (turn @ move) / (move @ move))
                continue
            step += 1
            following = 1
            if self.restart:
                curvature *= CURVATURE_DECAY
                if (y - w_next) @ (w_next - w) > 0:
                    y_next, momentum_next, following = w_next, 1.0, 0
            w, y, momentum = w_next, y_next, momentum_next
            value, slope = answer.value[following], answer.gradient[following]
            gap = min(answer.gradient[0] @ w_next - answer.gradient[0].min(), problem.certificate.gap)
            if (not problem.target and gap <= STAGE_GAP * level) or not move.any():
                break
        return w, curvature, step

    def _extra(self, problem: Problem, w: NDArray[np.float64], level: float) -> tuple[Query, ...]:
        """What else to ask: the bound that the iterate proves, and one halfway to the answer to all attacks."""
        problem.certificate.tighten()
        mixture = problem.certificate.mixture
        levels = (level,) if problem.target else (0.0, level)
        own = () if problem.target else ((w, 0.0),)
        if not self.restart or mixture is None:
            return own
        halfway = normalise_weights((mixture + problem.certificate.best.weights) / 2)
        return (*own, *((halfway, asked) for asked in levels))


def _evaluate(*queries: Query) -> Queries:
    """The queries of one pass."""
    weights, level = zip(*queries, strict=True)
    return Queries(np.array(weights), np.array(level))


def _first_temperature(problem: Problem) -> Generator[Queries, PassAnswer, float]:
    """A temperature at which the smoothed problem is easy: a part of the spread of the scores."""
    assert problem.first is not None
    hot = float(np.abs(problem.first.gradient).max())
    answer = yield _evaluate((problem.start, hot))
    spread = float(problem.first.value[0] - answer.value[0])
    return max(FIRST_TEMPERATURE * spread, TINY * hot)


def _measure(
    y: NDArray[np.float64], slope: NDArray[np.float64], level: float
) -> Generator[Queries, PassAnswer, float]:
    """The curvature along a first trial step; never above the Lipschitz constant of the gradient."""
    steepness = float(np.ptp(slope))
    trial = project_to_simplex(y - slope / steepness) if steepness else y
    move = trial - y
    if not move.any():
        return steepness or 1.0
    answer = yield _evaluate((trial, level))
    return max(float((answer.gradient[0] - slope) @ move / (move @ move)), TINY * steepness)

"""Newton's method for the smoothed game: value, gradient and Hessian from one read of the table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mixsolve.certificate import Queries
from mixsolve.inputs import check_integer
from mixsolve.results import Status
from mixsolve.simplex import normalise_weights
from mixsolve.solvers.fista import Fista
from mixsolve.solvers.protocol import Outcome
from mixsolve.solvers.trust_region import minimise_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.passes import PassAnswer
    from mixsolve.solvers.protocol import Problem, Steps
    from mixsolve.solvers.source import Source

LARGEST = 300
"""Classifiers up to which a Hessian is worth its products; Fista beyond."""

ONE, SHORTER, LONGER = (1.0,), (1.0, 0.3, 0.1, 0.03), (1.0, 4.0)
"""Radii tried in one pass, in units of the trust region's: usually, after a bad step, and at its boundary."""

BAD, GOOD = 0.25, 0.5
"""Shares of the predicted decrease below which a step is bad, and from which its radius is kept."""

FLOAT64_FROM = 3e-2
"""Relative gap from which on scores are float64: the next step may square it."""

ROUNDING = {False: 1e-6, True: 1e-13}
"""Decreases below this part of the losses are noise, with float32 and with float64 scores."""

PATIENCE = 8
"""So many passes in a row that bring no progress beyond rounding end the solve."""


@dataclass(frozen=True)
class Newton:
    """Trust-region Newton on the simplex; the default at temperature > 0.

    Each step minimises the model ``<g, d> + d'Hd / 2`` over mixtures w + d with ``|d_k| <= radius``, g and H the
    gradient and the Hessian at w::

        H = sum_i (s_i / t_i) Cov(l_i.)         covariances over the attacks of sample i under the softmax at w

    and the next read evaluates it: value, gradient and Hessian at once, and the exact duality gap
    ``<w, g> - min_k g_k``. Close to the optimum the gap is about squared with each pass.

    Where the model fails, one read answers several radii, along with the classifiers' best answer to all cuts seen so
    far and the point halfway to it: at low temperature F_t has kinks that a quadratic does not know. At 1e-3 of the
    loss scale, games take 3 to 11 passes; those of 0/1 losses that are too varied to be compressed take 12 to 17.

    Attributes
    ----------
    iterations : int
        Steps at most.
    largest : int
        Beyond so many classifiers, where products dominate, `Fista` solves the game instead and the result's message
        says so.

    References
    ----------
    Conn, Gould and Toint, "Trust-region methods", 2000, chapter 12.
    """

    iterations: int = 500
    largest: int = LARGEST

    evaluates_start: ClassVar[bool] = True
    compresses: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_integer("iterations", self.iterations, 1)
        check_integer("largest", self.largest, 1)

    def check(self, source: Source, temperature: float | NDArray[np.float64]) -> None:
        if not np.all(np.asarray(temperature) > 0):
            raise ValueError(f"`temperature` must be > 0 for Newton; got {temperature}")
        if source.table is None:
            raise ValueError("`solver` must be DoubleOracle for a game behind an oracle; got Newton")

    def iterate(self, problem: Problem) -> Steps:
        level = np.ones(1)
        if problem.n_classifiers > self.largest:
            first = yield Queries(problem.start[None], level)
            problem.desk.remark(f"by Fista: there are more than {self.largest} classifiers")
            return (yield from Fista().iterate(replace(problem, first=first)))
        answer = yield Queries(problem.start[None], level, hessians=1)
        here = Model.at(problem.start, answer, 0)
        region = Region()
        precise, idle, gap = False, 0, np.inf
        for _ in range(self.iterations):
            problem.certificate.tighten()
            trials, radii = region.trials(here)
            extra = () if region.factors is not SHORTER else _between(here, problem.certificate.mixture)
            newly = not precise and problem.certificate.gap <= FLOAT64_FROM * abs(problem.certificate.upper)
            precise |= newly
            asked = _ask([*trials, *extra], problem, precise=precise, newly=newly)
            answer = yield asked
            found = [Model.at(asked.weights[j], answer, j) for j in range(asked.hessians)]
            noise = ROUNDING[precise and not newly] * float(np.abs(here.slope).max())
            best = min(found, key=lambda model: model.value)
            better = best.value < here.value
            if here.decrease(trials[0]) > noise:
                region = region.after(here, found[: len(trials)], radii, best)
                idle, gap = 0, problem.certificate.gap
            else:  # values are equal but for rounding: gaps tell better
                if best.value >= here.value - noise:
                    best = min(found, key=lambda model: model.gap)
                    better = best.gap < here.gap
                region = Region(1.0, SHORTER if idle else ONE)
                idle, gap = (
                    (0, problem.certificate.gap) if problem.certificate.gap < 0.9 * gap else (idle + 1, gap)
                )
                if idle >= PATIENCE:
                    return Outcome(Status.NUMERICAL_ERROR)
            if better or newly:
                here = best
        return Outcome(Status.ITERATION_LIMIT)


@dataclass(frozen=True, eq=False)
class Model:
    """F_t to second order at a mixture."""

    weights: NDArray[np.float64]
    value: float
    slope: NDArray[np.float64]
    hessian: NDArray[np.float64]

    @classmethod
    def at(cls, weights: NDArray[np.float64], answer: PassAnswer, query: int) -> Model:
        assert answer.hessian is not None
        return cls(weights, float(answer.value[query]), answer.gradient[query], answer.hessian[query])

    @property
    def gap(self) -> float:
        """The duality gap that this point proves by itself."""
        return float(self.slope @ self.weights - self.slope.min())

    def decrease(self, point: NDArray[np.float64]) -> float:
        """What the model promises."""
        move = point - self.weights
        return -float(self.slope @ move + move @ self.hessian @ move / 2)


@dataclass(frozen=True)
class Region:
    """The trust region: its radius, and which multiples of it the next pass tries."""

    radius: float = 1.0
    factors: tuple[float, ...] = ONE

    def trials(self, here: Model) -> tuple[list[NDArray[np.float64]], list[float]]:
        """Steps of the radii to be tried, without repetition."""
        points: list[NDArray[np.float64]] = []
        radii: list[float] = []
        for factor in self.factors:
            radius = min(1.0, factor * self.radius)
            point = minimise_model(here.weights, here.slope, here.hessian, radius)
            if not any(np.array_equal(point, other) for other in points):
                points.append(point)
                radii.append(radius)
        return points, radii

    def after(self, here: Model, found: list[Model], radii: list[float], best: Model) -> Region:
        """The region once the trials were evaluated; `best` may be none of them."""
        kept = [_share(here, model) for model in found]
        moved = float(np.abs(best.weights - here.weights).max())
        share = _share(here, best)
        if best.value >= here.value:
            return Region(0.3 * min(radii), SHORTER)
        if share < BAD:
            return Region(moved, SHORTER)
        radius = max((r for r, part in zip(radii, kept, strict=True) if part > GOOD), default=moved)
        limited = any(
            model is best and moved > 0.99 * r < 0.99 for model, r in zip(found, radii, strict=True)
        )
        if not limited:
            radius = min(max(radius, 4 * moved), 1.0)
        return Region(radius, SHORTER if min(kept) < BAD else LONGER if limited else ONE)


def _share(here: Model, there: Model) -> float:
    """The part of the predicted decrease that came true; 1 where none was predicted."""
    predicted = here.decrease(there.weights)
    return (here.value - there.value) / predicted if predicted > 0 else 1.0


def _between(here: Model, mixture: NDArray[np.float64] | None) -> list[NDArray[np.float64]]:
    """The classifiers' answer to all cuts, and the point halfway."""
    if mixture is None:
        return []
    return [normalise_weights(mixture), normalise_weights((here.weights + mixture) / 2)]


def _ask(points: list[NDArray[np.float64]], problem: Problem, *, precise: bool, newly: bool) -> Queries:
    """The points with their Hessians; what the proof will need beside them, once it may be near.

    The first time in float64, the best mixture is asked again, so that float32 answers can be forgotten.
    """
    weights, level = list(points), [1.0] * len(points)
    if newly:
        weights.append(problem.certificate.best.weights)
        level.append(1.0)
    if precise and len(points) == 1:
        weights.append(points[0])
        level.append(0.0)
    return Queries(
        np.array(weights), np.array(level), float64=precise, forgets_float32=newly, hessians=len(points)
    )

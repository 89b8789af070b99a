"""What section 5.1 of the paper measures on the plane game: gain by radius, convergence, and the mixture itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mixsolve.attacks import LinearBestResponse, Loss, Norm, UniformBall, loss_table
from mixsolve.demo.convergence import ConvergenceSettings, Trace, trace_algorithms
from mixsolve.demo.display import Display
from mixsolve.demo.plane import FloatArray, IntArray, LinearClassifier, sample_classifiers, sample_points
from mixsolve.demo.scores import Scores, score_players
from mixsolve.demo.solve import TOLERANCE, compare, solve, solve_path
from mixsolve.results import MixtureResult, Status
from mixsolve.solvers import LinearProgram
from mixsolve.table import LossTable

#: The paper finds the mixture strictly better "whenever the adversarial budget is bigger than" this.
PAPER_RADIUS = 2.0
#: Temperatures at which the smoothed game is solved, for the picture of its value.
PATH = tuple(float(level) for level in np.geomspace(1.0, 1e-3, 13))


@dataclass(frozen=True)
class PlaneSettings:
    """Sizes of the plane game; the defaults are the paper's."""

    n_points: int = 1000
    """Training points, and as many fresh ones."""
    n_classifiers: int = 10
    n_attacks: int = 1000
    radii: tuple[float, ...] = tuple(0.5 * step for step in range(11))
    convergence: ConvergenceSettings = field(default_factory=ConvergenceSettings)
    """Its radius is one of `radii`."""
    seed: int = 0


@dataclass(frozen=True, eq=False)
class PlaneGame:
    """Training points, fresh points, and the classifiers."""

    settings: PlaneSettings
    points: FloatArray
    labels: IntArray
    fresh_points: FloatArray
    fresh_labels: IntArray
    classifiers: list[LinearClassifier]

    def standard_risks(self) -> list[float]:
        """Share of the training points that each classifier gets wrong when nothing is moved."""
        return [float(np.mean(k.predict(self.points) != self.labels)) for k in self.classifiers]

    def table(self, radius: float) -> LossTable:
        """0/1 losses on attacks uniform in the l2 balls around the training points."""
        ball = UniformBall(Norm.L2, radius, self.settings.n_attacks, seed=self.settings.seed)
        return loss_table(self.classifiers, self.points, self.labels, ball, Loss.ZERO_ONE)

    def fresh_table(self, radius: float) -> LossTable:
        """The same around the fresh points, with other attacks."""
        ball = UniformBall(Norm.L2, radius, self.settings.n_attacks, seed=self.settings.seed + 1)
        return loss_table(self.classifiers, self.fresh_points, self.fresh_labels, ball, Loss.ZERO_ONE)

    def best_response(self, radius: float) -> LinearBestResponse:
        """The attacker who may use every point of the balls around the training points."""
        return LinearBestResponse.of(self.classifiers, self.points, self.labels, Norm.L2, radius)


@dataclass(frozen=True, eq=False)
class RadiusRow:
    """The solved game at one radius: certificate, and every player's risk in sample and out of sample."""

    radius: float
    result: MixtureResult
    unrestricted: MixtureResult
    """Of the game against all attacks in the balls, not the sampled ones alone."""
    in_sample: Scores
    out_of_sample: Scores

    @property
    def gain(self) -> float:
        """How much more the best single classifier loses than the mixture is certified to."""
        return self.in_sample.best_single - self.result.value

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON values."""
        return {
            "radius": self.radius,
            "value": self.result.value,
            "lower_bound": self.result.lower_bound,
            "status": self.result.status.name,
            "against_all_attacks": {
                "value": self.unrestricted.value,
                "lower_bound": self.unrestricted.lower_bound,
                "status": self.unrestricted.status.name,
                "weights": self.unrestricted.weights.tolist(),
            },
            "gain": self.gain,
            "strictly_better": bool(self.gain > TOLERANCE),
            "weights": self.result.weights.tolist(),
            "in_sample": self.in_sample.to_dict(),
            "out_of_sample": self.out_of_sample.to_dict(),
        }


@dataclass(frozen=True, eq=False)
class PlaneStudy:
    """Everything measured on the plane game."""

    game: PlaneGame
    rows: list[RadiusRow]
    """By radius."""
    traces: list[Trace]
    """Algorithm 1 first, then the regularised algorithm by temperature."""
    path: list[MixtureResult]
    """Optimal mixtures of the smoothed game at the same radius, by falling temperature."""

    @property
    def convergence_row(self) -> RadiusRow:
        """The exact solution at the radius where the algorithms were followed."""
        radius = self.game.settings.convergence.radius
        return next(row for row in self.rows if row.radius == radius)

    @property
    def strictly_better_from(self) -> float | None:
        """First radius from which on every one has a certified strict gain; None when the last has none."""
        first = None
        for row in reversed(self.rows):
            if row.gain <= TOLERANCE:
                break
            first = row.radius
        return first

    def report(self) -> dict[str, Any]:
        """The study as JSON values."""
        exact = self.convergence_row.result
        return {
            "settings": asdict(self.game.settings),
            "strictly_better_from": self.strictly_better_from,
            "strictly_better_beyond_in_the_paper": PAPER_RADIUS,
            "radii": [row.to_dict() for row in self.rows],
            "convergence": {
                "radius": self.convergence_row.radius,
                "exact_value": exact.value,
                "exact_lower_bound": exact.lower_bound,
                "runs": [trace.to_dict(exact) for trace in self.traces],
            },
            "path": [
                {
                    "temperature": result.temperature,
                    "value": result.value,
                    "lower_bound": result.lower_bound,
                    "worst_case_value": result.worst_case_value,
                    "passes": result.passes,
                }
                for result in self.path
            ],
            "classifiers": [
                {"normal": classifier.normal.tolist(), "offset": classifier.offset, "standard_risk": risk}
                for classifier, risk in zip(self.game.classifiers, self.game.standard_risks(), strict=True)
            ],
        }

    def checks(self) -> dict[str, bool]:
        """What must hold, by name."""
        exact = self.convergence_row.result
        gains = [row.gain for row in self.rows]
        return {
            "plane solved exactly at every radius": all(
                row.result.status is Status.OPTIMAL for row in self.rows
            ),
            "plane solved exactly against all attacks in the balls, which inflict no less": all(
                row.unrestricted.status is Status.OPTIMAL
                and row.unrestricted.value >= row.result.lower_bound - TOLERANCE
                for row in self.rows
            ),
            "plane solved at every temperature, with values that rise to the exact one": all(
                result.status is Status.OPTIMAL and result.lower_bound <= colder.value + TOLERANCE
                for result, colder in zip(self.path, [*self.path[1:], exact], strict=True)
            ),
            "plane: mixture nowhere worse than the best single classifier": min(gains) >= -TOLERANCE,
            "plane: mixture somewhere strictly better": max(gains) > TOLERANCE,
            "plane: Algorithm 1 within its bound": self.traces[0].holds(exact),
            "plane: regularised algorithm within t log m + gap": all(
                trace.holds(exact) for trace in self.traces[1:]
            ),
        }


def make_plane_game(settings: PlaneSettings) -> PlaneGame:
    """Draw the points and the classifiers."""
    rng = np.random.default_rng(settings.seed)
    points, labels = sample_points(settings.n_points, rng)
    fresh_points, fresh_labels = sample_points(settings.n_points, rng)
    classifiers = sample_classifiers(settings.n_classifiers, points, labels, rng)
    return PlaneGame(settings, points, labels, fresh_points, fresh_labels, classifiers)


def play_plane(settings: PlaneSettings, display: Display) -> PlaneStudy:
    """Solve the game at every radius, and follow the paper's two algorithms at one of them."""
    game = make_plane_game(settings)
    with display.stage(f"plane: exact solution at {len(settings.radii)} radii"):
        rows = [_solve_radius(game, radius, display) for radius in settings.radii]
    radius = settings.convergence.radius
    with display.stage(f"plane: convergence of the algorithms at radius {radius:g}"):
        traces = trace_algorithms(game.table(radius), settings.convergence, display)
    with display.stage(f"plane: {len(PATH)} temperatures at radius {radius:g}"):
        path = solve_path(game.table(radius), PATH)
    return PlaneStudy(game, rows, traces, path)


def _solve_radius(game: PlaneGame, radius: float, display: Display) -> RadiusRow:
    """The exact solution at one radius, and its players measured on fresh points and attacks."""
    radii = game.settings.radii
    display.step(radii.index(radius), len(radii))
    table = game.table(radius)
    comparison = compare(table, LinearProgram())
    weights, choice = comparison.optimal.weights, comparison.best_single
    out_of_sample = score_players(game.fresh_table(radius), weights, choice)
    unrestricted = solve(game.best_response(radius), tol=TOLERANCE)
    return RadiusRow(radius, comparison.optimal, unrestricted, Scores.of(comparison), out_of_sample)

"""What the demo measures on the digits game: best single, uniform and optimal mixture, for both losses."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mixsolve.attacks import Loss, loss_table
from mixsolve.demo.digits import DigitsGame, DigitsSettings, Images, make_digits_game
from mixsolve.demo.display import Display
from mixsolve.demo.scores import Scores, score_players
from mixsolve.demo.solve import TOLERANCE, compare
from mixsolve.results import MixtureResult, Status
from mixsolve.solvers import Fista, LinearProgram
from mixsolve.table import LossTable


@dataclass(frozen=True, eq=False)
class LossRow:
    """The solved game for one loss."""

    loss: Loss
    result: MixtureResult
    scores: dict[str, Scores]
    """On the game's attacks ("in sample"), on fresh attacks of its images, and on fresh images."""

    @property
    def gain(self) -> float:
        """How much more the best single classifier loses than the mixture is certified to."""
        return self.scores["in sample"].best_single - self.result.value

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON values."""
        return {
            "loss": self.loss.value,
            "value": self.result.value,
            "lower_bound": self.result.lower_bound,
            "gap": self.result.gap,
            "status": self.result.status.name,
            "solver": self.result.solver,
            "passes": self.result.passes,
            "weights": self.result.weights.tolist(),
            "gain": self.gain,
            **{name.replace(" ", "_"): scores.to_dict() for name, scores in self.scores.items()},
        }


@dataclass(frozen=True, eq=False)
class DigitsStudy:
    """The game, and its solution for each loss."""

    game: DigitsGame
    rows: list[LossRow]

    def report(self) -> dict[str, Any]:
        """The study as JSON values."""
        return {
            "settings": asdict(self.game.settings),
            "classifiers": list(self.game.classifiers),
            "losses": [row.to_dict() for row in self.rows],
        }

    def checks(self) -> dict[str, bool]:
        """What must hold, by name."""
        return {
            "digits solved to tolerance": all(row.result.status is Status.OPTIMAL for row in self.rows),
            "digits: mixture nowhere worse than the best single classifier": all(
                row.gain >= -TOLERANCE for row in self.rows
            ),
        }


def play_digits(settings: DigitsSettings, display: Display) -> DigitsStudy:
    """Train the classifiers, and solve and measure the game for both losses."""
    with display.stage("digits: training the classifiers"):
        game = make_digits_game(settings)
    return DigitsStudy(game, [_play_loss(game, loss, display) for loss in Loss])


def _play_loss(game: DigitsGame, loss: Loss, display: Display) -> LossRow:
    name = loss.value.replace("_", " ")
    with display.stage(f"digits: losses, {name}"):
        tables = {
            "in sample": _table(game, game.held_out, 0, loss, display),
            "fresh attacks": _table(game, game.held_out, 1, loss, display),
            "fresh images": _table(game, game.fresh, 2, loss, display),
        }
    with display.stage(f"digits: optimal mixture, {name}"):
        # Smooth losses have no equal rows to merge, which makes their linear programme large and Fista the faster way.
        solver = LinearProgram() if loss is Loss.ZERO_ONE else Fista()
        comparison = compare(tables["in sample"], solver)
        weights, choice = comparison.optimal.weights, comparison.best_single
        scores = {"in sample": Scores.of(comparison)}
        for which in ("fresh attacks", "fresh images"):
            scores[which] = score_players(tables[which], weights, choice)
    return LossRow(loss, comparison.optimal, scores)


def _table(game: DigitsGame, images: Images, number: int, loss: Loss, display: Display) -> LossTable:
    classifiers = list(game.classifiers.values())
    attacks = game.attacks(number)
    return loss_table(classifiers, images.pixels, images.digits, attacks, loss, progress=display.step)

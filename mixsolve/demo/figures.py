"""The pictures of the demo: the three of the paper's Figure 2, and the digits game."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mixsolve.attacks import Loss
from mixsolve.demo.digits_study import DigitsStudy, LossRow
from mixsolve.demo.plane_study import PlaneStudy
from mixsolve.plots import (
    Curve,
    plot_comparison,
    plot_convergence,
    plot_path,
    plot_plane_mixture,
    plot_risk_by_radius,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Points shown with their attack regions, as in the paper.
N_SHOWN = 40
TITLES = {
    Loss.ZERO_ONE: "0/1 loss",
    Loss.ONE_MINUS_PROBABILITY: "loss 1 - probability",
}


def draw_plane(study: PlaneStudy) -> dict[str, Figure]:
    """Figure 2 of the paper by file name: mixture over the plane, convergence, risk by radius; and by temperature."""
    game, row = study.game, study.convergence_row

    def predict_positive(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        votes = np.array([classifier.predict(points) > 0 for classifier in game.classifiers])
        return np.asarray(row.result.weights @ votes)

    curves = [
        Curve(
            f"regularised, t = {trace.temperature:g}" if trace.temperature > 0 else "oracle (Algorithm 1)",
            trace.iteration,
            trace.risk,
            emphasised=trace.temperature == 0,
        )
        for trace in study.traces
    ]
    radii = [solved.radius for solved in study.rows]
    return {
        "mixture.png": plot_plane_mixture(
            predict_positive, game.points[:N_SHOWN], game.labels[:N_SHOWN], row.radius
        ),
        "convergence.png": plot_convergence(curves, row.result.value),
        "value_by_temperature.png": plot_path(
            [float(result.temperature) for result in study.path],
            [result.value for result in study.path],
            [result.worst_case_value for result in study.path],
            row.result.value,
        ),
        "risk_by_radius.png": plot_risk_by_radius(
            radii,
            mixture={
                "in sample": [solved.in_sample.mixture for solved in study.rows],
                "out of sample": [solved.out_of_sample.mixture for solved in study.rows],
            },
            single={
                "in sample": [solved.in_sample.best_single for solved in study.rows],
                "out of sample": [solved.out_of_sample.best_single for solved in study.rows],
            },
            strictly_better_from=study.strictly_better_from,
        ),
    }


def draw_digits(study: DigitsStudy) -> dict[str, Figure]:
    """The digits game by file name: every classifier, the uniform and the optimal mixture, for both losses."""
    titles = {TITLES[row.loss]: row for row in study.rows}
    names = list(study.game.classifiers)
    panels = {title: _panel(names, row) for title, row in titles.items()}
    return {"digits.png": plot_comparison(panels, {title: row.result.value for title, row in titles.items()})}


def _panel(names: list[str], row: LossRow) -> dict[str, dict[str, float]]:
    """Rows of one panel: measurements of every player; the weight in the mixture beside the name."""
    weights = row.result.weights
    panel = {
        f"{name}, w = {weights[k]:.2f}": {where: float(s.singles[k]) for where, s in row.scores.items()}
        for k, name in enumerate(names)
    }
    panel["uniform mixture"] = {where: s.uniform for where, s in row.scores.items()}
    panel["optimal mixture"] = {where: s.mixture for where, s in row.scores.items()}
    return panel

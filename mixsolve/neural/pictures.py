"""Pictures of training runs and evaluations, in the house style; matplotlib is loaded on first use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mixsolve.neural.logs import EpochRow
from mixsolve.plots import FAINT, INK, MIXTURE, SINGLE, TITLE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mixsolve.neural.report import EvaluationReport


def plot_training(runs: Mapping[str, Sequence[EpochRow]]) -> Figure:
    """Standard and robust accuracy on the held-out images against epochs per member, as in the paper's Figure 3.

    Parameters
    ----------
    runs : mapping of name to rows
        One curve each, the last one emphasised.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, panels = new_figure(8.0, 3.6, columns=2)
    titles = ("Standard accuracy", "Robust accuracy")
    for axes, title, field in zip(panels, titles, ("accuracy", "robust_accuracy"), strict=True):
        for number, (name, rows) in enumerate(runs.items()):
            colour = MIXTURE if number == len(runs) - 1 else FAINT
            axes.plot(
                [row.epoch for row in rows],
                [100 * getattr(row, field) for row in rows],
                color=colour,
                linewidth=1.6,
                marker="o",
                markersize=3,
                label=name,
            )
        axes.set_xlabel("epochs per member")
        axes.set_ylabel("held-out training images, %")
        axes.set_title(title, **TITLE)
    if len(runs) > 1:
        panels[1].legend(loc="lower right", frameon=False)
    return figure


def draw_runs(folder: Path) -> None:
    """Write the curves of all runs in a training's folder to ``training.png``, where matplotlib is installed."""
    if find_spec("matplotlib") is None:
        return
    runs = {}
    for log in sorted(folder.glob("run-*/log.jsonl")):
        lines = log.read_text(encoding="ascii").splitlines()
        runs[log.parent.name.replace("-", " ")] = [EpochRow.from_json(line) for line in lines]
    plot_training(runs).savefig(folder / "training.png")


def plot_report(report: EvaluationReport) -> Figure:
    """Expected accuracy under every attack and their union; worst-case risks on the same points and on fresh ones."""
    figure, (left, right) = new_figure(9.6, 3.8, columns=2)
    rows = [("no attack", report.clean), *((row.name, row.accuracy) for row in report.attacks)]
    rows += [("joint union", report.joint.accuracy), ("per_model_union", report.per_model_union)]
    for place, (name, value) in enumerate(rows):
        colour = MIXTURE if name == "joint union" else FAINT
        span = [[100 * (value.mean - value.low)], [100 * (value.high - value.mean)]]
        left.errorbar(100 * value.mean, place, xerr=span, color=colour, marker="o", markersize=6, capsize=3)
    left.set_yticks(range(len(rows)), [name for name, _ in rows])
    left.set_xlabel("expected accuracy, %")
    left.set_title("The mixture under attack", **TITLE)
    pools = [("pooled points", report.pooled, "o", SINGLE)]
    if report.held_out is not None:
        pools.append(("fresh attacks", report.held_out, "D", INK))
    names = ("best_single", "uniform", "given", "optimal", "vote")
    for label, players, marker, colour in pools:
        risks = [100 * getattr(players, name).mean for name in names]
        right.plot(risks, range(len(names)), marker=marker, linestyle="", color=colour, label=label)
    right.set_yticks(
        range(len(names)), ["best single", "uniform", "this mixture", "optimal mixture", "majority vote"]
    )
    right.set_xlabel("worst-case risk, %")
    right.set_title("What randomisation gains", **TITLE)
    right.legend(loc="best", frameon=False)
    for axes in (left, right):
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
    return figure

"""Pictures of mixtures and their games. matplotlib is loaded on first use, and opens no window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: The mixture, a single classifier, neutral ink. Told apart in grey and by colour-blind readers too.
MIXTURE, SINGLE, INK, FAINT = "#1f5fa8", "#c8501e", "#222222", "#8a8a8a"
TITLE: dict[str, Any] = {"fontsize": 10.5, "loc": "left"}


@dataclass(frozen=True, eq=False)
class Curve:
    """One line of a convergence picture.

    Attributes
    ----------
    label : str
    iteration, risk : arrays, (n,)
    emphasised : bool
        Drawn in the colour set apart from the family of the others.
    """

    label: str
    iteration: npt.ArrayLike
    risk: npt.ArrayLike
    emphasised: bool = False


def plot_plane_mixture(
    predict_positive: Callable[[npt.NDArray[np.float64]], npt.ArrayLike],
    points: npt.ArrayLike,
    labels: npt.ArrayLike,
    radius: float,
) -> Figure:
    """A mixture of classifiers of the plane, over data points and the balls their attacks live in.

    Parameters
    ----------
    predict_positive : callable
        Probability in [0, 1], (n,), that the mixture predicts the positive class at points (n, 2).
    points : array, (n, 2)
    labels : array, (n,)
        Positive entries are the positive class.
    radius : float
        Of the l2 attacks, drawn as discs.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        Without matplotlib; as for every function here.
    """
    figure, axes = new_figure(6.4, 4.4)
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Circle

    centres, signs = np.asarray(points, dtype=np.float64), np.asarray(labels)
    span = np.abs(centres).max(axis=0) + radius + 0.3
    across, up = (np.linspace(-reach, reach, 600) for reach in span)
    grid = np.stack(np.meshgrid(across, up), axis=-1)
    positive = np.asarray(predict_positive(grid.reshape(-1, 2))).reshape(grid.shape[:2])
    colours = LinearSegmentedColormap.from_list("classes", ["#e2763f", "#fbfaf7", "#4f8ccb"])
    extent = (-span[0], span[0], -span[1], span[1])
    # The shadow: every colour is darkened by the share of the points that can be moved there.
    reached = np.zeros(positive.shape)
    for centre in centres:
        reached += ((grid - centre) ** 2).sum(axis=-1) <= radius**2
    shadow = 1.0 - 0.16 * reached / max(reached.max(), 1.0)
    axes.imshow(colours(positive)[..., :3] * shadow[..., None], extent=extent, origin="lower")
    for members, colour, marker, name in (
        (centres[signs > 0], MIXTURE, "o", "Y = +1"),
        (centres[signs <= 0], SINGLE, "s", "Y = -1"),
    ):
        for x, y in members:
            axes.add_patch(Circle((x, y), radius, fill=False, edgecolor=colour, alpha=0.4, linewidth=0.6))
        look: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.9, "zorder": 3}
        axes.scatter(*members.T, s=32, color=colour, marker=marker, label=name, **look)
    axes.set_title(f"The optimal mixture at radius {radius:g}, and how far each point can be moved", **TITLE)
    axes.legend(loc="upper right", framealpha=0.9, edgecolor="none")
    bar = figure.colorbar(ScalarMappable(cmap=colours), ax=axes, shrink=0.85, pad=0.02)
    bar.set_label("probability of predicting +1")
    bar.outline.set_visible(False)
    axes.grid(False)
    return figure


def plot_convergence(curves: Sequence[Curve], exact_value: float) -> Figure:
    """Adversarial risk of the iterates against the iteration, with the exact value of the game as a line.

    Parameters
    ----------
    curves : sequence of Curve
        A family, light to dark in the order given; an emphasised one stands apart.
    exact_value : float

    Returns
    -------
    matplotlib.figure.Figure
        A dot ends each curve; the last nine tenths of the iterations appear once more in a close-up.
    """
    figure, axes = new_figure(6.4, 4.4)
    from matplotlib import colormaps

    family = [curve for curve in curves if not curve.emphasised]
    shades = iter(colormaps["Blues"](np.linspace(0.4, 0.95, max(len(family), 1))))
    close_up = axes.inset_axes((0.5, 0.3, 0.48, 0.44))
    _style(close_up)
    last, highest = 1, exact_value
    for curve in curves:
        colour = SINGLE if curve.emphasised else next(shades)
        iteration, risk = np.asarray(curve.iteration), np.asarray(curve.risk, dtype=np.float64)
        axes.plot(iteration, risk, color=colour, linewidth=1.6, label=curve.label)
        close_up.plot(iteration, risk, color=colour, linewidth=1.3)
        for area in (axes, close_up):
            area.plot(
                iteration[-1], risk[-1], marker="o", markersize=4, color=colour, clip_on=False, zorder=3
            )
        last = max(last, int(iteration[-1]))
        highest = max(highest, float(risk[len(risk) // 10 :].max()))
    label = f"exact value {exact_value:.4f}"
    for area in (axes, close_up):
        area.axhline(exact_value, color=INK, linewidth=1.2, linestyle=(0, (5, 3)), label=label)
    margin = 0.08 * (highest - exact_value)
    axes.set_xscale("log")
    axes.set_xlim(1, last)
    close_up.set_xlim(max(1, last / 10), last)
    close_up.set_ylim(exact_value - margin, highest + margin)
    close_up.tick_params(labelsize=7)
    axes.set_xlabel("iteration")
    axes.set_ylabel("adversarial risk of the iterate")
    axes.set_title("Convergence to the value of the game", **TITLE)
    axes.legend(loc="upper right", ncols=2, fontsize=8.5, frameon=False)
    return figure


def plot_path(
    temperature: Sequence[float], value: Sequence[float], worst_case: Sequence[float], exact_value: float
) -> Figure:
    """Value of the smoothed game, and what its mixture risks at worst, against the temperature.

    Parameters
    ----------
    temperature : sequence of float
        > 0.
    value, worst_case : sequence of float
        Of the optimal mixture at each temperature.
    exact_value : float
        Of the game itself, at temperature 0.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = new_figure(6.4, 4.0)
    axes.plot(
        temperature, worst_case, color=SINGLE, linewidth=1.6, marker="o", markersize=3.5, label="at worst"
    )
    axes.plot(
        temperature, value, color=INK, linewidth=1.6, marker="o", markersize=3.5, label="smoothed value"
    )
    label = f"exact value {exact_value:.4f}"
    axes.axhline(exact_value, color=INK, linewidth=1.2, linestyle=(0, (5, 3)), label=label)
    axes.set_xscale("log")
    axes.set_xlabel("temperature")
    axes.set_ylabel("adversarial risk of the optimal mixture")
    axes.set_title("The game between its mean and its worst case", **TITLE)
    axes.legend(loc="best", frameon=False)
    return figure


def plot_risk_by_radius(
    radii: npt.ArrayLike,
    mixture: Mapping[str, npt.ArrayLike],
    single: Mapping[str, npt.ArrayLike],
    strictly_better_from: float | None = None,
) -> Figure:
    """Adversarial risk of the optimal mixture and of the best single classifier at growing radii.

    Parameters
    ----------
    radii : array, (n,)
    mixture, single : mapping of name to array, (n,)
        Under equal names, such as "in sample" and "out of sample"; the first is drawn solid, the next ones dashed.
    strictly_better_from : float, optional
        A radius to mark.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = new_figure(6.4, 4.2)
    radius = np.asarray(radii, dtype=np.float64)
    styles = ["-", (0, (4, 2)), (0, (1, 1.5))]
    for risks, colour, who, marker in (
        (single, SINGLE, "best single", "s"),
        (mixture, MIXTURE, "optimal mixture", "o"),
    ):
        for (name, risk), style in zip(risks.items(), styles, strict=False):
            filled = colour if style == "-" else "white"
            axes.plot(
                radius,
                np.asarray(risk),
                color=colour,
                linestyle=style,
                linewidth=1.6,
                marker=marker,
                markersize=5,
                markerfacecolor=filled,
                label=f"{who}, {name}",
            )
    first = next(iter(mixture))
    axes.fill_between(
        radius, np.asarray(mixture[first]), np.asarray(single[first]), color=FAINT, alpha=0.15, linewidth=0
    )
    if strictly_better_from is not None:
        axes.axvline(strictly_better_from, color=INK, linewidth=1.0, linestyle=(0, (1, 2)))
        axes.annotate(
            "strictly better\nfrom here on",
            (strictly_better_from, 0.98),
            xytext=(-6, 0),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=9,
        )
    axes.set_xlabel("radius of the attack")
    axes.set_ylabel("adversarial risk")
    axes.set_ylim(0, 1.02)
    axes.set_title("What randomisation gains", **TITLE)
    axes.legend(loc="lower right", framealpha=0.9, edgecolor="none")
    return figure


def plot_comparison(
    panels: Mapping[str, Mapping[str, Mapping[str, float]]], value: Mapping[str, float]
) -> Figure:
    """Risks of several classifiers and mixtures side by side: one panel per loss, one row per player.

    Parameters
    ----------
    panels : mapping of panel title to mapping of row name to mapping of measurement to risk
        Rows from top to bottom; equal measurements in every row, the first drawn filled.
    value : mapping of panel title to float
        A vertical line, such as the value of the game.

    Returns
    -------
    matplotlib.figure.Figure
    """
    n_rows = max(len(rows) for rows in panels.values())
    figure, all_axes = new_figure(4.6 * len(panels), 0.33 * n_rows + 1.7, columns=len(panels))
    markers = ["o", "D", "s"]
    for axes, (title, rows) in zip(np.atleast_1d(np.asarray(all_axes)), panels.items(), strict=True):
        for place, measured in enumerate(rows.values()):
            colour = MIXTURE if place == len(rows) - 1 else FAINT
            axes.plot(
                list(measured.values()), [place] * len(measured), color=colour, alpha=0.4, linewidth=1.2
            )
            for (name, risk), marker in zip(measured.items(), markers, strict=False):
                filled = colour if marker == "o" else "white"
                label = name if place == len(rows) - 1 else None
                axes.plot(
                    risk,
                    place,
                    marker=marker,
                    markersize=6.5,
                    color=colour,
                    markerfacecolor=filled,
                    linestyle="",
                    label=label,
                )
        axes.axvline(value[title], color=INK, linewidth=1.0, linestyle=(0, (5, 3)))
        axes.set_yticks(range(len(rows)), list(rows))
        axes.invert_yaxis()
        axes.set_xlabel("adversarial risk")
        axes.set_title(title, **TITLE)
        axes.grid(axis="y", visible=False)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
    return figure


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    """A figure in the house style, and its axes."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("drawing needs matplotlib: pip install mixsolve[plot]") from error

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    made = figure.subplots(1, columns)
    for axes in np.atleast_1d(np.asarray(made)):
        _style(axes)
    return figure, made


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(color=FAINT, labelsize=9)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)

"""Pictures: they hold the numbers they were given, and can be written without a screen."""

import subprocess
import sys

import numpy as np
import pytest

from mixsolve.plots import Curve, plot_comparison, plot_convergence, plot_plane_mixture, plot_risk_by_radius

PNG = b"\x89PNG\r\n\x1a\n"


def written(figure, path):
    figure.savefig(path)
    return path.read_bytes().startswith(PNG)


def lines(axes):
    return {line.get_label(): np.column_stack(line.get_data()) for line in axes.get_lines()}


def test_plane_shows_every_point_its_region_and_the_mixture(tmp_path):
    points = np.array([[0.0, 1.0], [2.0, -1.0], [-3.0, 0.5]])
    asked = []

    def right_half(places):
        asked.append(places)
        return (places[:, 0] > 0).astype(float)

    figure = plot_plane_mixture(right_half, points, [1, -1, -1], radius=1.5)
    axes = figure.axes[0]
    positive, negative = (collection.get_offsets() for collection in axes.collections)
    np.testing.assert_array_equal(positive, points[:1])
    np.testing.assert_array_equal(negative, points[1:])
    assert sorted(patch.center for patch in axes.patches) == sorted(map(tuple, points.tolist()))
    assert {patch.radius for patch in axes.patches} == {1.5}
    # The picture reaches beyond every region, and the two halves differ in colour.
    reach = np.abs(np.concatenate(asked)).max(axis=0)
    assert np.all(reach >= np.abs(points).max(axis=0) + 1.5)
    pixels = axes.images[0].get_array()
    assert not np.allclose(pixels[0, 0], pixels[0, -1])
    assert written(figure, tmp_path / "plane.png")


def test_convergence_shows_every_curve_and_the_exact_value(tmp_path):
    iteration = np.arange(1, 21)
    curves = [
        Curve("oracle", iteration, 0.5 + 1 / iteration, emphasised=True),
        Curve("t = 0.1", iteration, 0.6 + 0.1 / iteration),
        Curve("t = 0.01", iteration[:15], 0.51 + 0.2 / iteration[:15]),
    ]
    figure = plot_convergence(curves, exact_value=0.5)
    drawn = lines(figure.axes[0])
    for curve in curves:
        np.testing.assert_array_equal(drawn[curve.label], np.column_stack([curve.iteration, curve.risk]))
    np.testing.assert_array_equal(drawn["exact value 0.5000"][:, 1], [0.5, 0.5])
    assert (
        len(
            {
                line.get_color() if isinstance(line.get_color(), str) else tuple(line.get_color())
                for line in figure.axes[0].get_lines()
            }
        )
        == 4
    )
    assert written(figure, tmp_path / "convergence.png")


def test_risks_by_radius_show_both_players_and_mark_the_radius(tmp_path):
    radii = [0.0, 1.0, 2.0]
    mixture = {"in sample": [0.2, 0.4, 0.5], "out of sample": [0.25, 0.4, 0.55]}
    single = {"in sample": [0.2, 0.5, 0.9], "out of sample": [0.25, 0.5, 0.95]}
    figure = plot_risk_by_radius(radii, mixture, single, strictly_better_from=1.0)
    drawn = lines(figure.axes[0])
    for who, risks in (("optimal mixture", mixture), ("best single", single)):
        for name, risk in risks.items():
            np.testing.assert_array_equal(drawn[f"{who}, {name}"], np.column_stack([radii, risk]))
    assert any(np.array_equal(line[:, 0], [1.0, 1.0]) for line in drawn.values())
    assert written(figure, tmp_path / "risk.png")


def test_comparison_has_a_panel_per_loss_and_a_row_per_player(tmp_path):
    panels = {
        title: {player: {"in sample": 0.5, "fresh": 0.6} for player in ("first", "second", "mixture")}
        for title in ("0/1", "smooth")
    }
    figure = plot_comparison(panels, {"0/1": 0.45, "smooth": 0.4})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["0/1", "smooth"]
    for axes, value in zip(figure.axes, (0.45, 0.4), strict=True):
        assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second", "mixture"]
        assert any(np.array_equal(line.get_xdata(), [value, value]) for line in axes.get_lines())
    assert written(figure, tmp_path / "comparison.png")


@pytest.mark.parametrize("call", ["plot_convergence([], 0.5)", "plot_risk_by_radius([], {}, {})"])
def test_without_matplotlib_the_extra_is_named(call):
    """None in sys.modules is what Python itself takes for "this module cannot be imported"."""
    code = f"import sys; sys.modules['matplotlib'] = None\nimport mixsolve.plots as p\np.{call}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stderr.strip().endswith("ImportError: drawing needs matplotlib: pip install mixsolve[plot]")

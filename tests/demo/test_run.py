"""The whole demo at toy size: what it writes, and that its claims survive recomputation."""

import json

import numpy as np
import pytest

from mixsolve.attacks import Norm, UniformBall
from mixsolve.demo import FULL, SMALL, run_demo, summarise
from mixsolve.demo.digits import make_digits_game
from mixsolve.demo.display import Display
from mixsolve.demo.plane_study import make_plane_game, play_plane
from tests.certificates import assert_certificate

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "made" / "on demand"
    return folder, run_demo(folder, SMALL, quiet=True)


@pytest.fixture(scope="module")
def study():
    return play_plane(SMALL.plane, Display(quiet=True))


def test_the_folder_holds_the_pictures_and_the_report(outcome):
    folder, report = outcome
    names = {"mixture.png", "convergence.png", "value_by_temperature.png", "risk_by_radius.png", "digits.png"}
    assert {path.name for path in folder.iterdir()} == {*names, "report.json"}
    assert set(report["pictures"]) == names
    assert all((folder / name).read_bytes().startswith(PNG) for name in names)
    assert json.loads((folder / "report.json").read_text()) == report


def test_every_check_holds(outcome):
    _, report = outcome
    assert report["checks"]
    assert [name for name, holds in report["checks"].items() if not holds] == []


def test_quiet_prints_nothing(tmp_path, capfd):
    run_demo(tmp_path, SMALL, quiet=True)
    assert capfd.readouterr() == ("", "")


def test_every_radius_has_its_numbers(outcome):
    _, report = outcome
    rows = report["plane"]["radii"]
    assert [row["radius"] for row in rows] == list(SMALL.plane.radii)
    for row in rows:
        assert row["lower_bound"] <= row["value"] <= row["in_sample"]["best_single"] + 1e-6
        assert len(row["weights"]) == SMALL.plane.n_classifiers
        assert {"mixture", "best_single", "uniform"} <= set(row["out_of_sample"])
    # Remark 1: with nothing to move, randomisation gains nothing.
    assert rows[0]["radius"] == 0.0
    assert abs(rows[0]["gain"]) <= 1e-6


def test_the_first_strictly_better_radius_is_the_one_of_the_rows(outcome):
    _, report = outcome
    plane = report["plane"]
    first = plane["strictly_better_from"]
    assert plane["strictly_better_beyond_in_the_paper"] == 2.0
    for row in plane["radii"]:
        assert row["strictly_better"] == (row["gain"] > 1e-6)
        if row["radius"] >= first:
            assert row["strictly_better"]
    assert not max((row for row in plane["radii"] if row["radius"] < first), key=lambda row: row["radius"])[
        "strictly_better"
    ]


def test_certificates_along_the_temperatures_hold(study):
    losses = study.game.table(study.convergence_row.radius).array
    for result in study.path:
        assert_certificate(result, losses, tol=1e-6)


def test_certificates_of_the_plane_game_hold(study):
    for row in study.rows:
        assert_certificate(row.result, study.game.table(row.radius).array, tol=1e-6)


def test_risks_in_sample_and_out_of_sample_are_those_of_the_attacks(study):
    game, row = study.game, study.rows[2]
    for points, labels, seed, scores in (
        (game.points, game.labels, 0, row.in_sample),
        (game.fresh_points, game.fresh_labels, 1, row.out_of_sample),
    ):
        moved = UniformBall(Norm.L2, row.radius, SMALL.plane.n_attacks, seed=seed).points(points)
        wrong = np.array(
            [
                k.predict(moved.reshape(-1, 2)).reshape(moved.shape[:2]) != labels[:, None]
                for k in game.classifiers
            ]
        )
        mixed = np.tensordot(row.result.weights, wrong.astype(float), axes=1)
        assert scores.mixture == pytest.approx(mixed.max(axis=1).mean(), abs=1e-12)
        np.testing.assert_allclose(scores.singles, wrong.any(axis=2).mean(axis=1), atol=1e-12)
        assert scores.choice == row.in_sample.singles.argmin()


def test_the_curves_are_the_risks_of_the_iterates(study):
    exact = study.convergence_row.result
    for trace in study.traces:
        assert len(trace.iteration) == len(trace.risk) > 1
        # No mixture beats the value; the best iterate of Algorithm 1 is what it returns.
        assert trace.risk.min() >= exact.lower_bound - 1e-6
    assert study.traces[0].risk.min() == pytest.approx(study.traces[0].result.value, abs=1e-6)
    # Algorithm 1 starts from the uniform mixture.
    assert study.traces[0].risk[0] == pytest.approx(study.convergence_row.in_sample.uniform, abs=1e-6)


def test_full_sizes_are_those_of_the_paper():
    plane, digits = FULL.plane, FULL.digits
    assert (plane.n_points, plane.n_classifiers, plane.n_attacks) == (1000, 10, 1000)
    assert plane.radii == tuple(np.linspace(0, 5, 11))
    assert digits.n_images >= 500
    assert digits.n_attacks >= 200


def test_digits_attacks_stay_in_the_pixel_range_and_games_share_no_image():
    game = make_digits_game(SMALL.digits)
    assert len(game.classifiers) >= 6
    points = game.attacks(0).points(game.held_out.pixels)
    assert points.min() >= 0.0
    assert points.max() <= 1.0
    assert np.abs(points - game.held_out.pixels[:, None]).max() <= SMALL.digits.radius + 1e-6
    assert not np.array_equal(points, game.attacks(1).points(game.held_out.pixels))
    held_out = {image.tobytes() for image in game.held_out.pixels}
    assert not held_out & {image.tobytes() for image in game.fresh.pixels}


def test_seeds_change_the_games(study):
    other = make_plane_game(SMALL.with_seed(1).plane)
    assert not np.array_equal(other.points, study.game.points)
    again = make_plane_game(SMALL.plane)
    np.testing.assert_array_equal(again.points, study.game.points)


def test_the_summary_says_what_the_report_says(outcome):
    _, report = outcome
    text = summarise(report)
    assert f"strictly better from radius {report['plane']['strictly_better_from']:g}" in text
    assert text.count("[holds]") == len(report["checks"])
    assert "FAILS" not in text

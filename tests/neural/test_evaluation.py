"""What a report says, recomputed; its certificate; resuming; and the number that no single point attains."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from mixsolve.neural import APGD, PGD, Budget, Keep, LatticeClimber, Mixture, evaluate, standard_attacks
from mixsolve.neural.noise import Noise, mixed
from mixsolve.neural.report import Estimate
from tests.neural.linear import LinearGame
from tests.neural.networks import batch, mixture_of_nets
from tests.neural.training_run import data, networks, plan
from tests.refusals import refuse

BUDGET = Budget("linf", 0.1)
ATTACKS = {"PGD": PGD(6), "APGD": APGD(8), "climber": LatticeClimber(10)}


@pytest.fixture(scope="module")
def subject():
    mixture = mixture_of_nets(3, [0.5, 0.3, 0.2])
    x, y = batch(mixture, 60)
    return mixture, [(x[:40], y[:40]), (x[40:], y[40:])]


@pytest.fixture(scope="module")
def report(subject):
    return evaluate(*subject, BUDGET, ATTACKS, seed=3)


def test_every_number_is_what_it_says(subject, report):
    mixture, batches = subject
    x, y = (torch.cat(side) for side in zip(*batches, strict=True))
    assert report.samples == 60
    assert report.clean.mean == pytest.approx(float(mixture.fraction(x, y).mean()))
    right = mixture.right(x, y).double().mean(dim=1)
    assert report.member_clean == pytest.approx(right.tolist())
    fractions = []
    for row in report.attacks:
        import zlib

        noise = Noise(mixed(3, zlib.crc32(row.name.encode())), torch.arange(60))
        found = ATTACKS[row.name].run(mixture, x, y, BUDGET, noise)
        np.testing.assert_allclose(row.fraction, mixture.fraction(found.points, y))
        assert row.accuracy.mean == pytest.approx(row.fraction.mean())
        assert row.accuracy.low <= row.accuracy.mean <= row.accuracy.high
        assert row.looks_per_sample == pytest.approx(found.looks / 60)
        assert row.seconds > 0
        fractions.append(row.fraction)
    np.testing.assert_allclose(report.joint.fraction, np.min(fractions, axis=0))
    assert report.joint.accuracy.mean <= min(row.accuracy.mean for row in report.attacks)
    assert report.joint.accuracy.mean < report.clean.mean
    assert report.per_model_union.mean <= report.joint.accuracy.mean + 1e-12


def test_the_value_of_randomisation_is_certified_and_ordered(report):
    pooled = report.pooled
    assert report.solution.lower_bound <= pooled.optimal.mean + 1e-9
    assert pooled.optimal.mean == pytest.approx(report.solution.value)
    for other in (pooled.best_single, pooled.uniform, pooled.given):
        assert pooled.optimal.mean <= other.mean + 1e-6
    assert pooled.gain.mean == pytest.approx(pooled.best_single.mean - pooled.optimal.mean)
    assert report.pool_points >= 1 + 3 + 2
    assert "lower bound survives" in report.certificate_covers
    assert report.held_out.best_member == pooled.best_member, "chosen on the pool, not on the fresh attacks"
    # The mixture's own risk is 1 - accuracy at the worst of all pooled points: at least that of the joint union.
    assert pooled.given.mean >= 1 - report.joint.accuracy.mean - 1e-12


def test_results_do_not_depend_on_the_size_of_batches():
    """In float64, where networks give the same labels in any batch."""
    mixture = mixture_of_nets(2, dtype=torch.float64)
    x, y = batch(mixture, 30, dtype=torch.float64)
    one, three = (
        evaluate(
            mixture, [(x[i : i + s], y[i : i + s]) for i in range(0, 30, s)], BUDGET, ATTACKS, held_out=False
        )
        for s in (30, 10)
    )
    np.testing.assert_allclose(one.joint.fraction, three.joint.fraction)
    assert one.pooled.to_dict() == three.pooled.to_dict()


def test_it_prints_saves_and_draws(report, tmp_path):
    text = str(report)
    for word in (
        "PGD",
        "APGD",
        "climber",
        "joint union",
        "per_model_union",
        "gain of randomisation",
        "fresh",
    ):
        assert word in text
    report.save(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["joint"]["accuracy"]["mean"] == report.joint.accuracy.mean
    assert content["solution"]["lower_bound"] <= content["solution"]["value"]
    assert len(content["joint_fraction"]) == 60
    report.plot().savefig(tmp_path / "report.png")
    assert (tmp_path / "report.png").stat().st_size > 10_000


class Stop(Exception):
    """Raised in the middle of an evaluation."""


def test_an_interrupted_evaluation_goes_on_where_it_stopped(subject, report, tmp_path):
    mixture, batches = subject
    told = []

    def stop_at(number):
        def progress(state):
            told.append(state)
            if state.done == number:
                raise Stop

        return progress

    for number in (3, 8):
        with pytest.raises(Stop):
            evaluate(mixture, batches, BUDGET, ATTACKS, seed=3, folder=tmp_path, progress=stop_at(number))
    asked = []
    handle = mixture.members[0].register_forward_hook(lambda *_: asked.append(1))
    resumed = evaluate(mixture, batches, BUDGET, ATTACKS, seed=3, folder=tmp_path, progress=told.append)
    n_rest = len(asked)
    evaluate(mixture, batches, BUDGET, ATTACKS, seed=3, folder=tmp_path)
    handle.remove()
    assert n_rest > 10
    assert len(asked) - n_rest == len(batches), (
        "finished work is not done again; only the clean inputs are asked"
    )
    timeless = [{**row, "seconds": 0} for row in (*resumed.to_dict()["attacks"], resumed.to_dict()["joint"])]
    assert timeless == [
        {**row, "seconds": 0} for row in (*report.to_dict()["attacks"], report.to_dict()["joint"])
    ]
    assert resumed.held_out.to_dict() == report.held_out.to_dict()
    assert told[-1].done == told[-1].total == 2 * (2 * (3 + 4) + 1)
    with pytest.raises(ValueError, match="of another mixture"):
        evaluate(mixture, batches, BUDGET, ATTACKS, seed=4, folder=tmp_path)


class Threshold(nn.Module):
    """Class 1 above a threshold (or below it): a number in, two logits out."""

    def __init__(self, threshold, sign):
        super().__init__()
        self.threshold, self.sign = nn.Parameter(torch.tensor(threshold)), sign

    def forward(self, x):
        score = 10 * self.sign * (x.flatten(1).sum(dim=1) - self.threshold)
        return torch.stack([-score, score], dim=1)


def test_no_single_point_attains_the_per_model_union():
    """One member fails to the right of the point, the other to the left: each can be fooled, not both at once."""
    mixture = Mixture([Threshold(0.55, 1), Threshold(0.45, -1)])
    x, y = torch.full((8, 1, 1, 1), 0.5), torch.zeros(8, dtype=torch.int64)
    report = evaluate(mixture, [(x, y)], BUDGET, ATTACKS)
    assert report.joint.accuracy.mean == 0.5
    assert report.per_model_union.mean == 0.0
    assert report.pooled.best_single.mean == 1.0
    assert report.pooled.optimal.mean == pytest.approx(0.5)
    assert report.pooled.gain.mean == pytest.approx(0.5)
    assert report.held_out.gain.mean == pytest.approx(0.5)
    assert report.solution.weights == pytest.approx([0.5, 0.5], abs=1e-6)
    # Of two equal votes the lower label wins, and 0 is right: the vote is never wrong here.
    assert report.pooled.vote.mean == 0.0


def test_one_linear_member_is_its_closed_form():
    game = LinearGame(0, 1, 300, 20, "linf", 0.06)
    x, y = game.tensors
    report = evaluate(game.mixture, [(x, y)], game.budget, {"APGD": APGD(20)}, held_out=False)
    signed = (2 * game.y - 1) * (game.x @ game.normals[0] - game.offsets[0])
    robust = np.mean(signed > 0.06 * np.abs(game.normals[0]).sum())
    assert report.joint.accuracy.mean == pytest.approx(robust, abs=1 / 300)  # at most one sample on the edge
    assert report.pooled.gain.mean == 0


def test_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        found = Estimate.of((rng.random(100) < 0.3).astype(float), seed)
        hits += found.low <= 0.3 <= found.high
    # 95 % of 200, with the binomial's five standard deviations of 1.5 % to either side
    assert 0.87 <= hits / 200 <= 1.0


def test_attacks_that_keep_something_else_are_refused(subject):
    mixture, batches = subject
    bad = {"last": PGD(3, keep=Keep.LAST)}
    refuse(ValueError, "attacks", "FRACTION", "last", lambda: evaluate(mixture, batches, BUDGET, bad))
    refuse(ValueError, "attacks", "FRACTION", "none", lambda: evaluate(mixture, batches, BUDGET, {}))
    refuse(ValueError, "loader", "one batch", "none", lambda: evaluate(mixture, [], BUDGET, ATTACKS))


def test_the_standard_attacks_are_the_papers_and_two_that_know_mixtures():
    chosen = standard_attacks()
    assert list(chosen) == ["APGD-CE", "APGD-DLR", "ARC", "climber"]
    assert (chosen["APGD-CE"].steps, chosen["APGD-CE"].restarts) == (100, 5)


def test_a_trained_mixture_is_evaluated_on_its_test_data():
    from mixsolve.neural import train_mixture

    result = train_mixture(networks(), data(), plan(epochs=3))
    report = evaluate(result.mixture, [data()], Budget("linf", 0.05), {"PGD": PGD(10)}, held_out=False)
    assert report.joint.accuracy.mean <= report.clean.mean
    assert report.weights == pytest.approx(result.mixture.weights.tolist())

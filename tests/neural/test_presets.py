"""The presets: the paper's values, one by one, and two batches of each on tiny files in the official formats."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mixsolve.cli import BAD_INPUT, SOLVED, main
from mixsolve.neural import (
    PGD,
    SGD,
    AdversarialTraining,
    AttackLoss,
    Augmentation,
    Budget,
    Keep,
    Order,
    Precision,
    Selection,
    Start,
    StepDecay,
    Trades,
    TrainingPlan,
    WeightPhase,
    train_mixture,
)
from mixsolve.neural.presets import LOSSES, preset
from tests.neural.official import write_cifar10, write_cifar100, write_mnist
from tests.refusals import refuse

ROOT = Path(__file__).resolve().parents[2]
AT = AdversarialTraining(PGD(10, restarts=1, step_size=None, loss=AttackLoss.CROSS_ENTROPY, keep=Keep.LAST))
TRADES = Trades(6.0, PGD(10, loss=AttackLoss.KL, start=Start.GAUSSIAN, keep=Keep.LAST))
WRITE = {
    "fashion-mnist": write_mnist,
    "mnist": write_mnist,
    "cifar10": write_cifar10,
    "cifar100": write_cifar100,
}
BATCH = {"cifar10": 4, "cifar100": 4}


@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_papers_values(data, loss):
    chosen = preset(data, loss)
    assert chosen.plan == TrainingPlan(
        epochs=200,
        batch_size=1024,
        updates_per_member=50,
        order=Order.PERMUTATION,
        loss={"at": AT, "trades": TRADES}[loss],
        budget=Budget("linf", 8 / 255, (0.0, 1.0)),
        weights=WeightPhase(
            samples=2048, mixtures=0, attack=PGD(10), solver=None, temperature=0.0, least=0.5
        ),
        optimiser=SGD(lr=0.4, momentum=0.9, weight_decay=5e-4),
        schedule=StepDecay(at=(0.5, 0.75), factor=0.1),
        augmentation=Augmentation.CROP_AND_FLIP,
        precision=Precision.FLOAT32,
        selection=Selection(PGD(20), share=0.02),
        runs=2,
        seed=0,
        folder=None,
    )
    with torch.device("meta"):
        network = chosen.network()
    assert sum(p.numel() for p in network.parameters()) == 11_173_962 + (
        90 * 513 if data == "cifar100" else 0
    )


def test_the_rate_falls_when_the_paper_says():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = SGD()([parameter])
    schedule = StepDecay()(optimiser, 200)
    rates = []
    for _ in range(200):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert rates == pytest.approx([0.4] * 100 + [0.04] * 50 + [0.004] * 50)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("data", ["digits", "fashion-mnist", "mnist", "cifar10", "cifar100"])
def test_two_batches_of_every_preset(data, loss, tmp_path):
    """One member, one epoch, and a look at the held-out image; everything else as the preset says."""
    chosen = preset(data, loss)
    if data in WRITE:
        WRITE[data](tmp_path)
    size = BATCH.get(data, 8)
    images = chosen.data(tmp_path if data in WRITE else None, train=True)
    images = images.part(slice(2 * size + 1 if data != "cifar100" else 8))
    plan = replace(
        chosen.plan,
        epochs=1,
        batch_size=size,
        runs=1,
        selection=replace(chosen.plan.selection, share=1 / len(images)),
    )
    networks = chosen.networks(1, seed=0)
    before = [p.clone() for p in networks[0].parameters()]
    result = train_mixture(networks, images, plan)
    assert torch.isfinite(torch.tensor(result.history[0].loss))
    assert any(not torch.equal(p, q) for p, q in zip(before, networks[0].parameters(), strict=True))
    test = chosen.data(tmp_path if data in WRITE else None, train=False)
    assert result.mixture(test.batch(torch.arange(2))[0]).shape == (2, images.n_classes)


def test_networks_come_from_their_seed():
    chosen = preset("digits")
    one, same, other = (chosen.networks(2, seed) for seed in (0, 0, 1))
    for first, second in zip(one, same, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(one[0][2].weight, one[1][2].weight)
    assert not torch.equal(one[0][2].weight, other[0][2].weight)
    assert not torch.equal(one[0][2].weight, chosen.networks(2, 0, run=1)[0][2].weight)


def test_what_is_no_preset_is_refused():
    refuse(ValueError, "data", "cifar100", "imagenet", lambda: preset("imagenet"))
    refuse(ValueError, "data", "trades", "mart", lambda: preset("cifar10", "mart"))
    refuse(ValueError, "root", "folder of cifar10", "None", lambda: preset("cifar10").data(None, train=True))
    refuse(ValueError, "root", "left out", "here", lambda: preset("digits").data("here", train=True))


# -- from the shell --------------------------------------------------------------------------------------------------

TRAIN = ("train", "--epochs", "2", "--limit", "200", "--out")


def test_train_and_evaluate_from_the_shell(tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*TRAIN, str(out)]) == SOLVED
    printed = capsys.readouterr().out
    assert "epoch    2 of 2" in printed
    assert f"next: mixsolve evaluate {out}" in printed
    assert {"training.json", "training.png", "run-0"} <= {path.name for path in out.iterdir()}
    assert main([*TRAIN, str(out), "--quiet"]) == SOLVED, "a finished training is found finished"
    assert capsys.readouterr().out == ""
    options = ["--limit", "60", "--steps", "5", "--restarts", "1", "--batch-size", "30"]
    assert main(["evaluate", str(out), *options]) == SOLVED
    printed = capsys.readouterr().out
    for word in (
        "60 samples",
        "APGD-CE",
        "APGD-DLR",
        "ARC",
        "climber",
        "joint union",
        "gain of randomisation",
    ):
        assert word in printed
    report = json.loads((out / "evaluation.json").read_text())
    assert report["samples"] == 60
    assert report["joint"]["accuracy"]["mean"] <= report["clean"]["mean"]
    assert (out / "evaluation.png").stat().st_size > 10_000


def test_torchrun_trains_from_the_shell_too(tmp_path):
    """Two processes, one folder, one log; no process complains."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    done = subprocess.run(
        [*launcher, "mixsolve", *TRAIN, str(tmp_path / "out")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch    2 of 2") == 1
    assert "destroy_process_group" not in done.stderr
    assert len((tmp_path / "out" / "run-0" / "log.jsonl").read_text().splitlines()) == 2


def test_one_command_for_the_papers_runs(tmp_path, capsys):
    """`mixsolve train --data cifar10 --root ... --loss trades --models 1`, made small."""
    write_cifar10(tmp_path / "data", n=2)
    out = str(tmp_path / "out")
    command = ["train", "--data", "cifar10", "--root", str(tmp_path / "data"), "--loss", "trades"]
    small = ["--models", "1", "--epochs", "1", "--batch-size", "4", "--runs", "1", "--limit", "4"]
    assert main([*command, *small, "--out", out]) == BAD_INPUT, "2 % of 4 images is none"
    assert "selection.share" in capsys.readouterr().err
    told = json.loads((tmp_path / "out" / "training.json").read_text())
    assert (told["data"], told["loss"], told["models"]) == ("cifar10", "trades", 1)
    assert told["radius"] == 8 / 255


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["evaluate", "nowhere"], "it has no training.json"),
        (["train", "--data", "cifar10"], "must name the folder of cifar10"),
        (["train", "--data", "cifar10", "--root", "nowhere"], "data_batch_1"),
        (["train", "--root", "nowhere"], "digits come with scikit-learn"),
        (["train", "--models", "0"], "--models"),
        (["train", "--norm", "l1"], "`norm`"),
        (["train", "--precision", "int8"], "Precision"),
        (["train", "--epochs", "0"], "`epochs`"),
    ],
)
def test_bad_commands_say_what_is_wrong(command, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(command) == BAD_INPUT
    assert message in capsys.readouterr().err


def test_another_training_in_the_same_folder_is_refused(tmp_path, capsys):
    assert main([*TRAIN, str(tmp_path / "out"), "--quiet", "--models", "1"]) == SOLVED
    assert main([*TRAIN, str(tmp_path / "out"), "--quiet", "--models", "2"]) == BAD_INPUT
    assert "is of another one" in capsys.readouterr().err

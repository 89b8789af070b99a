"""Algorithm 2: its order of updates, the game of its weight phase, what it writes, and that a run can be resumed."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from mixsolve import Fista, OracleSubgradient, Status
from mixsolve.neural import (
    PGD,
    SGD,
    AttackLoss,
    Budget,
    Keep,
    Mixture,
    Order,
    Precision,
    Start,
    Trades,
    WeightPhase,
    load_mixture,
    train_mixture,
)
from mixsolve.neural.batches import Batches
from mixsolve.neural.logs import EpochRow
from mixsolve.neural.noise import Noise, mixed
from mixsolve.neural.pool import aims, pool_losses
from mixsolve.neural.run import UPDATE, Run
from mixsolve.neural.weight_phase import find_weights, solve_pool
from tests.certificates import assert_certificate
from tests.neural.training_run import N_SAMPLES, data, networks, plan
from tests.refusals import refuse

ROOT = Path(__file__).resolve().parents[2]
NO_FIGHT = {"selection": None, "weights": None}


def state(mixture):
    return {name: value.clone() for name, value in mixture.state_dict().items()}


def assert_same_state(one, other, tolerance=0.0):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=tolerance, atol=tolerance, msg=name)


def test_one_member_is_ordinary_adversarial_training():
    """The loop written out plainly: attack the network, step on cross-entropy at the last iterate."""
    chosen = plan(epochs=2, schedule=None, **NO_FIGHT)
    [ours], [theirs] = networks(n_members=1), networks(n_members=1)
    train_mixture([ours], data(), chosen)
    optimiser = SGD(lr=0.1)(theirs.parameters())
    run = Run(networks(n_members=1), data(), replace(chosen, seed=mixed(0, 0)), None, chosen)
    x, y = data()
    for update in range(2 * run.batches.per_epoch):
        rows = run.batches.of_update(update)
        noise = Noise(mixed(run.plan.seed, UPDATE, update), rows).keyed(2).keyed(0)
        x_adv = chosen.budget.uniform(x[rows], noise)
        for _ in range(3):
            x_adv.requires_grad_(True)
            [grad] = torch.autograd.grad(functional.cross_entropy(theirs(x_adv), y[rows]), x_adv)
            move = x_adv.detach() + 2 * 0.05 / 3 * grad.sign() - x[rows]
            x_adv = (x[rows] + move.clamp(-0.05, 0.05)).clamp(0, 1)
        optimiser.zero_grad()
        functional.cross_entropy(theirs(x_adv), y[rows]).backward()
        optimiser.step()
    assert_same_state(theirs.state_dict(), ours.state_dict(), tolerance=1e-6)


def test_every_member_sees_the_data_as_often_as_planned():
    run = Run(networks(n_members=3), data(), plan(), None, plan())
    period = 3 * 3
    for order in Order:
        run.plan = replace(run.plan, order=order)
        members = np.array([run._member_of(update) for update in range(40 * period)])
        counts = np.stack([np.bincount(part, minlength=3) for part in members.reshape(40, period)])
        if order is Order.PERMUTATION:
            assert (counts == 3).all()
        else:
            assert (counts != 3).any()
            assert counts.mean(axis=0) == pytest.approx([3, 3, 3], abs=5 * np.sqrt(2 / 40))
        assert len({tuple(part) for part in members.reshape(40, period)}) > 30, "every period its own order"


def test_batches_hold_every_training_sample_once_a_round_and_no_held_out_one():
    batches = Batches(data(), 32, 0, 0.2, torch.device("cpu"), 0)
    assert len(batches.held_out) == 30
    assert batches.per_epoch == 4
    first, second = (
        torch.cat([batches.of_update(4 * epoch + place) for place in range(4)]) for epoch in (0, 1)
    )
    assert sorted(first.tolist()) == sorted(second.tolist()) == batches.training.tolist()
    assert not torch.equal(first, second)
    assert not set(first.tolist()) & set(batches.held_out.tolist())


def test_only_the_member_of_an_update_changes():
    run = Run(networks(n_members=3), data(), plan(), None, plan())
    for update in range(4):
        before = [[p.clone() for p in m.parameters()] for m in run.mixture.members]
        run._update(update)
        changed = [
            any(not torch.equal(p, q) for p, q in zip(was, m.parameters(), strict=True))
            for was, m in zip(before, run.mixture.members, strict=True)
        ]
        assert changed == [k == run._member_of(update) for k in range(3)]


def test_trades_is_its_formula():
    member, x, y = networks(n_members=1)[0], *data()
    x_adv = (x + 0.03).clamp(0, 1)
    losses = Trades(beta=6.0).losses(member, x, x_adv, y)
    clean, attacked = member(x).softmax(dim=1), member(x_adv).softmax(dim=1)
    kl = (clean * (clean.log() - attacked.log())).sum(dim=1)
    torch.testing.assert_close(losses, functional.cross_entropy(member(x), y, reduction="none") + 6 * kl)
    attack = Trades().attack
    assert (attack.loss, attack.start, attack.keep) == (AttackLoss.KL, Start.GAUSSIAN, Keep.LAST)
    mixture = Mixture(networks(n_members=2))
    found = attack(mixture, x, y, Budget("linf", 0.05), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        grown = sum(
            functional.kl_div(m(found).log_softmax(1), m(x).log_softmax(1), log_target=True, reduction="sum")
            for m in mixture.members
        )
    assert grown > 0


def test_the_pool_is_a_game_and_the_weights_solve_it():
    """Losses recomputed from the points' members; both bounds recomputed from the raw table."""
    run = Run(networks(n_members=3), data(), plan(), None, plan())
    for update in range(12):
        run._update(update)
    x, y = data()
    targets = aims(run.mixture)
    assert len(targets) == 3 + 2
    losses = pool_losses(run.mixture, x, y, Budget("linf", 0.1), PGD(5), Noise(0, torch.arange(150)), targets)
    assert losses.shape == (3, 150, 6)
    assert torch.equal(losses[:, :, 0], ~run.mixture.right(x, y)), "the inputs are points too"
    for k in range(3):
        assert losses[k, :, 1 + k].sum() == losses[k].any(dim=1).sum(), (
            "nothing hurts a member more than its own"
        )
    result = solve_pool(losses.numpy(), WeightPhase(), np.full(3, 1 / 3))
    assert result.status is Status.OPTIMAL
    assert_certificate(result, losses.numpy().astype(float), tol=1e-6)
    outcome = find_weights(run.mixture, run.batches, run.plan, WeightPhase(samples=64), 7, run.processes)
    assert outcome.samples == 64
    assert outcome.points >= 3 + 2
    assert run.mixture.weights.tolist() == pytest.approx(outcome.result.weights.tolist(), abs=0)


@pytest.mark.parametrize(
    ("solver", "temperature"), [(Fista(), 1e-3), (OracleSubgradient(25), 0.0)], ids=["Fista", "oracle"]
)
def test_the_papers_solvers_can_be_selected(solver, temperature):
    phase = WeightPhase(samples=64, attack=PGD(3), solver=solver, temperature=temperature)
    result = train_mixture(networks(), data(), plan(epochs=1, weights=phase))
    assert np.isfinite(result.history[-1].value)
    assert result.history[-1].lower_bound <= result.history[-1].value


def test_training_makes_robust():
    before = Mixture(networks())
    x, y = data()
    attack, budget = PGD(10), Budget("linf", 0.05)
    result = train_mixture(networks(), data(), plan(epochs=15))

    def robust(mixture):
        points = attack(mixture, x, y, budget, generator=torch.Generator().manual_seed(0))
        return float(mixture.fraction(points, y).mean())

    assert robust(result.mixture) > robust(before) + 0.1
    assert not result.mixture.training
    best = max(result.history, key=lambda row: row.robust_accuracy)
    assert result.score == best.robust_accuracy
    assert result.epoch == best.epoch, "the first of the best"


def test_what_a_run_writes(tmp_path):
    seen = []
    result = train_mixture(networks(), data(), plan(tmp_path), progress=seen.append)
    folder = tmp_path / "run-0"
    assert result.folder == folder
    assert seen == list(result.history)
    assert [row.epoch for row in seen] == [1, 2, 3, 4]
    lines = (folder / "log.jsonl").read_text().splitlines()
    assert [EpochRow.from_json(line) for line in lines] == seen
    assert all(json.loads(line)["epoch"] for line in lines)
    with open(folder / "log.csv") as file:
        table = list(csv.DictReader(file))
    assert [float(row["robust_accuracy"]) for row in table] == [row.robust_accuracy for row in seen]
    assert [float(row["weight_1"]) for row in table] == [row.weights[1] for row in seen]
    assert sorted(path.name for path in folder.iterdir()) == [
        f"best-{result.epoch:05d}.pt",
        "checkpoint.pt",
        "log.csv",
        "log.jsonl",
    ]
    for path in folder.glob("*.pt"):
        torch.load(path, weights_only=True)
    assert (tmp_path / "training.png").stat().st_size > 10_000
    for path in (tmp_path, folder, folder / f"best-{result.epoch:05d}.pt"):
        assert_same_state(load_mixture(networks(), path).state_dict(), result.mixture.state_dict())
    again = train_mixture(networks(), data(), plan(tmp_path), progress=seen.append)
    assert_same_state(again.mixture.state_dict(), result.mixture.state_dict())
    assert len(seen) == 4, "a finished run is not trained further"


def test_another_plan_in_the_same_folder_is_refused(tmp_path):
    train_mixture(networks(), data(), plan(tmp_path, epochs=1))
    for changed in ({"batch_size": 16}, {"seed": 1}, {"optimiser": SGD(lr=0.2)}):
        [name] = changed
        with pytest.raises(ValueError, match=f"differs in {name}"):
            train_mixture(networks(), data(), plan(tmp_path, epochs=1, **changed))
    x, y = data()
    with pytest.raises(ValueError, match="the number of samples"):
        train_mixture(networks(), (x[:100], y[:100]), plan(tmp_path, epochs=1))


def test_damaged_checkpoints_are_refused(tmp_path):
    train_mixture(networks(), data(), plan(tmp_path, epochs=1))
    path = tmp_path / "run-0" / "checkpoint.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"checkpoint\.pt is truncated"):
        train_mixture(networks(), data(), plan(tmp_path, epochs=1))
    torch.save({"something": "else"}, path)
    with pytest.raises(ValueError, match="another kind of file"):
        load_mixture(networks(), path)
    with pytest.raises(FileNotFoundError, match="there is none"):
        load_mixture(networks(), tmp_path / "nowhere")


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_a_checkpoint_executes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": "mixsolve checkpoint", "version": 1, "mixture": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="must be a checkpoint"):
        load_mixture(networks(), tmp_path / "evil.pt")
    assert not (tmp_path / "executed").exists()


def test_the_best_of_several_runs_is_returned(tmp_path):
    chosen = plan(tmp_path, epochs=2, runs=2)
    made = []

    def make(run):
        made.append(run)
        return networks(batch_norm=run == 1)

    result = train_mixture(make, data(), chosen)
    assert made == [0, 1]
    scores = [
        max(
            json.loads(line)["robust_accuracy"]
            for line in (tmp_path / f"run-{run}" / "log.jsonl").read_text().splitlines()
        )
        for run in (0, 1)
    ]
    assert result.run == int(np.argmax(scores))
    assert result.score == max(scores)
    with pytest.raises(TypeError, match="callable"):
        train_mixture(networks(), data(), chosen)


@pytest.mark.parametrize("precision", [Precision.BFLOAT16, Precision.FLOAT16])
def test_lower_precision_trains_as_well(precision):
    full = train_mixture(networks(), data(), plan())
    low = train_mixture(networks(), data(), plan(precision=precision))
    assert all(p.dtype is torch.float32 for p in low.mixture.parameters())
    assert all(torch.isfinite(p).all() for p in low.mixture.parameters())
    # The loss is a mean of 128 cross-entropies of size 1, each off by up to 2**-8.
    assert low.history[-1].loss == pytest.approx(full.history[-1].loss, abs=0.05)


def test_torchs_own_generator_is_left_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    train_mixture(networks(dropout=True), data(), plan(epochs=1))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_data_sets_of_items_and_tensors_are_the_same():
    class Items(torch.utils.data.Dataset):
        def __len__(self):
            return N_SAMPLES

        def __getitem__(self, index):
            x, y = data()
            return x[index], int(y[index])

    chosen = plan(epochs=1, **NO_FIGHT)
    first, second = (train_mixture(networks(), given, chosen).mixture for given in (data(), Items()))
    assert_same_state(first.state_dict(), second.state_dict())


def test_bad_plans_are_refused():
    refuse(ValueError, "epochs", ">= 1", "0", lambda: plan(epochs=0))
    refuse(ValueError, "runs", ">= 1", "0", lambda: plan(runs=0))
    refuse(ValueError, "selection", "choose among 2 runs", "None", lambda: plan(runs=2, selection=None))
    refuse(TypeError, "data", "data set", "int", lambda: train_mixture(networks(), 3, plan()))
    x, y = data()
    refuse(
        ValueError,
        "x",
        "bounds",
        "2.0",
        lambda: train_mixture(networks(), (2 * torch.ones_like(x), y), plan()),
    )
    with pytest.raises(ValueError, match="not a valid Order"):
        plan(order="sorted")


# -- killed and resumed, and in several processes --------------------------------------------------------------------


def program(*arguments, launcher=()):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *launcher, "tests.neural.training_run", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process):
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output


def test_killed_at_several_moments_and_resumed_it_ends_the_same_bit_for_bit(tmp_path):
    options = ("--dropout", "--batch-norm")
    finish(program(tmp_path / "whole", tmp_path / "whole.pt", *options))
    folder, kills = tmp_path / "killed", 0
    checkpoint = folder / "run-0" / "checkpoint.pt"
    # A forward pass takes 5 ms more, an epoch about 0.4 s: killed in the second one, the third one, the fourth one.
    for moment in (0.05, 0.15, 0.25):
        process = program(folder, tmp_path / "killed.pt", *options, "--pause", "0.005")
        while not checkpoint.exists() and process.poll() is None:
            time.sleep(0.01)
        before = checkpoint.stat().st_mtime_ns
        while checkpoint.stat().st_mtime_ns == before and process.poll() is None:
            time.sleep(0.005)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills == 3
    assert not (tmp_path / "killed.pt").exists()
    finish(program(folder, tmp_path / "killed.pt", *options))
    whole, resumed = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "killed"))
    assert_same_state(whole, resumed)
    logs = [
        (tmp_path / name / "run-0" / "log.jsonl").read_text().splitlines() for name in ("whole", "killed")
    ]
    rows = [[EpochRow.from_json(line) for line in lines] for lines in logs]
    timeless = {"update_seconds": 0, "pool_seconds": 0, "solve_seconds": 0, "look_seconds": 0}
    assert [replace(row, **timeless) for row in rows[0]] == [replace(row, **timeless) for row in rows[1]]


def test_two_processes_end_where_one_does(tmp_path):
    """Without batch norm, and up to float32: gradients are summed in another order."""
    finish(program(tmp_path / "one", tmp_path / "one.pt"))
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")
    finish(program(tmp_path / "two", tmp_path / "two.pt", launcher=launcher))
    one, two = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("one", "two"))
    assert_same_state(one, two, tolerance=1e-5)


def test_the_start_is_where_the_folder_says_whatever_the_networks_are(tmp_path):
    """Killed before the first epoch ended, a run begins anew from the parameters it began with."""
    chosen = plan(tmp_path, epochs=1)
    first = Run(networks(), data(), replace(chosen, seed=mixed(0, 0)), tmp_path / "run-0", chosen)
    first._save()
    strangers = networks(n_members=4)[2:]
    resumed = train_mixture(strangers, data(), chosen)
    expected = train_mixture(networks(), data(), plan(epochs=1))
    assert_same_state(state(expected.mixture), state(resumed.mixture))

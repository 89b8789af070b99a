"""Checkpoints: a solve goes on after its process was killed at any moment, and other tables are refused."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mixsolve import Fista, LossTable, Newton, fit_mixture
from tests.certificates import assert_certificate
from tests.test_streams import CHUNKS, game, saved

ROOT = Path(__file__).resolve().parent.parent

# Solves slowly: a tenth of a second passes at every look at the limits, in which it can be killed.
SOLVE = """
import sys, time
from mixsolve import fit_mixture
print("ready", flush=True)
fit_mixture(sys.argv[1], checkpoint=sys.argv[2], tol=1e-9, memory_limit=int(sys.argv[3]),
            callback=lambda progress: time.sleep(0.1))
"""


def solver_process(path, checkpoint, limit):
    process = subprocess.Popen(
        [sys.executable, "-c", SOLVE, path, checkpoint, str(limit)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_killed_at_ten_random_moments(tmp_path):
    losses = game(20, n_samples=4000)
    path, checkpoint = saved(tmp_path, losses), tmp_path / "solve.checkpoint"
    moments, killed, passes = random.Random(0), 0, []
    while killed < 10:
        with solver_process(path, checkpoint, 32 * CHUNKS) as process:
            time.sleep(moments.uniform(0.0, 0.45))
            process.send_signal(signal.SIGKILL)
            if process.wait() != -signal.SIGKILL:  # it was done before: once more, from the start
                checkpoint.unlink()
                passes = []
                continue
        killed += 1
        if checkpoint.exists():
            with np.load(checkpoint) as content:
                passes.append(str(content["header"]).count("iterate_value"))
    found = fit_mixture(path, checkpoint=checkpoint, tol=1e-9, memory_limit=32 * CHUNKS)
    assert_certificate(found, losses, tol=1e-9)
    assert passes == sorted(passes)
    assert found.passes > max(passes, default=0)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".partial")]


def interrupted_after(passes, *arguments, **options):
    return fit_mixture(*arguments, **options, callback=lambda progress: progress.passes >= passes)


def test_a_solve_goes_on_where_it_was(tmp_path):
    losses = game(21, n_samples=3000)
    path, checkpoint = saved(tmp_path, losses), tmp_path / "here"
    whole = fit_mixture(path, tol=1e-10, memory_limit=64 * CHUNKS)
    first = interrupted_after(2, path, tol=1e-10, checkpoint=checkpoint, memory_limit=64 * CHUNKS)
    second = fit_mixture(path, tol=1e-10, checkpoint=checkpoint, memory_limit=64 * CHUNKS)
    assert_certificate(second, losses, tol=1e-10)
    assert first.passes < second.passes <= whole.passes + 2
    assert [entry.seconds for entry in second.history[:2]] == [entry.seconds for entry in first.history[:2]]
    assert second.bytes_read == second.passes * losses.nbytes
    assert second.seconds > first.history[-1].seconds
    again = fit_mixture(path, tol=1e-10, checkpoint=checkpoint, memory_limit=64 * CHUNKS)
    assert again.passes == second.passes + 1


@pytest.mark.parametrize("solver", [Newton(), Fista()])
def test_smoothed_solves_go_on_from_the_best_mixture(solver, tmp_path):
    losses, checkpoint = game(22), tmp_path / "here"
    options = {"temperature": 0.05, "solver": solver, "tol": 1e-9, "checkpoint": checkpoint}
    first = interrupted_after(4, losses, **options)
    second = fit_mixture(losses, **options)
    assert_certificate(second, losses, tol=1e-9)
    assert second.history[len(first.history)].value <= first.value + 1e-12
    assert second.passes > first.passes


def test_checkpoints_of_other_games_are_refused(tmp_path):
    losses, checkpoint = game(23), tmp_path / "here"
    path = saved(tmp_path, losses)
    fit_mixture(path, checkpoint=checkpoint)
    fit_mixture(path, checkpoint=checkpoint)
    weight = np.arange(1.0, 901.0)
    other = losses.copy()
    other[2, 500, 7] += 1e-3
    for given in (
        {"losses": saved(tmp_path, losses[:, ::-1], "reversed.npy")},
        {"losses": other},
        {"losses": LossTable(losses)},
        {"losses": path, "sample_weight": weight},
        {"losses": path, "temperature": 0.1},
    ):
        with pytest.raises(ValueError, match=r"`checkpoint` must be .* of this table.*here is of another"):
            fit_mixture(**given, checkpoint=checkpoint)
    np.save(path, losses)
    with pytest.raises(ValueError, match="files have been changed"):
        fit_mixture(path, checkpoint=checkpoint)


def test_tables_in_memory_are_told_apart_by_all_their_losses(tmp_path):
    losses, checkpoint = game(24), tmp_path / "here"
    fit_mixture(losses, checkpoint=checkpoint)
    fit_mixture(losses.copy(), checkpoint=checkpoint)
    losses[4, 899, 29] += 1e-3
    with pytest.raises(ValueError, match="of another one"):
        fit_mixture(losses, checkpoint=checkpoint)


def test_other_files_are_no_checkpoints(tmp_path):
    losses = game(25)
    text, truncated, arrays = tmp_path / "text", tmp_path / "truncated", tmp_path / "arrays.npz"
    text.write_text("notes")
    fit_mixture(losses, checkpoint=truncated)
    os.truncate(truncated, 1000)
    np.savez(arrays, x=np.ones(3))
    for path in (text, truncated, arrays):
        before = path.read_bytes()
        with pytest.raises(ValueError, match=f"`checkpoint` must be .*{path.name} is something else"):
            fit_mixture(losses, checkpoint=path)
        assert path.read_bytes() == before
    with pytest.raises(ValueError, match="`checkpoint` must be None"):
        fit_mixture(lambda weights: None, start=[0.5, 0.5], checkpoint=text)

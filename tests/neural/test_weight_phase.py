"""The weight phase in several processes: each keeps the losses of its own samples, and all find the same weights."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mixsolve.neural.processes import Processes
from tests.neural.weight_phase_run import PHASES, outcomes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def alone():
    threads = torch.get_num_threads()
    yield outcomes(Processes())
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("group")
    command = [sys.executable, "-m", "tests.neural.weight_phase_run"]
    processes = [
        subprocess.Popen([*command, str(rank), "2", str(folder)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        told = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0, 0], told
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("phase", PHASES)
def test_every_process_finds_the_same_bits(phase, together):
    first, second = (found[phase] for found in together)
    own = {"communicated": 0, "held": 0}
    assert {**first, **own} == {**second, **own}
    assert sum(first["communicated"].values()) > 0


@pytest.mark.parametrize("phase", PHASES)
def test_the_pool_stays_where_its_samples_are(phase, alone, together):
    """Each process solves with the losses of its half of the samples; none has those of all."""
    first, second = (found[phase] for found in together)
    assert first["held"] + second["held"] == alone[phase]["held"] == first["samples"]
    assert first["held"] - second["held"] in (0, 1)


@pytest.mark.parametrize("phase", PHASES)
def test_together_they_find_what_one_process_finds(phase, alone, together):
    """The intervals that are proved overlap; where the optimum is one point, the weights agree."""
    one, both = alone[phase], together[0][phase]
    assert (one["samples"], one["points"]) == (both["samples"], both["points"])
    assert both["lower_bound"] <= one["value"] + 1e-12
    assert one["lower_bound"] <= both["value"] + 1e-12
    assert abs(sum(both["weights"]) - 1) <= 1e-15
    if phase in ("smoothed", "Fista"):  # the softmax curves the objective: a gap of 1e-6 leaves little room
        np.testing.assert_allclose(both["weights"], one["weights"], atol=1e-2)

"""What the processes of a weight phase do: ``python -m tests.neural.weight_phase_run RANK SIZE FOLDER``."""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as torch_distributed

from mixsolve import Fista, OracleSubgradient
from mixsolve.neural import PGD, Mixture, WeightPhase, weight_phase
from mixsolve.neural.batches import Batches
from mixsolve.neural.processes import Processes
from mixsolve.neural.weight_phase import find_weights
from tests.neural.training_run import data, networks, plan

PHASES = {
    "exact": WeightPhase(samples=101, attack=PGD(3)),
    "smoothed": WeightPhase(samples=64, attack=PGD(3), temperature=1e-2),
    "Fista": WeightPhase(samples=64, attack=PGD(3), solver=Fista(), temperature=1e-2),
    "Algorithm 1": WeightPhase(samples=64, attack=PGD(3), solver=OracleSubgradient(25)),
    "one sample": WeightPhase(samples=1, attack=PGD(3)),
}


def outcomes(processes):
    """Weights and bounds of every phase, on networks that are right about some of the data."""
    torch.set_num_threads(1)
    mixture = Mixture(networks(n_members=3))
    batches = Batches(data(), 32, 0, 0.0, torch.device("cpu"), split_seed=0)
    found, held = {}, []
    fit_mixture = weight_phase.fit_mixture

    def watched(losses, **options):
        held.append(losses.shape[1])
        return fit_mixture(losses, **options)

    weight_phase.fit_mixture = watched
    for key, (name, phase) in enumerate(PHASES.items()):
        outcome = find_weights(mixture, batches, plan(), phase, key, processes)
        result = outcome.result
        found[name] = {
            "weights": mixture.weights.tolist(),
            "samples": outcome.samples,
            "points": outcome.points,
            "held": held[-1],
            "value": result.value,
            "lower_bound": result.lower_bound,
            "communicated": dict(result.statistics.communicated or {}),
        }
        mixture.reweigh(torch.full((3,), 1 / 3, dtype=torch.float64))
    weight_phase.fit_mixture = fit_mixture
    return found


def main(rank, size, folder):
    rank, size = int(rank), int(size)
    torch_distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size
    )
    (Path(folder) / f"{rank}.json").write_text(json.dumps(outcomes(Processes.current())))
    os._exit(
        0
    )  # a thread of torch's that wants the interpreter while it is torn down would end it by an abort


if __name__ == "__main__":
    main(*sys.argv[1:])

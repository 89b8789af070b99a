"""A small training run as a program of its own, to be killed, resumed and run by several processes.

``python -m tests.neural.training_run FOLDER STATE [--batch-norm] [--dropout] [--pause SECONDS]`` writes the state of
the mixture that it ends with to STATE.
"""

import argparse
import os
import time

import torch
from torch import nn

from mixsolve.neural import (
    PGD,
    SGD,
    Budget,
    Keep,
    Selection,
    TrainingPlan,
    WeightPhase,
    join_torchrun,
    train_mixture,
)
from mixsolve.neural.plan import AdversarialTraining
from mixsolve.neural.processes import leave_torchrun
from tests.neural.networks import seeded

N_SAMPLES, N_FEATURES = 150, 8


def data():
    """Two noisy classes of points in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (N_SAMPLES,), generator=generator)
    noise = torch.rand((N_SAMPLES, N_FEATURES), generator=generator)
    return (0.35 * y[:, None] + 0.65 * noise).float(), y


def networks(*, batch_norm=False, dropout=False, n_members=2):
    def make():
        return nn.Sequential(
            nn.Linear(N_FEATURES, 16),
            nn.BatchNorm1d(16) if batch_norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(0.2) if dropout else nn.Identity(),
            nn.Linear(16, 2),
        )

    return [seeded(make, seed) for seed in range(n_members)]


def plan(folder=None, **changed):
    given = {
        "epochs": 4,
        "batch_size": 32,
        "updates_per_member": 3,
        "budget": Budget("linf", 0.05),
        "loss": AdversarialTraining(PGD(3, keep=Keep.LAST)),
        "optimiser": SGD(lr=0.1),
        "weights": WeightPhase(samples=64, attack=PGD(3)),
        "selection": Selection(PGD(3), share=0.2),
        "folder": folder,
    }
    return TrainingPlan(**{**given, **changed})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("state")
    parser.add_argument("--batch-norm", action="store_true")
    parser.add_argument("--dropout", action="store_true")
    parser.add_argument("--pause", type=float, default=0.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    processes = join_torchrun()
    members = networks(batch_norm=arguments.batch_norm, dropout=arguments.dropout)
    if arguments.pause:  # stretched, so that a kill lands anywhere in it
        members[0].register_forward_hook(lambda *_: time.sleep(arguments.pause))
    result = train_mixture(members, data(), plan(arguments.folder))
    if processes.is_first:
        torch.save(result.mixture.state_dict(), arguments.state)
    processes.meet()
    leave_torchrun()
    os._exit(
        0
    )  # a thread of torch's that wants the interpreter while it is torn down would end it by an abort


if __name__ == "__main__":
    main()

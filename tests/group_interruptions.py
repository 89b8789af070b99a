"""Jobs of tests/group_jobs.py in which one process stops all: its callback, Ctrl-C, or the time limit."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import torch.distributed as torch_distributed

from mixsolve import Fista, fit_mixture
from mixsolve.file_stream import FileStream
from mixsolve.npy_files import NpyFile
from tests.group_parts import cuts, described, part, zero_one_game


def stopped_by_one(rank, size, folder):
    losses, _, _ = part("even", rank, size)
    return described(
        fit_mixture(
            losses,
            tol=1e-12,
            solver=Fista(restart=False),
            temperature=0.05,
            callback=lambda progress: rank == size - 1 and progress.passes == 5,
            group=torch_distributed.group.WORLD,
        )
    )


class SlowFile(FileStream):
    """Takes a second before each chunk, after the first ones, of a read that is no pass."""

    def read(self, cancel=None):
        for number, chunk in enumerate(super().read(cancel)):
            if number >= 2:
                time.sleep(1)
            if number == 2 and self.interrupts:
                os.kill(os.getpid(), signal.SIGINT)
            yield chunk


def drawing_abandoned(rank, size, folder, how):
    """The read that draws subsamples takes long in one process, to which Ctrl-C comes or which has a time limit."""
    losses, _, _ = part("even", rank, size)
    path = Path(folder) / f"drawn-{rank}.npy"
    np.save(path, losses)
    own = SlowFile if rank == size - 1 else FileStream
    given = own([NpyFile.open(path)], memory_limit=1 << 16)
    given.interrupts = how == "interrupt"
    limit = {"time_limit": 1.0} if how == "time limit" else {}
    return described(fit_mixture(given, group=torch_distributed.group.WORLD, **limit))


class Chunks:
    """A dozen chunks; in one of the reads something happens before each from the fifth one on."""

    def __init__(self, losses, happens, slow_read=3):
        self.losses, self.happens, self.slow_read, self.times = losses, happens, slow_read, 0

    def __iter__(self):
        self.times += 1
        for number, chunk in enumerate(np.array_split(self.losses, 12, axis=1)):
            if self.times == self.slow_read and number >= 4:
                self.happens(number)
            yield chunk


def compression_abandoned(rank, size, folder, how):
    """The second read, which compresses, takes 8 s in one process, to which Ctrl-C comes or which has a time limit."""
    losses, _ = zero_one_game()
    ends = cuts("even", size, losses.shape[1])
    mine = rank == size - 1

    def happens(number):
        if how == "interrupt" and mine and number == 4:
            os.kill(os.getpid(), signal.SIGINT)
        if mine:
            time.sleep(1)

    limit = {"time_limit": 1.0} if how == "time limit" else {}
    given = Chunks(losses[:, ends[rank] : ends[rank + 1]], happens, slow_read=2)
    found = fit_mixture(given, group=torch_distributed.group.WORLD, **limit)
    return {**described(found), "reads": given.times}


def abandoned(rank, size, folder, how):
    """Every process takes 8 s for the third read, or Ctrl-C comes to one of them, which then takes as long."""
    losses, _, _ = part("even", rank, size)

    def happens(number):
        if how == "interrupt" and rank == size - 1 and number == 4:
            os.kill(os.getpid(), signal.SIGINT)
        if how == "time limit" or rank == size - 1:
            time.sleep(1)

    limit = {"time_limit": 1.0} if how == "time limit" else {}
    given = Chunks(losses, happens)
    found = fit_mixture(given, tol=1e-13, group=torch_distributed.group.WORLD, **limit)
    return {**described(found), "gap": found.gap, "reads": given.times}

"""What the processes of tests/test_distributed.py do: ``python -m tests.group_jobs RANK SIZE FOLDER JOBS``.

JOBS is a JSON list of jobs with their arguments, done one after the other by the same group. Every process writes what
it found to ``FOLDER/RANK.json``, or the error that it met.
"""

import json
import os
import shutil
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as torch_distributed

from mixsolve import Fista, LossTable, Newton, RowGeneration, _native, fit_mixture, master
from mixsolve.chunks import Shard
from mixsolve.distributed import GroupReducer
from mixsolve.solvers.chunked_source import ChunkedSource
from tests.group_interruptions import abandoned, compression_abandoned, drawing_abandoned, stopped_by_one
from tests.group_parts import cuts, described, part, whole_game, zero_one_game

SOLVERS = {"RowGeneration": (RowGeneration(), 0.0), "Newton": (Newton(), 0.05), "Fista": (Fista(), 0.05)}


def solve(rank, size, folder, kind, solver, tol="1e-8"):
    losses, weight, _ = part(kind, rank, size)
    chosen, temperature = SOLVERS[solver]
    group = torch_distributed.group.WORLD
    return described(
        fit_mixture(
            losses, sample_weight=weight, temperature=temperature, solver=chosen, tol=float(tol), group=group
        )
    )


def large_core(rank, size, folder):
    """A core of many thousand rows, which is solved on parts of it."""
    losses = np.random.default_rng(rank).random((4, 6000, 5))
    np.save(Path(folder) / f"large-{rank}.npy", losses)
    return described(fit_mixture(losses, tol=1e-9, group=torch_distributed.group.WORLD))


@contextmanager
def stalling_after(iterations, gathered):
    """The interior point gives up after some iterations; rows of so many bytes may be gathered."""
    native, limit = _native.solve_core, master.GATHERED_BYTES
    statuses = list(master.CoreStatus)

    def stalled(rows, offsets, share, gap, _, *others):
        *found, status = native(rows, offsets, share, gap, iterations, *others)
        ended = statuses[status] is master.CoreStatus.ITERATION_LIMIT
        return (*found, statuses.index(master.CoreStatus.STALLED) if ended else status)

    _native.solve_core, master.GATHERED_BYTES = stalled, gathered
    try:
        yield
    finally:
        _native.solve_core, master.GATHERED_BYTES = native, limit


def stalled_master(rank, size, folder, kind, gathered):
    """Solves whose interior point never gets far."""
    losses, weight, _ = part(kind, rank, size)
    with stalling_after(3, gathered):
        return described(
            fit_mixture(losses, sample_weight=weight, tol=1e-6, group=torch_distributed.group.WORLD)
        )


def one_pass(rank, size, folder, kind):
    losses, weight, _ = part(kind, rank, size)
    reducer = GroupReducer(torch_distributed.group.WORLD)
    mass = float(weight.sum() / whole_game()[1].sum())
    table = LossTable(losses, sample_weight=weight) if weight.size else None
    source = ChunkedSource(Shard(table, losses.shape[0], mass), None, reducer)
    weights = np.random.default_rng(1).dirichlet(np.ones(losses.shape[0]), size=3)
    found, _ = source.answer(weights, np.array([0.0, 0.05, 1.0]), float64_scores=True, hessians=3)
    return {
        "value": found.value.tolist(),
        "gradient": found.gradient.tolist(),
        "hessian": found.hessian.tolist(),
        "bytes_read": found.bytes_read,
        "communicated": reducer.communicated,
    }


def ragged_with_priors(rank, size, folder, temperature):
    rng = np.random.default_rng(8)
    counts = rng.integers(1, 9, size=300)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    losses, prior = rng.random((5, offsets[-1])), rng.random(offsets[-1]) + 0.2
    prior /= np.repeat(np.add.reduceat(prior, offsets[:-1]), counts)
    level = rng.random(300) * float(temperature)
    ends = np.linspace(0, 300, size + 1).astype(int)
    first, last = ends[rank], ends[rank + 1]
    rows = slice(offsets[first], offsets[last])
    found = fit_mixture(
        losses[:, rows],
        row_offsets=offsets[first : last + 1] - offsets[first],
        attack_prior=prior[rows],
        temperature=level[first:last] if float(temperature) else 0.0,
        group=torch_distributed.group.WORLD,
    )
    np.savez(
        Path(folder) / f"game-{temperature}.npz", losses=losses, offsets=offsets, prior=prior, level=level
    )
    return described(found)


def streamed(rank, size, folder):
    losses, _, _ = part("even", rank, size)
    np.save(Path(folder) / f"part-{rank}.npy", losses)
    path = Path(folder) / f"part-{rank}.npy"
    return described(fit_mixture(path, memory_limit=1 << 22, group=torch_distributed.group.WORLD))


def mixed_forms(rank, size, folder):
    """No samples, an array, a file and chunks."""
    losses, weight, _ = part("one empty", rank, size)
    path = Path(folder) / f"mixed-{rank}.npy"
    np.save(path, losses)
    given = [losses, losses, path, [losses[:, :90], losses[:, 90:]]][rank]
    return described(fit_mixture(given, sample_weight=weight, tol=1e-8, group=torch_distributed.group.WORLD))


def continued(rank, size, folder):
    losses, _, _ = part("even", rank, size)
    options = {"tol": 1e-9, "group": torch_distributed.group.WORLD, "checkpoint": Path(folder) / "kept"}
    own = Path(folder) / f"kept.{rank}-of-{size}"

    def callback(progress):
        if progress.passes == 2 and rank == 0:
            shutil.copy(own, f"{own}.earlier")
        return progress.passes == 2

    fit_mixture(losses, callback=callback, **options)
    if rank == 0:  # as after a kill between the writing of two processes' files
        Path(f"{own}.earlier").replace(own)
    return described(fit_mixture(losses, **options))


def zero_one_losses(rank, size, folder, kind, form, temperature):
    """0/1 losses in memory, in files, with another loss in one part, or too little memory in one process."""
    losses, weight = zero_one_game()
    ends = cuts(kind, size, losses.shape[1])
    own = slice(ends[rank], ends[rank + 1])
    level = np.where(np.arange(losses.shape[1]) % 3, 1.0, 2.0)[own] * temperature
    if form == "another loss":
        losses[3, -1, -1] = 0.5
    if form == "another loss in chunks":
        losses[3, -150, -1] = 0.5
    given, limit = losses[:, own], {}
    if form == "another loss in chunks" and rank:
        given = np.array_split(given, 3, axis=1)
    if form == "files":
        given, limit = Path(folder) / f"zero-one-{rank}.npy", {"memory_limit": 1 << 24}
        np.save(given, losses[:, own].astype(np.uint8))
    if form == "little memory":
        limit = {"memory_limit": 100_000 if rank else 1 << 24}
    found = fit_mixture(
        given,
        sample_weight=weight[own],
        temperature=level if temperature else 0.0,
        tol=1e-9,
        group=torch_distributed.group.WORLD,
        **limit,
    )
    return {**described(found), "compressed_rows": found.statistics.compressed_rows}


def fail_somehow(rank, size, folder, how):
    losses, _, _ = part("even", rank, size)
    options = {"group": torch_distributed.group.WORLD, "tol": 1e-10}
    if rank == size - 1:
        if how == "nan":
            losses[2, 5, 3] = np.nan
        elif how == "classifiers":
            losses = losses[:4]
        elif how == "dtype":
            losses = losses.astype(np.float64)
        elif how == "tol":
            options["tol"] = 1e-4
        elif how == "temperature":
            options["temperature"] = 0.1
        elif how == "bad argument":
            options["threads"] = 0
        elif how == "dies":
            options["callback"] = lambda progress: os._exit(7)
        elif how == "hangs":
            options["callback"] = lambda progress: time.sleep(12)
        elif how == "callback":
            options["callback"] = lambda progress: 1 / 0
    return described(fit_mixture(losses, **options))


JOBS = [
    *(solve, one_pass, large_core, stalled_master, ragged_with_priors, streamed, mixed_forms, continued),
    *(zero_one_losses, stopped_by_one, abandoned, compression_abandoned, drawing_abandoned, fail_somehow),
]
KNOWN = {job.__name__: job for job in JOBS}


def done(job, rank, size, folder, arguments):
    begun = time.monotonic()
    try:
        found = KNOWN[job](rank, size, folder, *arguments)
    except Exception as error:
        found = {"error": type(error).__name__, "message": str(error)}
    return {**found, "seconds": time.monotonic() - begun}


def main(rank, size, folder, jobs):
    torch.set_num_threads(1)
    rank, size = int(rank), int(size)
    torch_distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=6 if "hangs" in jobs else 60),
    )
    found = [done(job, rank, size, folder, arguments) for job, *arguments in json.loads(jobs)]
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    os._exit(0)  # a group with a dead member cannot always be taken down


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What the processes of a group tell each other, counted: bytes that each receives, by phase and per pass.

``python -m benchmarks.bench_processes`` starts 2 and 4 processes over gloo on this machine, each with its part of one
game, and writes ``benchmarks/results/bench_processes.json``. The bytes depend on the classifiers, the queries and
the iterations, not on rows or machine; seconds on one machine tell nothing of a cluster and are left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import sigmoid_losses
from benchmarks.harness import ROOT, Report, WrongAnswer, add_report_options
from mixsolve import Fista, Newton, RowGeneration, fit_mixture

TOL = 1e-6
SOLVERS = {"RowGeneration": (RowGeneration(), 0.0), "Newton": (Newton(), 0.05), "Fista": (Fista(), 0.05)}
SHAPES = ((10, 4000, 100), (100, 2000, 50))


def part(shape: tuple[int, int, int], rank: int, size: int) -> Any:
    return sigmoid_losses(shape, seed=0)[:, rank * shape[1] // size : (rank + 1) * shape[1] // size]


def work(rank: int, size: int, folder: Path, shape: tuple[int, int, int], name: str) -> None:
    """One of the processes."""
    import torch.distributed as torch_distributed

    torch_distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size
    )
    solver, temperature = SOLVERS[name]
    result = fit_mixture(
        part(shape, rank, size),
        solver=solver,
        temperature=temperature,
        tol=TOL,
        group=torch_distributed.group.WORLD,
    )
    told = {
        "weights": result.weights.tolist(),
        "value": result.value,
        "lower_bound": result.lower_bound,
        "passes": result.passes,
        "evaluations": result.evaluations,
        "communicated": dict(result.statistics.communicated or {}),
    }
    (folder / f"{rank}.json").write_text(json.dumps(told))
    torch_distributed.destroy_process_group()


def count(report: Report, size: int, shape: tuple[int, int, int], name: str) -> None:
    """A row for one solver and group; the value found is held against that of one process."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [str(size), folder, json.dumps(shape), name]
        command = [sys.executable, "-m", "benchmarks.bench_processes", "--work"]
        processes = [subprocess.Popen([*command, str(rank), *arguments], cwd=ROOT) for rank in range(size)]
        codes = [process.wait() for process in processes]
        if any(codes):
            raise WrongAnswer(f"{name}: a process of {size} failed")
        told = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(size)]
    first = told[0]
    if any(other != first for other in told):
        raise WrongAnswer(f"{name}: the processes differ")
    solver, temperature = SOLVERS[name]
    alone = fit_mixture(sigmoid_losses(shape, seed=0), solver=solver, temperature=temperature, tol=TOL)
    if not (first["lower_bound"] <= alone.value and alone.lower_bound <= first["value"]):
        raise WrongAnswer(f"{name}: the bounds exclude those of one process")
    received = first["communicated"]
    report.add(
        f"{name}/{shape[0]} classifiers/{size} processes",
        processes=size,
        shape=list(shape),
        passes=first["passes"],
        evaluations=first["evaluations"],
        received_bytes=received,
        received_bytes_a_pass=received["passes"] / first["passes"],
        received_bytes_in_all=sum(received.values()),
        relative_gap=(first["value"] - first["lower_bound"]) / abs(first["value"]),
        losses_bytes=int(np.prod(shape)) * 4,
    )


def run(
    sizes: Sequence[int] = (2, 4), shapes: Sequence[tuple[int, int, int]] = SHAPES, allow_dirty: bool = False
) -> Report:
    report = Report("bench_processes", allow_dirty, settings={"tol": TOL})
    for shape in shapes:
        for size in sizes:
            for name in SOLVERS:
                count(report, size, shape, name)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_processes", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    add_report_options(parser)
    given = parser.parse_args(arguments)
    if given.work:
        rank, size, folder, shape, name = given.work
        work(int(rank), int(size), Path(folder), tuple(json.loads(shape)), name)
        return 0
    return run(allow_dirty=given.allow_dirty).finish(given.out)


if __name__ == "__main__":
    sys.exit(main())

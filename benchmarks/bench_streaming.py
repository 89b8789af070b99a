"""A table larger than the memory it may take, solved from its file.

``python -m benchmarks.bench_streaming --folder DISK`` writes a float32 file of 12 GB of seeded losses into a folder,
reads it with one thread, and solves it to a certified relative gap of 1e-6 in a process of its own with at most 2 GB
resident. Reading, passes and the pass that draws subsamples take turns, so that all find the page cache in the same
state: with the file in it, and then without. Written to ``benchmarks/results/bench_streaming.json``; the file is
removed again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_row_generation import certify
from benchmarks.harness import ROOT, Bar, Report, Spread, add_report_options
from mixsolve.file_stream import FileStream
from mixsolve.fit import fit_mixture
from mixsolve.npy_files import NpyFile
from mixsolve.reduction import ALONE
from mixsolve.results import MixtureResult
from mixsolve.solvers.chunked_source import ChunkedSource
from mixsolve.streams import open_stream
from mixsolve.verification import load_result

TOL = 1e-6
N_CLASSIFIERS, N_ATTACKS = 10, 300
BLOCK = 1 << 23
"""Bytes that the plain reader asks for at once: the fastest size that was tried."""


@dataclass(frozen=True)
class Settings:
    """Sizes in bytes."""

    file: int = 12_000_000_000
    memory_limit: int = 2_000_000_000
    rounds: int = 3
    cold_rounds: int = 2


def write_losses(path: Path, n_samples: int, seed: int = 0) -> None:
    """Sigmoid losses, correlated between the classifiers, a block of samples at a time."""
    shape = (N_CLASSIFIERS, n_samples, N_ATTACKS)
    losses = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    rng = np.random.default_rng(seed)
    for first in range(0, n_samples, 20_000):
        n = min(20_000, n_samples - first)
        hardness = rng.standard_normal((N_CLASSIFIERS, n, 1), dtype=np.float32)
        moves = rng.standard_normal((N_CLASSIFIERS, n, N_ATTACKS), dtype=np.float32)
        losses[:, first : first + n] = 1 / (1 + np.exp(-hardness - moves))
    losses.flush()


def read_seconds(path: Path) -> float:
    """Seconds that one thread takes to read a file from front to back."""
    buffer = np.empty(BLOCK, dtype=np.uint8)
    begun = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer.data):
            pass
    return time.perf_counter() - begun


def pass_seconds(stream: FileStream, weights: np.ndarray[Any, Any]) -> float:
    """Seconds of a pass over the file as row generation makes it: one query, float64, the best rows noted."""
    source = ChunkedSource(stream, None, ALONE)
    begun = time.perf_counter()
    source.answer(weights[None], np.zeros(1), float64_scores=True, visit=lambda first, answer: None)
    return time.perf_counter() - begun


def drawing_seconds(stream: FileStream) -> float:
    """Seconds of the pass in which row generation draws its subsamples."""
    begun = time.perf_counter()
    stream.subsamples(0, ALONE)
    return time.perf_counter() - begun


def forget(path: Path) -> None:
    """Have the system drop a file from the page cache."""
    with open(path, "rb+") as file:
        os.fsync(file)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def time_in_turn(path: Path, settings: Settings, weights: np.ndarray[Any, Any], cold: bool) -> dict[str, Any]:
    """How fast one thread reads, and how long passes take in proportion."""
    stream = open_stream(path, memory_limit=settings.memory_limit)
    tasks = (
        lambda: read_seconds(path),
        lambda: pass_seconds(stream, weights),
        lambda: drawing_seconds(stream),
    )
    rounds = []
    for _ in range(settings.cold_rounds if cold else settings.rounds + 1):
        seconds = []
        for task in tasks:
            if cold:
                forget(path)
            seconds.append(task())
        rounds.append(seconds)
    reading, passing, drawing = np.array(rounds if cold else rounds[1:]).T
    state = "cold_" if cold else ""
    return {
        f"{state}read_gb_per_s": Spread.of(path.stat().st_size / 1e9 / reading),
        f"{state}ratio_to_reading": Spread.of(passing / reading),
        f"{state}drawing_ratio_to_reading": Spread.of(drawing / reading),
    }


def solve_apart(path: Path, memory_limit: int) -> tuple[MixtureResult, int]:
    """The result of a solve in a process of its own, and the bytes that were resident at most."""
    out = path.with_suffix(".json")
    command = [sys.executable, "-m", "benchmarks.bench_streaming", "--solve", str(path), "--out", str(out)]
    done = subprocess.run(
        [*command, "--memory-limit", str(memory_limit)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return load_result(out), int(json.loads(done.stdout)["resident"])


def solve(path: Path, memory_limit: int, out: Path) -> None:
    """In the process of its own."""
    fit_mixture(path, tol=TOL, memory_limit=memory_limit).save(out)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"resident": int(peak.split()[1]) * 1024}))


def run(folder: Path, settings: Settings, allow_dirty: bool = False) -> Report:
    report = Report("bench_streaming", allow_dirty, settings=vars(settings))
    n_samples = max(1000, settings.file // (4 * N_CLASSIFIERS * N_ATTACKS))
    path = folder / "bench_streaming.npy"
    try:
        write_losses(path, n_samples)
        result, resident = solve_apart(path, settings.memory_limit)
        proved = certify(result, np.load(path, mmap_mode="r"), TOL)
        times = time_in_turn(path, settings, result.weights, cold=False)
        times |= time_in_turn(path, settings, result.weights, cold=True)
        report.add(
            "float32",
            bars=[
                Bar("passes", "at most", 10, result.passes),
                Bar("resident bytes", "at most", 2e9, resident),
                *(
                    Bar(f"{what} to reading", "at most", 1.2, times[name].median)
                    for what, name in (
                        ("seconds a pass", "ratio_to_reading"),
                        ("seconds of the pass that draws", "drawing_ratio_to_reading"),
                        ("seconds a pass from the disk", "cold_ratio_to_reading"),
                        ("seconds of the pass that draws from the disk", "cold_drawing_ratio_to_reading"),
                    )
                ),
            ],
            shape=list(NpyFile.open(path).shape),
            bytes=path.stat().st_size,
            passes=result.passes,
            seconds=result.seconds,
            resident_bytes=resident,
            **times,
            **proved,
        )
    finally:
        for made in (path, path.with_suffix(".json")):
            made.unlink(missing_ok=True)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_streaming", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--folder", type=Path, default=Path("."), help="where the file is written")
    parser.add_argument("--bytes", type=int, default=Settings.file, help="its size (default: %(default)s)")
    parser.add_argument("--memory-limit", type=int, default=Settings.memory_limit)
    parser.add_argument("--solve", type=Path, help=argparse.SUPPRESS)
    add_report_options(parser)
    given = parser.parse_args(arguments)
    if given.solve is not None:
        solve(given.solve, given.memory_limit, given.out)
        return 0
    free = os.statvfs(given.folder)
    if free.f_bavail * free.f_frsize < 1.2 * given.bytes:
        parser.error(f"`--folder` must have room for {given.bytes} bytes; {given.folder} has not")
    return run(given.folder, Settings(given.bytes, given.memory_limit), given.allow_dirty).finish(given.out)


if __name__ == "__main__":
    sys.exit(main())

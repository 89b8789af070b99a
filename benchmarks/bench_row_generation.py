"""Row generation: reads of the table to a certified gap, and wall time against reading the table once.

``python -m benchmarks.bench_row_generation`` solves the instances of ``cases.ROW_GENERATION`` to a relative 1e-6 and
1e-9; ``--part large`` tables of 0.4, 1 and 4 GB; ``--part binary`` the paper's game as float32 and as bool. Both bounds
of every answer are recomputed in float64 from the raw losses before its row is written to
``benchmarks/results/bench_row_generation.json``, or ``bench_row_generation_<part>.json``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.cases import (
    FOUR_GIGABYTES,
    MANY_CLASSIFIERS,
    MANY_SAMPLES_PAPER_GAME,
    ONE_GIGABYTE,
    PAPER_GAME,
    ROW_GENERATION,
    Instance,
)
from benchmarks.harness import Bar, Report, WrongAnswer, add_report_options
from benchmarks.reading import native_reading
from mixsolve import MixtureResult, Status, fit_mixture

Array = np.ndarray[Any, np.dtype[Any]]

MEDIAN_PASSES = {1e-6: 3, 1e-9: 5}
MOST_PASSES = 12
MANY_SAMPLES = 10_000
"""Samples from which on the bytes read have a bar."""
BYTES_BEYOND_PASSES = 0.5
"""Tables read beyond the full passes."""
READS_OF_TIME = 12
"""Bar: wall time of a solve of the 1 GB table, in times of reading it once."""
LARGE = {ONE_GIGABYTE: None, FOUR_GIGABYTES: 60.0, MANY_CLASSIFIERS: 120.0}
"""Large instances, with a bar in seconds."""
BINARY = {PAPER_GAME: ("seconds", 0.1), MANY_SAMPLES_PAPER_GAME: ("reads of the table", 25.0)}
"""0/1 games, with what is limited and the bar."""
ROUNDS = 5


@dataclass(frozen=True)
class Settings:
    """What a run is made of; the defaults are those of the committed rows."""

    instances: tuple[Instance, ...] = ROW_GENERATION
    tolerances: tuple[float, ...] = (1e-6, 1e-9)
    part: str = "passes"


def certify(result: MixtureResult, losses: Array, tol: float) -> dict[str, float]:
    """Both bounds in float64, block by block; raises where they do not meet the tolerance."""
    n_classifiers, n_samples, _ = losses.shape
    assert result.attack is not None
    rows = result.attack.rows()
    mass = np.bincount(rows.sample, rows.probability, n_samples)
    if rows.probability.min() < 0 or np.abs(mass - 1).max() > 1e-12:
        raise WrongAnswer("the attack is no strategy")
    mean = np.zeros(n_classifiers)
    step = 100_000
    for first in range(0, rows.sample.size, step):
        part = slice(first, first + step)
        mean += losses[:, rows.sample[part], rows.attack[part]].astype(np.float64) @ rows.probability[part]
    total = 0.0
    step = max(1, 10_000_000 // (n_classifiers * losses.shape[2]))
    for first in range(0, n_samples, step):
        block = losses[:, first : first + step].astype(np.float64)
        total += float(np.tensordot(result.weights, block, 1).max(axis=1).sum())
    value, lower_bound = total / n_samples, float(mean.min()) / n_samples
    gap = (value - lower_bound) / abs(value)
    if not gap <= tol + 1e-13:
        raise WrongAnswer(f"the certified gap is {gap:.3g}, asked for {tol:g}")
    return {"value": value, "lower_bound": lower_bound, "relative_gap": gap}


def memory_bar(result: MixtureResult, losses: Array) -> list[Bar]:
    """256 bytes a sample and a fifth of the float32 table; from 100 attacks and 1,000 samples on."""
    _, n_samples, n_attacks = losses.shape
    if n_attacks < 100 or n_samples < 1000:
        return []
    allowed = 256 * n_samples + 0.2 * 4 * losses.size
    return [Bar("peak memory", "at most", allowed, float(result.statistics.peak_memory or 0))]


def fields(result: MixtureResult, losses: Array) -> dict[str, Any]:
    """What a row says about a solve."""
    return {
        "status": result.status.name,
        "passes": result.passes,
        "evaluations": result.evaluations,
        "tables_read": result.bytes_read / losses.nbytes,
        "seconds": result.seconds,
        "core_rows": result.statistics.core_rows,
        "peak_memory": result.statistics.peak_memory,
        "phase_seconds": dict(result.statistics.phase_seconds),
        "mixed_samples": int(np.count_nonzero(np.bincount(result.attack.rows().sample) > 1)),
    }


def count_passes(report: Report, settings: Settings) -> None:
    """One row an instance and tolerance, then the medians."""
    passes: dict[float, list[int]] = {tol: [] for tol in settings.tolerances}
    for instance in settings.instances:
        losses = instance.losses()
        for tol in settings.tolerances:
            result = fit_mixture(losses, tol=tol)
            if result.status is not Status.OPTIMAL:
                raise WrongAnswer(f"{instance.name}: {result.message}")
            bars = [Bar("passes", "at most", MOST_PASSES, result.passes), *memory_bar(result, losses)]
            if losses.shape[1] >= MANY_SAMPLES:
                beyond = result.bytes_read / losses.nbytes - result.passes
                bars.append(Bar("tables read beyond passes", "at most", BYTES_BEYOND_PASSES, beyond))
            checked = certify(result, losses, tol)
            row = report.add(
                f"{instance.name}/seed={instance.seed}/tol={tol:g}",
                bars=bars,
                **instance.description,
                tol=tol,
                **fields(result, losses),
                **checked,
            )
            passes[tol].append(result.passes)
            print(
                f"{row['name']:<48} passes {result.passes:>2} {result.seconds:8.3f} s",
                file=sys.stderr,
                flush=True,
            )
    for tol, counted in passes.items():
        median = float(np.median(counted))
        bars = [Bar("median passes", "at most", MEDIAN_PASSES[tol], median)] if tol in MEDIAN_PASSES else []
        report.add(f"passes/tol={tol:g}", bars=bars, median_passes=median, most_passes=max(counted))


def timed(losses: Array, rounds: int) -> tuple[MixtureResult, dict[str, float]]:
    """Wall time of the whole call, beside reading the table once in the same round."""
    read = native_reading(losses.view(np.uint8), 2)
    solves, reads = [], []
    for _ in range(rounds):
        reads.append(min(read() for _ in range(3)))
        begun = time.perf_counter()
        result = fit_mixture(losses)
        solves.append(time.perf_counter() - begun)
    seconds = {"solve_seconds": float(np.median(solves)), "read_seconds": float(np.median(reads))}
    return result, {**seconds, "ratio": float(np.median(np.array(solves) / np.array(reads)))}


def time_large(report: Report, instance: Instance, seconds: float | None) -> None:
    """A row of a large table, with a bar in seconds or in times of reading it once."""
    losses = instance.losses()
    result, times = timed(losses, ROUNDS if seconds is None else 1)
    bars = [Bar("reads of the table", "at most", READS_OF_TIME, times["ratio"])]
    if seconds is not None:
        bars = [Bar("seconds", "at most", seconds, times["solve_seconds"])]
    checked = certify(result, losses, 1e-6)
    report.add(
        f"large/{instance.name}",
        bars=bars,
        **instance.description,
        tol=1e-6,
        **times,
        **fields(result, losses),
        **checked,
    )


def time_binary(report: Report, instance: Instance, limited: str, limit: float) -> None:
    """Rows of a 0/1 game, stored as float32 and as bool."""
    drawn = instance.losses()
    for storage in (np.float32, np.bool_):
        losses = drawn.astype(storage)
        result, times = timed(losses, ROUNDS)
        value = times["solve_seconds"] if limited == "seconds" else times["ratio"]
        rows = {"rows": result.statistics.rows, "compressed_rows": result.statistics.compressed_rows}
        checked = certify(result, losses, 1e-6)
        report.add(
            f"binary/{instance.name}/{losses.dtype.name}",
            bars=[Bar(limited, "at most", limit, value)],
            **instance.description,
            tol=1e-6,
            storage=losses.dtype.name,
            **rows,
            **times,
            **fields(result, losses),
            **checked,
        )


def run(settings: Settings, allow_dirty: bool = False) -> Report:
    """The instances of the bars, the large tables or the 0/1 games."""
    name = "bench_row_generation" + ("" if settings.part == "passes" else f"_{settings.part}")
    report = Report(name, allow_dirty, settings={"part": settings.part})
    fit_mixture(np.random.default_rng(0).random((3, 1000, 10)))  # loads every library
    if settings.part == "passes":
        count_passes(report, settings)
    for instance, seconds in LARGE.items() if settings.part == "large" else ():
        time_large(report, instance, seconds)
    for instance, (limited, limit) in BINARY.items() if settings.part == "binary" else ():
        time_binary(report, instance, limited, limit)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_row_generation", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--part", choices=("passes", "large", "binary"), default="passes", help="which rows")
    parser.add_argument("--only", default="", help="instances whose name contains this")
    add_report_options(parser)
    given = parser.parse_args(arguments)
    chosen = tuple(instance for instance in ROW_GENERATION if given.only in instance.name)
    report = run(Settings(instances=chosen, part=given.part), given.allow_dirty)
    return report.finish(given.out)


if __name__ == "__main__":
    sys.exit(main())

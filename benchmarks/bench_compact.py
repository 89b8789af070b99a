"""Passes over losses of one byte and of one bit against reading their bytes, and against float32 of the same shape.

``python -m benchmarks.bench_compact`` writes ``benchmarks/results/bench_compact.json``. The bars, for 10 classifiers
and tables of 1 GiB as float32:

- uint8: at most 2.0 of the time to read its bytes, 2.2 times as fast as float32;
- bits: value and gradient 6 times as fast as float32, ``worst_case``, with best attacks, 8 times.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks import cases, reading
from benchmarks.harness import Bar, Report, Spread, add_report_options, clocked, interleaved
from benchmarks.provenance import cores
from benchmarks.subject import TEMPERATURE, Subject
from mixsolve.table import LossTable

N_CLASSIFIERS = 10
READ_LIMIT = {"uint8": 2.0}
SPEEDUP = {
    "uint8": {"smoothed": 2.2, "worst_case": 2.2},
    "bits": {"smoothed": 6.0, "worst_case": 8.0},
}


@dataclass(frozen=True)
class Settings:
    """What a run is made of; the defaults are those of the committed rows."""

    n_bytes: int = 1 << 30
    """Of the tables as float32."""
    rounds: int = 15
    threads: int = cores()
    attacks: tuple[int, ...] = (100, 500, 2000)


def compact(kind: str, n_attacks: int, settings: Settings) -> Subject:
    """Sigmoid losses in 256 steps, or as whether they are above one half."""
    shape = cases.block_shape(N_CLASSIFIERS, n_attacks, settings.n_bytes // 4)
    losses = cases.sigmoid_losses(shape, seed=N_CLASSIFIERS + n_attacks)
    stored = losses > 0.5 if kind == "bits" else np.rint(255 * losses).astype(np.uint8)
    scale = 1.0 if kind == "bits" else 1 / 255
    planes = cases.tiled(stored, settings.n_bytes // 4)
    table = LossTable(planes, scale=scale)
    memory = table.array[0] if kind == "bits" else planes
    return Subject(table, memory, cases.mixture(N_CLASSIFIERS, seed=1), scale * stored, settings.threads)


def bench(report: Report, settings: Settings, kind: str, n_attacks: int) -> None:
    """Rows ``<function>/<kind>/<shape>``: reading, the pass and that over float32 in turn, and the ratios of each."""
    single = Subject.of(N_CLASSIFIERS, n_attacks, settings.n_bytes, settings.threads)
    subject = compact(kind, n_attacks, settings)
    errors = subject.verify()
    read = reading.native_reading(subject.planes, subject.threads)
    for function, name in (("smoothed", "smoothed"), ("worst", "worst_case")):
        actions = {
            "read": read,
            "pass": clocked(getattr(subject, function)),
            "single": clocked(getattr(single, function)),
        }
        seconds = interleaved(actions, settings.rounds)
        ratio = Spread.of(seconds["pass"] / seconds["read"])
        speedup = Spread.of(seconds["single"] / seconds["pass"])
        bars = [Bar("speed-up over float32", "at least", SPEEDUP[kind][name], speedup.median)]
        if kind in READ_LIMIT:
            bars.append(Bar("ratio to reading", "at most", READ_LIMIT[kind], ratio.median))
        report.add(
            f"{name}/{kind}/{N_CLASSIFIERS}x{n_attacks}",
            bars=bars,
            **subject.describe(),
            **errors,
            ratio_to_reading=ratio,
            speedup_over_float32=speedup,
            seconds=Spread.of(seconds["pass"]),
            float32_gb_per_s=Spread.of(single.table.nbytes / seconds["single"] / 1e9),
        )


def run(settings: Settings, allow_dirty: bool = False) -> Report:
    report = Report("bench_compact", allow_dirty, settings={**vars(settings), "temperature": TEMPERATURE})
    for kind in SPEEDUP:
        for n_attacks in settings.attacks:
            bench(report, settings, kind, n_attacks)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    default = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_compact", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--bytes", type=int, default=default.n_bytes, help="of the tables as float32")
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--threads", type=int, default=default.threads)
    parser.add_argument("--attacks", type=int, nargs="+", default=default.attacks)
    add_report_options(parser)
    given = parser.parse_args(arguments)
    settings = Settings(given.bytes, given.rounds, given.threads, tuple(given.attacks))
    return run(settings, given.allow_dirty).finish(given.out)


if __name__ == "__main__":
    sys.exit(main())

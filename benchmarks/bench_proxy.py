"""The exact finish with a compact copy: what is read and how long it takes, with and without a proxy.

``python -m benchmarks.bench_proxy`` solves float32 tables of correlated sigmoid losses to a relative 1e-6 and 1e-9, as
they are and by way of their uint8 copy, in turn; making the copy is timed apart. Both bounds of every answer are
recomputed in float64 from the float32 losses before its row is written to ``benchmarks/results/bench_proxy.json``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.bench_row_generation import certify
from benchmarks.cases import Instance
from benchmarks.harness import Bar, Report, Spread, add_report_options, clocked, interleaved
from mixsolve import LossTable, fit_mixture

INSTANCES = (Instance("sigmoid", (10, 20_000, 500)), Instance("sigmoid", (10, 2_000, 5_000)))
TOLERANCES = (1e-6, 1e-9)
ROUNDS = 7
FULL_PRECISION_LIMIT, BYTES_LIMIT = 0.1, 0.5
"""Bars: bytes read in full precision, and all bytes read, to those read without a proxy."""


def compare(report: Report, instance: Instance, tolerances: Sequence[float], rounds: int) -> None:
    losses = instance.losses()
    table = LossTable(losses)
    begun = time.perf_counter()
    proxy = LossTable.quantise(losses)
    quantising = time.perf_counter() - begun
    for tol in tolerances:
        plain, screened = fit_mixture(table, tol=tol), fit_mixture(table, proxy=proxy, tol=tol)
        certify(plain, losses, tol)
        proved = certify(screened, losses, tol)
        seconds = interleaved(
            {
                "plain": clocked(lambda tol=tol: fit_mixture(table, tol=tol)),  # type: ignore[misc]
                "proxy": clocked(lambda tol=tol: fit_mixture(table, proxy=proxy, tol=tol)),  # type: ignore[misc]
            },
            rounds,
        )
        copy_bytes = screened.statistics.proxy_bytes_read or 0
        full = screened.bytes_read / plain.bytes_read
        both = (screened.bytes_read + copy_bytes) / plain.bytes_read
        report.add(
            f"{instance.name}/tol={tol:g}",
            bars=[
                Bar("full-precision bytes to plain", "at most", FULL_PRECISION_LIMIT, full),
                Bar("bytes to plain", "at most", BYTES_LIMIT, both),
            ],
            **instance.description,
            tol=tol,
            delta=proxy[1],
            passes=screened.passes,
            plain_passes=plain.passes,
            plain_bytes=plain.bytes_read,
            full_precision_bytes=screened.bytes_read,
            proxy_bytes=copy_bytes,
            rows_read=screened.statistics.rows_read,
            full_precision_share=full,
            bytes_share=both,
            seconds=Spread.of(seconds["proxy"]),
            ratio_to_plain=Spread.of(seconds["proxy"] / seconds["plain"]),
            quantising_seconds=quantising,
            phase_seconds=dict(screened.statistics.phase_seconds),
            **proved,
        )


def run(
    instances: Sequence[Instance] = INSTANCES,
    tolerances: Sequence[float] = TOLERANCES,
    rounds: int = ROUNDS,
    allow_dirty: bool = False,
) -> Report:
    settings = {"tolerances": list(tolerances), "rounds": rounds, "numpy": np.__version__}
    report = Report("bench_proxy", allow_dirty, settings=settings)
    for instance in instances:
        compare(report, instance, tolerances, rounds)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_proxy", description=__doc__.split("\n")[0]
    )
    add_report_options(parser)
    given = parser.parse_args(arguments)
    return run(allow_dirty=given.allow_dirty).finish(given.out)


if __name__ == "__main__":
    sys.exit(main())

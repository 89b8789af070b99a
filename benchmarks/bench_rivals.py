"""Row generation against solvers of linear programmes: same instance, same certified gap, in one run.

``python -m benchmarks.bench_rivals`` runs every contender on a game of 200,000 rows in a process of its own, and with
``--large`` HiGHS's interior point on one of 1,000,000. Both bounds of every answer are recomputed in float64 from the
raw losses. Who misses the gap or the time limit stays as a row; where all do, the limit stands for the time that they
would need at least. Written to ``benchmarks/results/bench_rivals.json``, or ``bench_rivals_large.json``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.bench_solvers import Settings, run_apart
from benchmarks.cases import COMPARED, MANY_ROWS_COMPARED, Instance
from benchmarks.contenders import CONTENDERS, Contender, Cvxpy
from benchmarks.direct import Highs, Pdlp
from benchmarks.harness import Bar, Report, WrongAnswer, add_report_options

TOL = 1e-6
OURS = next(contender for contender in CONTENDERS if contender.name == "RowGeneration")
THROUGH_CVXPY = tuple(contender for contender in CONTENDERS if isinstance(contender, Cvxpy))
INTERIOR_POINT = Highs("ipm")


@dataclass(frozen=True)
class Comparison:
    """One instance, who is timed on it, and how many times faster row generation has to be than the fastest."""

    instance: Instance
    rivals: tuple[Contender, ...]
    time_limit: float
    times_faster: float


SMALL = Comparison(COMPARED, (*THROUGH_CVXPY, INTERIOR_POINT, Highs("simplex"), Pdlp()), 60.0, 150.0)
LARGE = Comparison(MANY_ROWS_COMPARED, (INTERIOR_POINT,), 300.0, 500.0)


def compare(report: Report, comparison: Comparison) -> None:
    """A row for every contender, then how many times faster row generation is than the fastest other one.

    PDLP is compared in passes: it has no part in that number.
    """
    instance = comparison.instance
    settings = Settings(TOL, comparison.time_limit, (instance,))
    rows: dict[str, dict[str, Any]] = {}
    for contender in (OURS, *comparison.rivals):
        rows[contender.name] = row = run_apart(contender, instance, settings)
        report.add(
            f"{instance.name}/{contender.name}",
            contender=contender.name,
            **instance.description,
            **row,
        )
        print(f"{contender.name:<16} {row['seconds']} s  {row['status']}", file=sys.stderr, flush=True)
    ours = rows.pop(OURS.name)
    if not ours["solved"]:
        raise WrongAnswer(f"{instance.name}: {ours['status']}")
    seconds = {
        name: row["seconds"] if row["solved"] else comparison.time_limit
        for name, row in rows.items()
        if name != Pdlp().name
    }
    if not seconds:
        return
    fastest = min(seconds, key=lambda name: seconds[name])
    ratio = seconds[fastest] / ours["seconds"]
    report.add(
        f"{instance.name}/times_faster",
        bars=[Bar("times faster than the fastest", "at least", comparison.times_faster, ratio)],
        fastest=fastest,
        fastest_solved=rows[fastest]["solved"],
        fastest_seconds=seconds[fastest],
        seconds=ours["seconds"],
        passes=ours["passes"],
        times_faster=ratio,
        pdlp_passes=rows.get(Pdlp().name, {}).get("passes"),
    )


def run(comparison: Comparison, allow_dirty: bool = False, name: str = "bench_rivals") -> Report:
    """The rows of one comparison."""
    report = Report(name, allow_dirty, settings={"tol": TOL, "time_limit": comparison.time_limit})
    compare(report, comparison)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_rivals", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--large", action="store_true", help="the game of 1,000,000 rows instead")
    add_report_options(parser)
    given = parser.parse_args(arguments)
    if given.large:
        return run(LARGE, given.allow_dirty, "bench_rivals_large").finish(given.out)
    return run(SMALL, given.allow_dirty).finish(given.out)


if __name__ == "__main__":
    sys.exit(main())

"""Every solver to the same certified gap, on fixed games from 3,000 to 200,000 rows.

``python -m benchmarks.bench_solvers`` runs every contender on every instance in a process of its own, recomputes
both bounds of its answer in float64 from the raw losses, and writes ``benchmarks/results/bench_solvers.json``. Who
misses the gap, the time limit, or crashes stays as a row. The summary is the shifted geometric mean of the seconds
(shift 1 s, a miss counting as the time limit) with the number solved beside it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks.cases import Instance
from benchmarks.contenders import CONTENDERS, Answer, Contender
from benchmarks.harness import Bar, Report, add_report_options
from tests.certificates import Game, attacker_bound, smoothed, strategy_errors

SHAPES = ((10, 30, 100), (10, 300, 100), (10, 1000, 200))
SMOOTH_FAMILIES = ("sigmoid", "cross_entropy")
INSTANCES = (
    *(
        Instance(family, shape)
        for family in ("sigmoid", "cross_entropy", "paper_game", "uniform")
        for shape in SHAPES
    ),
    Instance("sigmoid", (40, 300, 100)),
    *(Instance(family, shape, temperature=0.05) for family in SMOOTH_FAMILIES for shape in SHAPES),
)
TOY = Instance("sigmoid", (3, 4, 5))
FISTA_EVALUATIONS = 300
"""Bar: median evaluations of Fista to a certified relative 1e-4 on smooth losses at temperature 0."""
GRACE = 30.0
"""Seconds beyond the time limit after which a contender that ignores it is stopped: its clock leaves out modelling."""
SHIFT = 1.0
REPEAT_BELOW = 2.0
"""Seconds under which a solve is repeated, and the median of three reported."""


@dataclass(frozen=True)
class Settings:
    """What a run is made of; the defaults are those of the committed rows."""

    tol: float = 1e-4
    time_limit: float = 60.0
    instances: tuple[Instance, ...] = INSTANCES
    contenders: tuple[Contender, ...] = CONTENDERS


def certify(instance: Instance, losses: Any, answer: Answer) -> dict[str, float]:
    """Both bounds of an answer in float64; raises where it is no mixture or its strategy none."""
    game = Game.of(losses)
    errors = strategy_errors(game, answer.strategy)
    if errors:
        raise RuntimeError("; ".join(errors))
    value = smoothed(game, answer.weights / answer.weights.sum(), instance.temperature)
    lower_bound = attacker_bound(game, answer.strategy, instance.temperature)
    if not np.isfinite([value, lower_bound]).all():
        raise RuntimeError(f"not an answer: bounds {lower_bound} and {value}")
    return {"value": value, "lower_bound": lower_bound, "relative_gap": (value - lower_bound) / abs(value)}


def solve(contender: Contender, instance: Instance, tol: float, time_limit: float) -> dict[str, Any]:
    """The fields of one row: the first attempt that meets ``tol``, or the last one made within the time limit."""
    import resource

    row: dict[str, Any] = {"solved": False, "seconds": None, "status": "no attempt"}
    losses = instance.losses()
    started = time.perf_counter()
    for answer in contender.attempts(instance, losses, tol, time_limit):
        bounds = certify(instance, losses, answer)
        solved = bounds["relative_gap"] <= tol and answer.seconds <= time_limit
        seconds = answer.seconds
        if solved and seconds < REPEAT_BELOW:
            seconds = repeat(contender, instance, losses, tol, time_limit, answer)
        row = {
            "solved": solved,
            "seconds": seconds,
            "solver_seconds": answer.solver_seconds,
            "passes": answer.passes,
            "evaluations": answer.evaluations,
            **bounds,
            "status": answer.status,
            "settings": answer.settings,
        }
        if solved or time.perf_counter() - started > time_limit:
            break
    row["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return row


def repeat(
    contender: Contender, instance: Instance, losses: Any, tol: float, time_limit: float, first: Answer
) -> float:
    """Median seconds of this attempt and two more of the same settings."""
    seconds = [first.seconds]
    for _ in range(2):
        attempts = contender.attempts(instance, losses, tol, time_limit)
        seconds.append(next(answer.seconds for answer in attempts if answer.settings == first.settings))
    return float(np.median(seconds))


def work(pipe: Connection, contender: Contender, instance: Instance, tol: float, time_limit: float) -> None:
    """Body of a contender's process: one toy solve that loads every library, then the row."""
    warnings.simplefilter(
        "ignore"
    )  # solvers warn about inaccurate answers; the certificate says so in numbers
    try:
        solve(
            contender, Instance(TOY.family, TOY.shape, instance.temperature), tol=0.1, time_limit=time_limit
        )
        row = solve(contender, instance, tol, time_limit)
    except Exception as error:  # a failure is a row
        row = failure(f"{type(error).__name__}: {error}")
    pipe.send(row)


def failure(status: str) -> dict[str, Any]:
    return {"solved": False, "seconds": None, "status": status}


def run_apart(contender: Contender, instance: Instance, settings: Settings) -> dict[str, Any]:
    """One row from a fresh process, which is ended when it outlives its time limit."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    arguments = (sender, contender, instance, settings.tol, settings.time_limit)
    process = context.Process(target=work, args=arguments)
    process.start()
    sender.close()
    try:
        if receiver.poll(settings.time_limit + GRACE):
            return receiver.recv()
        return failure("stopped: did not end at its time limit")
    except EOFError:
        process.join()
        return failure(f"the process died with exit code {process.exitcode}")
    finally:
        process.kill()
        process.join()


def shifted_geometric_mean(seconds: Iterable[float]) -> float:
    return float(np.exp(np.mean(np.log(np.array(list(seconds)) + SHIFT))) - SHIFT)


def summarise(report: Report, settings: Settings) -> None:
    """Rows ``summary/...``: per contender and kind of problem, the mean of its seconds and the number solved."""
    for kind, temperatures in (("worst_case", False), ("smoothed", True)):
        for contender in settings.contenders:
            rows = [
                row
                for row in report.rows
                if row.get("contender") == contender.name and (row["temperature"] > 0) == temperatures
            ]
            if rows:
                counted = [row["seconds"] if row["solved"] else settings.time_limit for row in rows]
                report.add(
                    f"summary/{kind}/{contender.name}",
                    instances=len(rows),
                    solved_instances=sum(row["solved"] for row in rows),
                    shifted_geometric_mean_seconds=shifted_geometric_mean(counted),
                )
    smooth = [
        row["evaluations"] if row["solved"] else np.inf
        for row in report.rows
        if row.get("contender") == "Fista" and row["temperature"] == 0 and row["family"] in SMOOTH_FAMILIES
    ]
    if smooth and settings.tol <= 1e-4:
        median = float(min(np.median(smooth), sys.float_info.max))
        bar = Bar("median evaluations", "at most", FISTA_EVALUATIONS, median)
        report.add("fista_on_smooth_losses", bars=[bar], median_evaluations=median, instances=len(smooth))


def run(settings: Settings, allow_dirty: bool = False) -> Report:
    """Every contender on every instance, then the summary."""
    report = Report(
        "bench_solvers", allow_dirty, settings={"tol": settings.tol, "time_limit": settings.time_limit}
    )
    for instance in settings.instances:
        for contender in settings.contenders:
            if contender.applies(instance):
                row = run_apart(contender, instance, settings)
                report.add(
                    f"{instance.name}/{contender.name}",
                    contender=contender.name,
                    **instance.description,
                    **row,
                )
                print(line(report.rows[-1]), file=sys.stderr, flush=True)
    summarise(report, settings)
    return report


def line(row: dict[str, Any]) -> str:
    """One row for people."""
    seconds = "-" if row["seconds"] is None else f"{row['seconds']:.3f}"
    gap = f"gap {row['relative_gap']:.1e}" if "relative_gap" in row else ""
    solved = "solved" if row["solved"] else "missed"
    start = f"{row['name']:<56} {solved} {seconds:>9} s {gap:<12}"
    return f"{start} evaluations {row.get('evaluations')} {row['status'][:100]}"


def summary_table(report: Report) -> str:
    """The shifted geometric means with the number solved beside them."""
    return "\n".join(
        f"{row['name']:<40} {row['shifted_geometric_mean_seconds']:9.3f} s"
        f"  solved {row['solved_instances']}/{row['instances']}"
        for row in report.rows
        if row["name"].startswith("summary/")
    )


def main(arguments: Sequence[str] | None = None) -> int:
    default = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_solvers", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--tol", type=float, default=default.tol, help="relative certified gap (default: 1e-4)"
    )
    parser.add_argument(
        "--time-limit", type=float, default=default.time_limit, help="seconds per solve (default: 60)"
    )
    parser.add_argument("--contenders", nargs="+", choices=[c.name for c in CONTENDERS], help="only these")
    parser.add_argument("--only", default="", help="instances whose name contains this")
    parser.add_argument("--max-rows", type=int, default=10**9, help="leave out larger instances")
    add_report_options(parser)
    given = parser.parse_args(arguments)
    settings = Settings(
        tol=given.tol,
        time_limit=given.time_limit,
        instances=tuple(i for i in INSTANCES if i.n_rows <= given.max_rows and given.only in i.name),
        contenders=tuple(c for c in CONTENDERS if given.contenders is None or c.name in given.contenders),
    )
    report = run(settings, given.allow_dirty)
    print(summary_table(report))
    return report.finish(given.out)


if __name__ == "__main__":
    sys.exit(main())

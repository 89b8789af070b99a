"""Newton on smoothed games: reads of the table, cost of a Hessian, other solvers, and paths of temperatures.

``python -m benchmarks.bench_newton`` writes ``benchmarks/results/bench_newton.json``, rows of four kinds:

- ``passes/...``: reads of the table to a certified relative 1e-8, from warm to cold temperatures;
- ``hessian/...``: a pass with the Hessian beside one without, on tables out of cache;
- ``solvers/...``: `Newton`, `Fista` and cvxpy's exponential-cone solvers to the same certified gap, in one run;
- ``path/...``: `fit_path` beside separate solves.

Every answer is checked in float64 against the raw table before its row is written. ``--kinds`` measures some of them
anew, and keeps the others if they are of the same commit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks import cases
from benchmarks.bench_solvers import Settings as SolverSettings
from benchmarks.bench_solvers import certify as certify_answer
from benchmarks.bench_solvers import run_apart
from benchmarks.cases import Instance
from benchmarks.contenders import CONTENDERS, Answer, Contender
from benchmarks.harness import (
    Bar,
    Report,
    Spread,
    WrongAnswer,
    add_report_options,
    clocked,
    interleaved,
    require_close,
)
from mixsolve import LossTable, MixtureResult, Newton, Status, fit_mixture, fit_path
from mixsolve.passes import run_pass
from mixsolve.reference import reference_pass

Array = np.ndarray[Any, np.dtype[Any]]

TOL = 1e-8
TEMPERATURES = (1.0, 1e-1, 1e-2, 1e-3)
"""In units of the largest loss."""
MEDIAN_PASSES = 15
HESSIAN_LIMIT = 2.5
"""Bar: a pass with the Hessian to one without, float32 scores."""
HESSIAN_TEMPERATURE = 0.05
"""Of losses in (0, 1): the softmax spreads over dozens of attacks."""
PATH = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Temperatures of a path, in units of the largest loss."""
SOLVERS = tuple(c for c in CONTENDERS if c.applies(Instance("sigmoid", (2, 2, 2), temperature=1.0)))


@dataclass(frozen=True)
class Settings:
    """What a run is made of; the defaults are those of the committed rows."""

    kinds: tuple[str, ...] = ("passes", "hessian", "solvers", "path")
    instances: tuple[Instance, ...] = cases.NEWTON
    compared: tuple[Instance, ...] = cases.NEWTON_COMPARED
    paths: tuple[Instance, ...] = cases.NEWTON_PATHS
    attacks: tuple[int, ...] = (100, 500, 2000)
    n_bytes: int = 1 << 30
    rounds: int = 10
    path_rounds: int = 5
    threads: int = 2
    compared_tol: float = 1e-6
    time_limit: float = 30.0
    contenders: tuple[Contender, ...] = SOLVERS


def certify(instance: Instance, losses: Array, result: MixtureResult, tol: float) -> dict[str, float]:
    """Both bounds in float64 from the raw losses; raises where they do not meet the tolerance."""
    if result.status is not Status.OPTIMAL:
        raise WrongAnswer(f"{instance.name}: {result.message}")
    strategy = result.attack if instance.temperature > 0 else result.attack.rows(losses)
    bounds = certify_answer(instance, losses, Answer(result.weights, strategy, result.seconds, "OPTIMAL"))
    if not bounds["relative_gap"] <= tol + 1e-13:
        raise WrongAnswer(f"{instance.name}: the certified gap is {bounds['relative_gap']:.3g}")
    return bounds


def at_relative(instance: Instance, losses: Array, relative: float) -> Instance:
    """The instance at a temperature in units of its largest loss."""
    return replace(instance, temperature=relative * float(np.abs(losses).max()))


def plain_name(instance: Instance) -> str:
    return "{}/{}x{}x{}".format(instance.family, *instance.shape)


def progress(row: dict[str, Any], *fields: str) -> None:
    def shown(value: Any) -> str:
        if isinstance(value, dict):
            value = value["median"]
        return "-" if value is None else f"{value:.4g}"

    told = (f"{field} {shown(row[field])}" for field in fields)
    print(row["name"].ljust(52), *told, file=sys.stderr, flush=True)


def count_passes(report: Report, settings: Settings) -> None:
    """One row an instance and temperature, then the medians over the tables that were not compressed."""
    counted: dict[float, list[int]] = {relative: [] for relative in TEMPERATURES}
    for instance in settings.instances:
        losses = instance.losses()
        for relative in TEMPERATURES:
            game = at_relative(instance, losses, relative)
            result = fit_mixture(losses, temperature=game.temperature, solver=Newton(), tol=TOL)
            bounds = certify(game, losses, result, TOL)
            compressed = result.statistics.compressed_rows
            row = report.add(
                f"passes/{plain_name(game)}/t={relative:g}",
                **game.description,
                relative_temperature=relative,
                passes=result.passes,
                evaluations=result.evaluations,
                tables_read=result.bytes_read / losses.nbytes,
                seconds=result.seconds,
                compressed_rows=compressed,
                **bounds,
            )
            progress(row, "passes", "seconds")
            if compressed is None:
                counted[relative].append(result.passes)
    for relative, passes in counted.items():
        add_median(report, f"passes/t={relative:g}", passes)
    add_median(report, "passes/all", [count for passes in counted.values() for count in passes])


def add_median(report: Report, name: str, passes: list[int]) -> None:
    median = float(np.median(passes))
    bar = Bar("median passes", "at most", MEDIAN_PASSES, median)
    report.add(name, bars=[bar], median_passes=median, most_passes=max(passes), solves=len(passes))


def time_hessians(report: Report, settings: Settings) -> None:
    """A pass with the Hessian beside one without, in the same rounds, with float32 and with float64 scores."""
    for n_attacks in settings.attacks:
        block = cases.sigmoid_losses(cases.block_shape(10, n_attacks, settings.n_bytes // 4), seed=n_attacks)
        table, weights = LossTable(cases.tiled(block, settings.n_bytes)), cases.mixture(10, seed=1)
        wanted = reference_pass(block.astype(np.float64), weights, HESSIAN_TEMPERATURE, hessian=True)
        for scores, allowed in (("float32", 1e-5), ("float64", 1e-12)):
            ask = partial(
                run_pass,
                table,
                weights[None],
                HESSIAN_TEMPERATURE,
                float64_scores=scores == "float64",
                threads=settings.threads,
            )
            found, size = ask(hessian=True), float(np.abs(wanted.hessian).max())
            errors = {
                "gradient_error": require_close("gradient", found.gradient, wanted.gradient, allowed),
                "hessian_error": require_close("hessian", found.hessian, wanted.hessian, allowed * size),
            }
            actions = {"with": clocked(partial(ask, hessian=True)), "without": clocked(ask)}
            seconds = interleaved(actions, settings.rounds)
            ratio = Spread.of(seconds["with"] / seconds["without"])
            bars = (
                [Bar("Hessian pass", "at most", HESSIAN_LIMIT, ratio.median)] if scores == "float32" else []
            )
            row = report.add(
                f"hessian/{scores}/10x{n_attacks}",
                bars=bars,
                bytes=table.nbytes,
                threads=settings.threads,
                ratio_to_gradient_pass=ratio,
                seconds=Spread.of(seconds["with"]),
                gradient_gb_per_s=Spread.of(table.nbytes / seconds["without"] / 1e9),
                **errors,
            )
            progress(row, "ratio_to_gradient_pass")


def compare_solvers(report: Report, settings: Settings) -> None:
    """Seconds to the same certified gap; how many times Newton's each other one takes."""
    asked = SolverSettings(tol=settings.compared_tol, time_limit=settings.time_limit)
    for instance in settings.compared:
        own = None
        for contender in sorted(settings.contenders, key=lambda contender: contender.name != "Newton"):
            found = run_apart(contender, instance, asked)
            own = own or found["seconds"]
            row = report.add(
                f"solvers/{instance.name}/{contender.name}",
                **instance.description,
                times_as_long_as_newton=found["seconds"] / own if found["solved"] else None,
                **found,
            )
            progress(row, "solved", "seconds")


def walk_paths(report: Report, settings: Settings) -> None:
    """Every path at positive temperatures alone, then down to the worst case, which is `RowGeneration`'s work."""
    for instance in settings.paths:
        losses = instance.losses()
        walk_path(report, settings, instance, losses, PATH, "")
        walk_path(report, settings, instance, losses, (*PATH, 0.0), "/to the worst case")


def walk_path(
    report: Report,
    settings: Settings,
    instance: Instance,
    losses: Array,
    temperatures: tuple[float, ...],
    suffix: str,
) -> None:
    """Reads and seconds of `fit_path` and of its temperatures one by one, in turn."""
    games = [at_relative(instance, losses, relative) for relative in temperatures]
    solves = {"path": partial(solve_path, losses, games), "apart": partial(solve_apart, losses, games)}
    found = {name: solve() for name, solve in solves.items()}
    gaps = [
        certify(game, losses, result, TOL)["relative_gap"]
        for results in found.values()
        for game, result in zip(games, results, strict=True)
    ]
    passes = {name: sum(result.passes for result in results) for name, results in found.items()}
    saved = passes["path"] / passes["apart"]
    seconds = interleaved({name: clocked(solve) for name, solve in solves.items()}, settings.path_rounds)
    ratio = Spread.of(seconds["path"] / seconds["apart"])
    row = report.add(
        f"path/{plain_name(instance)}{suffix}",
        bars=[
            Bar("passes of the path", "at most", 1.0, saved),
            Bar("seconds of the path", "at most", 1.0, ratio.median),
        ],
        family=instance.family,
        shape=list(instance.shape),
        seed=instance.seed,
        relative_temperatures=list(temperatures),
        passes=passes["path"],
        separate_passes=passes["apart"],
        ratio_of_passes=saved,
        seconds=Spread.of(seconds["path"]),
        ratio_of_seconds=ratio,
        largest_relative_gap=max(gaps),
    )
    progress(row, "passes", "separate_passes", "ratio_of_passes", "ratio_of_seconds")


def solve_path(losses: Array, games: list[Instance]) -> list[MixtureResult]:
    return fit_path(losses, [game.temperature for game in games], tol=TOL)


def solve_apart(losses: Array, games: list[Instance]) -> list[MixtureResult]:
    return [fit_mixture(losses, temperature=game.temperature, tol=TOL) for game in games]


KINDS: dict[str, Callable[[Report, Settings], None]] = {
    "passes": count_passes,
    "hessian": time_hessians,
    "solvers": compare_solvers,
    "path": walk_paths,
}


def run(settings: Settings, allow_dirty: bool = False) -> Report:
    """The kinds of rows asked for, one after the other."""
    kept = {"tol": TOL, "compared_tol": settings.compared_tol, "time_limit": settings.time_limit}
    report = Report("bench_newton", allow_dirty, settings={**kept, "threads": settings.threads})
    fit_mixture(np.random.default_rng(0).random((3, 20, 10)), temperature=0.1)  # loads every library
    for kind in settings.kinds:
        KINDS[kind](report, settings)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    default = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_newton", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=default.kinds, help="only these rows")
    parser.add_argument(
        "--bytes", type=int, default=default.n_bytes, help="size of the tables of the Hessian's rows"
    )
    parser.add_argument(
        "--time-limit", type=float, default=default.time_limit, help="seconds a solver may take (default: 30)"
    )
    add_report_options(parser)
    given = parser.parse_args(arguments)
    settings = replace(default, kinds=tuple(given.kinds), n_bytes=given.bytes, time_limit=given.time_limit)
    report = run(settings, given.allow_dirty)
    report.keep_from(given.out, lambda name: name.split("/")[0] not in settings.kinds)
    return report.finish(given.out)


if __name__ == "__main__":
    sys.exit(main())

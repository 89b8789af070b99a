"""One pass over the table against the fastest reading of the same memory, and against other libraries.

``python -m benchmarks.bench_pass`` times every group and writes ``benchmarks/results/bench_pass.json``. The bars:

- value and gradient, and ``worst_case``, over a float32 table of at least 1 GiB: at most 1.15 of the time to read
  it at 4 and 10 classifiers, 1.3 at 2, 32, 128 and 1,024, for 100, 500 and 2,000 attacks; 1.8 for 8 attacks (10
  classifiers);
- four queries in one pass: at most 1.5 of one query (10 classifiers);
- float16 and bfloat16: at most 1.35 of reading their bytes, 1.6 times as fast as float32 (10 classifiers);
- at least 2.5 times as fast as the best peer at 10 classifiers, 1.5 times at 128.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import cases, peers, reading
from benchmarks.harness import Bar, Report, Spread, add_report_options, clocked, interleaved, require_close
from benchmarks.provenance import cores
from benchmarks.subject import TEMPERATURE, Subject
from mixsolve.reference import reference_pass
from mixsolve.values import smoothed_value_and_grad

Array = np.ndarray[Any, np.dtype[Any]]
READ_LIMITS = {2: 1.3, 4: 1.15, 10: 1.15, 32: 1.3, 128: 1.3, 1024: 1.3}
FEW_ATTACKS_LIMIT = 1.8
QUERIES_LIMIT = 1.5
HALF_READ_LIMIT, HALF_SPEEDUP = 1.35, 1.6
PEER_SPEEDUP = {10: 2.5, 128: 1.5}
PEER_PAUSE = 0.05
"""Seconds of rest between libraries, in which the threads of the last one stop spinning."""
PEER_ERROR = 0.05
"""Peers sum millions of float32 terms in one running sum; this only shows that they compute the same thing."""


@dataclass(frozen=True)
class Settings:
    """What a run is made of; the defaults are those of the committed rows."""

    n_bytes: int = 1 << 30
    peer_bytes: int = 1 << 28
    rounds: int = 15
    threads: int = cores()
    classifiers: tuple[int, ...] = tuple(READ_LIMITS)
    attacks: tuple[int, ...] = (100, 500, 2000)
    peer_classifiers: tuple[int, ...] = tuple(PEER_SPEEDUP)
    peers: tuple[str, ...] = peers.PEERS


def against_reading(report: Report, subject: Subject, name: str, limit: float | None, rounds: int) -> None:
    """Rows ``smoothed/<name>`` and ``worst_case/<name>``: read and pass in turn, and the ratio of each pair."""
    errors = subject.verify()
    read = reading.native_reading(subject.planes, subject.threads)
    functions: dict[str, Callable[[], object]] = {"smoothed": subject.smoothed, "worst_case": subject.worst}
    for function, action in functions.items():
        seconds = interleaved({"read": read, "pass": clocked(action)}, rounds)
        ratio = Spread.of(seconds["pass"] / seconds["read"])
        bars = [] if limit is None else [Bar("ratio to reading", "at most", limit, ratio.median)]
        speeds = {
            f"{key}_gb_per_s": Spread.of(subject.table.nbytes / taken / 1e9) for key, taken in seconds.items()
        }
        report.add(
            f"{function}/{name}", bars=bars, **subject.describe(), **errors, ratio_to_reading=ratio, **speeds
        )
        say(f"{function}/{name}: {ratio.median:.3f} of reading at {speeds['read_gb_per_s'].median:.1f} GB/s")


def bench_float32(report: Report, settings: Settings) -> None:
    shapes = [(n, m, READ_LIMITS[n]) for n in settings.classifiers for m in settings.attacks]
    for n_classifiers, n_attacks, limit in [*shapes, (10, 8, FEW_ATTACKS_LIMIT)]:
        subject = Subject.of(n_classifiers, n_attacks, settings.n_bytes, settings.threads)
        if not report.rows:
            reading.add_reading_row(report, subject.planes, settings.threads, settings.rounds)
        against_reading(report, subject, f"float32/{n_classifiers}x{n_attacks}", limit, settings.rounds)


def bench_float64(report: Report, settings: Settings) -> None:
    subject = Subject.of(10, 500, settings.n_bytes, settings.threads, np.float64)
    against_reading(report, subject, "float64/10x500", None, settings.rounds)


def bench_queries(report: Report, settings: Settings) -> None:
    """Rows ``queries/...``: four queries in one pass against one."""
    for n_attacks in settings.attacks:
        subject = Subject.of(10, n_attacks, settings.n_bytes, settings.threads)
        four = np.stack([cases.mixture(10, seed) for seed in range(4)])

        def answer_four(subject: Subject = subject, four: Array = four) -> tuple[Array, Array]:
            return smoothed_value_and_grad(subject.table, four, TEMPERATURE, threads=subject.threads)

        wanted = reference_pass(subject.block, four, TEMPERATURE)
        error = require_close("gradients of four queries", answer_four()[1], wanted.gradient, 1e-5)
        seconds = interleaved(
            {"one": clocked(subject.smoothed), "four": clocked(answer_four)}, settings.rounds
        )
        ratio = Spread.of(seconds["four"] / seconds["one"])
        bar = Bar("four queries to one", "at most", QUERIES_LIMIT, ratio.median)
        report.add(
            f"queries/float32/10x{n_attacks}",
            bars=[bar],
            **subject.describe(),
            grad_error=error,
            ratio_to_one_query=ratio,
        )
        say(f"four queries, 10x{n_attacks}: {ratio.median:.3f} of one")


def bench_halves(report: Report, settings: Settings) -> None:
    """float16 and bfloat16 against reading their bytes, and against float32 of the same shape."""
    import ml_dtypes

    for n_attacks in settings.attacks:
        single = Subject.of(10, n_attacks, 2 * settings.n_bytes, settings.threads)
        for storage in (np.float16, ml_dtypes.bfloat16):
            half = Subject.of(10, n_attacks, 2 * settings.n_bytes, settings.threads, storage)
            name = f"{half.table.storage.name.lower()}/10x{n_attacks}"
            against_reading(report, half, name, HALF_READ_LIMIT, settings.rounds)
            for function in ("smoothed", "worst"):
                actions = {
                    "single": clocked(getattr(single, function)),
                    "half": clocked(getattr(half, function)),
                }
                seconds = interleaved(actions, settings.rounds)
                speedup = Spread.of(seconds["single"] / seconds["half"])
                bar = Bar("speed-up over float32", "at least", HALF_SPEEDUP, speedup.median)
                report.add(
                    f"speedup/{function}/{name}", bars=[bar], **half.describe(), speedup_over_float32=speedup
                )
                say(f"{function}/{name}: {speedup.median:.2f} times as fast as float32")


def bench_peers(report: Report, settings: Settings) -> None:
    """Rows ``peers/...``: every peer's fastest variant and mixsolve on the same losses, in the same rounds."""
    for n_classifiers in settings.peer_classifiers:
        for n_attacks in settings.attacks:
            compare_with_peers(report, settings, n_classifiers, n_attacks)


def compare_with_peers(report: Report, settings: Settings, n_classifiers: int, n_attacks: int) -> None:
    subject = Subject.of(n_classifiers, n_attacks, settings.peer_bytes, settings.threads)
    subject.verify()
    chosen: dict[str, Choice] = {}
    failed: dict[str, str] = {}
    rows = peers.rows_layout(subject.planes)
    for peer in settings.peers:
        try:
            chosen[peer] = fastest_variant(peer, subject, rows)
        except Exception as error:  # a peer that cannot run stays in the row, and fails its bar
            failed[peer] = f"{type(error).__name__}: {error}"
    actions = {name: clocked(choice.run) for name, choice in chosen.items()}
    seconds = interleaved(
        {"mixsolve": clocked(subject.smoothed), **actions}, settings.rounds, pause=PEER_PAUSE
    )
    times = {name: Spread.of(seconds[name] / seconds["mixsolve"]) for name in chosen}
    best = min(times, key=lambda name: times[name].median)
    report.add(
        f"peers/float32/{n_classifiers}x{n_attacks}",
        bars=[
            Bar(
                f"speed-up over {best}", "at least", PEER_SPEEDUP.get(n_classifiers, 1.0), times[best].median
            ),
            Bar("peers that failed", "at most", 0, len(failed)),
        ],
        **subject.describe(),
        best_peer=best,
        speedup_over_best_peer=times[best],
        variants={name: choice.variant for name, choice in chosen.items()},
        grad_errors={name: choice.grad_error for name, choice in chosen.items()},
        failed=failed,
        seconds={name: Spread.of(taken).as_dict() for name, taken in seconds.items()},
        times_as_long_as_mixsolve={name: spread.as_dict() for name, spread in times.items()},
    )
    say(
        f"peers {n_classifiers}x{n_attacks}: "
        + ", ".join(f"{name} {s.median:.1f}x" for name, s in times.items())
    )


@dataclass(frozen=True)
class Choice:
    """The fastest variant of a peer, and the error of its gradient."""

    variant: str
    run: peers.Peer
    grad_error: float


def fastest_variant(peer: str, subject: Subject, rows: Array) -> Choice:
    """Check every variant's answer, time each three times, keep the fastest."""
    wanted = reference_pass(subject.block, subject.weights, TEMPERATURE)
    candidates = []
    for variant, run in peers.variants(
        peer, subject.planes, rows, subject.weights, TEMPERATURE, subject.threads
    ):
        value, grad = run()
        require_close(f"{variant}: value", value, wanted.value[0], PEER_ERROR)
        error = require_close(f"{variant}: gradient", grad, wanted.gradient[0], PEER_ERROR)
        seconds = min(clocked(run)() for _ in range(3))
        candidates.append((seconds, Choice(variant, run, error)))
    return min(candidates, key=lambda candidate: candidate[0])[1]


GROUPS: dict[str, Callable[[Report, Settings], None]] = {
    "float32": bench_float32,
    "float64": bench_float64,
    "queries": bench_queries,
    "halves": bench_halves,
    "peers": bench_peers,
}


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def run(settings: Settings, groups: Sequence[str] = tuple(GROUPS), allow_dirty: bool = False) -> Report:
    """Time the groups in order and return their rows."""
    report = Report(
        "bench_pass",
        allow_dirty,
        settings={**vars(settings), "groups": list(groups), "temperature": TEMPERATURE},
    )
    for group in groups:
        GROUPS[group](report, settings)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    default = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_pass", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--groups", nargs="+", choices=tuple(GROUPS), default=tuple(GROUPS))
    parser.add_argument(
        "--bytes", type=int, default=default.n_bytes, help="size of the float32 tables (default: 1 GiB)"
    )
    parser.add_argument(
        "--peer-bytes", type=int, default=default.peer_bytes, help="size of the tables shared with peers"
    )
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--threads", type=int, default=default.threads)
    parser.add_argument(
        "--classifiers", type=int, nargs="+", choices=tuple(READ_LIMITS), default=default.classifiers
    )
    parser.add_argument("--attacks", type=int, nargs="+", default=default.attacks)
    add_report_options(parser)
    given = parser.parse_args(arguments)
    settings = Settings(
        n_bytes=given.bytes,
        peer_bytes=given.peer_bytes,
        rounds=given.rounds,
        threads=given.threads,
        classifiers=tuple(given.classifiers),
        attacks=tuple(given.attacks),
    )
    report = run(settings, given.groups, given.allow_dirty)
    return report.finish(given.out)


if __name__ == "__main__":
    sys.exit(main())

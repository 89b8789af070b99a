"""The README's tables of measurements, made from the committed rows: ``python -m benchmarks.readme`` rewrites them.

Every figure is a link to its file, titled with the name of its row and the path of its field; a test compares them.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from benchmarks.bench_compact import N_CLASSIFIERS, SPEEDUP
from benchmarks.bench_neural import SOLVE_LIMIT, STEP_LIMIT
from benchmarks.bench_newton import HESSIAN_LIMIT, MEDIAN_PASSES, PATH, TEMPERATURES
from benchmarks.bench_pass import FEW_ATTACKS_LIMIT, HALF_SPEEDUP, PEER_SPEEDUP, QUERIES_LIMIT, READ_LIMITS
from benchmarks.bench_row_generation import MEDIAN_PASSES as MEDIAN_PASSES_BY_GAP
from benchmarks.harness import RESULTS
from benchmarks.peers import PEERS
from benchmarks.provenance import ROOT

README = ROOT / "README.md"
MARKS = re.compile(r"(<!-- measured: begin -->\n).*(<!-- measured: end -->)", re.DOTALL)
TIMES = "times_as_long_as_mixsolve"
ATTACKS = (100, 500, 2000)


class Rows:
    """The rows of one committed file by name."""

    def __init__(self, benchmark: str) -> None:
        self.path = RESULTS / f"{benchmark}.json"
        self.content = json.loads(self.path.read_text())
        self.by_name = {row["name"]: row for row in self.content["rows"]}

    def figure(self, name: str, path: str, decimals: int) -> str:
        """A number as a link to its row; a dash where there is no such row."""
        value: Any = self.by_name.get(name)
        for key in path.split("/"):
            value = None if value is None else value.get(key)
        if value is None:
            return "-"
        file = self.path.relative_to(ROOT).as_posix()
        return f'[{value:,.{decimals}f}]({file} "{name}: {path}")'

    def origin(self) -> str:
        """The machine in one line, and the commit."""
        origin, threads = self.content["provenance"], self.content["settings"].get("threads")
        where = (
            f"{origin['cpu']}, {origin['cores']} cores, {origin['platform']}, commit {origin['commit'][:10]}"
        )
        return where if threads is None else f"{where}, {threads} threads"


def table(header: list[str], lines: list[list[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def pass_tables(rows: Rows) -> str:
    lines = []
    for count, limit in READ_LIMITS.items():
        names = [
            f"{function}/float32/{count}x{m}" for function in ("smoothed", "worst_case") for m in ATTACKS
        ]
        lines.append(
            [
                f"{count:,} (at most {limit:g})",
                *(rows.figure(name, "ratio_to_reading/median", 2) for name in names),
            ]
        )
    header = [
        "classifiers (bar)",
        *(f"{f}, {m:,} attacks" for f in ("smoothed", "worst case") for m in ATTACKS),
    ]
    few = [rows.figure(f"{f}/float32/10x8", "ratio_to_reading/median", 2) for f in ("smoothed", "worst_case")]
    four = rows.figure("queries/float32/10x500", "ratio_to_one_query/median", 2)
    names = [f"speedup/smoothed/{storage}/10x500" for storage in ("float16", "bfloat16")]
    half = [rows.figure(name, "speedup_over_float32/median", 2) for name in names]
    size = rows.content["settings"]["n_bytes"] / 2**30
    speeds = {
        name: row["read_gb_per_s"]["median"] for name, row in rows.by_name.items() if "read_gb_per_s" in row
    }
    slowest, fastest = (
        rows.figure(find(speeds, key=speeds.__getitem__), "read_gb_per_s/median", 1) for find in (min, max)
    )
    shared = [(count, m) for count in PEER_SPEEDUP for m in ATTACKS]
    peers = [
        [
            name,
            *(rows.figure(f"peers/float32/{count}x{m}", f"{TIMES}/{name}/median", 1) for count, m in shared),
        ]
        for name in PEERS
    ]
    shapes = [f"{count} classifiers, {m:,} attacks" for count, m in shared]
    bars = " and ".join(f"{limit:g} at {count}" for count, limit in PEER_SPEEDUP.items())
    return "\n\n".join(
        [
            f"**One pass over a float32 table of {size:g} GiB, divided by the fastest reading of the same memory** "
            f"({rows.origin()}). `smoothed` is value and gradient. This shared machine's memory changes between two "
            f"speeds: within the run, reading ran at {slowest} to {fastest} GB/s, and the faster it runs, the higher "
            "a ratio is.",
            table(header, lines),
            f"8 attacks, 10 classifiers (at most {FEW_ATTACKS_LIMIT:g}): {few[0]} and {few[1]}. Four queries in one "
            f"pass to one (10 classifiers, 500 attacks, at most {QUERIES_LIMIT:g}): {four}. "
            f"Speed-up over float32 (same shape, at least {HALF_SPEEDUP:g}): float16 {half[0]}, bfloat16 {half[1]}.",
            "**Value and gradient in other libraries, times as long as mixsolve** (each in its fastest layout and "
            f"variant, same losses, same run; bars for the fastest of them: {bars}).",
            table(["library", *shapes], peers),
        ]
    )


def solver_table(rows: Rows) -> str:
    lines = []
    for name in rows.by_name:
        if name.startswith("summary/"):
            _, kind, contender = name.split("/")
            share = " of ".join(rows.figure(name, field, 0) for field in ("solved_instances", "instances"))
            seconds = rows.figure(name, "shifted_geometric_mean_seconds", 2)
            lines.append([f"{contender}, {kind.replace('_', ' ')}", share, seconds])
    settings = rows.content["settings"]
    sizes = [row["n_rows"] for row in rows.by_name.values() if "n_rows" in row]
    return "\n\n".join(
        [
            f"**Time to a certified relative gap of {settings['tol']:g}**, games of {min(sizes):,} to "
            f"{max(sizes):,} rows ({rows.origin()}; shifted geometric mean of seconds, a miss counting as "
            f"{settings['time_limit']:g}).",
            table(["solver, problem", "solved", "seconds"], lines),
        ]
    )


def row_generation_table(passes: Rows) -> str:
    """Reads to a gap, wall time on large tables, and how far behind others are."""
    large, binary = Rows("bench_row_generation_large"), Rows("bench_row_generation_binary")
    lines = [
        [
            f"reads to a relative {tol:g} (median at most {limit})",
            f"median {passes.figure(f'passes/tol={tol:g}', 'median_passes', 0)}, "
            f"most {passes.figure(f'passes/tol={tol:g}', 'most_passes', 0)}",
        ]
        for tol, limit in MEDIAN_PASSES_BY_GAP.items()
    ]
    for rows, prefix in ((large, "large/"), (binary, "binary/")):
        for name in rows.by_name:
            seconds = rows.figure(name, "solve_seconds", 3)
            lines.append(
                [
                    name.removeprefix(prefix).removesuffix("/t=0").replace("/t=0/", ", "),
                    f"{seconds} s, {rows.figure(name, 'ratio', 1)} times reading the table",
                ]
            )
    for rivals in (Rows("bench_rivals"), Rows("bench_rivals_large")):
        name = next(name for name in rivals.by_name if name.endswith("/times_faster"))
        row = rivals.by_name[name]
        others = len(rivals.by_name) - 2
        lines.append(
            [
                f"{name.removesuffix('/t=0/times_faster')} by {others} other solver{'s' * (others > 1)}",
                f"{rivals.figure(name, 'times_faster', 0)} times as long by the fastest, {row['fastest']}",
            ]
        )
    return "\n\n".join(
        [
            f"**Row generation, the exact worst case** ({passes.origin()}; classifiers x samples x attacks, to a "
            f"certified relative 1e-06; the other rows' commits are in their files).",
            table(["game", "measured"], lines),
        ]
    )


def newton_tables(rows: Rows) -> str:
    settings = rows.content["settings"]
    temperatures = [
        [
            f"{relative:g}",
            rows.figure(f"passes/t={relative:g}", "median_passes", 1),
            rows.figure(f"passes/t={relative:g}", "most_passes", 0),
        ]
        for relative in TEMPERATURES
    ]
    hessian = [rows.figure(f"hessian/float32/10x{m}", "ratio_to_gradient_pass/median", 2) for m in ATTACKS]
    paths = [name for name in rows.by_name if name.startswith("path/") and not name.endswith("worst case")]
    walked = ", ".join(
        f"{rows.figure(name, 'ratio_of_passes', 2)} and {rows.figure(name, 'ratio_of_seconds/median', 2)}"
        for name in paths
    )
    compared = [name for name in rows.by_name if name.startswith("solvers/")]
    solvers = list(dict.fromkeys(name.rsplit("/", 1)[1] for name in compared))
    instances = list(dict.fromkeys(name.rsplit("/", 1)[0] for name in compared))
    times = [
        [
            game.removeprefix("solvers/"),
            rows.figure(f"{game}/Newton", "seconds", 4),
            *(rows.figure(f"{game}/{solver}", "times_as_long_as_newton", 1) for solver in solvers[1:]),
        ]
        for game in instances
    ]
    return "\n\n".join(
        [
            f"**Newton: reads of the table to a certified relative gap of {settings['tol']:g}** ({rows.origin()}; "
            f"median at most {MEDIAN_PASSES}; 2 to 100 classifiers; 0/1 games that were compressed are left out).",
            table(["temperature, of the largest loss", "median", "most"], temperatures),
            f"A pass with the Hessian to one without, 10 classifiers and 100, 500, 2,000 attacks (at most "
            f"{HESSIAN_LIMIT:g}): {', '.join(hessian)}. `fit_path` at {len(PATH)} temperatures to separate solves, "
            f"reads and seconds of {len(paths)} games: {walked}.",
            f"**Smoothed games to a certified relative gap of {settings['compared_tol']:g}**: seconds of Newton, and "
            f"how many times as long the others take; a dash for who missed it in {settings['time_limit']:g} s.",
            table(["game", "Newton, s", *solvers[1:]], times),
        ]
    )


def size_tables(streaming: Rows) -> str:
    """A file that is read in order, and tables with a compact copy beside them."""
    proxy = Rows("bench_proxy")
    [name] = streaming.by_name
    file = [
        ["reads of the file to a certified relative 1e-06 (at most 10)", streaming.figure(name, "passes", 0)],
        ["bytes resident at most (at most 2e9)", streaming.figure(name, "resident_bytes", 0)],
        *(
            [
                f"{what} {where}, to reading it by one thread (at most 1.2)",
                streaming.figure(name, f"{state}{figure}/median", 2),
            ]
            for state, where in (("", "in the page cache"), ("cold_", "on the disk"))
            for what, figure in (
                ("seconds a pass over the file", "ratio_to_reading"),
                ("seconds of the pass that draws subsamples, the file", "drawing_ratio_to_reading"),
            )
        ),
        ["reading the file from the page cache, GB/s", streaming.figure(name, "read_gb_per_s/median", 1)],
        ["reading the file from the disk, GB/s", streaming.figure(name, "cold_read_gb_per_s/median", 1)],
        ["the whole solve, s", streaming.figure(name, "seconds", 1)],
    ]
    copies = [
        [
            row.replace("/t=0", ""),
            proxy.figure(row, "full_precision_share", 3),
            proxy.figure(row, "bytes_share", 2),
            proxy.figure(row, "ratio_to_plain/median", 2),
        ]
        for row in proxy.by_name
    ]
    return "\n\n".join(
        [
            f"**A float32 file of {streaming.by_name[name]['bytes'] / 1e9:.0f} GB, solved as it is read** "
            f"({streaming.origin()}; reading and passes find the file in the same state of the page cache).",
            table(["", "measured"], file),
            f"**A uint8 copy as `proxy`, to the same solve without one** ({proxy.origin()}; losses in memory).",
            table(["game", "bytes in full precision", "bytes, the copy's included", "seconds"], copies),
        ]
    )


def compact_table(rows: Rows) -> str:
    """Bytes and bits against float32 of the same shape."""
    lines = []
    for kind, bars in SPEEDUP.items():
        for function, limit in bars.items():
            names = [f"{function}/{kind}/{N_CLASSIFIERS}x{m}" for m in rows.content["settings"]["attacks"]]
            lines.append(
                [
                    f"{kind}, {function.replace('_', ' ')} (at least {limit:g})",
                    *(rows.figure(name, "speedup_over_float32/median", 1) for name in names),
                    *(rows.figure(name, "ratio_to_reading/median", 2) for name in names),
                ]
            )
    header = [
        "storage",
        *(
            f"{what}, {m:,} attacks"
            for what in ("speed-up", "to reading")
            for m in rows.content["settings"]["attacks"]
        ),
    ]
    return "\n\n".join(
        [
            f"**Losses of one byte and of one bit, {N_CLASSIFIERS} classifiers: speed-up over the float32 pass, and "
            f"time to that of reading their bytes** ({rows.origin()}).",
            table(header, lines),
        ]
    )


def neural_table(rows: Rows) -> str:
    """Steps on mixtures, the weight phase, and training beside one model."""
    lines = [
        [
            f"{count}",
            rows.figure(f"step/L={count}", "ratio_to_single_steps/median", 2),
            rows.figure(f"training/L={count}", "times_one_training", 1),
            rows.figure(f"training/L={count}", "times_one_training_in_the_paper", 0),
            rows.figure(f"training/L={count}", "pool_share_of_updates", 2),
            rows.figure(f"training/L={count}", "solve_share_of_updates", 4),
        ]
        for count in rows.content["settings"]["members"]
    ]
    header = [
        "members",
        f"attack step to the sum of single steps (at most {STEP_LIMIT:g})",
        "updates of an epoch, in those of one model",
        "the same in the paper",
        "making the pool, in updates",
        f"solving its game, in updates (at most {SOLVE_LIMIT:g})",
    ]
    images = rows.content["settings"]["images"]
    return "\n\n".join(
        [
            f"**Neural mixtures of small networks on {images:,} Fashion-MNIST images** ({rows.origin()}; a pool of all "
            "these images, which weighs less in an epoch of more).",
            table(header, lines),
        ]
    )


def main() -> int:
    """Rewrite the README between its marks."""
    parts = [
        make(Rows(name))
        for name, make in (
            ("bench_pass", pass_tables),
            ("bench_compact", compact_table),
            ("bench_solvers", solver_table),
            ("bench_row_generation", row_generation_table),
            ("bench_newton", newton_tables),
            ("bench_streaming", size_tables),
            ("bench_neural", neural_table),
        )
    ]
    text, found = MARKS.subn(
        lambda marks: marks[1] + "\n\n".join(parts) + "\n" + marks[2], README.read_text()
    )
    if not found:
        raise SystemExit(f"{README} has lost its marks")
    README.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What every benchmark shares: interleaved timing, rows with bars, and a report that names its commit.

A benchmark verifies an answer before it times it, adds one row per measurement to a :class:`Report`, and writes the
report as JSON. A report from a working tree with changes is refused, or marked ``dirty`` where that was asked for.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.provenance import ROOT, provenance

RESULTS = ROOT / "benchmarks" / "results"
SCHEMA = 1


class WrongAnswer(AssertionError):
    """A benchmark was about to time code whose answer is wrong."""


class DirtyTree(RuntimeError):
    """Rows were to be written from a working tree that no commit describes."""


@dataclass(frozen=True)
class Spread:
    """Median and 20/80 % quantiles of repeated measurements."""

    median: float
    q20: float
    q80: float
    rounds: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        values = np.asarray(list(values), dtype=np.float64)
        q20, median, q80 = np.quantile(values, [0.2, 0.5, 0.8])
        return cls(float(median), float(q20), float(q80), len(values))

    def as_dict(self) -> dict[str, float]:
        return {"median": self.median, "q20": self.q20, "q80": self.q80, "rounds": self.rounds}


@dataclass(frozen=True)
class Bar:
    """A promise about one number of a row."""

    quantity: str
    sense: Literal["at most", "at least"]
    limit: float
    value: float

    @property
    def passed(self) -> bool:
        return self.value <= self.limit if self.sense == "at most" else self.value >= self.limit

    def as_dict(self) -> dict[str, Any]:
        return {
            "quantity": self.quantity,
            "sense": self.sense,
            "limit": self.limit,
            "value": self.value,
            "passed": self.passed,
        }


def clocked(action: Callable[[], object]) -> Callable[[], float]:
    """``action`` as a callable that returns the seconds it took."""

    def run() -> float:
        start = time.perf_counter()
        action()
        return time.perf_counter() - start

    return run


def interleaved(
    actions: Mapping[str, Callable[[], float]], rounds: int, warm_up: int = 1, pause: float = 0.0
) -> dict[str, np.ndarray]:
    """Seconds of each action, (rounds,): every round runs each once, so a slow spell of the machine hits all.

    An action returns its own seconds (:func:`clocked`). The first ``warm_up`` rounds are not kept. ``pause`` seconds
    before each action let threads of the previous one go to sleep: those of OpenMP spin for milliseconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(warm_up + rounds):
        for name, action in actions.items():
            time.sleep(pause)
            taken = action()
            if number >= warm_up:
                seconds[name].append(taken)
    return {name: np.array(taken) for name, taken in seconds.items()}


def require_close(name: str, got: object, wanted: object, atol: float) -> float:
    """Largest absolute error of ``got``; raises :class:`WrongAnswer` above ``atol`` and for shapes that differ."""
    got, wanted = np.asarray(got, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    if got.shape != wanted.shape:
        raise WrongAnswer(f"{name}: shape {got.shape}, wanted {wanted.shape}")
    error = float(np.max(np.abs(got - wanted), initial=0.0))
    if not error <= atol:
        raise WrongAnswer(f"{name}: off by {error:.3g}, allowed {atol:.3g}")
    return error


@dataclass
class Report:
    """Rows of one run of one benchmark, and where they come from."""

    benchmark: str
    allow_dirty: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    root: Path = ROOT
    """The checkout that was measured."""

    def __post_init__(self) -> None:
        self.origin = provenance(self.root)
        self.refuse_dirty(self.origin)

    def refuse_dirty(self, origin: Mapping[str, Any]) -> None:
        """Raise :class:`DirtyTree` unless ``origin`` is a clean commit or ``allow_dirty`` is set."""
        if origin["dirty"] and not self.allow_dirty:
            raise DirtyTree(
                "the working tree differs from its commit: commit first, or pass --allow-dirty to get rows marked dirty"
            )

    def add(self, name: str, *, bars: Iterable[Bar] = (), **fields: Any) -> dict[str, Any]:
        """Append a row; ``Spread`` values become their quantiles. Names are unique within a report."""
        if any(row["name"] == name for row in self.rows):
            raise ValueError(f"two rows are named {name!r}")
        plain = {
            key: value.as_dict() if isinstance(value, Spread) else value for key, value in fields.items()
        }
        row = {"name": name, **plain, "bars": [bar.as_dict() for bar in bars]}
        self.rows.append(row)
        return row

    def keep_from(self, path: Path | None, kept: Callable[[str], bool]) -> None:
        """Take over the rows of an earlier report whose names are `kept`, if it is of this commit and module."""
        path = path or self.default_path
        if not path.exists():
            return
        earlier = json.loads(path.read_text())
        if all(
            earlier["provenance"][key] == self.origin[key] for key in ("commit", "dirty", "native", "cpu")
        ):
            self.rows = [row for row in earlier["rows"] if kept(row["name"])] + self.rows

    @property
    def default_path(self) -> Path:
        return RESULTS / f"{self.benchmark}.json"

    def write(self, path: Path | None = None) -> Path:
        """Write the report as JSON, by default to ``benchmarks/results/<benchmark>.json``, replacing it in one step."""
        now = provenance(self.root)
        if now["commit"] != self.origin["commit"]:
            now["dirty"] = True  # the tree moved under the run: no commit describes what was measured
        self.refuse_dirty(now)
        path = path or self.default_path
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "schema": SCHEMA,
            "benchmark": self.benchmark,
            "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "provenance": {**self.origin, "dirty": self.origin["dirty"] or now["dirty"]},
            "settings": self.settings,
            "rows": self.rows,
        }
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
        os.replace(partial, path)
        return path

    def finish(self, path: Path | None = None) -> int:
        """Print the bars, write the rows; the exit code says whether all bars hold."""
        print(self.bars_table())
        print(f"rows written to {self.write(path)}")
        return 0 if self.all_bars_hold else 1

    @property
    def all_bars_hold(self) -> bool:
        return all(bar["passed"] for row in self.rows for bar in row["bars"])

    def bars_table(self) -> str:
        """Every bar of the report with its value and whether it holds."""
        lines = [
            f"{row['name']:<44} {bar['quantity']:<26} {bar['value']:8.3f}  {bar['sense']} {bar['limit']:<6g} "
            f"{'pass' if bar['passed'] else 'FAIL'}"
            for row in self.rows
            for bar in row["bars"]
        ]
        failed = sum(not bar["passed"] for row in self.rows for bar in row["bars"])
        return "\n".join([*lines, f"{len(lines) - failed} of {len(lines)} bars hold"])


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """Where the rows go, and whether rows of an uncommitted tree may be written."""
    parser.add_argument("--out", type=Path, help="where the rows go (default: benchmarks/results)")
    parser.add_argument(
        "--allow-dirty", action="store_true", help="write rows of an uncommitted tree, marked dirty"
    )

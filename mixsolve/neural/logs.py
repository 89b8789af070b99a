"""What a training run writes down: a row an epoch, as CSV and as JSON lines, and its curves."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mixsolve.documents import decode_float, encode_float
from mixsolve.neural.checkpoint import replacing


@dataclass(frozen=True)
class EpochRow:
    """One epoch: a round of the data for every member."""

    epoch: int
    """Counted from 1: epochs per member."""
    loss: float
    """Mean training loss."""
    accuracy: float
    """Of the mixture on the held-out training images."""
    robust_accuracy: float
    """The same under the selection's attack."""
    weights: tuple[float, ...]
    value: float
    """Of the last weight phase: the mixture's 0/1 risk on its pool; nan before the first one."""
    lower_bound: float
    """On the value of the pool's game."""
    lr: float
    """At the beginning of the epoch, of the first member."""
    update_seconds: float
    pool_seconds: float
    """Making the attack points of weight phases."""
    solve_seconds: float
    """Solving their games."""
    look_seconds: float
    """Attacking the held-out images."""

    def to_json(self) -> str:
        """The row as one line of JSON; what is not finite becomes text."""
        plain = asdict(self)
        coded = {name: encode_float(x) if isinstance(x, float) else x for name, x in plain.items()}
        return json.dumps(coded, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> EpochRow:
        """The row that `to_json` wrote."""
        content: dict[str, Any] = json.loads(line)
        kinds = {one.name: one.type for one in fields(cls)}
        plain: dict[str, Any] = {
            name: decode_float(x) if kinds[name] == "float" else x for name, x in content.items()
        }
        plain["weights"] = tuple(content["weights"])
        return cls(**plain)


def write_logs(folder: Path, history: Sequence[EpochRow]) -> None:
    """Write ``log.csv`` and ``log.jsonl`` anew, each in one step: they hold what the checkpoint holds."""
    with replacing(folder / "log.jsonl") as partial:
        partial.write_text("".join(row.to_json() + "\n" for row in history), encoding="ascii")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    names = [one.name for one in fields(EpochRow) if one.name != "weights"]
    n_members = len(history[0].weights) if history else 0
    writer.writerow([*names, *(f"weight_{k}" for k in range(n_members))])
    for row in history:
        writer.writerow([*(getattr(row, name) for name in names), *row.weights])
    with replacing(folder / "log.csv") as partial:
        partial.write_text(table.getvalue(), encoding="ascii")

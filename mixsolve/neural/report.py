"""What an evaluation found: accuracies with intervals, the value of randomisation, and what its certificate covers."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mixsolve.results import MixtureResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]

RESAMPLES = 2000
COVERS = (
    "the game of the pooled points: these members, these samples, these attack points. Against the whole ball only the "
    "lower bound survives: stronger attacks can raise every risk here, and the gain of randomisation can shrink"
)


@dataclass(frozen=True)
class Estimate:
    """A mean over samples with its 95 % interval, by the bootstrap over samples."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: FloatArray, seed: int = 0) -> Estimate:
        """Of values (n,), one a sample; percentiles of `RESAMPLES` means of n draws."""
        resampled = values[_draws(len(values), seed)].mean(axis=1)
        low, high = np.quantile(resampled, [0.025, 0.975])
        return cls(float(values.mean()), float(low), float(high))

    def __str__(self) -> str:
        return f"{100 * self.mean:6.2f} % [{100 * self.low:.2f}, {100 * self.high:.2f}]"

    def to_dict(self) -> dict[str, float]:
        return {"mean": self.mean, "low": self.low, "high": self.high}


def _draws(size: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(size, size=(RESAMPLES, size))


@dataclass(frozen=True, eq=False)
class AttackRow:
    """One attack on the mixture."""

    name: str
    accuracy: Estimate
    """Robust accuracy: mean over samples of the expected accuracy at the attack's point."""
    fraction: FloatArray
    """(n_samples,) expected accuracy at the attack's point."""
    looks_per_sample: float
    """Points at which the mixture was asked."""
    seconds: float


@dataclass(frozen=True, eq=False)
class Players:
    """Worst-case 0/1 risks of several ways to use the members, all on the same points; lower is better."""

    best_single: Estimate
    best_member: int
    """Chosen on the points that the mixtures were fitted on."""
    uniform: Estimate
    given: Estimate
    """The mixture that was evaluated."""
    optimal: Estimate
    """The mixture that solves the pool's game."""
    vote: Estimate
    """The deterministic majority, weighted as the mixture that was evaluated; no point here was aimed at it."""
    gain: Estimate
    """Best single less optimal mixture, paired by sample."""

    def to_dict(self) -> dict[str, Any]:
        coded = {name: x.to_dict() for name, x in vars(self).items() if isinstance(x, Estimate)}
        return {**coded, "best_member": self.best_member}


@dataclass(frozen=True, eq=False)
class EvaluationReport:
    """An evaluation of a mixture; prints as a table, saves as JSON, draws itself."""

    samples: int
    weights: tuple[float, ...]
    budget: str
    clean: Estimate
    """Expected accuracy without an attack."""
    member_clean: tuple[float, ...]
    """Accuracy of every member without an attack."""
    attacks: tuple[AttackRow, ...]
    joint: AttackRow
    """The union of all attacks at joint points: the lowest fraction of each sample. The number to quote."""
    per_model_union: Estimate
    """``sum_k w_k`` times the accuracy of member k at its own worst point: no single point attains it."""
    solution: MixtureResult
    """Of the pool's game, with its certificate."""
    pooled: Players
    """On the pool that the optimal mixture was fitted on: optimistic for it."""
    held_out: Players | None
    """On fresh attacks, its weights as fitted on the pool; None where that was not asked for."""
    pool_points: int
    """Per sample."""
    seconds: float

    @property
    def certificate_covers(self) -> str:
        """What the bounds of `solution` are about."""
        return COVERS

    def __str__(self) -> str:
        lines = [
            f"{self.samples} samples, {self.budget}",
            "weights " + ", ".join(f"{weight:.4f}" for weight in self.weights),
            "",
            f"{'expected accuracy':<26}{'95 % interval':>26}   points   seconds",
            f"{'no attack':<26}{self.clean!s:>26}",
        ]
        for row in (*self.attacks, self.joint):
            lines.append(f"{row.name:<26}{row.accuracy!s:>26} {row.looks_per_sample:8.0f} {row.seconds:9.1f}")
        lines += [f"{'per_model_union':<26}{self.per_model_union!s:>26}   (no single point attains it)", ""]
        tables = {f"on the {self.pool_points} pooled points of each sample": self.pooled}
        if self.held_out is not None:
            tables["held out: on fresh attacks"] = self.held_out
        for title, players in tables.items():
            lines += [f"worst-case risk {title}"]
            lines += [f"  {name:<24}{value!s:>26}" for name, value in _player_rows(players)]
        lines += [
            f"value of the pool's game in [{self.solution.lower_bound:.6f}, {self.solution.value:.6f}]",
            "optimal weights " + ", ".join(f"{weight:.4f}" for weight in self.solution.weights),
            f"The certificate covers {COVERS}.",
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "samples": self.samples,
            "weights": list(self.weights),
            "budget": self.budget,
            "clean": self.clean.to_dict(),
            "member_clean": list(self.member_clean),
            "attacks": [_row(row) for row in self.attacks],
            "joint": _row(self.joint),
            "per_model_union": self.per_model_union.to_dict(),
            "solution": {
                "weights": self.solution.weights.tolist(),
                "value": self.solution.value,
                "lower_bound": self.solution.lower_bound,
                "status": self.solution.status.name,
            },
            "pooled": self.pooled.to_dict(),
            "held_out": None if self.held_out is None else self.held_out.to_dict(),
            "pool_points": self.pool_points,
            "certificate_covers": COVERS,
            "seconds": self.seconds,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as JSON, with every sample's fraction at its joint point."""
        content = {**self.to_dict(), "joint_fraction": self.joint.fraction.tolist()}
        Path(path).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="ascii")

    def plot(self) -> Figure:
        """Accuracies under every attack, and the risks of all players."""
        from mixsolve.neural.pictures import plot_report

        return plot_report(self)


def _row(row: AttackRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "accuracy": row.accuracy.to_dict(),
        "looks_per_sample": row.looks_per_sample,
        "seconds": row.seconds,
    }


def _player_rows(players: Players) -> list[tuple[str, Estimate]]:
    return [
        (f"best single (member {players.best_member})", players.best_single),
        ("uniform mixture", players.uniform),
        ("this mixture", players.given),
        ("optimal mixture", players.optimal),
        ("weighted majority vote", players.vote),
        ("gain of randomisation", players.gain),
    ]

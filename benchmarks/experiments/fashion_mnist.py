"""Does a mixture of adversarially trained networks stand attacks better than one of them? On Fashion-MNIST.

``python -m benchmarks.experiments.fashion_mnist --out FOLDER`` trains mixtures of 1, 2, 3 and 4 small convolutional
networks by Algorithm 2, with several seeds, and attacks each with APGD on the cross-entropy and on the difference of
logits ratio, ARC and the lattice climber at joint points, on test images that training never saw. Every piece of
work is kept in the folder, and a run that was stopped goes on where it was. Mixtures are compared with the single
network of the same seed, sample by sample.

The rows, with the commit they come from, are written to ``benchmarks/experiments/fashion_mnist.json``; the pictures
go beside them. ``--toy`` does all of it in a minute at sizes that show nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import ROOT, Report
from mixsolve.neural import (
    EvaluationReport,
    TrainingPlan,
    evaluate,
    load_mixture,
    standard_attacks,
    train_mixture,
)
from mixsolve.neural.logs import EpochRow
from mixsolve.neural.pictures import plot_training
from mixsolve.neural.presets import Preset, preset
from mixsolve.neural.report import Estimate

HOME = ROOT / "benchmarks" / "experiments"
POWER = 1.96 + 0.84
"""Standard errors of an effect that a two-sided test at 5 % finds with probability 80 %."""


@dataclass(frozen=True)
class Settings:
    """Sizes; the defaults are those of the committed rows."""

    data: str = "fashion-mnist"
    members: tuple[int, ...] = (1, 2, 3, 4)
    seeds: tuple[int, ...] = (0, 1)
    training_images: int = 12_000
    test_images: int = 1000
    epochs: int = 12
    batch_size: int = 128
    steps: int = 50
    restarts: int = 1
    threads: int = 2


TOY = Settings(
    data="digits",
    members=(1, 2),
    seeds=(0, 1),
    training_images=300,
    test_images=40,
    epochs=2,
    steps=4,
    threads=1,
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and finished work")
    parser.add_argument("--rows", type=Path, help=f"default: {HOME / 'fashion_mnist.json'}")
    parser.add_argument("--root", help="folder of Fashion-MNIST, where it is not Debian's")
    parser.add_argument("--toy", action="store_true", help="digits, tiny sizes: to see that it runs")
    parser.add_argument("--allow-dirty", action="store_true")
    arguments = parser.parse_args(argv)
    settings = TOY if arguments.toy else Settings()
    torch.set_num_threads(settings.threads)
    report = run(settings, arguments.out, root=arguments.root, allow_dirty=arguments.allow_dirty)
    path = arguments.rows or (arguments.out if arguments.toy else HOME) / "fashion_mnist.json"
    print(f"rows written to {report.write(path)}")
    draw(report, settings, arguments.out, path.parent)
    print(table(report))
    return 0


def run(settings: Settings, out: Path, *, root: str | None = None, allow_dirty: bool = False) -> Report:
    """Train and attack every mixture, then compare; what the folder holds already is not done again."""
    report = Report("fashion_mnist", allow_dirty, asdict(settings))
    chosen = preset(settings.data)
    fractions: dict[tuple[int, int], np.ndarray[Any, np.dtype[np.float64]]] = {}
    for seed in settings.seeds:
        for n_members in settings.members:
            found = one(chosen, settings, n_members, seed, out / f"L{n_members}-seed{seed}", root, report)
            fractions[n_members, seed] = found.joint.fraction
    for n_members in settings.members[1:]:
        compare(report, settings, n_members, fractions)
    return report


def one(
    chosen: Preset,
    settings: Settings,
    n_members: int,
    seed: int,
    folder: Path,
    root: str | None,
    report: Report,
) -> EvaluationReport:
    """One mixture: trained, attacked, and its row."""
    plan = training_plan(chosen, settings, seed, folder)
    data = chosen.data(root, train=True).part(slice(settings.training_images))
    result = train_mixture(
        chosen.networks(n_members, seed), data, plan, progress=lambda row: tell(folder.name, row, plan)
    )
    test = chosen.data(root, train=False).part(slice(settings.test_images))
    batches = [test.part(slice(first, first + 250)).batch(slice(None)) for first in range(0, len(test), 250)]
    found = evaluate(
        load_mixture(chosen.networks(n_members, seed), folder),
        batches,
        plan.budget,
        standard_attacks(settings.steps, settings.restarts),
        seed=seed,
        folder=folder / "evaluation",
    )
    found.plot().savefig(folder / "evaluation.png")
    joint = found.joint.accuracy.mean
    report.add(
        folder.name,
        members=n_members,
        seed=seed,
        epoch_selected=result.epoch,
        training_seconds=sum(
            row.update_seconds + row.pool_seconds + row.solve_seconds + row.look_seconds
            for row in result.history
        ),
        evaluation_seconds=sum(row.seconds for row in found.attacks),
        overstates={row.name: row.accuracy.mean - joint for row in found.attacks},
        **found.to_dict(),
    )
    print(f"{folder.name}: {found.joint.accuracy}", file=sys.stderr, flush=True)
    return found


def training_plan(chosen: Preset, settings: Settings, seed: int, folder: Path) -> TrainingPlan:
    """The preset's, at these sizes."""
    return replace(
        chosen.plan, epochs=settings.epochs, batch_size=settings.batch_size, seed=seed, folder=folder
    )


def tell(name: str, row: EpochRow, plan: TrainingPlan) -> None:
    print(
        f"{name}: epoch {row.epoch} of {plan.epochs}, robust {100 * row.robust_accuracy:.2f} %, "
        f"{row.update_seconds:.0f} s",
        file=sys.stderr,
        flush=True,
    )


def compare(
    report: Report,
    settings: Settings,
    n_members: int,
    fractions: dict[tuple[int, int], np.ndarray[Any, np.dtype[np.float64]]],
) -> None:
    """Robust accuracy of mixtures less that of single networks, paired by test image and seed."""
    single = settings.members[0]
    differences = np.stack([fractions[n_members, s] - fractions[single, s] for s in settings.seeds])
    per_image = differences.mean(axis=0)
    effect = Estimate.of(per_image)
    report.add(
        f"L{n_members} less L{single}",
        members=n_members,
        effect=effect.to_dict(),
        effect_by_seed=differences.mean(axis=1).tolist(),
        smallest_effect_shown=POWER * float(per_image.std(ddof=1)) / len(per_image) ** 0.5,
    )


def draw(report: Report, settings: Settings, out: Path, folder: Path) -> None:
    """Accuracy on held-out training images against epochs, of every number of members; the first seed's."""
    runs = {}
    for n_members in settings.members:
        path = out / f"L{n_members}-seed{settings.seeds[0]}" / "run-0" / "log.jsonl"
        runs[f"L = {n_members}"] = [EpochRow.from_json(line) for line in path.read_text().splitlines()]
    plot_training(runs).savefig(folder / "fashion_mnist.png")


def table(report: Report) -> str:
    """The rows on one screen."""
    lines = ["mixture      clean     joint  per model   overstated by attack"]
    for row in report.rows:
        if "joint" in row:
            over = ", ".join(f"{name} {100 * by:.2f}" for name, by in row["overstates"].items())
            numbers = (row["clean"], row["joint"]["accuracy"], row["per_model_union"])
            shown = " ".join(f"{100 * number['mean']:8.2f}" for number in numbers)
            lines.append(f"{row['name']:<10} {shown}    {over}")
        else:
            low, high = (100 * row["effect"][end] for end in ("low", "high"))
            lines.append(
                f"{row['name']:<10} {100 * row['effect']['mean']:+.2f} points [{low:+.2f}, {high:+.2f}], smallest "
                f"effect it could show {100 * row['smallest_effect_shown']:.2f}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

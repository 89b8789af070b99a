"""The commands ``mixsolve train`` and ``mixsolve evaluate``; torch is loaded when one of them runs."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixsolve.neural import EvaluationReport, TrainingPlan
    from mixsolve.neural.logs import EpochRow
    from mixsolve.neural.presets import Preset
    from mixsolve.neural.work import EvaluationProgress

TRAINING = "training.json"

TRAIN_DETAILS = """Train a mixture of networks against attacks on the mixture, and find its optimal weights.

Without options: two small networks on scikit-learn's handwritten digits, some minutes. The
paper's runs: --data cifar10 --root FOLDER --loss trades --models 4. A run that was stopped
goes on when it is started again. Several processes: torchrun -m mixsolve train ...
Needs: pip install mixsolve[torch]"""

EVALUATE_DETAILS = """Attack a trained mixture with APGD on the cross-entropy and on the difference of logits
ratio, ARC and the lattice climber, and report its accuracy at joint points beside what
its members could do otherwise. Goes on where it was stopped. Needs: pip install mixsolve[torch]"""


def add_train(parser: argparse.ArgumentParser) -> None:
    """The options of ``mixsolve train``."""
    parser.add_argument(
        "--data",
        default="digits",
        choices=("digits", "fashion-mnist", "mnist", "cifar10", "cifar100"),
        help="data set (default: %(default)s)",
    )
    parser.add_argument("--root", metavar="DIR", help="folder of its files; nothing is downloaded")
    parser.add_argument("--loss", default="at", choices=("at", "trades"), help="default: %(default)s")
    parser.add_argument(
        "--models", type=int, default=2, metavar="L", help="members of the mixture (default: %(default)s)"
    )
    for name, kind, meaning in (
        ("epochs", int, "rounds of the data for every model"),
        ("batch-size", int, "images per update"),
        ("radius", float, "of the attacks, in units of the pixel range"),
        ("norm", str, "linf or l2"),
        ("runs", int, "independent runs, of which the best is kept"),
        ("precision", str, "float32, bfloat16 or float16"),
    ):
        parser.add_argument(f"--{name}", type=kind, metavar="X", help=f"{meaning} (default: the preset's)")
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N training images only")
    _add_shared(parser, "mixsolve-training")


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """The options of ``mixsolve evaluate``."""
    parser.add_argument("folder", metavar="DIR", help="what `mixsolve train --out` wrote")
    parser.add_argument("--root", metavar="DIR", help="folder of the data, where it is another one now")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="of APGD (default: %(default)s)")
    parser.add_argument("--restarts", type=int, default=5, metavar="N", help="of APGD (default: %(default)s)")
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N test images only")
    parser.add_argument("--batch-size", type=int, default=250, metavar="N", help="default: %(default)s")
    _add_shared(parser, None)


def _add_shared(parser: argparse.ArgumentParser, folder: str | None) -> None:
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, ... (default: cuda where there is one)")
    if folder is not None:
        parser.add_argument(
            "--out", metavar="DIR", default=folder, help="folder to write to (default: %(default)s)"
        )
    parser.add_argument("--quiet", action="store_true", help="print nothing")


def train(arguments: argparse.Namespace) -> int:
    """Run ``mixsolve train``, alone or as one of the processes of torchrun."""
    from mixsolve.neural import join_torchrun
    from mixsolve.neural.processes import leave_torchrun

    is_first = join_torchrun().is_first
    try:
        return _train(arguments, is_first)
    finally:
        leave_torchrun()


def _train(arguments: argparse.Namespace, is_first: bool) -> int:
    from mixsolve.neural import train_mixture
    from mixsolve.neural.presets import preset

    chosen = preset(arguments.data, arguments.loss)
    plan = _plan(chosen.plan, arguments)
    data = chosen.data(arguments.root, train=True)
    if arguments.limit is not None:
        data = data.part(slice(arguments.limit))
    if arguments.models < 1:
        raise ValueError(f"`--models` must be >= 1; got {arguments.models}")
    folder, device = Path(arguments.out), _device(arguments.device)
    if is_first:
        folder.mkdir(parents=True, exist_ok=True)
        _remember(folder, arguments, plan)
    result = train_mixture(
        lambda run: [m.to(device) for m in chosen.networks(arguments.models, plan.seed, run)],
        data,
        plan,
        progress=None if arguments.quiet else _print_epoch(plan),
    )
    if is_first and not arguments.quiet:
        weights = ", ".join(f"{weight:.4f}" for weight in result.mixture.weights.tolist())
        print(f"\nepoch {result.epoch} of run {result.run}: robust accuracy {100 * result.score:.2f} %")
        print(f"of held-out training images; weights {weights}")
        print(f"checkpoints, logs and curves are in {folder.resolve()}")
        print(f"next: mixsolve evaluate {folder}")
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    """Run ``mixsolve evaluate``."""
    from mixsolve.neural import Budget, load_mixture, standard_attacks
    from mixsolve.neural import evaluate as evaluate_mixture
    from mixsolve.neural.presets import preset

    folder = Path(arguments.folder)
    told = _recall(folder)
    chosen: Preset = preset(told["data"], told["loss"])
    data = chosen.data(arguments.root or told["root"], train=False)
    if arguments.limit is not None:
        data = data.part(slice(arguments.limit))
    device = _device(arguments.device)
    networks = [m.to(device) for m in chosen.networks(told["models"], told["seed"])]
    size = arguments.batch_size
    batches = [
        (data.part(slice(first, first + size)).batch(slice(None))) for first in range(0, len(data), size)
    ]
    report = evaluate_mixture(
        load_mixture(networks, folder).to(device),
        batches,
        Budget(told["norm"], told["radius"]),
        standard_attacks(arguments.steps, arguments.restarts),
        seed=arguments.seed,
        folder=folder / "evaluation",
        progress=None if arguments.quiet or not sys.stderr.isatty() else _show_progress,
    )
    _write_report(folder, report)
    if not arguments.quiet:
        print(report)
        print(f"\nevaluation.json and evaluation.png are in {folder.resolve()}")
    return 0


def _plan(plan: TrainingPlan, arguments: argparse.Namespace) -> TrainingPlan:
    """The preset's plan with what the options change."""
    from mixsolve.neural import Budget, Precision

    changed: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in ("epochs", "batch_size", "runs")
        if getattr(arguments, name) is not None
    }
    if arguments.radius is not None or arguments.norm is not None:
        radius = plan.budget.radius if arguments.radius is None else arguments.radius
        changed["budget"] = Budget(arguments.norm or plan.budget.norm, radius)
    if arguments.precision is not None:
        changed["precision"] = Precision(arguments.precision)
    return replace(plan, seed=arguments.seed, folder=arguments.out, **changed)


def _device(name: str | None) -> Any:
    import torch

    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def _remember(folder: Path, arguments: argparse.Namespace, plan: TrainingPlan) -> None:
    """Write what `mixsolve evaluate` needs to know; refuse a folder that holds another training."""
    from mixsolve.attacks import Norm

    told = {name: getattr(arguments, name) for name in ("data", "loss", "models", "seed")}
    told |= {"norm": Norm(plan.budget.norm).value, "radius": plan.budget.radius}
    told["root"] = None if arguments.root is None else str(Path(arguments.root).resolve())
    path = folder / TRAINING
    if path.exists() and {**_recall(folder), "root": None} != {**told, "root": None}:
        raise ValueError(
            f"`--out` must be an empty folder or that of this training; {path} is of another one"
        )
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="ascii")


def _recall(folder: Path) -> dict[str, Any]:
    path = folder / TRAINING
    try:
        told = json.loads(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        raise ValueError(
            f"{folder} must be a folder written by `mixsolve train`; it has no {TRAINING}"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path} must be written by `mixsolve train`; it is damaged ({error})") from error
    if not isinstance(told, dict) or not {"data", "loss", "models", "seed", "norm", "radius", "root"} <= set(
        told
    ):
        raise ValueError(f"{path} must be written by `mixsolve train`; it lacks fields")
    return told


def _print_epoch(plan: TrainingPlan) -> Any:
    def show(row: EpochRow) -> None:
        seconds = row.update_seconds + row.pool_seconds + row.solve_seconds + row.look_seconds
        weights = " ".join(f"{weight:.3f}" for weight in row.weights)
        print(
            f"epoch {row.epoch:4d} of {plan.epochs} | loss {row.loss:.4f} | accuracy {100 * row.accuracy:6.2f} % | "
            f"robust {100 * row.robust_accuracy:6.2f} % | weights {weights} | {seconds:.1f} s",
            flush=True,
        )

    return show


def _show_progress(state: EvaluationProgress) -> None:
    line = f"{state.done:5d} of {state.total}  {state.attack}  {state.seconds:.0f} s"
    end = "\n" if state.done == state.total else ""
    print(f"\r\x1b[K{line}", end=end, file=sys.stderr, flush=True)


def _write_report(folder: Path, report: EvaluationReport) -> None:
    from importlib.util import find_spec

    report.save(folder / "evaluation.json")
    if find_spec("matplotlib") is not None:
        report.plot().savefig(folder / "evaluation.png")

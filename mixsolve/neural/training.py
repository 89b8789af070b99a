"""Algorithm 2 of the paper: the members are trained against attacks on the mixture, the weights solve their game."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mixsolve.neural.checkpoint import read_checkpoint
from mixsolve.neural.logs import EpochRow
from mixsolve.neural.mixture import Mixture
from mixsolve.neural.noise import mixed
from mixsolve.neural.pictures import draw_runs
from mixsolve.neural.plan import TrainingPlan
from mixsolve.neural.processes import Processes
from mixsolve.neural.run import CHECKPOINT, Progress, Run

Members = Sequence[nn.Module] | Callable[[int], Sequence[nn.Module]]


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What training leaves behind."""

    mixture: Mixture
    """With the selected parameters and weights; its members are those that were trained."""
    history: tuple[EpochRow, ...]
    """Of the run that was selected."""
    epoch: int
    """The one selected, counted from 1."""
    score: float
    """Its robust accuracy on the held-out training images; nan without a selection."""
    run: int
    folder: Path | None


def train_mixture(
    members: Members, data: Any, plan: TrainingPlan, *, progress: Progress | None = None
) -> TrainingResult:
    """Train the members of a mixture against attacks on the mixture, and solve for its weights.

    Every update attacks the current mixture on a batch and changes one member; after `updates_per_member` of each, a
    weight phase solves the game of pooled attack points. A folder with a checkpoint of the same plan is resumed,
    and ends with the parameters that an uninterrupted run ends with, bit for bit on a CPU.

    Parameters
    ----------
    members : sequence of torch.nn.Module, or callable (run) -> sequence
        Networks of one's own that return logits, on the device to train on; trained in place. Several runs need the
        callable, for a fresh start each.
    data : map-style Dataset, `Images`, or (x, y) tensors
        The training data; attacks keep the bounds of the plan's budget, so inputs have to.
    plan : TrainingPlan
    progress : callable (EpochRow) -> None, optional
        Called after every epoch, in the first process.

    Returns
    -------
    TrainingResult

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit, a folder that holds another plan's run, or a damaged checkpoint.

    Notes
    -----
    Under ``torchrun`` every process calls this with the same arguments, after `join_torchrun`. Batches are shared out;
    random starts and augmentation belong to samples, so networks without batch norm end where one process would, up to
    rounding. With batch norm every process normalises by its own share of a batch, and the results differ.

    References
    ----------
    .. [1] Meunier et al., "Mixed Nash Equilibria in the Adversarial Examples Game", ICML 2021, Algorithm 2.
    """
    if plan.runs > 1 and not callable(members):
        raise TypeError("`members` must be a callable (run) -> networks for several runs; got a sequence")
    outcomes = []
    for number in range(plan.runs):
        given = members(number) if callable(members) else members
        folder = None if plan.folder is None else Path(plan.folder) / f"run-{number}"
        run = Run(given, data, replace(plan, seed=mixed(plan.seed, number)), folder, plan)
        devices = [p.device for p in run.mixture.parameters() if p.device.type == "cuda"]
        with torch.random.fork_rng(devices=sorted({d.index for d in devices})):
            run.train(progress)
        outcomes.append(_result(run, number))
    if plan.folder is not None and Processes.current().is_first:
        draw_runs(Path(plan.folder))
    return max(outcomes, key=lambda outcome: outcome.score) if plan.runs > 1 else outcomes[0]


def _result(run: Run, number: int) -> TrainingResult:
    """The selected parameters and weights, in the networks that were trained."""
    run.mixture.load_state_dict(run.best)
    score = run.best_score if run.plan.selection else float("nan")
    return TrainingResult(run.mixture.eval(), tuple(run.history), run.best_epoch, score, number, run.folder)


def load_mixture(members: Iterable[nn.Module], path: str | os.PathLike[str]) -> Mixture:
    """The mixture of a checkpoint, or of a run's or a training's folder, in networks of the same make.

    Of a training's folder, the run that scored best.

    Raises
    ------
    OSError, ValueError
        If there is no such file, it is damaged, or the networks are of another make.
    """
    mixture = Mixture(members)
    file = _checkpoint_in(Path(path))
    try:
        mixture.load_state_dict(read_checkpoint(file)["mixture"])
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{file} must hold a mixture of these networks; it does not ({error})") from error
    return mixture.eval()


def _checkpoint_in(path: Path) -> Path:
    if path.is_file():
        return path
    found = []
    for folder in (path, *sorted(path.glob("run-*"))):
        if (folder / CHECKPOINT).is_file():
            content = read_checkpoint(folder / CHECKPOINT)
            best = folder / f"best-{content['best_epoch']:05d}.pt"
            found.append((content["best_score"], best if best.is_file() else folder / CHECKPOINT))
    if not found:
        raise FileNotFoundError(f"{path} must be a checkpoint or the folder of a training; there is none")
    return max(found, key=lambda pair: pair[0])[1]

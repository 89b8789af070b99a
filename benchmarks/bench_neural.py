"""What a neural mixture costs: attack steps, the weight phase, and training beside one adversarial training.

``python -m benchmarks.bench_neural`` writes ``benchmarks/results/bench_neural.json``, rows of two kinds:

- ``step/L=...``: a step of PGD on a mixture beside the sum of plain steps on its members, one after another;
- ``training/L=...``: an epoch of Algorithm 2 on Fashion-MNIST: seconds of updates, of making the pool of the weight
  phase and of solving its game, and the updates beside those of a single model, where the paper says 4, 8 and 12 times.

A plain step is the loop anybody would write; before it is timed, it and ours are shown to give the same points.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.harness import Bar, Report, Spread, WrongAnswer, add_report_options, clocked, interleaved
from mixsolve.neural import PGD, Budget, Keep, Mixture, Start, train_mixture
from mixsolve.neural.data import Images
from mixsolve.neural.noise import generator_of
from mixsolve.neural.presets import preset

STEP_LIMIT = 1.15
"""Bar: a step on the mixture to the sum of steps on its members."""
SOLVE_LIMIT = 0.02
"""Bar: solving the weight phase's game to the updates of an epoch."""
PAPER_COST = {1: 1.0, 2: 4.0, 3: 8.0, 4: 12.0}


@dataclass(frozen=True)
class Settings:
    """What a run is made of; the defaults are those of the committed rows."""

    members: tuple[int, ...] = (1, 2, 3, 4)
    batch: int = 128
    steps: int = 10
    rounds: int = 5
    images: int = 2048
    pool: int = 2048
    threads: int = 2
    data: str = "fashion-mnist"


def plain_pgd(model: nn.Module, x: Tensor, y: Tensor, radius: float, step: float, steps: int) -> Tensor:
    """Projected gradient ascent on one model, written out."""
    adversarial = x
    for _ in range(steps):
        adversarial = adversarial.detach().requires_grad_(True)
        loss = functional.cross_entropy(model(adversarial), y, reduction="sum")
        [grad] = torch.autograd.grad(loss, adversarial)
        move = (adversarial.detach() + step * grad.sign() - x).clamp(-radius, radius)
        adversarial = (x + move).clamp(0, 1)
    return adversarial.detach()


def time_steps(report: Report, settings: Settings) -> None:
    """PGD on mixtures beside plain PGD on every member, in the same rounds."""
    chosen = preset(settings.data)
    shape = (1, 8, 8) if settings.data == "digits" else (1, 28, 28)
    generator = generator_of(0)
    x = torch.rand((settings.batch, *shape), generator=generator)
    y = torch.randint(10, (settings.batch,), generator=generator)
    budget, step = Budget("linf", 0.1), 0.02
    attack = PGD(settings.steps, step_size=step, keep=Keep.LAST, start=Start.CLEAN)
    for n_members in settings.members:
        mixture = Mixture(chosen.networks(n_members, seed=0)).eval().requires_grad_(False)
        for member in mixture.members:
            plain = plain_pgd(member, x, y, budget.radius, step, settings.steps)
            if not torch.equal(attack(Mixture([member]), x, y, budget), plain):
                raise WrongAnswer("PGD on one member is not plain PGD")
        actions = {
            "mixture": clocked(partial(attack, mixture, x, y, budget)),
            "members": clocked(
                lambda mixture=mixture: [
                    plain_pgd(member, x, y, budget.radius, step, settings.steps) for member in mixture.members
                ]
            ),
        }
        seconds = interleaved(actions, settings.rounds)
        ratio = Spread.of(seconds["mixture"] / seconds["members"])
        report.add(
            f"step/L={n_members}",
            bars=[Bar("mixture step to single steps", "at most", STEP_LIMIT, ratio.median)],
            members=n_members,
            batch=settings.batch,
            seconds_per_step=Spread.of(seconds["mixture"] / settings.steps),
            ratio_to_single_steps=ratio,
        )


def time_training(report: Report, settings: Settings) -> None:
    """One epoch for every number of members, on the same images."""
    chosen = preset(settings.data)
    data: Images = chosen.data(None, train=True).part(slice(settings.images))
    alone: float | None = None
    for n_members in settings.members:
        plan = replace(chosen.plan, epochs=1, batch_size=settings.batch, selection=None)
        updates = -(-settings.images // settings.batch)
        weights = replace(chosen.plan.weights, samples=settings.pool)
        plan = replace(plan, updates_per_member=updates, weights=weights)  # one weight phase, at the end
        networks = chosen.networks(n_members, seed=0)
        [row] = train_mixture(networks, data, plan).history
        alone = row.update_seconds if alone is None else alone
        share = row.solve_seconds / row.update_seconds
        several = n_members > 1
        report.add(
            f"training/L={n_members}",
            bars=[Bar("solving to an epoch", "at most", SOLVE_LIMIT, share)] if several else [],
            members=n_members,
            images=settings.images,
            update_seconds=row.update_seconds,
            times_one_training=row.update_seconds / alone,
            times_one_training_in_the_paper=PAPER_COST[n_members],
            pool_samples=min(settings.pool, settings.images) if several else 0,
            pool_points=n_members + 3 if several else 0,
            pool_seconds=row.pool_seconds,
            pool_share_of_updates=row.pool_seconds / row.update_seconds,
            solve_seconds=row.solve_seconds,
            solve_share_of_updates=share,
            value=row.value if several else None,
            lower_bound=row.lower_bound if several else None,
        )
        print(report.rows[-1]["name"], f"{row.update_seconds:.1f} s", file=sys.stderr, flush=True)


def run(settings: Settings, *, allow_dirty: bool = False) -> Report:
    """All rows."""
    report = Report("bench_neural", allow_dirty, vars(settings))
    before = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        time_steps(report, settings)
        time_training(report, settings)
    finally:
        torch.set_num_threads(before)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=Settings.images, help="training images of an epoch")
    parser.add_argument("--rounds", type=int, default=Settings.rounds)
    add_report_options(parser)
    arguments = parser.parse_args(argv)
    settings = Settings(images=arguments.images, rounds=arguments.rounds)
    return run(settings, allow_dirty=arguments.allow_dirty).finish(arguments.out)


if __name__ == "__main__":
    sys.exit(main())

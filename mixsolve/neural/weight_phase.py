"""The weight phase: attack points are pooled, and the weights solve their game."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mixsolve.fit import fit_mixture
from mixsolve.neural.batches import Batches
from mixsolve.neural.mixture import Mixture
from mixsolve.neural.noise import Noise, generator_of, mixed
from mixsolve.neural.plan import TrainingPlan, WeightPhase
from mixsolve.neural.pool import Weights, aims, pool_losses, random_mixtures
from mixsolve.neural.processes import Processes
from mixsolve.results import MixtureResult

POOL_BATCH = 1024


@dataclass(frozen=True, eq=False)
class PhaseOutcome:
    """What one weight phase did."""

    result: MixtureResult
    samples: int
    points: int
    """Per sample, the input itself included."""
    pool_seconds: float
    solve_seconds: float

    @property
    def value(self) -> float:
        """Risk of the mixture on the pool."""
        return self.result.value

    @property
    def lower_bound(self) -> float:
        """On the value of the pool's game."""
        return self.result.lower_bound


def find_weights(
    mixture: Mixture,
    batches: Batches,
    plan: TrainingPlan,
    phase: WeightPhase,
    key: int,
    processes: Processes,
    *,
    last: bool = True,
) -> PhaseOutcome:
    """Pool attack points on the parameters as they are, solve the game, and set the weights.

    Every process attacks its share of the samples, keeps their losses, and finds the weights together with the others:
    the same ones, bit for bit. Before the last phase they are drawn towards the uniform ones as far as `phase.least`
    says.
    """
    started = time.perf_counter()
    chosen, targets = _draw(mixture, batches, plan, phase, key)
    losses = _pool(mixture, batches, plan, phase, key, processes.share(chosen), targets)
    pooled = time.perf_counter()
    result = solve_pool(losses.numpy(), phase, mixture.weights.cpu().numpy(), processes.group)
    weights = result.weights if last else (1 - phase.least) * result.weights + phase.least / mixture.n_members
    mixture.reweigh(torch.tensor(weights, device=mixture.weights.device))
    solved = time.perf_counter()
    return PhaseOutcome(result, len(chosen), losses.shape[2], pooled - started, solved - pooled)


def solve_pool(
    losses: npt.NDArray[np.bool_], phase: WeightPhase, start: npt.NDArray[np.float64], group: Any = None
) -> MixtureResult:
    """Solve the game of 0/1 losses (n_members, n, points) as the phase says; first-order solvers begin at `start`.

    Each process of a group has the losses of its own samples, none perhaps.
    """
    if phase.solver is None:
        return fit_mixture(losses, temperature=phase.temperature, group=group)
    return fit_mixture(losses, temperature=phase.temperature, solver=phase.solver, start=start, group=group)


def _draw(
    mixture: Mixture, batches: Batches, plan: TrainingPlan, phase: WeightPhase, key: int
) -> tuple[Tensor, list[Weights]]:
    """The samples of the pool, and the mixtures that its points are aimed at."""
    generator = generator_of(plan.seed, key, 1)
    order = torch.randperm(len(batches.training), generator=generator)
    chosen = batches.training[order[: phase.samples]]
    return chosen, aims(mixture, random_mixtures(mixture.n_members, phase.mixtures, generator))


def _pool(
    mixture: Mixture,
    batches: Batches,
    plan: TrainingPlan,
    phase: WeightPhase,
    key: int,
    own: Tensor,
    targets: list[Weights],
) -> Tensor:
    """0/1 losses (n_members, samples, points) of this process's samples, on the CPU."""
    parts = [torch.empty((mixture.n_members, 0, 1 + len(targets)), dtype=torch.bool)]
    for start in range(0, len(own), POOL_BATCH):
        rows = own[start : start + POOL_BATCH]
        x, y = batches.load(rows)
        noise = Noise(mixed(plan.seed, key, 2), rows.to(x.device))
        parts.append(pool_losses(mixture, x, y, plan.budget, phase.attack, noise, targets).cpu())
    return torch.cat(parts, dim=1)

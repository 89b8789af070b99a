"""The weight phase: attack points are pooled, and the weights solve their game."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mixsolve.fit import fit_mixture
from mixsolve.neural.batches import Batches
from mixsolve.neural.mixture import Mixture
from mixsolve.neural.noise import Noise, generator_of, mixed
from mixsolve.neural.plan import TrainingPlan, WeightPhase
from mixsolve.neural.pool import aims, pool_losses, random_mixtures
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

    Every process attacks its share of the samples, and all solve the same game; the first one's weights count. Before
    the last phase they are drawn towards the uniform ones as far as `phase.least` says.
    """
    started = time.perf_counter()
    losses = _pool(mixture, batches, plan, phase, key, processes)
    pooled = time.perf_counter()
    result = solve_pool(losses.numpy(), phase, mixture.weights.cpu().numpy())
    weights = result.weights if last else (1 - phase.least) * result.weights + phase.least / mixture.n_members
    mixture.reweigh(processes.from_first(torch.tensor(weights, device=mixture.weights.device)))
    solved = time.perf_counter()
    _, samples, points = losses.shape
    return PhaseOutcome(result, samples, points, pooled - started, solved - pooled)


def solve_pool(
    losses: npt.NDArray[np.bool_], phase: WeightPhase, start: npt.NDArray[np.float64]
) -> MixtureResult:
    """Solve the game of 0/1 losses (n_members, n, points) as the phase says; first-order solvers begin at `start`."""
    if phase.solver is None:
        return fit_mixture(losses, temperature=phase.temperature)
    return fit_mixture(losses, temperature=phase.temperature, solver=phase.solver, start=start)


def _pool(
    mixture: Mixture, batches: Batches, plan: TrainingPlan, phase: WeightPhase, key: int, processes: Processes
) -> Tensor:
    """0/1 losses (n_members, samples, points) of all processes, on the CPU."""
    generator = generator_of(plan.seed, key, 1)
    order = torch.randperm(len(batches.training), generator=generator)
    chosen = batches.training[order[: phase.samples]]
    others = random_mixtures(mixture.n_members, phase.mixtures, generator)
    targets = aims(mixture, others)
    parts = []
    own = processes.share(chosen)
    for start in range(0, len(own), POOL_BATCH):
        rows = own[start : start + POOL_BATCH]
        x, y = batches.load(rows)
        noise = Noise(mixed(plan.seed, key, 2), rows.to(x.device))
        parts.append(pool_losses(mixture, x, y, plan.budget, phase.attack, noise, targets).cpu())
    return processes.joined(torch.cat(parts, dim=1), dim=1)

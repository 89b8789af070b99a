"""The game between a mixture's members and pooled attack points: 0/1 losses of all members at every point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mixsolve.neural.attack import Attack
from mixsolve.neural.budget import Budget
from mixsolve.neural.mixture import Mixture
from mixsolve.neural.noise import Noise

Weights = npt.NDArray[np.float64]


def aims(mixture: Mixture, others: Sequence[Weights] = ()) -> list[Weights]:
    """The mixtures that a pool's points are aimed at: each member, the present and the uniform one, and others."""
    n = mixture.n_members
    present = mixture.weights.cpu().numpy()
    return [*np.eye(n), present, np.full(n, 1 / n), *others]


def pool_losses(
    mixture: Mixture,
    x: Tensor,
    y: Tensor,
    budget: Budget,
    attack: Attack,
    noise: Noise,
    aimed_at: Sequence[Weights],
) -> Tensor:
    """0/1 losses of every member at the inputs and at one point for every aim, bool (n_members, n, 1 + n_aims).

    With one point per sample the risk would be linear in the weights, and the "optimal mixture" a single member:
    points aimed at each member and at several mixtures make it a game.
    """
    wrong = [~mixture.right(x, y)]
    for number, weights in enumerate(aimed_at):
        found = attack.run(mixture.reweighed(weights), x, y, budget, noise.keyed(number))
        with mixture.frozen():
            wrong.append(~mixture.right(found.points, y))
    return torch.stack(wrong, dim=2)


def random_mixtures(n_members: int, size: int, generator: torch.Generator) -> list[Weights]:
    """Mixtures drawn uniformly from the simplex."""
    share = -torch.log1p(-torch.rand(size, n_members, generator=generator, dtype=torch.float64))
    return list((share / share.sum(dim=1, keepdim=True)).numpy())

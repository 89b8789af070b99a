"""Linear members of two classes, in float64, and what the exact attacker does to them."""

import numpy as np
import torch
from torch import nn

from mixsolve.attacks import LinearBestResponse
from mixsolve.neural import Budget, Mixture

INFINITE = (-np.inf, np.inf)


class HalfSpace(nn.Module):
    """Logits (-s, s) of ``s = scale (<normal, x> - offset)``: class 1 beyond the boundary."""

    def __init__(self, normal, offset, scale=1.0):
        super().__init__()
        self.normal = nn.Parameter(torch.as_tensor(scale * np.asarray(normal), dtype=torch.float64))
        self.offset = nn.Parameter(torch.as_tensor(scale * np.asarray(offset), dtype=torch.float64))

    def forward(self, x):
        score = x.flatten(1) @ self.normal - self.offset
        return torch.stack([-score, score], dim=1)


class LinearGame:
    """Random half-spaces near random points, a budget, and the exact best response to any mixture."""

    def __init__(self, seed, n_members, n_samples, dimension, norm, radius, bounds=INFINITE):
        rng = np.random.default_rng(seed)
        inside = np.clip(bounds, -3, 3)
        self.x = np.clip(rng.normal(size=(n_samples, dimension)), *inside)
        self.y = rng.integers(0, 2, size=n_samples)
        self.normals = rng.normal(size=(n_members, dimension))
        self.offsets = 0.7 * rng.normal(size=n_members)
        self.budget = Budget(norm, radius, bounds)
        self.weights = rng.dirichlet(np.ones(n_members))
        box = {} if bounds == INFINITE else {"lower": bounds[0], "upper": bounds[1]}
        labels = 2 * self.y - 1
        self.exact = LinearBestResponse(
            self.normals, self.offsets, self.x, labels, self.budget.norm, radius, **box
        )
        scales = 10.0 ** rng.uniform(-1, 1, size=n_members)  # logits of every scale
        members = [HalfSpace(*each) for each in zip(self.normals, self.offsets, scales, strict=True)]
        self.mixture = Mixture(members, self.weights)

    @property
    def tensors(self):
        return torch.from_numpy(self.x), torch.from_numpy(self.y)

    def best_fraction(self):
        """(n_samples,) the expected accuracy at a best response."""
        losses = self.exact(self.weights).losses[:, :, 0]
        return 1 - self.weights @ losses

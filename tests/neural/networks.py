"""Small networks of known answers and of none, with seeded parameters."""

import torch
from torch import nn

from mixsolve.neural import Mixture


def seeded(make, seed):
    """A module whose parameters are drawn from a seed, whatever torch's own generator does."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def small_net(seed, inputs=(1, 6, 6), n_classes=4, hidden=24, dtype=torch.float32):
    """A convolution and two dense layers; its logits are scaled so that attacks find something to do."""

    def make():
        return nn.Sequential(
            nn.Conv2d(inputs[0], 4, 3, padding=1),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(4 * inputs[1] * inputs[2], hidden),
            nn.ReLU(),
            nn.Linear(hidden, n_classes),
        )

    return seeded(make, seed).to(dtype)


def mixture_of_nets(n_members, weights=None, **options):
    return Mixture([small_net(seed, **options) for seed in range(n_members)], weights)


def batch(mixture, n_samples=32, inputs=(1, 6, 6), seed=0, dtype=torch.float32):
    """Inputs in [0, 1] with the labels that the mixture itself gives them: it is right about most."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand((n_samples, *inputs), generator=generator, dtype=torch.float64).to(dtype)
    with torch.no_grad(), mixture.frozen():
        return x, mixture(x).argmax(dim=1)

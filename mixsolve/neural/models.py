"""Small standard networks, with the normalisation of their inputs inside: ResNet18 for CIFAR, a CNN, an MLP."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)


class Normalise(nn.Module):
    """``(x - mean) / std`` by channel: part of the model, so that attacks move pixels in [0, 1].

    Parameters
    ----------
    mean, std : sequence of float, (channels,)
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class _Block(nn.Module):
    """Two convolutions and a shortcut (He et al., "Deep residual learning for image recognition", 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet18(
    n_classes: int = 10,
    mean: Sequence[float] = CIFAR10_MEAN,
    std: Sequence[float] = CIFAR10_STD,
    width: int = 64,
) -> nn.Sequential:
    """The ResNet18 of CIFAR papers: a first convolution of 3 x 3 without pooling, 11.2 million parameters at width 64.

    Takes pixels in [0, 1], (n, 3, 32, 32), and returns logits (n, n_classes).
    """
    layers: list[nn.Module] = [
        Normalise(mean, std),
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    inputs = width
    for outputs, stride in ((width, 1), (2 * width, 2), (4 * width, 2), (8 * width, 2)):
        layers += [_Block(inputs, outputs, stride), _Block(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, n_classes))


def small_cnn(
    n_classes: int = 10, mean: float = 0.2860, std: float = 0.3530, width: int = 16, hidden: int = 100
) -> nn.Sequential:
    """Two convolutions of 4 x 4 with stride 2 and two dense layers, for 28 x 28 grey images; no batch norm.

    Takes pixels in [0, 1], (n, 1, 28, 28), and returns logits (n, n_classes). Mean and deviation are
    Fashion-MNIST's by default.
    """
    return nn.Sequential(
        Normalise([mean], [std]),
        nn.Conv2d(1, width, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * width * 49, hidden),
        nn.ReLU(),
        nn.Linear(hidden, n_classes),
    )


def mlp(
    n_features: int = 64,
    n_classes: int = 10,
    hidden: Sequence[int] = (128, 128),
    mean: float = 0.3053,
    std: float = 0.3761,
) -> nn.Sequential:
    """Dense layers with ReLU on flattened pixels in [0, 1]; mean and deviation are those of scikit-learn's digits.

    Takes (n, channels, height, width) with `n_features` entries, and returns logits (n, n_classes).
    """
    sizes = [n_features, *hidden]
    layers: list[nn.Module] = [Normalise([mean], [std]), nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], n_classes))

"""Runs by name: the paper's on CIFAR with its hyperparameters, and small ones that a laptop's CPU can do."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from mixsolve.neural.attack import Keep
from mixsolve.neural.budget import Budget
from mixsolve.neural.data import (
    Images,
    load_cifar10,
    load_cifar100,
    load_digits,
    load_fashion_mnist,
    load_mnist,
)
from mixsolve.neural.losses import AttackLoss
from mixsolve.neural.models import CIFAR100_MEAN, CIFAR100_STD, mlp, resnet18, small_cnn
from mixsolve.neural.noise import mixed
from mixsolve.neural.pgd import PGD, Start
from mixsolve.neural.plan import (
    SGD,
    AdversarialTraining,
    Augmentation,
    Selection,
    Trades,
    TrainingPlan,
    WeightPhase,
)

LOSSES = ("at", "trades")


@dataclass(frozen=True)
class Preset:
    """A data set, a network and a plan that fit each other."""

    name: str
    load: Callable[..., Images]
    """``load(root, train=...)``; the digits take no root."""
    network: Callable[[], nn.Module]
    plan: TrainingPlan

    def data(self, root: str | os.PathLike[str] | None, *, train: bool) -> Images:
        """The training or the test images.

        Raises
        ------
        ValueError
            If the data set needs a folder and none is given, or the other way round.
        """
        if self.load is load_digits:
            if root is not None:
                raise ValueError(f"`root` must be left out: the digits come with scikit-learn; got {root}")
            return load_digits(train=train)
        if root is None and self.load is not load_fashion_mnist:
            raise ValueError(f"`root` must name the folder of {self.name.split('-')[0]}'s files; got None")
        return self.load(root, train=train)

    def networks(self, n_members: int, seed: int, run: int = 0) -> list[nn.Module]:
        """Fresh networks with parameters drawn from the seed; torch's own generator is left alone."""
        made = []
        for number in range(n_members):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(mixed(seed, run, number))
                made.append(self.network())
        return made


def preset(data: str, loss: str = "at") -> Preset:
    """The preset of a data set and a loss.

    Parameters
    ----------
    data : str
        "digits", "fashion-mnist", "mnist", "cifar10" or "cifar100".
    loss : str
        "at" (adversarial training) or "trades".

    Notes
    -----
    CIFAR: ResNet18, linf of 8/255, SGD at 0.4 with momentum 0.9 and weight decay 5e-4, batches of 1,024, 200 epochs a
    model with the rate divided by 10 at 1/2 and 3/4, PGD-10 in training and PGD-20 in selection, 50 updates of each
    model between weight phases, the better of two runs: the paper's. What differs is named in docs/neural.md.
    """
    if data not in _RECIPES or loss not in LOSSES:
        raise ValueError(
            f"`data` and `loss` must be one of {', '.join(_RECIPES)} and one of {', '.join(LOSSES)}; "
            f"got {data!r} and {loss!r}"
        )
    load, network, plan = _RECIPES[data]
    return Preset(f"{data}-{loss}", load, network, plan(_LOSSES[loss]))


_LOSSES: dict[str, AdversarialTraining | Trades] = {
    "at": AdversarialTraining(PGD(10, keep=Keep.LAST)),
    "trades": Trades(6.0, PGD(10, loss=AttackLoss.KL, start=Start.GAUSSIAN, keep=Keep.LAST)),
}


def _cifar_plan(loss: AdversarialTraining | Trades) -> TrainingPlan:
    return TrainingPlan(
        epochs=200,
        batch_size=1024,
        updates_per_member=50,
        loss=loss,
        budget=Budget("linf", 8 / 255),
        weights=WeightPhase(samples=2048, attack=PGD(10)),
        optimiser=SGD(lr=0.4, momentum=0.9, weight_decay=5e-4),
        augmentation=Augmentation.CROP_AND_FLIP,
        selection=Selection(PGD(20), share=0.02),
        runs=2,
    )


def _grey_plan(loss: AdversarialTraining | Trades) -> TrainingPlan:
    return TrainingPlan(
        epochs=20,
        batch_size=128,
        updates_per_member=100,
        loss=loss,
        budget=Budget("linf", 0.1),
        weights=WeightPhase(samples=2048, attack=PGD(10)),
        optimiser=SGD(lr=0.05, momentum=0.9, weight_decay=5e-4),
        selection=Selection(PGD(20), share=0.05),
    )


def _digits_plan(loss: AdversarialTraining | Trades) -> TrainingPlan:
    return TrainingPlan(
        epochs=60,
        batch_size=64,
        updates_per_member=40,
        loss=loss,
        budget=Budget("linf", 0.15),
        weights=WeightPhase(samples=1200, attack=PGD(10)),
        optimiser=SGD(lr=0.05, momentum=0.9, weight_decay=5e-4),
        selection=Selection(PGD(20), share=0.1),
    )


def _resnet18_cifar100() -> nn.Module:
    return resnet18(100, CIFAR100_MEAN, CIFAR100_STD)


def _mnist_cnn() -> nn.Module:
    return small_cnn(mean=0.1307, std=0.3081)


_RECIPES: dict[
    str,
    tuple[
        Callable[..., Images],
        Callable[[], nn.Module],
        Callable[[AdversarialTraining | Trades], TrainingPlan],
    ],
] = {
    "digits": (load_digits, mlp, _digits_plan),
    "fashion-mnist": (load_fashion_mnist, small_cnn, _grey_plan),
    "mnist": (load_mnist, _mnist_cnn, _grey_plan),
    "cifar10": (load_cifar10, resnet18, _cifar_plan),
    "cifar100": (load_cifar100, _resnet18_cifar100, _cifar_plan),
}

"""What `train_mixture` is to do, as frozen choices."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR

from mixsolve.inputs import check_integer
from mixsolve.neural.attack import Attack, Keep
from mixsolve.neural.budget import Budget
from mixsolve.neural.losses import AttackLoss, divergence
from mixsolve.neural.mixture import cross_entropy
from mixsolve.neural.pgd import PGD, Start
from mixsolve.solvers.protocol import Solver


class Order(enum.Enum):
    """Which member an update is for."""

    RANDOM = "random"  #: uniform, each time anew
    PERMUTATION = (
        "permutation"  #: a random order of equally many updates of every member, drawn for each period
    )


class Precision(enum.Enum):
    """Arithmetic of the members in attacks and updates; parameters stay in float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"

    @property
    def kind(self) -> torch.dtype:
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[self.value]


class Augmentation(enum.Enum):
    """What is done to a training image before it is attacked."""

    NONE = "none"
    CROP_AND_FLIP = "crop_and_flip"  #: 4 pixels of zeros around it, a random crop, a random flip


@dataclass(frozen=True)
class AdversarialTraining:
    """Cross-entropy at the attacked input (Madry et al. 2018)."""

    attack: Attack = field(default_factory=lambda: PGD(10, keep=Keep.LAST))
    """Against the mixture as it is: on its expected loss."""

    def losses(self, member: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        """Losses (n,) of the member that is updated."""
        return cross_entropy(member(x_adv).float(), y)


@dataclass(frozen=True)
class Trades:
    """Cross-entropy at the input plus `beta` times the divergence at the attacked one (Zhang et al., ICML 2019)."""

    beta: float = 6.0
    attack: Attack = field(
        default_factory=lambda: PGD(10, loss=AttackLoss.KL, start=Start.GAUSSIAN, keep=Keep.LAST)
    )
    """Against the mixture as it is: on its expected divergence."""

    def losses(self, member: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        """Losses (n,) of the member that is updated."""
        clean = member(x).float()
        far = divergence(member(x_adv).float(), clean.log_softmax(dim=1))
        return cross_entropy(clean, y) + self.beta * far


@dataclass(frozen=True)
class SGD:
    """The optimiser of the paper's runs."""

    lr: float = 0.4
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class StepDecay:
    """The learning rate is multiplied by `factor` at these shares of a member's updates."""

    at: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1

    def __call__(self, optimiser: torch.optim.Optimizer, updates: int) -> LRScheduler:
        milestones = [max(1, int(share * updates)) for share in self.at]
        return MultiStepLR(optimiser, milestones, gamma=self.factor)


@dataclass(frozen=True)
class WeightPhase:
    """How the weights of the mixture are found: the game of pooled attack points, solved.

    Training images are drawn anew each time, and attacked on the parameters as they are: every one by a point aimed
    at each member, at the mixture, at the uniform one and at `mixtures` random ones, scored by all members.
    """

    samples: int = 2048
    """Training images in the pool, or all where there are fewer."""
    mixtures: int = 0
    """Random mixtures aimed at, beside the present and the uniform one."""
    attack: Attack = field(default_factory=lambda: PGD(10))
    solver: Solver | None = None
    """None: exactly. ``Fista()`` or ``OracleSubgradient(25)`` go the paper's ways, from the present weights."""
    temperature: float = 0.0
    """Of the game; 1e-3 in the paper's regularised variant."""
    least: float = 0.5
    """Until the last phase, every member is given this share of a uniform weight, whatever the solution says: one of
    weight 0 would never be attacked, and so never trained against attacks on itself, and could not come back."""

    def __post_init__(self) -> None:
        check_integer("samples", self.samples, 1)
        check_integer("mixtures", self.mixtures, 0)
        if not 0 <= self.least <= 1:
            raise ValueError(f"`least` must lie in [0, 1]; got {self.least!r}")


@dataclass(frozen=True)
class Selection:
    """The checkpoint that is returned: best against an attack on images held out of the *training* data.

    The paper selects its checkpoints on the test data, which flatters the number it then reports there.
    """

    attack: Attack = field(default_factory=lambda: PGD(20))
    share: float = 0.05
    """Of the training data that is held out."""


@dataclass(frozen=True)
class TrainingPlan:
    """Algorithm 2 of the paper, and what it leaves open; the defaults are the paper's for CIFAR.

    Attributes
    ----------
    epochs : int
        Per member: it has seen the training data that often at the end.
    batch_size : int
        Of all processes together.
    updates_per_member : int
        Of each member, between two weight phases.
    order : Order
    loss : AdversarialTraining or Trades
        With its attack; an object of your own offers `attack` and `losses`.
    budget : Budget
    weights : WeightPhase or None
        None: the weights stay as they are.
    optimiser : callable
        From parameters to a torch optimiser, one for every member.
    schedule : callable or None
        From an optimiser and its number of updates to a torch scheduler, stepped after every update of its member.
    augmentation : Augmentation
    precision : Precision
    selection : Selection or None
        None: the last parameters are returned.
    runs : int
        Independent ones; the best by the selection is returned.
    seed : int
        Of everything random: order, starts, augmentation, the draw of the held-out images.
    folder : path or None
        For checkpoints, logs and the picture; None: nothing is written, and nothing can be resumed.
    """

    epochs: int = 200
    batch_size: int = 1024
    updates_per_member: int = 50
    order: Order = Order.PERMUTATION
    loss: AdversarialTraining | Trades = field(default_factory=AdversarialTraining)
    budget: Budget = field(default_factory=Budget)
    weights: WeightPhase | None = field(default_factory=WeightPhase)
    optimiser: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] = field(default_factory=SGD)
    schedule: Callable[[torch.optim.Optimizer, int], LRScheduler] | None = field(default_factory=StepDecay)
    augmentation: Augmentation = Augmentation.NONE
    precision: Precision = Precision.FLOAT32
    selection: Selection | None = field(default_factory=Selection)
    runs: int = 1
    seed: int = 0
    folder: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "updates_per_member", "runs"):
            check_integer(name, getattr(self, name), 1)
        check_integer("seed", self.seed, 0)
        object.__setattr__(self, "order", Order(self.order))
        object.__setattr__(self, "augmentation", Augmentation(self.augmentation))
        object.__setattr__(self, "precision", Precision(self.precision))
        if self.selection is not None and not 0 < self.selection.share < 1:
            raise ValueError(f"`selection.share` must lie between 0 and 1; got {self.selection.share!r}")
        if self.runs > 1 and self.selection is None:
            raise ValueError(f"`selection` must be given to choose among {self.runs} runs; got None")

    def described(self) -> dict[str, str]:
        """Every choice but the folder in words: two plans are the same run if and only if these agree."""
        return {one.name: _words(getattr(self, one.name)) for one in fields(self) if one.name != "folder"}


def _words(choice: Any) -> str:
    """A choice as it prints, without the addresses of functions."""
    if callable(choice) and not is_dataclass(choice):
        return f"{choice.__module__}.{getattr(choice, '__qualname__', type(choice).__qualname__)}"
    return repr(choice)

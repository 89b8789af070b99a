"""What every attack shares: one call, what it keeps, and the batch under attack with the points kept so far."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from mixsolve.neural.budget import Budget
from mixsolve.neural.losses import AttackLoss
from mixsolve.neural.mixture import Mixture
from mixsolve.neural.noise import Noise


class Keep(enum.Enum):
    """Which of the points that it meets an attack returns."""

    LAST = "last"  #: the last iterate: adversarial training, and no look at it afterwards
    LOSS = "loss"  #: the one with the highest expected loss
    FRACTION = "fraction"  #: the one with the lowest expected 0/1 accuracy; a sample is done when that is 0


@dataclass(frozen=True, eq=False)
class Attacked:
    """What an attack found on a batch."""

    points: Tensor
    """(n, ...) like the inputs."""
    fraction: Tensor
    """(n,) float64: expected accuracy of the mixture at the points; nan where `Keep.LAST` left them unlooked at."""
    looks: int
    """Points at which the mixture was asked, over the whole batch."""


class Attack(ABC):
    """An attack on a mixture whose weights it knows: ``attack(mixture, x, y, budget) -> x_adv``.

    An attack of your own offers `search`, which looks at points through a `Scene`; or derive a frozen dataclass.
    """

    keep: Keep = Keep.FRACTION

    def __call__(
        self,
        mixture: Mixture,
        x: Tensor,
        y: Tensor,
        budget: Budget,
        *,
        generator: torch.Generator | None = None,
        start: Tensor | None = None,
    ) -> Tensor:
        """Attacked inputs.

        Parameters
        ----------
        mixture : Mixture
            Attacked in evaluation mode with frozen parameters; both come back afterwards.
        x : Tensor of a floating type, (n, ...)
            Inputs within the bounds of the budget.
        y : Tensor of int64, (n,)
        budget : Budget
        generator : torch.Generator, optional
            Draws one number, the seed of everything random here; torch's own by default.
        start : Tensor like x, optional
            Where to begin, in place of the attack's own start.

        Returns
        -------
        Tensor like x
            In the box exactly, and in the ball up to rounding in the type of x.

        Raises
        ------
        TypeError, ValueError
            For inputs of no floating type or outside the bounds, or shapes that do not fit.
        """
        noise = Noise.of(generator, len(x), x.device)
        return self.run(mixture, x, y, budget, noise, start).points

    def run(
        self,
        mixture: Mixture,
        x: Tensor,
        y: Tensor,
        budget: Budget,
        noise: Noise,
        start: Tensor | None = None,
    ) -> Attacked:
        """As the call, with random numbers by key, and with what was found beside the points."""
        _check(x, y, budget)
        with mixture.frozen():
            scene = Scene(mixture, x.detach(), y, budget, noise, self.keep)
            if start is not None:
                scene.start = scene.settle(torch.arange(len(x), device=x.device), start.detach())
            self.search(scene)
        points = scene.points.to(x.dtype)
        budget.require_inside(points, x, repr(self))
        return Attacked(points, scene.fraction, scene.looks)

    @abstractmethod
    def search(self, scene: Scene) -> None:
        """Look at points, and offer them to the scene, which keeps the best."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A mixture's answer at some points."""

    loss: Tensor
    """(n,) expected loss."""
    fraction: Tensor
    """(n,) float64, expected accuracy."""
    grad: Tensor
    """(n, ...) gradient of the expected loss; empty where it was not asked for."""


class Scene:
    """A batch under attack: inputs, labels, budget, random numbers, and the point kept for every sample.

    Points are kept in float32 or better, and always representable in the type of the inputs.
    """

    def __init__(
        self, mixture: Mixture, x: Tensor, y: Tensor, budget: Budget, noise: Noise, keep: Keep
    ) -> None:
        self.mixture, self.y, self.budget, self.noise, self.keep = mixture, y, budget, noise, keep
        self._kind = x.dtype
        self.x = x if x.dtype is torch.float64 else x.float()
        self.start: Tensor | None = None
        self.looks = 0
        self._clean: dict[int, Tensor] = {}
        self.active = [(k, w) for k, w in enumerate(mixture.weights.tolist()) if w > 0]
        self.points = self.x.clone()
        self.fraction = torch.full((len(x),), torch.nan, dtype=torch.float64, device=x.device)
        self.loss = torch.full((len(x),), -torch.inf, device=x.device, dtype=self.x.dtype)
        if keep is Keep.FRACTION:  # the input itself is a point of its ball
            self.fraction = self.look(self.rows(), self.x).fraction

    def rows(self) -> Tensor:
        """All samples, (n,)."""
        return torch.arange(len(self.x), device=self.x.device)

    def open(self) -> Tensor:
        """Samples worth attacking: all of them, or with `Keep.FRACTION` those with a fraction above 0."""
        return (self.fraction > 0).nonzero().squeeze(1) if self.keep is Keep.FRACTION else self.rows()

    def settle(self, rows: Tensor, points: Tensor) -> Tensor:
        """Points of some samples moved into their budget and rounded to the type of the inputs."""
        inside = self.budget.project(points, self.x[rows])
        return inside if self._kind is inside.dtype else inside.to(self._kind).to(inside.dtype)

    def look(
        self,
        rows: Tensor,
        points: Tensor,
        loss: AttackLoss = AttackLoss.CROSS_ENTROPY,
        *,
        with_grad: bool = False,
    ) -> Seen:
        """The mixture at points of some samples; its members are run, and their graphs freed, one after another."""
        labels = self.y[rows]
        leaf = points.detach().requires_grad_(with_grad)
        fraction = torch.zeros(len(rows), dtype=torch.float64, device=points.device)
        total = torch.zeros(len(rows), dtype=self.loss.dtype, device=points.device)
        grad = torch.zeros_like(points) if with_grad else points.new_empty(0)
        for number, weight in self.active:
            with torch.set_grad_enabled(with_grad):
                logits = self.mixture.member_logits(number, leaf)
                clean = self._clean_of(number)[rows] if loss is AttackLoss.KL else None
                losses = loss.of(logits, labels, clean)
            fraction += weight * (logits.detach().argmax(dim=1) == labels)
            total += weight * losses.detach()
            if with_grad:
                grad += weight * torch.autograd.grad(losses.sum(), leaf)[0]
        self.looks += len(rows)
        return Seen(total, fraction, grad)

    def offer(self, rows: Tensor, points: Tensor, seen: Seen) -> Tensor:
        """Keep the points that are better than those kept; which samples to go on with, bool (n,)."""
        by_fraction = self.keep is Keep.FRACTION
        better = seen.fraction < self.fraction[rows] if by_fraction else seen.loss > self.loss[rows]
        if bool(better.any()):
            chosen = rows[better]
            self.points[chosen] = points[better]
            self.fraction[chosen] = seen.fraction[better]
            self.loss[chosen] = seen.loss[better]
        return seen.fraction > 0 if by_fraction else torch.ones_like(better)

    def finish(self, rows: Tensor, points: Tensor, loss: AttackLoss = AttackLoss.CROSS_ENTROPY) -> None:
        """Take the last iterate: as it is with `Keep.LAST`, else if it is better than what is kept."""
        if self.keep is Keep.LAST:
            self.points[rows] = points
            self.fraction[rows] = torch.nan
        elif rows.numel():
            self.offer(rows, points, self.look(rows, points, loss))

    def _clean_of(self, number: int) -> Tensor:
        """Log-probabilities of a member at the inputs, asked for once."""
        if number not in self._clean:
            with torch.no_grad():
                self._clean[number] = self.mixture.member_logits(number, self.x).log_softmax(dim=1)
        return self._clean[number]


@dataclass(frozen=True)
class Union(Attack):
    """Several attacks, one after another on the samples that are left, and the best point of all of them.

    Attributes
    ----------
    attacks : tuple of Attack
        Each with ``Keep.FRACTION``.
    """

    attacks: tuple[Attack, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "attacks", tuple(self.attacks))
        wrong = [one for one in self.attacks if one.keep is not Keep.FRACTION]
        if wrong or not self.attacks:
            raise ValueError(f"`attacks` must be attacks that keep Keep.FRACTION; got {wrong or 'none'}")

    def search(self, scene: Scene) -> None:
        for number, attack in enumerate(self.attacks):
            rows = scene.open()
            if not rows.numel():
                return
            start = None if scene.start is None else scene.start[rows]
            noise = scene.noise.keyed(number).at(rows)
            found = attack.run(scene.mixture, scene.x[rows], scene.y[rows], scene.budget, noise, start=start)
            scene.looks += found.looks
            points = scene.settle(rows, found.points)
            scene.offer(rows, points, Seen(scene.loss[rows], found.fraction, found.points.new_empty(0)))


def _check(x: Tensor, y: Tensor, budget: Budget) -> None:
    if not x.dtype.is_floating_point:
        raise TypeError(f"`x` must be a tensor of a floating type; got {x.dtype}")
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"`x` must have shape (n, ...), n >= 1 inputs; got {tuple(x.shape)}")
    if y.shape != x.shape[:1]:
        raise ValueError(f"`y` must have shape ({len(x)},); got {tuple(y.shape)}")
    low, high = budget.bounds
    if not (float(x.min()) >= low and float(x.max()) <= high):
        raise ValueError(
            f"`x` must lie within the bounds {budget.bounds}; got values from {float(x.min())} to {float(x.max())}"
        )

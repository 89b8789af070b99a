"""ARC: an attack that crosses the members' nearest boundaries one after another."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mixsolve.attacks.balls import Norm
from mixsolve.inputs import check_integer
from mixsolve.neural.attack import Attack, Scene
from mixsolve.neural.budget import lengths

BISECTIONS = 24
PAST = 1.0001
"""Of what is missing to a boundary, how much is done: a little more, to stand rounding."""

_TINY = 1e-30


@dataclass(frozen=True)
class ARC(Attack):
    """The attack of Dbouk and Shanbhag on randomised ensembles.

    In every iteration a local step of one length is built from the kept point, member by member in the order of
    falling weight: the first member turns it towards its nearest boundary; each later one turns it just as far as its
    own boundary needs, at the same length, and all the way where the boundary is out of reach. A turn is kept where
    the expected accuracy does not rise.

    In l2 a turn is a rotation. In linf it moves the coordinates first that cost the members before it least, which on
    linear members is optimal for two of them; the published turn, towards the signs of the gradient, is not.

    Attributes
    ----------
    steps : int
        Iterations.
    lengths : tuple of float
        Of the local steps, in units of the radius, in turn. With the whole radius first, two linear members are fooled
        at once where one point fools both.
    rivals : int or None
        Classes tried, by falling logit, as the far side of the nearest boundary; None: all.
    overshoot : float
        How far past a boundary a turn aims in every other iteration, in units of the radius.

    References
    ----------
    .. [1] Dbouk and Shanbhag, "Adversarial vulnerability of randomized ensembles", ICML 2022.
    """

    steps: int = 20
    lengths: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125)
    rivals: int | None = 4
    overshoot: float = 0.05

    def __post_init__(self) -> None:
        check_integer("steps", self.steps, 1)
        if self.rivals is not None:
            check_integer("rivals", self.rivals, 1)
        if not self.lengths or not min(self.lengths) > 0:
            raise ValueError(f"`lengths` must be positive, one at least; got {self.lengths!r}")
        if not self.overshoot >= 0:
            raise ValueError(f"`overshoot` must be >= 0; got {self.overshoot!r}")

    def search(self, scene: Scene) -> None:
        radius = scene.budget.radius
        order = sorted(scene.active, key=lambda pair: -pair[1])
        if scene.start is not None:
            scene.offer(scene.rows(), scene.start, scene.look(scene.rows(), scene.start))
        rows = scene.open()
        base = scene.points[rows]
        if not rows.numel():
            return
        for step in range(self.steps):
            state = _Local(
                step=torch.zeros_like(base),
                length=radius * self.lengths[step % len(self.lengths)],
                overshoot=0.0 if step % 2 else self.overshoot * radius,
                held=torch.zeros_like(base),
                holds=torch.zeros(len(rows), dtype=torch.bool, device=base.device),
            )
            for number, _weight in order:
                self._turn(scene, number, rows, base, state)
            local = state.step
            stay = scene.fraction[rows] > 0
            if not bool(stay.any()):
                return
            rows, base = rows[stay], scene.settle(rows, base + local)[stay]

    def _turn(self, scene: Scene, number: int, rows: Tensor, base: Tensor, state: _Local) -> None:
        """One member's turn: the local steps move on where it helps, and the scene keeps what is better."""
        budget = scene.budget
        here = scene.settle(rows, base + state.step)
        slope, distance, to_fool = self._boundary(scene, number, rows, here)
        unit = slope / _column(budget.dual_length(slope).clamp(min=_TINY), slope)
        toward = -budget.ascent(slope)
        reach = distance - (unit * (here - base)).flatten(1).sum(dim=1)
        first = state.step.flatten(1).abs().amax(dim=1) == 0
        far = state.step + state.length * toward
        if budget.norm is Norm.LINF:
            turned = _coordinates(scene, rows, base, state, unit, reach)
            turned = torch.where(_column(first & ~state.holds, base), far, turned)
        else:
            turned = _rotation(scene, rows, base, state, unit, toward, reach)
            turned = turned + state.overshoot * toward
            turned = torch.where(_column(first | (reach >= state.length), base), far, turned)
        turned = state.length * turned / lengths(turned, Norm(budget.norm)).clamp(min=_TINY)
        turned = torch.where(_column(to_fool, base), turned, state.step)
        points = scene.settle(rows, base + turned)
        seen = scene.look(rows, points)
        before = scene.fraction[rows]
        scene.offer(rows, points, seen)
        state.step = torch.where(_column(seen.fraction <= before, base), turned, state.step)
        state.held = state.held + unit.abs()
        state.holds = state.holds | ~to_fool

    def _boundary(
        self, scene: Scene, number: int, rows: Tensor, points: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of one member: the gradient across its nearest boundary, the distance to it, and where it is right."""
        labels = scene.y[rows]
        leaf = points.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = scene.mixture.member_logits(number, leaf)
        own = logits.gather(1, labels[:, None]).squeeze(1)
        others = logits.detach().scatter(1, labels[:, None], -torch.inf)
        to_fool = own.detach() > others.amax(dim=1)
        rivals = others.shape[1] - 1 if self.rivals is None else min(self.rivals, others.shape[1] - 1)
        slope = torch.zeros_like(points)
        nearest = torch.full_like(own, torch.inf)
        for rank, rival in enumerate(others.topk(rivals, dim=1).indices.T):
            gap = own - logits.gather(1, rival[:, None]).squeeze(1)
            [grad] = torch.autograd.grad(gap.sum(), leaf, retain_graph=rank < rivals - 1)
            distance = gap.detach() / scene.budget.dual_length(grad).clamp(min=_TINY)
            nearer = distance < nearest
            nearest = torch.where(nearer, distance, nearest)
            slope = torch.where(_column(nearer, slope), grad, slope)
        scene.looks += len(rows)
        return slope, nearest, to_fool


@dataclass(eq=False)
class _Local:
    """The local steps of one iteration."""

    step: Tensor
    length: float
    overshoot: float
    held: Tensor
    """(n, ...) what moving every coordinate costs the members that had their turn."""
    holds: Tensor
    """(n,) whether one of them is fooled."""


def _rotation(
    scene: Scene, rows: Tensor, base: Tensor, state: _Local, unit: Tensor, toward: Tensor, reach: Tensor
) -> Tensor:
    """The steps turned towards a boundary, at their length, just far enough to cross it: by bisection."""
    least, most = torch.zeros_like(reach), torch.ones_like(reach)

    def turned(share: Tensor) -> Tensor:
        part = _column(share, base)
        return (1 - part) * state.step + part * state.length * toward

    for _ in range(BISECTIONS):
        middle = (least + most) / 2
        step = turned(middle)
        step = state.length * step / lengths(step, Norm(scene.budget.norm)).clamp(min=_TINY)
        moved = scene.settle(rows, base + step) - base
        crossed = (unit * moved).flatten(1).sum(dim=1) + reach <= 0
        most, least = torch.where(crossed, middle, most), torch.where(crossed, least, middle)
    return turned(most)


def _coordinates(
    scene: Scene, rows: Tensor, base: Tensor, state: _Local, unit: Tensor, reach: Tensor
) -> Tensor:
    """The steps with the coordinates turned first that cost the other members least, until the boundary is crossed."""
    least = scene.settle(rows, torch.full_like(base, -torch.inf)) - base
    most = scene.settle(rows, torch.full_like(base, torch.inf)) - base
    least, most = least.clamp(min=-state.length), most.clamp(max=state.length)
    step = (scene.settle(rows, base + state.step) - base).flatten(1)
    slope = unit.flatten(1)
    goal = torch.where(unit > 0, least, most).flatten(1)
    gain = slope * (step - goal)
    order = (slope.abs() / (state.held.flatten(1) + 1e-12)).argsort(dim=1, descending=True)
    sorted_gain = gain.gather(1, order)
    missing = (slope * step).sum(dim=1) + reach + state.overshoot
    before = sorted_gain.cumsum(dim=1) - sorted_gain
    share = ((PAST * missing[:, None] - before) / sorted_gain.clamp(min=_TINY)).clamp(0, 1)
    part = torch.zeros_like(share).scatter(1, order, share)
    return (step + part * (goal - step)).reshape(base.shape)


def _column(values: Tensor, like: Tensor) -> Tensor:
    """Values (n,) in the shape (n, 1, ..., 1)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))

"""Auto-PGD on the expected loss: momentum, and steps halved where they stop helping."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mixsolve.inputs import check_integer
from mixsolve.neural.attack import Attack, Keep, Scene, Seen
from mixsolve.neural.losses import AttackLoss

MOMENTUM = 0.75
SUCCESS_RATE = 0.75


@dataclass(frozen=True)
class APGD(Attack):
    """Auto-PGD of Croce and Hein, on the loss averaged over the members.

    The step begins at twice the radius. At checkpoints, first after 22 % of the steps, then at distances that shrink
    by 3 % down to 6 %, it is halved, and the search resumed at the best point, where at most 75 % of the steps raised
    the expected loss, or the best loss is what it was at the last checkpoint and the step was not halved there. What
    is returned is chosen by `keep`, whatever steers the steps.

    Attributes
    ----------
    steps, restarts : int
        >= 1.
    loss : AttackLoss
        CROSS_ENTROPY or DLR.
    keep : Keep

    References
    ----------
    .. [1] Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
       attacks", ICML 2020, Algorithm 1.
    """

    steps: int = 100
    restarts: int = 1
    loss: AttackLoss = AttackLoss.CROSS_ENTROPY
    keep: Keep = Keep.FRACTION

    def __post_init__(self) -> None:
        check_integer("steps", self.steps, 1)
        check_integer("restarts", self.restarts, 1)
        object.__setattr__(self, "loss", AttackLoss(self.loss))
        object.__setattr__(self, "keep", Keep(self.keep))

    def search(self, scene: Scene) -> None:
        for restart in range(self.restarts):
            rows = scene.open()
            if not rows.numel():
                return
            if scene.start is not None and restart == 0:
                points = scene.start[rows]
            else:
                noise = scene.noise.keyed(restart).at(rows)
                points = scene.settle(rows, scene.budget.surface(scene.x[rows], noise))
            self._climb(scene, rows, points)

    def _climb(self, scene: Scene, rows: Tensor, points: Tensor) -> None:
        seen = scene.look(rows, points, self.loss, with_grad=True)
        climb = _Climb.begin(rows, points, seen, 2 * scene.budget.radius)
        climb = climb.only(scene.offer(rows, points, seen))
        distance = max(int(0.22 * self.steps), 1)
        since = 0
        for step in range(self.steps):
            if not climb.rows.numel():
                return
            last = step == self.steps - 1
            climb.advance(scene, MOMENTUM if step else 1.0)
            seen = scene.look(climb.rows, climb.points, self.loss, with_grad=not last)
            stay = scene.offer(climb.rows, climb.points, seen)
            if last:
                break
            climb.note(seen)
            climb = climb.only(stay)
            since += 1
            if since == distance:
                climb.check(distance)
                distance = max(distance - max(int(0.03 * self.steps), 1), max(int(0.06 * self.steps), 1))
                since = 0
        if self.keep is Keep.LAST:
            scene.finish(climb.rows, climb.points)


@dataclass(eq=False)
class _Climb:
    """Where the search on every sample stands; the first axis of every field is that of the samples."""

    rows: Tensor
    points: Tensor
    previous: Tensor
    grad: Tensor
    loss: Tensor
    step: Tensor
    best_points: Tensor
    best_grad: Tensor
    best_loss: Tensor
    rises: Tensor
    """Steps since the last checkpoint that raised the loss."""
    checked_loss: Tensor
    """Best loss at the last checkpoint."""
    was_halved: Tensor

    @classmethod
    def begin(cls, rows: Tensor, points: Tensor, seen: Seen, step: float) -> _Climb:
        return cls(
            rows=rows,
            points=points,
            previous=points,
            grad=seen.grad,
            loss=seen.loss,
            step=torch.full_like(points.flatten(1)[:, :1], step).reshape(-1, *[1] * (points.ndim - 1)),
            best_points=points.clone(),
            best_grad=seen.grad.clone(),
            best_loss=seen.loss.clone(),
            rises=torch.zeros_like(seen.loss),
            checked_loss=seen.loss.clone(),
            was_halved=torch.ones_like(seen.loss, dtype=torch.bool),
        )

    def only(self, stay: Tensor) -> _Climb:
        """The samples that go on."""
        if bool(stay.all()):
            return self
        return _Climb(**{one.name: getattr(self, one.name)[stay] for one in fields(self)})

    def advance(self, scene: Scene, momentum: float) -> None:
        """One step with momentum; `points` and `previous` move on."""
        ahead = scene.settle(self.rows, self.points + self.step * scene.budget.ascent(self.grad))
        blend = momentum * (ahead - self.points) + (1 - momentum) * (self.points - self.previous)
        self.previous, self.points = self.points, scene.settle(self.rows, self.points + blend)

    def note(self, seen: Seen) -> None:
        """Take in the answer at `points`."""
        self.rises += seen.loss > self.loss
        self.grad, self.loss = seen.grad, seen.loss
        better = seen.loss > self.best_loss
        self.best_points[better] = self.points[better]
        self.best_grad[better] = seen.grad[better]
        self.best_loss[better] = seen.loss[better]

    def check(self, n_steps: int) -> None:
        """Halve the step, and go back to the best point, where the last steps did not help."""
        halve = self.rises <= SUCCESS_RATE * n_steps
        halve |= ~self.was_halved & (self.checked_loss >= self.best_loss)
        self.step[halve] /= 2
        self.points, self.grad = self.points.clone(), self.grad.clone()
        self.points[halve] = self.best_points[halve]
        self.grad[halve] = self.best_grad[halve]
        self.was_halved, self.checked_loss = halve, self.best_loss.clone()
        self.rises = torch.zeros_like(self.rises)

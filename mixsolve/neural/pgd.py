"""Projected gradient ascent on the expected loss."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from torch import Tensor

from mixsolve.inputs import check_integer
from mixsolve.neural.attack import Attack, Keep, Scene
from mixsolve.neural.losses import AttackLoss

GAUSSIAN_SCALE = 1e-3


class Start(enum.Enum):
    """Where a gradient attack begins."""

    CLEAN = "clean"  #: at the input
    UNIFORM = "uniform"  #: uniform in the ball
    GAUSSIAN = "gaussian"  #: the input plus 1e-3 times a standard normal, as TRADES does


@dataclass(frozen=True)
class PGD(Attack):
    """Steps of one length along the steepest direction of the expected loss, projected to the budget.

    Attributes
    ----------
    steps, restarts : int
        >= 1. With ``Keep.LAST`` the last restart counts.
    step_size : float, optional
        In units of the inputs; ``2 radius / steps`` by default.
    loss : AttackLoss
    keep : Keep
    start : Start

    References
    ----------
    .. [1] Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.
    """

    steps: int = 20
    restarts: int = 1
    step_size: float | None = None
    loss: AttackLoss = AttackLoss.CROSS_ENTROPY
    keep: Keep = Keep.FRACTION
    start: Start = Start.UNIFORM

    def __post_init__(self) -> None:
        check_integer("steps", self.steps, 1)
        check_integer("restarts", self.restarts, 1)
        object.__setattr__(self, "loss", AttackLoss(self.loss))
        object.__setattr__(self, "keep", Keep(self.keep))
        object.__setattr__(self, "start", Start(self.start))
        if self.step_size is not None and not self.step_size > 0:
            raise ValueError(f"`step_size` must be > 0; got {self.step_size!r}")

    def search(self, scene: Scene) -> None:
        budget = scene.budget
        step = 2 * budget.radius / self.steps if self.step_size is None else self.step_size
        for restart in range(self.restarts):
            rows = scene.open()
            if not rows.numel():
                return
            points = self._begin(scene, rows, restart)
            for _ in range(self.steps):
                if not rows.numel():
                    return
                seen = scene.look(rows, points, self.loss, with_grad=True)
                grad = seen.grad
                if self.keep is not Keep.LAST:
                    stay = scene.offer(rows, points, seen)
                    if not bool(stay.all()):
                        rows, points, grad = rows[stay], points[stay], grad[stay]
                points = scene.settle(rows, points + step * budget.ascent(grad))
            scene.finish(rows, points, self.loss)

    def _begin(self, scene: Scene, rows: Tensor, restart: int) -> Tensor:
        x, noise = scene.x[rows], scene.noise.keyed(restart).at(rows)
        if scene.start is not None and restart == 0:
            return scene.start[rows]
        if self.start is Start.UNIFORM:
            return scene.settle(rows, scene.budget.uniform(x, noise))
        if self.start is Start.GAUSSIAN:
            return scene.settle(rows, x + GAUSSIAN_SCALE * noise.normal(x))
        return x

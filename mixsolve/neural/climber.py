"""The lattice climber: fool one member more, then the next, without letting go of those already fooled."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mixsolve.attacks.balls import Norm
from mixsolve.inputs import check_integer
from mixsolve.neural.attack import Attack, Scene
from mixsolve.neural.budget import lengths
from mixsolve.neural.losses import margin

MARGIN = 0.01
"""How far past every boundary the search aims, in units of the radius."""


@dataclass(frozen=True)
class LatticeClimber(Attack):
    """Climb the lattice of fooled sets of members.

    From the set fooled so far, and for the members in the order of falling weight, look for a point that fools one
    member more, by descent on the sum of reverse hinges ``(f_y - max_other)+`` of all of them, each divided by its
    slope; it is 0 once all are fooled. Exact descent makes the climber effective (it fools a member wherever one can
    be fooled) and maximal (no point of the budget fools a strict superset).

    Attributes
    ----------
    steps : int
        Of every attempt: the first half along the steepest directions of the norm with falling length, the second
        half projected subgradients with Polyak's step for the known optimum 0.

    References
    ----------
    .. [1] Gnecco Heredia, Pydi, Meunier, Negrevergne and Chevaleyre, "On the role of randomization in adversarially
       robust classification", NeurIPS 2023.
    """

    steps: int = 60

    def __post_init__(self) -> None:
        check_integer("steps", self.steps, 2)

    def search(self, scene: Scene) -> None:
        if scene.start is not None:
            scene.offer(scene.rows(), scene.start, scene.look(scene.rows(), scene.start))
        order = [number for number, _ in sorted(scene.active, key=lambda pair: -pair[1])]
        fooled = self._fooled(scene, scene.rows())
        for number in order:
            rows = (~fooled[number]).nonzero().squeeze(1)
            if rows.numel():
                targets = fooled[:, rows].clone()
                targets[number] = True
                self._attempt(scene, rows, targets, fooled)

    def _attempt(self, scene: Scene, rows: Tensor, targets: Tensor, fooled: Tensor) -> None:
        """Look for points that fool all targets (n_members, n); where there is one, it is taken, and `fooled` told."""
        points = scene.points[rows]
        for step in range(self.steps + 1):
            gaps, slopes = _boundaries(scene, rows, points, targets)
            wrong = gaps < 0
            done = (wrong | ~targets).all(dim=0)
            if bool(done.any()):
                self._take(scene, rows[done], points[done], fooled)
                stay = ~done
                rows, points, targets = rows[stay], points[stay], targets[:, stay]
                gaps, slopes = gaps[:, stay], slopes[:, stay]
            if not rows.numel() or step == self.steps:
                return
            points = scene.settle(rows, points + self._move(scene, step, gaps, slopes, targets))

    def _move(self, scene: Scene, step: int, gaps: Tensor, slopes: Tensor, targets: Tensor) -> Tensor:
        budget = scene.budget
        hinge = (gaps + MARGIN * budget.radius).clamp(min=0) * targets
        pull = -(slopes * (hinge > 0).reshape(*hinge.shape, *[1] * (slopes.ndim - 2))).sum(dim=0)
        half = self.steps // 2
        if step < half:
            return 2 * budget.radius * (1 - step / half) ** 2 * budget.ascent(pull)
        square = lengths(pull, Norm.L2).clamp(min=1e-6) ** 2
        return pull * (hinge.sum(dim=0).reshape(square.shape) / square)

    def _take(self, scene: Scene, rows: Tensor, points: Tensor, fooled: Tensor) -> None:
        scene.points[rows] = points
        fooled[:, rows] = self._fooled(scene, rows)
        scene.fraction[rows] = scene.mixture.weights @ (~fooled[:, rows]).to(torch.float64)

    def _fooled(self, scene: Scene, rows: Tensor) -> Tensor:
        """Which members the kept points fool, (n_members, n); those of weight 0 do not count."""
        wrong = ~scene.mixture.right(scene.points[rows], scene.y[rows])
        return wrong & (scene.mixture.weights > 0)[:, None]


def _boundaries(scene: Scene, rows: Tensor, points: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Of every target: the l2 distance to its boundary (n_members, n), below 0 past it, and the unit slope there."""
    labels = scene.y[rows]
    gaps = torch.zeros(targets.shape, dtype=points.dtype, device=points.device)
    slopes = torch.zeros(len(targets), *points.shape, dtype=points.dtype, device=points.device)
    for number in targets.any(dim=1).nonzero().squeeze(1).tolist():
        leaf = points.detach().requires_grad_(True)
        with torch.enable_grad():
            gap = margin(scene.mixture.member_logits(number, leaf), labels)
            [grad] = torch.autograd.grad(gap.sum(), leaf)
        length = lengths(grad, Norm.L2).clamp(min=1e-30)
        gaps[number] = gap.detach() / length.flatten()
        slopes[number] = grad / length
    scene.looks += len(rows)
    return gaps, slopes

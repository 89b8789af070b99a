"""What an attacker may do: a ball around every input, cut by a box; and the geometry of moving inside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mixsolve.attacks.balls import Norm
from mixsolve.neural.noise import Noise


@dataclass(frozen=True)
class Budget:
    """The points that an attack may move an input to: those of a ball around it that lie in a box.

    Attributes
    ----------
    norm : Norm or str
        ``Norm.LINF`` or ``Norm.L2``, or its name; over all entries of an input.
    radius : float
        > 0, in units of the inputs.
    bounds : (float, float)
        Smallest and largest value of an entry; inputs must keep them too. Infinite where there is none.
    """

    norm: Norm | str = Norm.LINF
    radius: float = 8 / 255
    bounds: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        try:
            norm = Norm(self.norm)
        except ValueError:
            norm = Norm.L1
        if norm is Norm.L1:
            raise ValueError(f"`norm` must be Norm.LINF ('linf') or Norm.L2 ('l2'); got {self.norm!r}")
        object.__setattr__(self, "norm", norm)
        if not (math.isfinite(self.radius) and self.radius > 0):
            raise ValueError(f"`radius` must be finite and > 0; got {self.radius!r}")
        low, high = self.bounds
        if not low < high:
            raise ValueError(f"`bounds` must be (lowest, highest) with lowest < highest; got {self.bounds!r}")

    def project(self, points: Tensor, x: Tensor) -> Tensor:
        """Points (n, ...) moved into the ball around the inputs and into the box.

        Not the nearest ones for l2: first into the ball along the ray, then into the box, which brings no entry
        farther from its input.
        """
        move = points - x
        if self.norm is Norm.LINF:
            move = move.clamp(-self.radius, self.radius)
        else:
            length = lengths(move, Norm.L2)
            move = move * (self.radius / length.clamp(min=self.radius))
        return (x + move).clamp(*self.bounds)

    def ascent(self, grad: Tensor) -> Tensor:
        """The moves of length 1 that gain most by a gradient: signs for linf, the direction for l2; 0 where it is 0."""
        if self.norm is Norm.LINF:
            return grad.sign()
        length = lengths(grad, Norm.L2)
        return grad / length.where(length > 0, torch.ones_like(length))

    def dual_length(self, grad: Tensor) -> Tensor:
        """Slope of the steepest move of length 1, (n,): the dual norm of a gradient."""
        flat = grad.flatten(1)
        return flat.abs().sum(dim=1) if self.norm is Norm.LINF else torch.linalg.vector_norm(flat, dim=1)

    def uniform(self, x: Tensor, noise: Noise) -> Tensor:
        """Points uniform in the ball around the inputs, then put into the box."""
        if self.norm is Norm.LINF:
            move = self.radius * (2 * noise.uniform(x) - 1)
        else:
            direction = noise.normal(x)
            reach = noise.uniform(x.flatten(1)[:, :1]) ** (1.0 / x[0].numel())
            reach = reach.reshape(-1, *[1] * (x.ndim - 1))
            move = self.radius * reach * direction / lengths(direction, Norm.L2)
        return self.project(x + move, x)

    def surface(self, x: Tensor, noise: Noise) -> Tensor:
        """Points in random directions as far as the ball reaches, then put into the box."""
        move = 2 * noise.uniform(x) - 1 if self.norm is Norm.LINF else noise.normal(x)
        return self.project(x + self.radius * move / lengths(move, Norm(self.norm)), x)

    def require_inside(self, points: Tensor, x: Tensor, who: str) -> None:
        """Raise AssertionError unless the points lie in the box, and in the ball up to rounding in the type of x."""
        low, high = self.bounds
        slack = 4 * torch.finfo(x.dtype).eps * (float(x.abs().max()) + self.radius)
        if self.norm is Norm.L2:
            slack *= math.sqrt(x[0].numel())
        farthest = float(lengths(points.double() - x.double(), Norm(self.norm)).max())
        inside = float(points.min()) >= low and float(points.max()) <= high
        if not (inside and farthest <= self.radius + slack):
            raise AssertionError(
                f"{who} left its budget {self}: entries from {float(points.min())} to {float(points.max())}, "
                f"a move of length {farthest}"
            )


def lengths(moves: Tensor, norm: Norm) -> Tensor:
    """Lengths of moves (n, ...), shaped (n, 1, ..., 1) to divide them by."""
    order = math.inf if norm is Norm.LINF else 2
    length: Tensor = torch.linalg.vector_norm(moves.flatten(1), ord=order, dim=1)
    return length.reshape(-1, *[1] * (moves.ndim - 1))

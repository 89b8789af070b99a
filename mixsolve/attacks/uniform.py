"""Uniform attacks for a whole data set: one independent random stream per sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixsolve.attacks.balls import Norm, sample_ball_in_box
from mixsolve.inputs import check_integer


@dataclass(frozen=True)
class UniformBall:
    """Attacks drawn uniformly from a ball around each input, cut by a box.

    The attacks of sample i depend on ``seed`` and i alone, so that batches of any size give the same points
    and any attack that a certificate cites can be drawn again. Two radii with the same seed and no box share
    their points up to scale.

    Attributes
    ----------
    norm : Norm
        ``Norm.L1``, ``Norm.L2`` or ``Norm.LINF``.
    radius : float
        >= 0, in units of the inputs.
    n_attacks : int
        Points per sample.
    lower, upper : float or array, broadcast to one input, or None
        Bounds every attack keeps (a pixel range, for example); the inputs must keep them too. None:
        unbounded.
    seed : int
        >= 0.

    Notes
    -----
    A table's certificate is about these points. Of the game on the whole ball, only the lower bound survives.
    """

    norm: Norm
    radius: float
    n_attacks: int
    lower: npt.ArrayLike | None = None
    upper: npt.ArrayLike | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.norm, Norm):
            raise TypeError(f"`norm` must be Norm.L1, Norm.L2 or Norm.LINF; got {self.norm!r}")
        if not (math.isfinite(self.radius) and self.radius >= 0):
            raise ValueError(f"`radius` must be finite and >= 0; got {self.radius!r}")
        check_integer("n_attacks", self.n_attacks, 1)
        check_integer("seed", self.seed, 0)

    def points(self, X: npt.ArrayLike, samples: npt.ArrayLike | None = None) -> npt.NDArray[np.floating]:
        """The attacks of some samples.

        Parameters
        ----------
        X : array, (n_samples, ...)
            Inputs of any shape; distances are over all their entries.
        samples : array of int, (n,), optional
            Which samples; all by default.

        Returns
        -------
        ndarray, (n, n_attacks, ...)
            Of the type of ``X`` when that is floating, else float64; in the ball and the box up to that
            type's rounding.

        Raises
        ------
        ValueError
            When ``X`` holds a non-finite value or lies outside the box, or the bounds do not fit it.
        """
        inputs = np.asarray(X)
        if inputs.ndim < 2 or inputs[0:1].size == 0:
            raise ValueError(
                f"`X` must have shape (n_samples, features, ...), none of them 0; got {inputs.shape}"
            )
        dtype = inputs.dtype if np.issubdtype(inputs.dtype, np.floating) else np.dtype(np.float64)
        indices = np.arange(len(inputs)) if samples is None else np.asarray(samples, dtype=np.int64)
        # Bounds in the type of X: a float32 pixel range must not exclude its own end points.
        lower = self._bound("lower", self.lower, -np.inf, inputs.shape[1:]).astype(dtype).astype(np.float64)
        upper = self._bound("upper", self.upper, np.inf, inputs.shape[1:]).astype(dtype).astype(np.float64)
        result = np.empty((len(indices), self.n_attacks, *inputs.shape[1:]), dtype=dtype)
        for place, index in enumerate(indices):
            centre = inputs[index].astype(np.float64).ravel()
            self._check_centre(centre, lower, upper, int(index))
            # One stream per sample, reproducible whatever the batches.
            rng = np.random.Generator(
                np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=(int(index),)))
            )
            moves = sample_ball_in_box(
                self.norm, float(self.radius), lower - centre, upper - centre, self.n_attacks, rng
            )
            result[place] = np.clip(centre + moves, lower, upper).reshape(self.n_attacks, *inputs.shape[1:])
        return result

    def _bound(
        self, name: str, bound: npt.ArrayLike | None, default: float, shape: tuple[int, ...]
    ) -> npt.NDArray[np.float64]:
        values = np.asarray(default if bound is None else bound, dtype=np.float64)
        try:
            return np.broadcast_to(values, shape).ravel()
        except ValueError:
            raise ValueError(
                f"`{name}` must broadcast to the shape of one input, {shape}; got shape {values.shape}"
            ) from None

    def _check_centre(
        self,
        centre: npt.NDArray[np.float64],
        lower: npt.NDArray[np.float64],
        upper: npt.NDArray[np.float64],
        index: int,
    ) -> None:
        if not np.isfinite(centre).all():
            raise ValueError(f"`X` must be finite; sample {index} is not")
        outside = np.flatnonzero(~((centre >= lower) & (centre <= upper)))
        if outside.size:
            at = int(outside[0])
            raise ValueError(
                f"`X` must lie between `lower` and `upper`; sample {index} has {centre[at]!r} at entry {at}, "
                f"where the bounds are {lower[at]!r} and {upper[at]!r}"
            )

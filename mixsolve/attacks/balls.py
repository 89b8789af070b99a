"""Uniform points of l1, l2 and linf balls, whole or cut by a box. Every method is exact; none gives up."""

from __future__ import annotations

import enum

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import erf, ndtr, ndtri

FloatArray = npt.NDArray[np.float64]


class Norm(enum.Enum):
    """The norm whose ball an attack stays in."""

    L1 = "l1"
    L2 = "l2"
    LINF = "linf"


def sample_ball(norm: Norm, radius: float, dimension: int, size: int, rng: np.random.Generator) -> FloatArray:
    """Uniform points of the ball ``norm(z) <= radius``.

    l2: a Gaussian direction times ``radius * U**(1/dimension)``. l1: random signs on the first coordinates of
    a uniform point of the simplex with ``dimension + 1`` corners. linf: every coordinate uniform.

    Parameters
    ----------
    norm : Norm
    radius : float
        >= 0, in units of the inputs.
    dimension, size : int
        Coordinates per point and number of points.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float64, (size, dimension)
    """
    if norm is Norm.LINF:
        return rng.uniform(-radius, radius, size=(size, dimension))
    if norm is Norm.L2:
        direction = rng.standard_normal((size, dimension))
        length = np.sqrt(np.einsum("sd,sd->s", direction, direction))
        reach = radius * rng.random(size) ** (1.0 / dimension)
        return np.asarray(direction * (reach / length)[:, None], dtype=np.float64)
    share = rng.standard_exponential((size, dimension + 1))
    signs = rng.integers(0, 2, size=(size, dimension)) * 2.0 - 1.0
    return np.asarray(radius * signs * share[:, :-1] / share.sum(axis=1, keepdims=True), dtype=np.float64)


def sample_ball_in_box(
    norm: Norm, radius: float, low: FloatArray, high: FloatArray, size: int, rng: np.random.Generator
) -> FloatArray:
    """Uniform points of the ball ``norm(z) <= radius`` that also satisfy ``low <= z <= high``.

    linf: every coordinate is uniform on its clipped interval. l1 and l2: where the box leaves the ball whole,
    that ball; elsewhere rejection from a product of truncated exponentials (l1) or Gaussians (l2), see Notes.

    Parameters
    ----------
    norm : Norm
    radius : float
        >= 0.
    low, high : ndarray of float64, (dimension,)
        ``low <= 0 <= high``: the centre lies in the box. Equal bounds fix a coordinate; infinite ones leave
        it free.
    size : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float64, (size, dimension)

    Raises
    ------
    ValueError
        When the bounds are not ``low <= 0 <= high`` of equal shape, or the radius is negative or not finite.

    Notes
    -----
    Rejecting points of the ball would accept about one in 2**dimension next to a corner of the box. Instead
    let c(z) = sum_d |z_d|^p. Proposals have density proportional to exp(-rate c(z)) on the box, independent
    over coordinates, and are accepted with probability exp(rate (c(z) - radius^p)) where c(z) <= radius^p:
    what is kept is exactly uniform for *any* rate >= 0. The rate in use maximises the acceptance, about 0.4 /
    sqrt(dimension) wherever the box lies.
    """
    if not (np.isfinite(radius) and radius >= 0):
        raise ValueError(f"`radius` must be finite and >= 0; got {radius!r}")
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    if low.ndim != 1 or low.shape != high.shape or not (np.all(low <= 0) and np.all(high >= 0)):
        raise ValueError(
            f"`low` and `high` must satisfy low <= 0 <= high, shape (dimension,); got {low} and {high}"
        )
    low = np.maximum(low, -radius)
    high = np.minimum(high, radius)
    if norm is Norm.LINF:
        return rng.uniform(low, high, size=(size, low.size))
    free = high > low
    if radius == 0.0 or not free.any():
        return np.zeros((size, low.size))
    if np.all(low == -radius) and np.all(high == radius):
        return sample_ball(norm, radius, low.size, size, rng)
    points = np.zeros((size, low.size))
    # In units of the radius: squares of very small or very large radii neither underflow nor overflow.
    points[:, free] = radius * _reject_in_box(norm, low[free] / radius, high[free] / radius, size, rng)
    return points


def _reject_in_box(
    norm: Norm, low: FloatArray, high: FloatArray, size: int, rng: np.random.Generator
) -> FloatArray:
    """Exact rejection for the unit ball cut by a box with low < high: the Notes of `sample_ball_in_box`."""
    rate = _best_rate(norm, low, high)
    kept: list[FloatArray] = []
    missing = size
    proposals = size
    while missing > 0:
        # At most about 32 MiB of proposals at a time.
        proposals = max(1, min(proposals, 4_000_000 // low.size))
        points = _propose(norm, rate, low, high, proposals, rng)
        cost = np.abs(points).sum(axis=1) if norm is Norm.L1 else np.einsum("sd,sd->s", points, points)
        accepted = (cost <= 1.0) & (np.log1p(-rng.random(proposals)) <= rate * (cost - 1.0))
        kept.append(points[accepted][:missing])
        missing -= len(kept[-1])
        proposals = int(1.2 * missing * (proposals + 1) / (np.count_nonzero(accepted) + 1)) + 16
    return np.concatenate(kept)


def _propose(
    norm: Norm, rate: float, low: FloatArray, high: FloatArray, size: int, rng: np.random.Generator
) -> FloatArray:
    """Independent coordinates with density prop. to exp(-rate |z|^p) on [low, high], by inverting the cdf."""
    uniform = rng.random((size, low.size))
    if norm is Norm.L2:
        scale = np.sqrt(2.0 * rate)
        first, last = ndtr(scale * low), ndtr(scale * high)
        points = ndtri(first + uniform * (last - first)) / scale
    else:
        below, above = -np.expm1(rate * low), -np.expm1(-rate * high)
        mass = uniform * (below + above) - below
        points = np.copysign(np.log1p(-np.abs(mass)) / rate, mass)
    return np.asarray(np.clip(points, low, high), dtype=np.float64)


def _best_rate(norm: Norm, low: FloatArray, high: FloatArray) -> float:
    """The rate that maximises the acceptance, proportional to exp(-rate) / Z(rate), over the unit ball.

    Minus its logarithm is convex. With no box the optimum is dimension / p, and a box only lowers it.
    """

    def rejection(rate: float) -> float:
        if norm is Norm.L2:
            root = np.sqrt(rate)
            mass = (erf(root * high) - erf(root * low)) / root
        else:
            mass = -(np.expm1(rate * low) + np.expm1(-rate * high)) / rate
        return float(np.log(mass).sum() + rate)

    largest = low.size / (1.0 if norm is Norm.L1 else 2.0)
    # A rate of 1e-3 is as good as none: it costs a factor of at most exp(1e-3) in acceptance.
    return float(
        minimize_scalar(rejection, bounds=(1e-3, largest), method="bounded", options={"xatol": 1e-3}).x
    )

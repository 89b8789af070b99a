"""The probability simplex: exact projection, normalisation to the last ulp, the check of a user's point."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIMPLEX_TOLERANCE = 1e-6
"""How far from 1 the sum of a given mixture may be; float32 weights of 1,024 classifiers stay well inside."""


def normalise_weights(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale non-negative weights so that their exact sum rounds to 1.

    ``math.fsum(result) == 1.0`` holds for every input, and a vector that already satisfies it comes back
    unchanged.

    Parameters
    ----------
    weights : ndarray of float64, (n,)
        Non-negative and finite, not all zero, of any magnitude.

    Returns
    -------
    ndarray of float64, (n,)
        A new array.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, or all are zero.

    Notes
    -----
    After the division the sum is off by a few ulp; the residual, computed without rounding, is added to the
    largest weight. That weight is below 1, so storing it errs by at most 2**-54, and the sum rounds to 1.
    """
    point = np.array(weights, dtype=np.float64)
    if point.ndim != 1 or not np.all(np.isfinite(point)) or np.any(point < 0) or not np.any(point > 0):
        raise ValueError(f"`weights` must be non-negative, finite and not all zero; got {weights!r}")
    if point.max() <= 1 and math.fsum(point) == 1.0:
        return point
    point /= point.max()  # first to the scale of 1: the sum can neither overflow nor lose subnormal digits
    point /= math.fsum(point)
    largest = int(np.argmax(point))
    point[largest] += math.fsum([1.0, *(-point)])
    return point


def project_to_simplex(point: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean projection onto the probability simplex.

    ``argmin ||w - point||`` over ``w >= 0, sum(w) = 1``, which is ``max(point - tau, 0)`` for the one ``tau``
    that makes it sum to 1. The result sums to 1 exactly as `normalise_weights` says, and projecting it again
    returns it bit for bit.

    Parameters
    ----------
    point : ndarray of float64, (n,)
        Finite; any magnitude and any common offset.

    Returns
    -------
    ndarray of float64, (n,)

    Raises
    ------
    ValueError
        If `point` is not one-dimensional, is empty or is not finite.

    Notes
    -----
    Only differences from the largest coordinate matter, and only those above -1 can carry weight; they are
    formed first, so neither a huge offset nor a huge spread loses digits that the input has. Costs one sort.

    References
    ----------
    .. [1] Held, Wolfe and Crowder, "Validation of subgradient optimization", Mathematical Programming 6,
       1974.
    """
    given = np.array(point, dtype=np.float64)
    if given.ndim != 1 or given.size == 0 or not np.all(np.isfinite(given)):
        raise ValueError(f"`point` must be a non-empty, finite vector; got {point!r}")
    if given.min() >= 0 and given.max() <= 1 and math.fsum(given) == 1.0:
        return given
    with np.errstate(over="ignore"):  # a spread beyond the range of floats becomes -inf: weight 0
        below = given - given.max()
    candidates = np.sort(below[below > -1])[::-1]
    counts = np.arange(1, candidates.size + 1)
    support = int(np.count_nonzero(1 + counts * candidates > np.cumsum(candidates)))
    tau = (math.fsum(candidates[:support]) - 1) / support
    return normalise_weights(np.maximum(below - tau, 0))


def check_simplex(weights: Any, n_classifiers: int, name: str = "start") -> NDArray[np.float64]:
    """Check that a user's vector is a mixture, and return it normalised.

    Parameters
    ----------
    weights : array of float, (n_classifiers,)
        Non-negative, summing to 1 within `SIMPLEX_TOLERANCE`.
    n_classifiers : int
    name : str
        The argument's name, for the message.

    Returns
    -------
    ndarray of float64, (n_classifiers,)

    Raises
    ------
    TypeError
        If `weights` is not an array of real numbers.
    ValueError
        If it has another shape, is not finite, has a negative entry, or does not sum to 1.
    """
    point = np.asarray(weights)
    if point.dtype.kind not in "fiu":
        raise TypeError(f"`{name}` must be an array of real numbers; got type {point.dtype}")
    if point.shape != (n_classifiers,):
        raise ValueError(
            f"`{name}` must have shape ({n_classifiers},), one weight per classifier; got shape {point.shape}"
        )
    point = point.astype(np.float64)
    if not np.all(np.isfinite(point)):
        raise ValueError(f"`{name}` must be finite; got {point[~np.isfinite(point)][0]}")
    if point.min() < 0:
        lowest = int(np.argmin(point))
        raise ValueError(f"`{name}` must be non-negative; got {point[lowest]} for classifier {lowest}")
    total = math.fsum(point)
    if abs(total - 1) > SIMPLEX_TOLERANCE:
        raise ValueError(f"`{name}` must sum to 1 within {SIMPLEX_TOLERANCE:g}; got a sum of {total!r}")
    return normalise_weights(point)

"""The step of Newton's method: a convex quadratic on the simplex, within a box around the iterate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixsolve import _native
from mixsolve.simplex import normalise_weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def minimise_model(
    weights: NDArray[np.float64], slope: NDArray[np.float64], hessian: NDArray[np.float64], radius: float
) -> NDArray[np.float64]:
    """The mixture x that minimises ``<slope, x - w> + (x - w)' hessian (x - w) / 2`` with ``|x - w| <= radius``.

    Parameters
    ----------
    weights : ndarray, (n,)
        A mixture.
    slope : ndarray, (n,)
    hessian : ndarray, (n, n)
        Symmetric, positive semidefinite up to rounding.
    radius : float
        > 0; of each coordinate.

    Returns
    -------
    ndarray, (n,)
        A mixture.

    Notes
    -----
    A primal-dual interior-point method in C++: 5 to 20 linear systems of the size of the Hessian. What is missed is at
    most 1e-7 of the predicted decrease, or what rounding the weights changes. Weights that end at 0 are exactly 0 where
    that changes no more.
    """
    if weights.size == 1:
        return weights
    return normalise_weights(_native.minimise_model(weights, slope, hessian, radius))

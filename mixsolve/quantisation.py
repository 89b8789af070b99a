"""Losses in few equal steps, for tables of one byte or one bit per loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mixsolve.storage import make_readable, view_losses, widen

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Steps(NamedTuple):
    """Losses as ``scale * codes + low``, off by `delta` at most."""

    codes: NDArray[Any]
    scale: float
    low: float
    delta: float


def in_steps(losses: Any, dtype: Any) -> Steps:
    """Losses in 256 or 2 equal steps from the smallest to the largest; see `LossTable.quantise`.

    Parameters
    ----------
    losses : array, (n_classifiers, ...)
        Finite.
    dtype : data type
        uint8 or bool.

    Raises
    ------
    TypeError, ValueError
        If the type is another one, or a loss is not finite.
    """
    kind = np.dtype(dtype)
    if kind not in (np.uint8, np.bool_):
        raise TypeError(f"`dtype` must be uint8 or bool; got {kind}")
    array, storage = view_losses(losses)
    full, storage = make_readable(array, storage)
    bounds = [(widen(plane, storage).min(), widen(plane, storage).max()) for plane in full]
    low, high = float(min(bound[0] for bound in bounds)), float(max(bound[1] for bound in bounds))
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"`losses` must be finite to be quantised; got losses from {low} to {high}")
    scale = (high - low) / (255 if kind == np.uint8 else 1) or 1.0
    codes = np.empty(full.shape, dtype=kind)
    delta = 0.0
    for plane, target in zip(full, codes, strict=True):
        exact = widen(plane, storage)
        steps = np.rint((exact - low) / scale)
        target[...] = steps
        delta = max(delta, float(np.abs(scale * steps + low - exact).max()))
    return Steps(codes, scale, low, delta)

"""Making the attacker's strategy pure on all but a few samples, without losing anything of its bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

AT_A_TIME = 3
"""Rows worked on together, in multiples of n_classifiers."""

NEGLIGIBLE = 1e-11
"""Pivots below this part of the largest number are rounding."""


def purify(
    losses: NDArray[np.float64],
    sample: NDArray[np.int64],
    share: NDArray[np.float64],
    probability: NDArray[np.float64],
) -> NDArray[np.float64]:
    """A strategy with fewer than n_classifiers rows more than samples, whose bound is no lower.

    Any n_classifiers rows beyond the first of their samples can trade mass with these so that all classifiers' mean
    losses change by the same amount, upwards in one of the two directions: until the first row is used up.

    Parameters
    ----------
    losses : ndarray, (n, n_classifiers)
    sample : ndarray of int64, (n,)
        Rising.
    share : ndarray, (n,)
        Weight of each row's sample, > 0.
    probability : ndarray, (n,)
        >= 0, with the same sum after as before over each sample.

    Returns
    -------
    ndarray, (n,)
    """
    left = probability.copy()
    n_classifiers = losses.shape[1]
    while True:
        used = np.flatnonzero(left > 0)
        is_first = np.diff(sample[used], prepend=-1) > 0
        beyond = np.flatnonzero(~is_first)[: AT_A_TIME * n_classifiers]
        if beyond.size < n_classifiers:
            return left
        extra, first = used[beyond], used[is_first][np.cumsum(is_first)[beyond] - 1]
        gain = losses[extra] - losses[first]
        trades = _null_space((gain[:, :-1] - gain[:, -1:]).T)
        rows, place = np.unique(np.concatenate([extra, first]), return_inverse=True)
        change = np.zeros((rows.size, trades.shape[1]))
        np.add.at(change, place[: extra.size], trades / share[extra, None])
        np.add.at(change, place[extra.size :], -trades / share[extra, None])
        left[rows] = _use_up(left[rows], change, gain[:, -1] @ trades)
        if np.all(left[rows] > 0):  # rounding: better mixed than never done
            return left


def _use_up(
    left: NDArray[np.float64], change: NDArray[np.float64], rise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Go along each column of `change` (rows, columns), on the side where `rise` is, until a row is used up.

    The columns that remain are then combined so that they leave that row alone.
    """
    while change.shape[1]:
        step = change[:, 0] * (-1.0 if rise[0] < 0 else 1.0)
        falling = np.flatnonzero(step < -NEGLIGIBLE * np.abs(step).max())
        if not falling.size:
            change, rise = change[:, 1:], rise[1:]
            continue
        times = left[falling] / -step[falling]
        row = falling[np.argmin(times)]
        left = np.maximum(left + times.min() * step, 0.0)
        left[row] = 0.0
        pivot = int(np.argmax(np.abs(change[row])))
        part = change[row] / change[row, pivot]
        kept = np.arange(part.size) != pivot
        rise = (rise - rise[pivot] * part)[kept]
        change = (change - np.outer(change[:, pivot], part))[:, kept]
        change[row] = 0.0
    return left


def _null_space(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """A basis (n, dimensions) of what an (m, n) matrix maps to 0, by elimination with complete pivoting."""
    rest = matrix.copy()
    n = rest.shape[1]
    pivots: list[int] = []
    smallest = NEGLIGIBLE * np.abs(rest).max(initial=0.0)
    for number in range(min(rest.shape)):
        row, column = divmod(int(np.argmax(np.abs(rest[number:]))), n)
        row += number
        if abs(rest[row, column]) <= smallest:
            break
        rest[[number, row]] = rest[[row, number]]
        rest[number] /= rest[number, column]
        others = np.arange(len(rest)) != number
        rest[others] -= np.outer(rest[others, column], rest[number])
        pivots.append(column)
    free = np.setdiff1d(np.arange(n), pivots)
    basis = np.zeros((n, free.size))
    basis[free, np.arange(free.size)] = 1.0
    basis[pivots] = -rest[: len(pivots), free]
    return basis

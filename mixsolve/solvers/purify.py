"""Making the attacker's strategy pure on all but a few samples, without losing anything of its bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


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

    Notes
    -----
    One small singular value decomposition for every row that is used up.
    """
    left = probability.copy()
    n_classifiers = losses.shape[1]
    used = np.flatnonzero(left > 0)
    while True:
        is_first = np.diff(sample[used], prepend=-1) > 0
        beyond = np.flatnonzero(~is_first)[:n_classifiers]
        if beyond.size < n_classifiers:
            return left
        extra, first = used[beyond], used[is_first][np.cumsum(is_first)[beyond] - 1]
        gain = losses[extra] - losses[first]
        mean = gain.mean(axis=1)
        trade = np.linalg.svd((gain - mean[:, None]).T)[2][-1]
        trade *= -1.0 if trade @ mean < 0 else 1.0
        change = np.zeros(left.size)
        np.add.at(change, extra, trade / share[extra])
        np.add.at(change, first, -trade / share[first])
        falling = np.flatnonzero(change < 0)
        times = left[falling] / -change[falling]
        left = np.maximum(left + times.min() * change, 0.0)
        left[falling[np.argmin(times)]] = 0.0
        used = used[left[used] > 0]

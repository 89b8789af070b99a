"""Handwritten digits, 8 x 8, from scikit-learn: the data set that is always there."""

from __future__ import annotations

import numpy as np

from mixsolve.neural.data.images import Images

N_TEST = 450


def load_digits(*, train: bool = True) -> Images:
    """Scikit-learn's digits: 1,797 images of 8 x 8, of which a fixed random quarter is for testing.

    Parameters
    ----------
    train : bool
        The 1,347 images for training, or the 450 for testing.

    Returns
    -------
    Images, (n, 1, 8, 8)
        17 grey levels.

    Raises
    ------
    ImportError
        Without scikit-learn: ``pip install mixsolve[demo]``.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise ImportError("the digits need scikit-learn: pip install mixsolve[demo]") from error
    data = load()
    order = np.random.default_rng(0).permutation(len(data.target))
    chosen = order[N_TEST:] if train else order[:N_TEST]
    return Images.of(data.images[chosen].astype(np.uint8), data.target[chosen], 10, "digits", highest=16)

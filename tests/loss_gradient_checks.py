"""The checker of `loss_gradient`: every derivative by a loss against the specification in `mixsolve.reference`."""

from itertools import pairwise

import numpy as np

from mixsolve.passes import loss_gradient
from mixsolve.reference import respond
from tests.pass_checks import FLOAT32_ACCURACY, FLOAT64_ACCURACY, accuracy_of, assert_within
from tests.tolerances import loss_scale

# Half an ulp of the stored number, and half a unit of the smallest ones.
ROUNDING = {
    "float64": (2.0**-53, 0),
    "float32": (2.0**-24, 2.0**-150),
    "float16": (2.0**-11, 2.0**-25),
    "bfloat16": (2.0**-8, 2.0**-134),
}

# The smallest exponential over the smallest mass that is not looked at again: less chance than that is not told apart.
SMALLEST = {FLOAT32_ACCURACY: 2.0**-125 / 1e-18, FLOAT64_ACCURACY: 2.0**-1021 / 1e-200}


def check_loss_gradient(case, *, scale=1.0, **options):
    """Compares the gradients of every query of the case; returns that of the last one, in float64."""
    table, exact = case.table(), case.exact()
    starts = table.row_offsets
    if starts is None:
        starts = np.arange(0, table.n_rows + 1, table.n_attacks)
    spread = np.repeat(np.arange(table.n_samples), np.diff(starts))
    prior = (
        np.ones(table.n_rows) if table.attack_prior is None else np.ravel(table.attack_prior).astype(float)
    )
    rows = exact.reshape(table.n_classifiers, -1)
    relative, absolute = ROUNDING[table.storage.name.lower()]
    for weights, level in zip(case.weights, case.temperature, strict=True):
        found = np.full(table.array.shape, 77, dtype=case.losses.dtype)
        loss_gradient(table, weights, level, found, scale=scale, **options)
        found = found.astype(np.float64)
        levels = np.broadcast_to(level, (table.n_samples,))
        chance = respond(weights @ rows, starts[:-1], prior, levels).probability
        chance = chance * (scale * table.sample_weight)[spread]
        expected = (weights[:, None] * chance).reshape(table.array.shape)
        if levels.min() == 0:
            check_pure(found, weights, rows, starts, scale * table.sample_weight, relative, absolute)
            continue
        # A score's rounding moves a probability by that rounding over the temperature, in either direction.
        accuracy = accuracy_of(case, options.get("float64_scores", False))
        size = loss_scale(exact) * max(np.abs(weights).sum(), 1)
        slack = accuracy * (4 + 4 * size / levels.min()) + relative
        floor = SMALLEST[accuracy] * np.abs(expected).max()
        assert_within(found - expected, np.abs(expected) * slack + absolute + floor)
    return found


def check_pure(found, weights, rows, starts, share, relative, absolute):
    """One attack of every sample carries its weight; no other's score is higher by more than rounding."""
    found = found.reshape(weights.size, -1)
    scores = weights @ rows
    for sample, (begin, end) in enumerate(pairwise(starts)):
        here = found[:, begin:end]
        expected = share[sample] * weights
        carriers = np.flatnonzero(here.any(axis=0))
        assert carriers.size <= 1
        if carriers.size:
            # Weight, share and their product are rounded once each before the result is stored.
            assert_within(
                here[:, carriers[0]] - expected, 4 * relative * np.abs(expected) + absolute + 1e-300
            )
            behind = scores[begin:end].max() - scores[begin + carriers[0]]
            assert behind <= 1e-5 * np.abs(weights).sum() * loss_scale(rows)
        else:
            assert np.abs(expected).max() <= absolute

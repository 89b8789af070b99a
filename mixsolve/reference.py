"""The pass in plain float64 NumPy: the specification shared by native kernels, tests and documentation.

For every query (weights w, temperature t) and every sample i with rows j, prior u (summing to 1) and scores
``s_j = <w, losses[:, i, j]>``::

    t = 0:   per_sample = max_j s_j                          p_j = 1 at the first maximiser, else 0
    t > 0:   per_sample = t log sum_j u_j exp(s_j / t)       p_j = u_j exp((s_j - per_sample) / t)

    value    = sum_i sample_weight_i per_sample_i
    gradient = sum_i sample_weight_i sum_j p_ij losses[:, i, j]
    hessian  = sum_i sample_weight_i / t sum_j p_ij d_ij d_ij'       d_ij = losses[:, i, j] - sum_j p_ij losses[:, i, j]

The Hessian is that of the value for t > 0, and 0 for t = 0, where the value has kinks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

BLOCK_ELEMENTS = 1 << 21
"""Numbers of the table widened to float64 at a time (16 MiB); one sample at least."""


@dataclass(frozen=True, eq=False)
class ReferenceAnswer:
    """What one read of the table answers; every array has a leading axis of the K queries."""

    value: NDArray[np.float64]
    """(K,) sum over the samples of sample weight times per-sample value."""
    gradient: NDArray[np.float64]
    """(K, L) gradient of `value` in the weights; at temperature 0 the subgradient of the best attacks."""
    per_sample: NDArray[np.float64]
    """(K, n) maximum or smoothed maximum of the scores, without the sample weight."""
    best_attack: NDArray[np.int64]
    """(K, n) index within the sample of the largest score, the lowest on ties, at any temperature."""
    hessian: NDArray[np.float64] | None = None
    """(K, L, L) second derivatives of `value` in the weights, where asked for; 0 at temperature 0."""


def reference_pass(
    losses: Any,
    weights: Any,
    temperature: Any,
    *,
    row_offsets: Any = None,
    sample_weight: Any = None,
    attack_prior: Any = None,
    samples: Any = None,
    hessian: bool = False,
) -> ReferenceAnswer:
    """Value, gradient, per-sample values and best attacks of K queries, as the formulas above say.

    Parameters
    ----------
    losses : array of real numbers, (L, N, m), or (L, n_rows) with `row_offsets`
        Finite; trusted, not checked.
    weights : array, (K, L) or (L,)
        Any finite weights; one query when one-dimensional (K = 1).
    temperature : float or array, (), (K,) or (K, N)
        In units of the losses, 0 for the worst case; queries may mix.
    row_offsets : array of int, (N + 1,), optional
    sample_weight : array, (N,), optional
        Normalised here to sum 1; uniform by default.
    attack_prior : array, (N, m) or (n_rows,), optional
        Positive; normalised here per sample; uniform by default.
    samples : array of int, (n,), optional
        Answer for these samples only, in this order; the sample weights are still those of the whole table.
    hessian : bool
        Whether to answer it.

    Returns
    -------
    ReferenceAnswer

    Notes
    -----
    Samples are read in blocks of about `BLOCK_ELEMENTS` numbers: memory is bounded whatever the table's size.
    """
    array = np.asarray(losses)
    offsets = _offsets(array, row_offsets)
    n_samples = offsets.size - 1
    queries = np.atleast_2d(np.asarray(weights, dtype=np.float64))
    temperatures = _temperature_per_sample(temperature, len(queries), n_samples)
    share = _shares(sample_weight, n_samples)
    chosen = np.arange(n_samples) if samples is None else np.asarray(samples, dtype=np.int64)

    value = np.zeros(len(queries))
    gradient = np.zeros((len(queries), array.shape[0]))
    curvature = np.zeros((len(queries), array.shape[0], array.shape[0])) if hessian else None
    per_sample = np.empty((len(queries), chosen.size))
    best_attack = np.empty((len(queries), chosen.size), dtype=np.int64)
    for part in sample_blocks(np.diff(offsets)[chosen] * (array.shape[0] + len(queries))):
        block = chosen[part]
        rows, starts = _gather(array, offsets, block)
        prior = _gather_prior(attack_prior, offsets, block, starts)
        scores = queries @ rows
        for query, score in enumerate(scores):
            state = respond(score, starts, prior, temperatures[query, block])
            per_sample[query, part] = state.smooth_max
            best_attack[query, part] = state.best_attack
            value[query] += share[block] @ state.smooth_max
            # Summed in pairs: a product of matrices adds one by one where memory repeats.
            shares = state.probability * _spread(share[block], starts, rows.shape[1])
            gradient[query] += np.multiply(rows, shares, order="C").sum(axis=1)
            if curvature is not None:
                curvature[query] += _curvature(rows, starts, state, share[block], temperatures[query, block])
    return ReferenceAnswer(value, gradient, per_sample, best_attack, curvature)


def _curvature(
    rows: NDArray[np.float64],
    starts: NDArray[np.int64],
    state: Response,
    share: NDArray[np.float64],
    temperature: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The Hessian's share of some samples, from deviations from the mean losses of each: nothing cancels."""
    factor = np.divide(share, temperature, out=np.zeros_like(share), where=temperature > 0)
    mean = np.add.reduceat(state.probability * rows, starts, axis=1)
    deviation = rows - np.repeat(mean, np.diff(starts, append=rows.shape[1]), axis=1)
    product: NDArray[np.float64] = (
        deviation * (state.probability * _spread(factor, starts, rows.shape[1]))
    ) @ deviation.T
    return product


@dataclass(frozen=True, eq=False)
class Response:
    """The adversary's response to one vector of scores, sample by sample."""

    smooth_max: NDArray[np.float64]
    """(n,) the maximum, or ``t log sum u exp(s / t)``."""
    probability: NDArray[np.float64]
    """(rows,) the attack distribution, summing to 1 over each sample."""
    best_attack: NDArray[np.int64]
    """(n,) index of the largest score within its sample, the lowest on ties."""


def respond(
    scores: NDArray[np.float64],
    starts: NDArray[np.int64],
    prior: NDArray[np.float64],
    temperature: NDArray[np.float64],
) -> Response:
    """The adversary's best response at temperature 0, or softmax response above it, to given scores.

    Parameters
    ----------
    scores : ndarray of float64, (rows,)
    starts : ndarray of int64, (n,)
        First row of each sample; the last one ends at the last row.
    prior : ndarray of float64, (rows,)
        Positive; need not be normalised.
    temperature : ndarray of float64, (n,)
        Non-negative.

    Notes
    -----
    With d = (s - max) / t <= 0, U = sum u and S = sum u expm1(d), the mass over U is 1 + S / U. Above 1/2 the
    value is max + t log1p(S / U): at high temperature S is tiny, and max + t log(mass / U) would lose every
    digit of it. At or below 1/2 the logarithm is well conditioned and the mass is summed directly.
    """
    n_rows = scores.size
    largest = np.maximum.reduceat(scores, starts)
    behind = scores - _spread(largest, starts, n_rows)
    first = np.minimum.reduceat(np.where(behind == 0, np.arange(n_rows), n_rows), starts)
    hot = temperature > 0
    if not hot.any():
        one_hot = np.zeros(n_rows)
        one_hot[first] = 1.0
        return Response(largest, one_hot, first - starts)

    with np.errstate(over="ignore"):  # a quotient beyond the range of floats is -inf: probability 0
        exponent = behind / _spread(np.where(hot, temperature, 1.0), starts, n_rows)
    unnormalised = prior * np.exp(exponent)
    total = np.add.reduceat(prior, starts)
    mass = np.add.reduceat(unnormalised, starts)
    lack = np.add.reduceat(prior * np.expm1(exponent), starts) / total
    logarithm = np.where(lack > -0.5, np.log1p(np.maximum(lack, -0.5)), np.log(mass / total))
    probability = unnormalised / _spread(mass, starts, n_rows)
    if not hot.all():
        probability[~_spread(hot, starts, n_rows)] = 0.0
        probability[first[~hot]] = 1.0
    return Response(largest + np.where(hot, temperature * logarithm, 0.0), probability, first - starts)


def _offsets(losses: NDArray[Any], row_offsets: Any) -> NDArray[np.int64]:
    if row_offsets is not None:
        return np.asarray(row_offsets, dtype=np.int64)
    _, n_samples, n_attacks = losses.shape
    return np.arange(0, n_samples * n_attacks + 1, n_attacks, dtype=np.int64)


def _temperature_per_sample(temperature: Any, n_queries: int, n_samples: int) -> NDArray[np.float64]:
    given = np.asarray(temperature, dtype=np.float64)
    if given.ndim == 1:
        given = given[:, None]
    return np.broadcast_to(given, (n_queries, n_samples))


def _shares(sample_weight: Any, n_samples: int) -> NDArray[np.float64]:
    """The sample weights, normalised to sum 1; through their largest, so that no magnitude overflows."""
    if sample_weight is None:
        return np.full(n_samples, 1 / n_samples)
    scaled = np.array(sample_weight, dtype=np.float64)
    scaled /= scaled.max()
    scaled /= scaled.sum()
    return scaled


def sample_blocks(sizes: NDArray[np.int64]) -> Iterator[slice]:
    """Consecutive slices over the samples, of about `BLOCK_ELEMENTS` numbers and one sample at least."""
    ends = np.cumsum(sizes)
    first = 0
    while first < ends.size:
        done = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, done + BLOCK_ELEMENTS, side="right")), first + 1)
        yield slice(first, last)
        first = last


def _gather(
    losses: NDArray[Any], offsets: NDArray[np.int64], block: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The rows of the samples of a block, side by side in float64, and where each sample starts."""
    if losses.ndim == 3:
        rows = np.asarray(losses[:, block, :], dtype=np.float64).reshape(losses.shape[0], -1)
    else:
        rows = np.asarray(losses[:, _row_indices(offsets, block)], dtype=np.float64)
    sizes = offsets[block + 1] - offsets[block]
    return rows, np.cumsum(sizes) - sizes


def _gather_prior(
    attack_prior: Any, offsets: NDArray[np.int64], block: NDArray[np.int64], starts: NDArray[np.int64]
) -> NDArray[np.float64]:
    if attack_prior is None:
        return np.ones(int((offsets[block + 1] - offsets[block]).sum()))
    prior = np.reshape(attack_prior, -1)[_row_indices(offsets, block)].astype(np.float64)
    prior /= _spread(np.add.reduceat(prior, starts), starts, prior.size)
    return prior


def _row_indices(offsets: NDArray[np.int64], block: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in block])


def _spread(per_sample: NDArray[Any], starts: NDArray[np.int64], n_rows: int) -> NDArray[Any]:
    """Repeat a number per sample over the rows of the sample."""
    return np.repeat(per_sample, np.diff(starts, append=n_rows))

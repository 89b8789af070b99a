"""Value and gradient of mixtures on a table, for those who embed the pass in code of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mixsolve.inputs import check_temperature, check_threads, real_array
from mixsolve.passes import run_pass
from mixsolve.table import as_table

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["WorstCase", "smoothed_value_and_grad", "worst_case"]


class WorstCase(NamedTuple):
    """The worst case of a mixture: F_0, a subgradient, and per sample the value and the best attack."""

    value: Any
    grad: NDArray[np.float64]
    per_sample: NDArray[np.float64]
    best_attack: NDArray[np.int64]


def smoothed_value_and_grad(
    losses: Any,
    weights: ArrayLike,
    temperature: ArrayLike,
    *,
    row_offsets: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    attack_prior: ArrayLike | None = None,
    float64_scores: bool = False,
    threads: int | None = None,
) -> tuple[Any, NDArray[np.float64]]:
    """Smoothed worst-case loss of a mixture, and its gradient, in one read of the table.

    ``value = sum_i s_i t_i log sum_j u_ij exp(<weights, losses[:, i, j]> / t_i)`` and
    ``grad = sum_i s_i sum_j p_ij losses[:, i, j]`` with p_i the softmax of the scores, prior included.

    The value lies between the mean over attacks and the maximum; with a uniform prior it is within
    ``temperature * log(n_attacks)`` of the maximum. The gradient is in the hull of the table's rows, and
    ``value - <weights, grad> + min(grad)`` is a lower bound of the smoothed game.

    Parameters
    ----------
    losses : array, (n_classifiers, n_samples, n_attacks), or LossTable
        Finite losses, read only; see `LossTable` for storage types and for `row_offsets`, `sample_weight` and
        `attack_prior`.
    weights : array, (n_classifiers,) or (K, n_classifiers)
        Any finite weights; a mixture when on the simplex. Not renormalised.
    temperature : float or (n_samples,)
        > 0, in units of the losses (alpha in [1]_).
    float64_scores : bool
        Scores in float64 whatever the storage.
    threads : int, optional
        At most this many threads; all processors by default.

    Returns
    -------
    value : float or ndarray, (K,)
    grad : ndarray, (n_classifiers,) or (K, n_classifiers)

    Raises
    ------
    TypeError, ValueError
        Naming the argument; the first loss that is not finite is named by its index.

    Notes
    -----
    Exponents are shifted by the maximum of the sample, and close to 0 the logarithm is taken by log1p: no
    input overflows and no temperature loses accuracy. Scores are in float32 for storage of 32 bits or less,
    sums over samples in float64. Equal input gives equal bits at any number of threads.

    References
    ----------
    .. [1] Meunier et al., "Mixed Nash Equilibria in the Adversarial Examples Game", ICML 2021, eq. (7).

    Examples
    --------
    >>> import numpy as np
    >>> from mixsolve import smoothed_value_and_grad
    >>> losses = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])     # two classifiers, one sample, two attacks
    >>> value, grad = smoothed_value_and_grad(losses, [0.5, 0.5], temperature=0.1)
    >>> print(value, grad)
    0.5 [0.5 0.5]
    """
    table = as_table(losses, row_offsets=row_offsets, sample_weight=sample_weight, attack_prior=attack_prior)
    query, single = _check_weights(weights, table.n_classifiers)
    checked = check_temperature(temperature, table.n_samples)
    if not np.all(np.asarray(checked) > 0):
        raise ValueError("`temperature` must be > 0; got 0: use worst_case, the limit")
    per_query = np.broadcast_to(checked, (query.shape[0], *np.shape(checked)))
    found = run_pass(table, query, per_query, float64_scores=float64_scores, threads=check_threads(threads))
    if single:
        return float(found.value[0]), found.gradient[0]
    return found.value, found.gradient


def worst_case(
    losses: Any,
    weights: ArrayLike,
    *,
    row_offsets: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    attack_prior: ArrayLike | None = None,
    float64_scores: bool = False,
    threads: int | None = None,
) -> WorstCase:
    """Worst-case loss of a mixture, a subgradient and the best attacks, in one read of the table.

    ``value = sum_i s_i max_j <weights, losses[:, i, j]>``; `grad` averages the rows of the best attacks, the
    lowest index on ties, and is what the classifiers lose against that pure strategy of the attacker: for a
    mixture, ``min(grad) <= game value <= value``.

    Parameters
    ----------
    losses : array, (n_classifiers, n_samples, n_attacks), or LossTable
        Finite losses, read only; see `LossTable`. A prior has no effect here.
    weights : array, (n_classifiers,) or (K, n_classifiers)
        Any finite weights. With K of them every result has a leading axis K.
    float64_scores, threads
        See `smoothed_value_and_grad`.

    Returns
    -------
    WorstCase
        ``value`` (float), ``grad`` (n_classifiers,), ``per_sample`` (n_samples,) in units of the losses,
        ``best_attack`` (n_samples,) of int64.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; the first loss that is not finite is named by its index.

    References
    ----------
    Meunier et al., ICML 2021: the adversarial risk of a mixture, and the oracle of Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from mixsolve import worst_case
    >>> losses = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> worst_case(losses, [0.75, 0.25]).value
    0.75
    """
    table = as_table(losses, row_offsets=row_offsets, sample_weight=sample_weight, attack_prior=attack_prior)
    query, single = _check_weights(weights, table.n_classifiers)
    found = run_pass(
        table,
        query,
        0.0,
        per_sample=True,
        best_attack=True,
        float64_scores=float64_scores,
        threads=check_threads(threads),
    )
    assert found.per_sample is not None and found.best_attack is not None
    if single:
        return WorstCase(float(found.value[0]), found.gradient[0], found.per_sample[0], found.best_attack[0])
    return WorstCase(found.value, found.gradient, found.per_sample, found.best_attack)


def _check_weights(weights: ArrayLike, n_classifiers: int) -> tuple[NDArray[np.float64], bool]:
    """The queries as (K, n_classifiers), and whether one was given alone."""
    array = real_array(weights, "weights").astype(np.float64)
    if array.ndim not in (1, 2) or array.shape[-1] != n_classifiers or array.size == 0:
        raise ValueError(
            f"`weights` must have shape ({n_classifiers},) or (K, {n_classifiers}); got shape {array.shape}"
        )
    if not np.isfinite(array).all():
        where = tuple(int(index) for index in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"`weights` must be finite; got {array[where]} at {where}")
    return np.atleast_2d(array), array.ndim == 1

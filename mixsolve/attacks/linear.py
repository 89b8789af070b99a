"""The exact best response to mixtures of linear classifiers of two classes, under the 0/1 loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mixsolve.attacks.balls import Norm
from mixsolve.attacks.feasible_sets import MOST_UNDECIDED, reach_by_programmes
from mixsolve.attacks.half_spaces import FloatArray, NearestPoints, Scene, Visits, count_boundaries
from mixsolve.inputs import check_sample_weight
from mixsolve.solvers.oracle import OracleAnswer
from mixsolve.table import LossTable

MOST_CLASSIFIERS = 64
"""A set of fooled classifiers is one word of 64 bits."""

TREE_LIMIT = 20_000
"""Sets of boundaries that are tried at most: a few seconds for a thousand samples."""

_TIE = 1e-12


class LinearBestResponse:
    """The attacker who answers a mixture of linear classifiers with its best attack in a ball: an oracle.

    Classifier k predicts 1 where ``<normals[k], x> > offsets[k]`` and -1 elsewhere. An attack on a sample fools a set
    of classifiers, those whose wrong side it lies on; only the maximal sets that the ball reaches matter, and these
    are found once. ``fit_mixture(response)`` then solves the game against *all* attacks in the balls, and so does
    ``fit_mixture(response.table())``.

    Parameters
    ----------
    normals : array, (n_classifiers, n_features)
        At most 64 classifiers.
    offsets : array, (n_classifiers,)
    X : array, (n_samples, n_features)
    y : array, (n_samples,)
        1, or -1 (or 0) for the other class.
    norm : Norm
    radius : float
        >= 0, in units of the inputs.
    lower, upper : float or array, broadcast to one input, optional
        Bounds every attack keeps; the inputs must keep them too.
    sample_weight : array, (n_samples,), optional
        Non-negative, not all zero; uniform by default.

    Attributes
    ----------
    n_classifiers : int
    sample_weight : ndarray, (n_samples,)
        Normalised to sum 1; `fit_mixture` takes it from here.
    is_exact : bool
        Whether every set that a ball reaches is known, on every sample.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what is required and what was given.

    Notes
    -----
    Exact in l2 without bounds for up to 14 classifiers in any dimension, for more where the dimension is small (a
    hundred in the plane), and on samples whose ball few boundaries cut; in the plane and in space for the other norms
    and with bounds; in more dimensions for l1 and linf, by linear programmes, on samples whose ball at most 12
    boundaries cut. Elsewhere the answer is a good attack, and ``OracleAnswer.delta`` the weight of the samples on which
    it is not known to be the best one: on the others it is, and losses are in [0, 1].

    A boundary has to be crossed by 1e-9 (by linear programmes: 1e-7) of the size of the scene, so that attacks stand
    rounding: sets that are reached by less count as out of reach, as if the radius were smaller by about as much.
    """

    def __init__(
        self,
        normals: npt.ArrayLike,
        offsets: npt.ArrayLike,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        norm: Norm,
        radius: float,
        *,
        lower: npt.ArrayLike | None = None,
        upper: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> None:
        self._inputs = _finite("X", X, 2)
        self._scene = _scene(normals, offsets, self._inputs, y, norm, radius, lower, upper)
        self.n_classifiers = self._scene.normals.shape[0]
        self._visits, known = _reach(self._scene)
        self._starts = np.searchsorted(self._visits.sample, np.arange(len(self._inputs) + 1))
        bits = np.arange(self.n_classifiers, dtype=np.uint64)[:, None]
        self._losses = ((self._visits.code >> bits) & np.uint64(1)).astype(np.float64)
        self._possible = np.where(known[:, None], False, self._scene.possible()).astype(np.float64)
        weight = check_sample_weight(sample_weight, len(self._inputs))
        self.sample_weight = np.full(len(self._inputs), 1 / len(self._inputs)) if weight is None else weight
        self.is_exact = bool(known.all())

    @classmethod
    def of(
        cls,
        classifiers: Sequence[Any],
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        norm: Norm,
        radius: float,
        **options: Any,
    ) -> LinearBestResponse:
        """The attacker of linear models: with ``coef_`` and ``intercept_`` as scikit-learn's, or `normal` and `offset`.

        Raises
        ------
        TypeError
            If a classifier has neither pair, or more than two classes.
        """
        normals, offsets = zip(*(_half_space(one, k) for k, one in enumerate(classifiers)), strict=True)
        return cls(np.array(normals), np.array(offsets), X, y, norm, radius, **options)

    def __call__(self, weights: npt.ArrayLike) -> OracleAnswer:
        """A best attack on every sample; its points, (n_samples, n_features), come with the answer."""
        mixture = np.asarray(weights, dtype=np.float64)
        scores = mixture @ self._losses
        highest = np.maximum.reduceat(scores, self._starts[:-1])
        best = np.flatnonzero(scores == highest[self._visits.sample])
        best = best[np.diff(self._visits.sample[best], prepend=-1) > 0]
        missed = self._possible @ mixture > highest + _TIE
        return OracleAnswer(
            losses=self._losses[:, best, None],
            delta=float(self.sample_weight[missed].sum()),
            points=self._inputs + self._visits.move[best],
        )

    def table(self) -> LossTable:
        """All maximal sets that are known, as a ragged table of 0/1 losses.

        Its game is that against all attacks where `is_exact`; else only lower bounds carry over.
        """
        return LossTable(self._losses, row_offsets=self._starts, sample_weight=self.sample_weight)

    def points(self, sample: npt.ArrayLike, attack: npt.ArrayLike) -> FloatArray:
        """The attacked inputs (n, n_features) of rows of `table`, by sample and attack."""
        place = self._starts[np.asarray(sample, dtype=np.int64)] + np.asarray(attack, dtype=np.int64)
        return np.asarray(self._inputs[self._visits.sample[place]] + self._visits.move[place])


def _reach(scene: Scene) -> tuple[Visits, npt.NDArray[np.bool_]]:
    """Maximal sets with moves that reach them, and of which samples (n,) all are known."""
    n_samples, dimension = scene.low.shape
    n_classifiers = scene.normals.shape[0]
    facets = scene.count_facets()
    deepest = min(dimension, n_classifiers + facets)
    if count_boundaries(n_classifiers, facets, deepest, TREE_LIMIT) <= TREE_LIMIT:
        return NearestPoints(scene, deepest, with_facets=True).walk(), np.ones(n_samples, dtype=np.bool_)
    most = few = min(dimension, n_classifiers)
    while count_boundaries(n_classifiers, 0, most, TREE_LIMIT) > TREE_LIMIT:
        most -= 1
    found = NearestPoints(scene, most, with_facets=False).walk()
    cut = scene.undecided().sum(axis=1)
    if scene.norm is Norm.L2:
        return found, ((cut <= most) | (most == few)) & ~scene.is_cut
    known = cut <= MOST_UNDECIDED
    exact = reach_by_programmes(scene, np.flatnonzero(known))
    return (found + exact).distinct().maximal(), known


def _scene(
    normals: Any, offsets: Any, inputs: FloatArray, y: Any, norm: Norm, radius: float, lower: Any, upper: Any
) -> Scene:
    if not isinstance(norm, Norm):
        raise TypeError(f"`norm` must be Norm.L1, Norm.L2 or Norm.LINF; got {norm!r}")
    if not (math.isfinite(radius) and radius >= 0):
        raise ValueError(f"`radius` must be finite and >= 0; got {radius!r}")
    planes, levels = _finite("normals", normals, 2), _finite("offsets", offsets, 1)
    if planes.shape[1] != inputs.shape[1] or not 1 <= len(planes) <= MOST_CLASSIFIERS:
        raise ValueError(
            f"`normals` must have shape (1 to {MOST_CLASSIFIERS} classifiers, {inputs.shape[1]}); got {planes.shape}"
        )
    if levels.shape != planes.shape[:1]:
        raise ValueError(f"`offsets` must have shape ({len(planes)},); got {levels.shape}")
    labels = np.asarray(y)
    if labels.shape != inputs.shape[:1] or not (
        np.isin(labels, (-1, 1)).all() or np.isin(labels, (0, 1)).all()
    ):
        raise ValueError(f"`y` must hold {len(inputs)} labels, 1 and -1 or 1 and 0; got {labels!r}")
    low, high = _box("lower", lower, -np.inf, inputs), _box("upper", upper, np.inf, inputs)
    if not (np.all(low <= inputs) and np.all(inputs <= high)):
        raise ValueError("`X` must lie between `lower` and `upper`; got inputs outside")
    length = np.linalg.norm(planes, axis=1)
    flat = length == 0  # always one prediction: a boundary infinitely far away
    scale = np.where(flat, 1.0, length)
    boundaries = levels / scale - inputs @ (planes / scale[:, None]).T
    boundaries[:, flat] = np.where(levels[flat] >= 0, np.inf, -np.inf)
    sides = np.where(labels == 1, -1.0, 1.0)
    return Scene(planes / scale[:, None], boundaries, sides, norm, float(radius), low - inputs, high - inputs)


def _finite(name: str, given: Any, dimensions: int) -> FloatArray:
    array = np.asarray(given, dtype=np.float64)
    if array.ndim != dimensions or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(
            f"`{name}` must be finite, with {dimensions} dimensions, none empty; got shape {array.shape}"
        )
    return array


def _box(name: str, given: Any, default: float, inputs: FloatArray) -> FloatArray:
    try:
        return np.broadcast_to(
            np.asarray(default if given is None else given, dtype=np.float64), inputs.shape
        )
    except ValueError:
        raise ValueError(
            f"`{name}` must broadcast to the shape of one input, {inputs.shape[1:]}; got {np.shape(given)}"
        ) from None


def _half_space(classifier: Any, number: int) -> tuple[FloatArray, float]:
    if hasattr(classifier, "normal") and hasattr(classifier, "offset"):
        return np.asarray(classifier.normal, dtype=np.float64), float(classifier.offset)
    coefficients = np.asarray(getattr(classifier, "coef_", np.empty(0)), dtype=np.float64)
    if coefficients.size == 0 or (coefficients.ndim == 2 and len(coefficients) != 1):
        raise TypeError(
            f"`classifiers[{number}]` must have `normal` and `offset`, or `coef_` and `intercept_` of two classes; "
            f"got {type(classifier).__name__}"
        )
    return coefficients.ravel(), -float(np.ravel(classifier.intercept_)[0])

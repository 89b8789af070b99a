"""The synthetic game of Meunier et al. (2021), section 5.1: two classes in the plane and random linear classifiers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Distance of the outer class's two centres from the inner class.
OUTER_CENTRE = 3.0
#: Classifiers are kept when their standard training risk is below this.
LARGEST_STANDARD_RISK = 0.4


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """Predicts +1 where ``<normal, x> > offset`` and -1 elsewhere.

    Attributes
    ----------
    normal : ndarray of float64, (2,)
        Unit vector pointing to the side predicted +1.
    offset : float
        Signed distance of the boundary from the origin along `normal`.
    """

    normal: FloatArray
    offset: float

    def predict(self, points: npt.NDArray[np.floating]) -> IntArray:
        """Labels -1 or +1, (n,), of points (n, 2)."""
        return np.where(points @ self.normal > self.offset, 1, -1)


def sample_points(n_points: int, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
    """Draw labelled points: half of them -1 from N(0, I), half +1 from equal parts of N((-3, 0), I) and N((3, 0), I).

    The labels are split exactly, an odd point going to +1; a coin decides to which centre an outer point belongs.

    Returns
    -------
    points : ndarray of float64, (n_points, 2)
    labels : ndarray of int64, (n_points,)
    """
    labels = np.where(np.arange(n_points) < n_points // 2, -1, 1)
    rng.shuffle(labels)
    points = rng.standard_normal((n_points, 2))
    side = rng.integers(0, 2, size=n_points) * 2 - 1
    points[:, 0] += np.where(labels == 1, OUTER_CENTRE * side, 0.0)
    return points, labels


def sample_classifiers(
    n_classifiers: int, points: FloatArray, labels: IntArray, rng: np.random.Generator
) -> list[LinearClassifier]:
    """Draw linear classifiers until enough have a standard risk below 0.4 on the given points.

    Proposals have a direction uniform on the circle and an offset uniform up to the outermost point; nothing else is
    asked of them, least of all to complement each other.
    """
    reach = float(np.sqrt((points**2).sum(axis=1).max()))
    kept: list[LinearClassifier] = []
    while len(kept) < n_classifiers:
        angle, offset = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(-reach, reach)
        classifier = LinearClassifier(np.array([np.cos(angle), np.sin(angle)]), float(offset))
        if np.mean(classifier.predict(points) != labels) < LARGEST_STANDARD_RISK:
            kept.append(classifier)
    return kept

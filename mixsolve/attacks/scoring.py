"""From trained classifiers and attacked inputs to a loss table."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from mixsolve.table import LossTable


class Loss(enum.Enum):
    """What one classifier loses on one attacked input. Both lie in [0, 1]."""

    ZERO_ONE = "zero_one"  #: 1 when the predicted label is wrong
    ONE_MINUS_PROBABILITY = "one_minus_probability"  #: 1 - the probability given to the true label


@runtime_checkable
class Attack(Protocol):
    """Anything that perturbs inputs: `UniformBall`, or your own."""

    @property
    def n_attacks(self) -> int:
        """Points per sample."""

    def points(self, X: npt.ArrayLike, samples: npt.ArrayLike | None = None) -> npt.NDArray[np.floating]:
        """Attacked inputs, (len(samples), n_attacks, ...), of the listed samples of ``X``, (n_samples,
        ...)."""


def loss_table(
    classifiers: Sequence[Any],
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    attacks: Attack | npt.ArrayLike,
    loss: Loss = Loss.ZERO_ONE,
    *,
    memory_limit: int = 64 * 2**20,
    progress: Callable[[int, int], None] | None = None,
) -> LossTable:
    """Losses of every classifier on every attack against every sample.

    ``losses[k, i, j] = loss(classifiers[k], attack j against X[i], y[i])``.

    Parameters
    ----------
    classifiers : sequence of objects
        Each with ``predict(inputs) -> labels (n,)`` or ``predict_proba(inputs) -> probabilities (n,
        n_classes)``, taking ``inputs`` of shape (n, ...). Columns of ``predict_proba`` belong to the labels
        in ``classes_``; without that attribute, to the labels 0, 1, ...
    X : array, (n_samples, ...)
        Clean inputs.
    y : array, (n_samples,)
        True labels, among ``classes_`` of each classifier that has it.
    attacks : Attack, or array, (n_samples, n_attacks, ...)
        A sampler such as `UniformBall`, asked batch by batch, or the attacked inputs themselves.
    loss : Loss
        ``ZERO_ONE`` asks ``predict`` where there is one; ``ONE_MINUS_PROBABILITY`` needs ``predict_proba``.
    memory_limit : int
        Bytes of attacked inputs held and scored at a time (at least one sample's). What a classifier
        allocates itself comes on top.
    progress : callable (done, total) -> None, optional
        Called as rows are scored; ``total`` is n_classifiers * n_samples * n_attacks.

    Returns
    -------
    LossTable, float32, (n_classifiers, n_samples, n_attacks)

    Raises
    ------
    TypeError
        For a classifier without the method that the loss needs, or a `loss` that is no `Loss`.
    ValueError
        For shapes that do not fit, labels a classifier does not know, and answers that are no labels or
        probabilities.
    """
    inputs, labels = np.asarray(X), np.asarray(y)
    _check_data(classifiers, inputs, labels, loss)
    scorers = [
        _Scorer(classifier, f"classifiers[{k}]", labels, loss) for k, classifier in enumerate(classifiers)
    ]
    source = attacks if isinstance(attacks, Attack) else _GivenPoints(attacks, inputs.shape)
    n_samples, n_attacks = len(inputs), source.n_attacks
    losses = np.empty((len(scorers), n_samples, n_attacks), dtype=np.float32)
    bytes_per_sample = max(1, n_attacks * inputs[0].size * max(inputs.itemsize, 4))
    batch = max(1, int(memory_limit) // bytes_per_sample)
    done = 0
    for start in range(0, n_samples, batch):
        samples = np.arange(start, min(start + batch, n_samples))
        points = np.asarray(source.points(inputs, samples))
        expected = (len(samples), n_attacks, *inputs.shape[1:])
        if points.shape != expected:
            raise ValueError(f"`attacks.points` must return shape {expected}; got {points.shape}")
        flat = points.reshape(-1, *inputs.shape[1:])
        truth = np.repeat(labels[samples], n_attacks)
        for k, scorer in enumerate(scorers):
            losses[k, samples] = scorer.losses(flat, truth).reshape(len(samples), n_attacks)
            done += len(flat)
            if progress is not None:
                progress(done, losses.size)
    return LossTable(losses)


class _GivenPoints:
    """Attacked inputs that exist already, behind the protocol of a sampler."""

    def __init__(self, points: npt.ArrayLike, shape: tuple[int, ...]) -> None:
        self._points = np.asarray(points)
        given = self._points.shape
        if len(given) != len(shape) + 1 or (given[0], *given[2:]) != shape or 0 in given:
            wanted = ", ".join(map(str, (shape[0], "n_attacks", *shape[1:])))
            raise ValueError(
                f"`attacks` must offer `points` and `n_attacks`, or be an array of shape ({wanted}); "
                f"got shape {given}"
            )

    @property
    def n_attacks(self) -> int:
        return int(self._points.shape[1])

    def points(self, X: npt.ArrayLike, samples: npt.ArrayLike | None = None) -> npt.NDArray[np.floating]:
        return self._points if samples is None else self._points[np.asarray(samples)]


class _Scorer:
    """One classifier, checked once, and its losses on a batch of inputs."""

    def __init__(self, classifier: Any, name: str, labels: npt.NDArray[Any], loss: Loss) -> None:
        self._classifier, self._name = classifier, name
        self._zero_one = loss is Loss.ZERO_ONE
        self._by_label = self._zero_one and hasattr(classifier, "predict")
        if not self._by_label and not hasattr(classifier, "predict_proba"):
            needed = "`predict` or `predict_proba`" if self._zero_one else f"`predict_proba` for {loss}"
            raise TypeError(f"`{name}` must have {needed}; got {type(classifier).__name__}")
        self._classes: npt.NDArray[Any] | None = None
        if hasattr(classifier, "classes_"):
            self._classes = np.asarray(classifier.classes_)
            unknown = labels[~np.isin(labels, self._classes)]
            if unknown.size:
                raise ValueError(
                    f"`y` must hold labels that `{name}` knows (classes_ {self._classes.tolist()}); "
                    f"got {unknown[0]!r}"
                )

    def losses(self, inputs: npt.NDArray[Any], truth: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Losses (n,) on inputs (n, ...) with true labels (n,)."""
        if self._by_label:
            answer = np.asarray(self._classifier.predict(inputs))
            if answer.shape != truth.shape:
                raise ValueError(
                    f"`{self._name}.predict` must return one label per input, shape {truth.shape}; "
                    f"got {answer.shape}"
                )
            return np.asarray(answer != truth)
        probability = self._probabilities(inputs)
        classes = np.arange(probability.shape[1]) if self._classes is None else self._classes
        if self._zero_one:
            return np.asarray(classes[probability.argmax(axis=1)] != truth)
        order = np.argsort(classes)
        place = np.clip(np.searchsorted(classes, truth, sorter=order), 0, len(classes) - 1)
        column = order[place]
        if not np.array_equal(classes[column], truth):
            raise ValueError(
                f"`y` must hold column numbers 0..{len(classes) - 1}, because `{self._name}` has no "
                f"`classes_`; got {truth[classes[column] != truth][0]!r}"
            )
        return np.asarray(1.0 - probability[np.arange(len(truth)), column])

    def _probabilities(self, inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        answer = np.asarray(self._classifier.predict_proba(inputs))
        columns = "n_classes" if self._classes is None else len(self._classes)
        if (
            answer.ndim != 2
            or len(answer) != len(inputs)
            or (self._classes is not None and answer.shape[1] != columns)
        ):
            raise ValueError(
                f"`{self._name}.predict_proba` must return shape ({len(inputs)}, {columns}); "
                f"got {answer.shape}"
            )
        # Softmax outputs in float32 miss 1 by a few ulp; 1e-3 still tells probabilities from logits. `not`
        # catches NaN.
        if not (answer.min() >= -1e-3 and answer.max() <= 1.0 + 1e-3):
            raise ValueError(
                f"`{self._name}.predict_proba` must return probabilities in [0, 1]; "
                f"got values from {answer.min()!r} to {answer.max()!r}"
            )
        return answer


def _check_data(
    classifiers: Sequence[Any], inputs: npt.NDArray[Any], labels: npt.NDArray[Any], loss: Loss
) -> None:
    if not isinstance(loss, Loss):
        raise TypeError(f"`loss` must be Loss.ZERO_ONE or Loss.ONE_MINUS_PROBABILITY; got {loss!r}")
    if len(classifiers) == 0:
        raise ValueError("`classifiers` must hold at least one classifier; got none")
    if inputs.ndim < 2 or inputs.size == 0:
        raise ValueError(
            f"`X` must have shape (n_samples, features, ...), none of them 0; got {inputs.shape}"
        )
    if labels.shape != (len(inputs),):
        raise ValueError(f"`y` must hold one label per sample, shape ({len(inputs)},); got {labels.shape}")

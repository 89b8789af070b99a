"""loss_table against losses computed one by one, over every kind of classifier it promises to take."""

import numpy as np
import pytest

from mixsolve import LossTable
from mixsolve.attacks import Loss, Norm, UniformBall, loss_table


class Threshold:
    """Labels by the sign of one coordinate, and nothing else."""

    def __init__(self, coordinate, labels=(-1, 1)):
        self.coordinate, self.labels = coordinate, np.array(labels)

    def predict(self, inputs):
        return self.labels[(inputs[:, self.coordinate] > 0).astype(int)]


class Logistic:
    """Probabilities of two classes, with or without `classes_`, and no `predict`."""

    def __init__(self, slope, classes=None):
        self.slope = slope
        if classes is not None:
            self.classes_ = np.array(classes)

    def predict_proba(self, inputs):
        second = 1.0 / (1.0 + np.exp(-self.slope * inputs[:, 0]))
        return np.stack([1.0 - second, second], axis=1)


class Counting(Threshold):
    """Remembers how many inputs it was asked about at once."""

    def __init__(self):
        super().__init__(0)
        self.sizes = []

    def predict(self, inputs):
        self.sizes.append(len(inputs))
        return super().predict(inputs)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((9, 2)), np.where(rng.random(9) < 0.5, -1, 1)


BALL = UniformBall(Norm.L2, 1.0, 6, seed=3)


def test_zero_one_losses_equal_those_computed_one_by_one(data):
    X, y = data
    classifiers = [Threshold(0), Threshold(1), Logistic(2.0, classes=[-1, 1])]
    table = loss_table(classifiers, X, y, BALL)
    points = BALL.points(X)
    assert isinstance(table, LossTable)
    assert table.array.shape == (3, 9, 6)
    assert table.array.dtype == np.float32
    for i, j in np.ndindex(9, 6):
        predicted = [np.where(points[i, j, axis] > 0, 1, -1) for axis in (0, 1, 0)]
        np.testing.assert_array_equal(table.array[:, i, j], [p != y[i] for p in predicted])
    assert 0 < table.array.mean() < 1


@pytest.mark.parametrize("classes", [(-1, 1), (1, -1), ("cat", "dog")])
def test_probability_losses_follow_classes_in_any_order_and_type(data, classes):
    X, sign = data
    y = np.where(sign > 0, classes[1], classes[0])
    table = loss_table([Logistic(1.5, classes)], X, y, BALL, Loss.ONE_MINUS_PROBABILITY)
    true_label_slope = np.where(sign > 0, 1.5, -1.5)[:, None]
    expected = 1.0 / (1.0 + np.exp(true_label_slope * BALL.points(X)[..., 0]))
    # Stored in float32: half an ulp of 1.
    np.testing.assert_allclose(table.array[0], expected, atol=6e-8)


def test_without_classes_labels_are_column_numbers(data):
    X, sign = data
    y = (sign > 0).astype(int)
    plain, named = Logistic(1.0), Logistic(1.0, classes=[0, 1])
    for loss in Loss:
        table = loss_table([plain, named], X, y, BALL, loss)
        np.testing.assert_array_equal(table.array[0], table.array[1])
    with pytest.raises(
        ValueError,
        match=r"`y` must hold column numbers 0..1, because `classifiers\[0\]` has no `classes_`; got",
    ):
        loss_table([plain], X, sign, BALL, Loss.ONE_MINUS_PROBABILITY)


def test_given_points_equal_the_sampler(data):
    X, y = data
    sampled = loss_table([Threshold(0)], X, y, BALL)
    given = loss_table([Threshold(0)], X, y, BALL.points(X))
    np.testing.assert_array_equal(sampled.array, given.array)


def test_images_keep_their_shape(data):
    _, y = data

    class Brightness:
        def predict(self, images):
            assert images.shape[1:] == (3, 4)
            return np.where(images.mean(axis=(1, 2)) > 0, 1, -1)

    table = loss_table([Brightness()], np.zeros((9, 3, 4)), y, UniformBall(Norm.LINF, 1.0, 5))
    assert table.array.shape == (1, 9, 5)


@pytest.mark.parametrize(("memory_limit", "largest"), [(1, 6), (3 * 6 * 2 * 8, 18), (2**20, 54)])
def test_batches_respect_the_memory_limit_and_change_nothing(data, memory_limit, largest):
    X, y = data
    counting = Counting()
    table = loss_table([counting], X, y, BALL, memory_limit=memory_limit)
    assert max(counting.sizes) == largest
    assert sum(counting.sizes) == 54
    np.testing.assert_array_equal(table.array, loss_table([Threshold(0)], X, y, BALL).array)


def test_progress_counts_to_the_total(data):
    X, y = data
    seen = []
    loss_table(
        [Threshold(0), Threshold(1)], X, y, BALL, memory_limit=1, progress=lambda *step: seen.append(step)
    )
    assert [done for done, _ in seen] == list(range(6, 109, 6))
    assert {total for _, total in seen} == {108}


def test_scikit_learn_classifiers_and_pipelines(data):
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = data
    names = np.where(y > 0, "yes", "no")
    models = [KNeighborsClassifier(3), make_pipeline(StandardScaler(), LogisticRegression())]
    for model in models:
        model.fit(X, names)
    flat = BALL.points(X).reshape(-1, 2)
    truth = np.repeat(names, 6)
    zero_one = loss_table(models, X, names, BALL).array
    probability = loss_table(models, X, names, BALL, Loss.ONE_MINUS_PROBABILITY).array
    for k, model in enumerate(models):
        np.testing.assert_array_equal(zero_one[k].ravel(), model.predict(flat) != truth)
        expected = 1 - model.predict_proba(flat)[np.arange(54), (truth == "yes").astype(int)]
        np.testing.assert_allclose(probability[k].ravel(), expected, atol=6e-8)  # float32 storage


class Answers:
    """Gives the same answers whatever it is asked: a classifier as wrong as its test wants it."""

    def __init__(self, **answers):
        for name, answer in answers.items():
            setattr(self, name, lambda inputs, answer=answer: answer)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"classifiers": []}, ValueError, "`classifiers` must hold at least one classifier; got none"),
        (
            {"classifiers": [Threshold(0), 3]},
            TypeError,
            r"`classifiers\[1\]` must have `predict` or `predict_proba`; got int",
        ),
        (
            {"classifiers": [Threshold(0)], "loss": Loss.ONE_MINUS_PROBABILITY},
            TypeError,
            r"`classifiers\[0\]` must have `predict_proba` for Loss.ONE_MINUS_PROBABILITY; got Threshold",
        ),
        (
            {"loss": "zero_one"},
            TypeError,
            "`loss` must be Loss.ZERO_ONE or Loss.ONE_MINUS_PROBABILITY; got 'zero_one'",
        ),
        ({"X": np.zeros(9)}, ValueError, r"`X` must have shape \(n_samples, features, ...\)"),
        ({"y": np.ones(8)}, ValueError, r"`y` must hold one label per sample, shape \(9,\); got \(8,\)"),
        (
            {"attacks": np.zeros((9, 4, 3))},
            ValueError,
            r"an array of shape \(9, n_attacks, 2\); got shape \(9, 4, 3\)",
        ),
        (
            {"classifiers": [Logistic(1.0, classes=[0, 1])]},
            ValueError,
            r"`y` must hold labels that `classifiers\[0\]` knows \(classes_ \[0, 1\]\); got",
        ),
        (
            {"classifiers": [Answers(predict=np.zeros((54, 2)))]},
            ValueError,
            r"`classifiers\[0\].predict` must return one label per input, shape \(54,\); got \(54, 2\)",
        ),
        (
            {"classifiers": [Answers(predict_proba=np.full(54, 0.5))]},
            ValueError,
            r"`classifiers\[0\].predict_proba` must return shape \(54, n_classes\); got \(54,\)",
        ),
        (
            {"classifiers": [Answers(predict_proba=np.full((54, 2), np.nan))]},
            ValueError,
            r"`classifiers\[0\].predict_proba` must return probabilities in \[0, 1\]",
        ),
    ],
)
def test_bad_input_is_named(data, change, error, message):
    X, y = data
    arguments = {"classifiers": [Threshold(0)], "X": X, "y": y, "attacks": BALL} | change
    with pytest.raises(error, match=message):
        loss_table(**arguments)


def test_an_attack_of_the_wrong_shape_is_named(data):
    X, y = data

    class Short:
        n_attacks = 4

        def points(self, X, samples=None):
            return np.zeros((len(samples), 3, 2))

    with pytest.raises(ValueError, match=r"`attacks.points` must return shape \(9, 4, 2\); got \(9, 3, 2\)"):
        loss_table([Threshold(0)], X, y, Short())

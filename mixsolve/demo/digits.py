"""The second game: handwritten digits, classifiers of different kinds, and noise of bounded size in every pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixsolve.attacks import Norm, UniformBall


@dataclass(frozen=True)
class DigitsSettings:
    """Sizes of the digits game."""

    n_images: int = 550
    """Held-out images of the game, and as many fresh ones; the rest of the 1,797 is for training."""
    n_attacks: int = 200
    radius: float = 0.4
    """Of the linf ball, in units of the pixel range [0, 1]."""
    noisy_copies: int = 4
    """Attacked copies of each training image that the classifiers are trained on as well."""
    n_trees: int = 60
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Images:
    """Flat images with pixels in [0, 1], (n, 64), and their digits, (n,)."""

    pixels: npt.NDArray[np.float32]
    digits: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DigitsGame:
    """Classifiers by name, the images of the game and fresh ones."""

    settings: DigitsSettings
    classifiers: dict[str, Any]
    held_out: Images
    fresh: Images

    def attacks(self, number: int) -> UniformBall:
        """Noise uniform in the linf ball within the pixel range; each number gives independent draws."""
        settings = self.settings
        return UniformBall(
            Norm.LINF, settings.radius, settings.n_attacks, 0.0, 1.0, seed=3 * settings.seed + number
        )


def make_digits_game(settings: DigitsSettings) -> DigitsGame:
    """Split scikit-learn's digits and train the classifiers.

    Raises
    ------
    ImportError
        Without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits game needs scikit-learn: pip install mixsolve[demo]") from error

    data = load_digits()
    pixels = (data.data / 16.0).astype(np.float32)
    order = np.random.default_rng(settings.seed).permutation(len(pixels))
    first, second = settings.n_images, 2 * settings.n_images
    held_out, fresh, training = (
        Images(pixels[part], data.target[part])
        for part in (order[:first], order[first:second], order[second:])
    )
    return DigitsGame(settings, _train(training, settings), held_out, fresh)


def _train(training: Images, settings: DigitsSettings) -> dict[str, Any]:
    """One classifier of each kind, trained on the images and noisy copies; the neighbours on the images alone.

    Without the copies every kind but the neighbours falls to noise of this size, and one classifier is the answer.
    """
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from threadpoolctl import threadpool_limits

    seed, trees = settings.seed, settings.n_trees
    kernel = Nystroem(gamma=0.05, n_components=200, random_state=seed)
    classifiers = {
        "logistic regression": LogisticRegression(max_iter=1000),
        "kernel logistic": make_pipeline(kernel, LogisticRegression(C=3.0, max_iter=1000)),
        "random forest": RandomForestClassifier(trees, random_state=seed),
        "extra trees": ExtraTreesClassifier(trees, min_samples_leaf=2, random_state=seed),
        "neural network": MLPClassifier((64,), early_stopping=True, random_state=seed),
        "naive Bayes": GaussianNB(),
        "5 nearest neighbours": KNeighborsClassifier(5),
    }
    # The noise of training is drawn apart from that of the game.
    noise = UniformBall(
        Norm.LINF, settings.radius, settings.noisy_copies, 0.0, 1.0, seed=settings.seed + 1_000_003
    )
    copies = noise.points(training.pixels).reshape(-1, training.pixels.shape[1])
    noisy = np.concatenate([training.pixels, copies])
    digits = np.concatenate([training.digits, np.repeat(training.digits, settings.noisy_copies)])
    # The matrices are small: a second thread only waits for the first, for most of the time on a busy machine.
    with threadpool_limits(1):
        for name, classifier in classifiers.items():
            alone = name == "5 nearest neighbours"
            classifier.fit(training.pixels if alone else noisy, training.digits if alone else digits)
    return classifiers

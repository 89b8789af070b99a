"""Both games from start to end: played, drawn, and written down."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mixsolve import __version__
from mixsolve.demo.convergence import ConvergenceSettings
from mixsolve.demo.digits import DigitsSettings
from mixsolve.demo.digits_study import play_digits
from mixsolve.demo.display import Display
from mixsolve.demo.figures import draw_digits, draw_plane
from mixsolve.demo.plane_study import PlaneSettings, play_plane


@dataclass(frozen=True)
class DemoSettings:
    """Sizes of both games."""

    plane: PlaneSettings = field(default_factory=PlaneSettings)
    digits: DigitsSettings = field(default_factory=DigitsSettings)

    def with_seed(self, seed: int) -> DemoSettings:
        """The same sizes with other random numbers."""
        return replace(self, plane=replace(self.plane, seed=seed), digits=replace(self.digits, seed=seed))


#: The sizes of the paper.
FULL = DemoSettings()
#: The same games in a few seconds, to see that everything runs.
SMALL = DemoSettings(
    PlaneSettings(
        n_points=120,
        n_classifiers=6,
        n_attacks=60,
        radii=(0.0, 1.5, 3.0, 5.0),
        convergence=ConvergenceSettings(iterations=40, temperatures=(0.1, 0.01)),
    ),
    DigitsSettings(n_images=50, n_attacks=10, noisy_copies=1, n_trees=10),
)


def run_demo(
    folder: str | os.PathLike[str], settings: DemoSettings = FULL, *, quiet: bool = False
) -> dict[str, Any]:
    """Play both games, and write their pictures and ``report.json`` into a folder.

    Parameters
    ----------
    folder : path
        Made when it does not exist; files of earlier runs are replaced.
    settings : DemoSettings
        `FULL` by default; `SMALL` is a toy.
    quiet : bool
        Show no progress.

    Returns
    -------
    dict
        The report as it is written. Its ``checks`` say by name what holds: solved, guarantees met, nowhere worse,
        somewhere better.

    Raises
    ------
    ImportError
        Without matplotlib or scikit-learn: ``pip install mixsolve[demo]``.
    KeyboardInterrupt
        On Ctrl-C.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    display = Display(quiet)
    started = time.perf_counter()
    plane = play_plane(settings.plane, display)
    digits = play_digits(settings.digits, display)
    with display.stage("pictures"):
        pictures = {**draw_plane(plane), **draw_digits(digits)}
        for name, figure in pictures.items():
            figure.savefig(target / name)
    report = {
        "versions": {
            "mixsolve": __version__,
            **{name: version(name) for name in ("numpy", "scipy", "scikit-learn")},
        },
        "certificates_cover": "the sampled attacks; against the whole ball only the lower bounds survive, "
        "but for against_all_attacks, which covers it",
        "seconds": time.perf_counter() - started,
        "checks": {**plane.checks(), **digits.checks()},
        "pictures": list(pictures),
        "plane": plane.report(),
        "digits": digits.report(),
    }
    text = json.dumps(report, indent=1)
    (target / "report.json").write_text(text + "\n", encoding="utf-8")
    written: dict[str, Any] = json.loads(text)
    return written

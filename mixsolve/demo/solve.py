"""Solving inside the demo: as `fit_mixture`, but Ctrl-C ends the whole demo."""

from __future__ import annotations

from typing import Any

from mixsolve.fit import fit_mixture
from mixsolve.results import MixtureResult, Status
from mixsolve.table import LossTable

#: Relative gap asked of every solve; a gain above it counts as strict.
TOLERANCE = 1e-6


def solve(table: LossTable, **options: Any) -> MixtureResult:
    """``fit_mixture(table, **options)``.

    Raises
    ------
    KeyboardInterrupt
        When the solve was interrupted: the best mixture so far is of no use to a study.
    """
    result = fit_mixture(table, **options)
    if result.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    return result

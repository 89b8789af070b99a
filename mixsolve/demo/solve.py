"""Solving inside the demo: as `mixsolve` does, but Ctrl-C ends the whole demo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mixsolve.comparison import MixtureComparison, compare_mixtures
from mixsolve.fit import fit_mixture
from mixsolve.path import fit_path
from mixsolve.results import MixtureResult, Status
from mixsolve.solvers.protocol import Solver
from mixsolve.table import LossTable

#: Relative gap asked of every solution; a gain above it counts as strict.
TOLERANCE = 1e-6


def solve(losses: Any, **options: Any) -> MixtureResult:
    """``fit_mixture(losses, **options)``.

    Raises
    ------
    KeyboardInterrupt
        When the solve was interrupted: the best mixture so far is of no use to a study.
    """
    return _finished(fit_mixture(losses, **options))


def compare(table: LossTable, solver: Solver) -> MixtureComparison:
    """``compare_mixtures`` to `TOLERANCE`; raises as `solve` does."""
    comparison = compare_mixtures(table, solver=solver, tol=TOLERANCE)
    _finished(comparison.optimal)
    return comparison


def solve_path(table: LossTable, temperatures: Sequence[float]) -> list[MixtureResult]:
    """``fit_path`` to `TOLERANCE`; raises as `solve` does."""
    return [_finished(result) for result in fit_path(table, temperatures, tol=TOLERANCE)]


def _finished(result: MixtureResult) -> MixtureResult:
    if result.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    return result

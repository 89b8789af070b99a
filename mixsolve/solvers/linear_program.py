"""The reference: the worst-case game as one linear programme."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve.certificate import Queries
from mixsolve.results import Status
from mixsolve.simplex import project_to_simplex
from mixsolve.solvers.distinct_rows import distinct_rows
from mixsolve.solvers.lp_backends import installed_backends, solve_by_cvxpy, solve_by_scipy
from mixsolve.solvers.protocol import Outcome
from mixsolve.strategy import RowAttack
from mixsolve.table import LossTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.solvers.distinct_rows import DistinctRows
    from mixsolve.solvers.protocol import Problem, Steps
    from mixsolve.solvers.source import Source


@dataclass(frozen=True)
class LinearProgram:
    """The exact worst case as ``min sum_i s_i v_i,  v_i >= <w, l_ij>,  w in the simplex``; temperature 0 only.

    Identical rows of a sample are merged, samples of weight 0 left out, and the losses shifted and scaled to [0, 1].
    Whatever the backend answers is projected onto the simplex, its duals are repaired into a strategy of the attacker
    (tiny ones dropped, the rest of each sample normalised), and both are certified on the table: the
    result's status follows from the certified gap, never from the backend's word.

    Attributes
    ----------
    backend : str
        Name of a solver that cvxpy has installed. "HIGHS" is SciPy's own when cvxpy is absent.
    options : mapping
        Passed on to the backend, in its own words.

    Notes
    -----
    The programme holds every distinct row in memory and reads the table once to build it, which counts as a pass.
    Ctrl-C and the time limit end the waiting at once; a backend that cannot be stopped runs on in its thread.
    """

    backend: str = "HIGHS"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.backend, str):
            raise TypeError(f"`backend` must be the name of a solver; got {self.backend!r}")

    def check(self, source: Source, temperature: float | NDArray[np.float64]) -> None:
        if np.any(np.asarray(temperature) > 0):
            raise ValueError(f"`temperature` must be 0 for LinearProgram; got {temperature}")
        if source.table is None:
            raise ValueError(
                "`solver` must be OracleSubgradient for a game behind an oracle; got LinearProgram"
            )
        if not isinstance(source.table, LossTable):
            raise ValueError(
                "`solver` must be another than LinearProgram for a table that is not in memory as a whole"
            )
        installed = installed_backends()
        if self.backend != "HIGHS" and not installed:
            raise ImportError(f"the backend {self.backend!r} needs cvxpy: pip install mixsolve[lp]")
        if self.backend != "HIGHS" and self.backend not in installed:
            raise ValueError(f"`backend` must be one of cvxpy's {installed}; got {self.backend!r}")

    def iterate(self, problem: Problem) -> Steps:
        assert isinstance(problem.table, LossTable)
        table = problem.table
        begun = perf_counter()
        rows = distinct_rows(table)
        problem.desk.count_read(perf_counter() - begun)
        problem.desk.note(
            rows=table.n_rows, compressed_rows=rows.sample.size, peak_memory=2 * rows.losses.nbytes
        )
        if self.backend in installed_backends():
            solution = solve_by_cvxpy(rows, self.backend, self.options, problem.desk)
        else:
            solution = solve_by_scipy(rows, self.options, problem.desk)
        if solution.weights is None or not np.isfinite(solution.weights).all():
            return Outcome(Status.NUMERICAL_ERROR, f"{self.backend} gave no solution ({solution.word})")
        weights = project_to_simplex(np.maximum(solution.weights, 0))
        if solution.duals is not None and np.isfinite(solution.duals).all():
            attack = repaired_strategy(rows, weights, solution.duals, table.n_samples)
            problem.certificate.offer(lambda: attack, attack.lower_bound(table))
        yield Queries(weights[None], np.zeros(1))
        return Outcome(
            Status.NUMERICAL_ERROR, f"{self.backend} answered '{solution.word}', which proves no less"
        )


def repaired_strategy(
    rows: DistinctRows, weights: NDArray[np.float64], duals: NDArray[np.float64], n_samples: int
) -> RowAttack:
    """Duals as a strategy: exact probabilities per sample, whatever the accuracy of the duals.

    A sample left without any is attacked at its worst row; one of weight 0 at its first.
    """
    probability = rows.game.strategy(duals, weights)
    used = np.flatnonzero(probability)
    unweighted = np.setdiff1d(np.arange(n_samples), rows.kept)
    return RowAttack(
        sample=np.concatenate([rows.kept[rows.sample[used]], unweighted]),
        attack=np.concatenate([rows.attack[used], np.zeros_like(unweighted)]),
        probability=np.concatenate([probability[used], np.ones(unweighted.size)]),
        n_samples=n_samples,
    )

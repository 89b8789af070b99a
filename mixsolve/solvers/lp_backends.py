"""Who solves the linear programme: cvxpy with any of its solvers, or SciPy's HiGHS without cvxpy."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.solvers.distinct_rows import DistinctRows
    from mixsolve.solvers.protocol import Desk

TIME_OPTION = {
    "HIGHS": "time_limit",
    "CLARABEL": "time_limit",
    "OSQP": "time_limit",
    "SCS": "time_limit_secs",
    "GLOP": "time_limit_sec",
    "PDLP": "time_limit_sec",
}
"""What cvxpy's solvers call a limit in seconds."""

DEFAULT_OPTIONS: dict[str, dict[str, Any]] = {
    # Interior point with crossover: three to five times faster than its simplex methods on these programmes.
    "HIGHS": {"solver": "ipm", "primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9},
}
"""Options given to a backend unless the caller says otherwise."""


@dataclass(frozen=True, eq=False)
class Solution:
    """What a backend answered; nothing in it is trusted."""

    word: str
    """The backend's own status."""
    weights: NDArray[np.float64] | None
    """(n_classifiers,) None when there is no answer."""
    duals: NDArray[np.float64] | None
    """(n rows,) multipliers of the rows, positive where a row is active."""


def installed_backends() -> list[str]:
    """Names of the solvers that cvxpy has; none when cvxpy is absent."""
    if importlib.util.find_spec("cvxpy") is None:
        return []
    cvxpy: Any = importlib.import_module("cvxpy")
    return sorted(cvxpy.installed_solvers())


def solve_by_cvxpy(rows: DistinctRows, backend: str, options: Mapping[str, Any], desk: Desk) -> Solution:
    """min share @ v  with  losses @ w <= v[sample],  w in the simplex; modelled here, solved aside."""
    from scipy.sparse import csr_array

    cvxpy: Any = importlib.import_module("cvxpy")
    n_rows, n_classifiers = rows.losses.shape
    pick = csr_array((np.ones(n_rows), (np.arange(n_rows), rows.sample)), shape=(n_rows, rows.share.size))
    weights = cvxpy.Variable(n_classifiers, nonneg=True)
    worst = cvxpy.Variable(rows.share.size)
    beaten = rows.losses @ weights - pick @ worst <= 0
    problem = cvxpy.Problem(cvxpy.Minimize(rows.share @ worst), [beaten, cvxpy.sum(weights) == 1])
    settings = {**DEFAULT_OPTIONS.get(backend, {}), **options}
    left = desk.seconds_left()
    if left is not None and backend in TIME_OPTION:
        settings.setdefault(TIME_OPTION[backend], max(left, 1e-3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # inaccurate or not: the certificate decides
        data, chain, inverse = problem.get_problem_data(backend, solver_opts=dict(settings))
        raw = desk.wait(
            "linear programme", lambda _: chain.solve_via_data(problem, data, False, False, settings)
        )
        if _took_ctrl_c(raw):
            desk.interrupt()
        try:
            problem.unpack_results(raw, chain, inverse)
        except cvxpy.error.SolverError as error:
            return Solution(str(error).splitlines()[0], None, None)
    return Solution(str(problem.status), weights.value, beaten.dual_value)


def _took_ctrl_c(raw: Any) -> bool:
    """Whether a backend says that it was interrupted: OSQP and SCS put handlers of their own in place of ours."""
    info = raw.get("info") if isinstance(raw, dict) else getattr(raw, "info", None)
    status = info.get("status") if isinstance(info, dict) else getattr(info, "status", None)
    return "interrupt" in str(status).lower()


def solve_by_scipy(rows: DistinctRows, options: Mapping[str, Any], desk: Desk) -> Solution:
    """The same programme by SciPy's HiGHS."""
    settings = {"primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9, **options}
    left = desk.seconds_left()
    if left is not None:
        settings.setdefault("time_limit", max(left, 1e-3))
    found = desk.wait("linear programme", lambda _: rows.game.solve_by_scipy("highs-ipm", settings))
    return Solution(found.message, found.weights, found.duals)

"""The value of the worst-case game of a small table, by a linear programme through scipy.optimize.linprog.

Independent of mixsolve. The answer is an interval: its upper end is the worst case of the programme's
mixture, its lower end the worst classifier's best answer to the programme's attacker strategy, both
recomputed here, so neither end depends on the solver's feasibility tolerances.
"""

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array


def lp_value_interval(losses, row_offsets=None, sample_weight=None):
    """Proved (lower, upper) bounds of ``min_w sum_i s_i max_j <w, losses[:, i, j]>`` over the simplex."""
    rows, offsets = _flatten(np.asarray(losses, dtype=np.float64), row_offsets)
    weights, mass = lp_equilibrium(losses, row_offsets, sample_weight)
    share = np.add.reduceat(mass, offsets[:-1])
    upper = share @ np.maximum.reduceat(weights @ rows, offsets[:-1])
    return float(np.min(rows @ mass)), float(upper)


def lp_equilibrium(losses, row_offsets=None, sample_weight=None):
    """Optimal weights (n_classifiers,) and the attacker's mass on every row (n_rows,), of sum 1."""
    rows, offsets = _flatten(np.asarray(losses, dtype=np.float64), row_offsets)
    share = (
        np.ones(len(offsets) - 1) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    )
    share = share / share.sum()
    solution = _solve(rows, offsets, share)
    weights = np.clip(solution.x[: rows.shape[0]], 0.0, None)
    return weights / weights.sum(), _attacker(-solution.ineqlin.marginals, offsets, share)


def _flatten(losses, row_offsets):
    if row_offsets is not None:
        return losses, np.asarray(row_offsets)
    n_classifiers, n_samples, n_attacks = losses.shape
    return losses.reshape(n_classifiers, -1), np.arange(n_samples + 1) * n_attacks


def _solve(rows, offsets, share):
    """Variables (w, v): minimise share @ v with <w, row> <= v_i for every row of sample i, w a mixture."""
    n_classifiers, n_rows = rows.shape
    n_samples = len(share)
    owner = np.repeat(np.arange(n_samples), np.diff(offsets))
    pick = csr_array((np.ones(n_rows), (np.arange(n_rows), owner)), shape=(n_rows, n_samples))
    inequality = csr_array(np.hstack([rows.T, -pick.toarray()]))
    equality = np.concatenate([np.ones(n_classifiers), np.zeros(n_samples)])[np.newaxis]
    solution = linprog(
        np.concatenate([np.zeros(n_classifiers), share]),
        A_ub=inequality,
        b_ub=np.zeros(n_rows),
        A_eq=equality,
        b_eq=[1.0],
        bounds=[(0.0, None)] * n_classifiers + [(None, None)] * n_samples,
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if solution.status != 0:
        raise RuntimeError(f"the reference linear programme failed: {solution.message}")
    return solution


def _attacker(duals, offsets, share):
    """Row probabilities times sample weights, made non-negative and of mass `share` in every sample."""
    duals = np.clip(duals, 0.0, None)
    mass = np.add.reduceat(duals, offsets[:-1])
    length = np.diff(offsets)
    even = share / length
    factor = np.where(mass > 0.0, share / np.where(mass > 0.0, mass, 1.0), 0.0)
    return np.where(np.repeat(mass > 0.0, length), duals * np.repeat(factor, length), np.repeat(even, length))

"""Which sets of half-spaces an l1 or linf ball reaches in many dimensions: by linear programmes, one sample at a time.

A set that can be reached makes all its parts known; one that cannot, by the multipliers of its linear programme, makes
a small part of it known to be the reason, and all sets with that part. So about as many programmes are solved as there
are maximal sets and reasons (the MARCO scheme of Liffiton et al., "Fast, flexible MUS enumeration", 2016).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixsolve.attacks.balls import Norm
from mixsolve.attacks.half_spaces import FloatArray, IntArray, Scene, Visits

MOST_UNDECIDED = 12
"""Half-spaces that hold a part of the ball, at most, for all sets of a sample to be known."""

MARGIN = 100.0
"""Depth asked of a set, in margins of the scene: well above the solver's tolerance."""

_TOLERANCE = 1e-10
_ACTIVE = 1e-8


def reach_by_programmes(scene: Scene, samples: IntArray) -> Visits:
    """The maximal sets of the listed samples, each with a move that reaches it."""
    found = Visits.none(scene.low.shape[1])
    undecided = scene.undecided()
    for sample in samples:
        own = np.flatnonzero(undecided[sample])
        moves = np.array(_moves_of(scene, int(sample), own))
        listed = np.full(len(moves), sample)
        found = found + Visits(listed, scene.codes(listed, moves), moves)
    return found.distinct().maximal()


def _moves_of(scene: Scene, sample: int, own: IntArray) -> list[FloatArray]:
    """Moves that reach every maximal set of the half-spaces `own`."""
    subsets = np.arange(1 << own.size)
    sizes = np.array([int(subset).bit_count() for subset in subsets])
    unknown = np.ones(subsets.size, dtype=np.bool_)
    moves = [np.zeros(scene.low.shape[1])]
    for subset in subsets[np.argsort(-sizes, kind="stable")]:
        if not unknown[subset] or subset == 0:
            continue
        members = np.flatnonzero(subset >> np.arange(own.size) & 1)
        depth, move, multipliers = _deepest(scene, sample, own[members])
        if depth >= MARGIN * scene.margin:
            moves.append(move)
            unknown &= (subsets & ~subset) != 0
        else:
            reason = int(
                sum(1 << int(k) for k in members[multipliers > _ACTIVE * multipliers.max(initial=0.0)])
            )
            unknown &= (subsets & reason) != (reason or subset)
            unknown[subset] = False
    return moves


def _deepest(scene: Scene, sample: int, members: IntArray) -> tuple[float, FloatArray, FloatArray]:
    """How deep in all half-spaces of a set a move can be, up to enough, the move, and the multipliers."""
    from scipy.optimize import linprog  # here: it takes as long to import as all of mixsolve

    dimension = scene.low.shape[1]
    low, high = np.maximum(scene.low[sample], -scene.radius), np.minimum(scene.high[sample], scene.radius)
    inward = scene.sides[sample] * scene.normals[members]
    level = scene.sides[sample] * scene.boundaries[sample, members]
    scale = scene.reach or 1.0
    split = scene.norm is Norm.L1  # z = p - q with p, q >= 0 and a sum of at most the radius
    planes = np.concatenate([-inward, inward], axis=1) if split else -inward
    rows = np.concatenate([planes, np.ones((members.size, 1))], axis=1)
    right = -level / scale
    bounds = [*zip(low / scale, high / scale, strict=True)]
    if split:
        rows = np.concatenate([rows, [[*np.ones(2 * dimension), 0.0]]])
        right = np.append(right, scene.radius / scale)
        bounds = [
            *zip(np.zeros(dimension), high / scale, strict=True),
            *zip(np.zeros(dimension), -low / scale, strict=True),
        ]
    found = linprog(
        [*np.zeros(rows.shape[1] - 1), -1.0],
        A_ub=rows,
        b_ub=right,
        bounds=[*bounds, (None, 2 * MARGIN * scene.margin / scale)],
        options={"primal_feasibility_tolerance": _TOLERANCE, "dual_feasibility_tolerance": _TOLERANCE},
    )
    if found.x is None:
        return -np.inf, np.zeros(dimension), np.ones(members.size)
    move = scale * (
        found.x[:dimension] - found.x[dimension : 2 * dimension] if split else found.x[:dimension]
    )
    return (
        scale * float(found.x[-1]),
        _inside(scene, move, low, high),
        -found.ineqlin.marginals[: members.size],
    )


def _inside(scene: Scene, move: FloatArray, low: FloatArray, high: FloatArray) -> npt.NDArray[np.float64]:
    """The move without what the solver's tolerance put outside."""
    move = np.clip(move, low, high)
    length = float(np.abs(move).sum())
    return move * (scene.radius / length) if scene.norm is Norm.L1 and length > scene.radius else move

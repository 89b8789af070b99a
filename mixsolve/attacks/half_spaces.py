"""Which sets of half-spaces a ball reaches: every set, by the nearest points of their intersections.

The points of a ball, cut by facets, that lie in all half-spaces of a set are a convex body. If there are any, the one
nearest to the centre lies on the boundaries of a few of these half-spaces and facets, at most as many as there are
dimensions, and is the point of their intersection nearest to the centre. So the nearest points of all intersections of
few boundaries visit every set that can be reached.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import numpy.typing as npt

from mixsolve.attacks.balls import Norm

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint64]

MARGIN = 1e-9
"""How deep in a half-space a point has to be to count, in units of the scene: far above rounding."""

_ROUNDING = 1e-12
_PARALLEL = 1e-10
_MERGE_AT = 1 << 21


@dataclass(frozen=True, eq=False)
class Scene:
    """Half-spaces and a ball cut by a box around every sample; moves z are counted from its centre.

    Half-space k of sample i holds the moves with ``side_i (<normal_k, z> - boundary_ik) >= margin``.
    """

    normals: FloatArray
    """(K, d) of length 1 or 0."""
    boundaries: FloatArray
    """(n, K); infinite where a half-space is everything or nothing."""
    sides: FloatArray
    """(n,) 1 or -1."""
    norm: Norm
    radius: float
    low: FloatArray
    """(n, d) <= 0, the box; infinite where there is none."""
    high: FloatArray
    """(n, d) >= 0"""

    @property
    def reach(self) -> float:
        """No move of the ball is longer in l2."""
        dimension = self.normals.shape[1]
        return self.radius * (math.sqrt(dimension) if self.norm is Norm.LINF else 1.0)

    @property
    def extent(self) -> FloatArray:
        """(K,) how far the ball goes along the normals: its radius times their dual norm."""
        order = {Norm.L1: np.inf, Norm.L2: 2, Norm.LINF: 1}[self.norm]
        return self.radius * np.asarray(np.linalg.norm(self.normals, order, axis=1))

    @property
    def is_cut(self) -> npt.NDArray[np.bool_]:
        """(n,) whether the box cuts the ball."""
        return np.asarray(np.any((self.low > -self.radius) | (self.high < self.radius), axis=1))

    @property
    def margin(self) -> float:
        finite = np.abs(self.boundaries[np.isfinite(self.boundaries)])
        return MARGIN * (self.reach + float(finite.max(initial=0.0)) or 1.0)

    def depth(self, samples: IntArray, moves: FloatArray) -> FloatArray:
        """How deep moves (n, d) of the listed samples lie in every half-space, (n, K); negative outside."""
        return self.sides[samples, None] * (moves @ self.normals.T - self.boundaries[samples])

    def codes(self, samples: IntArray, moves: FloatArray) -> Codes:
        """The half-spaces that hold each move, bit k for half-space k."""
        inside = self.depth(samples, moves) >= self.margin / 2
        bits = np.uint64(1) << np.arange(inside.shape[1], dtype=np.uint64)
        return np.asarray((inside * bits).sum(axis=1, dtype=np.uint64))

    def holds(self, samples: IntArray, moves: FloatArray) -> npt.NDArray[np.bool_]:
        """Whether moves are in the ball and the box, up to rounding."""
        order = {Norm.L1: 1, Norm.L2: 2, Norm.LINF: np.inf}[self.norm]
        slack = _ROUNDING * self.reach
        boxed = (moves >= self.low[samples] - slack) & (moves <= self.high[samples] + slack)
        return np.asarray(boxed.all(axis=1) & (np.linalg.norm(moves, order, axis=1) <= self.radius + slack))

    def possible(self) -> npt.NDArray[np.bool_]:
        """(n, K) half-spaces that the ball touches, the box left aside."""
        return self.sides[:, None] * -self.boundaries + self.extent >= self.margin

    def undecided(self) -> npt.NDArray[np.bool_]:
        """(n, K) half-spaces that may hold a part of the ball but not all of it."""
        return self.possible() & (self.sides[:, None] * -self.boundaries - self.extent < self.margin)

    def facets(self) -> tuple[FloatArray, FloatArray]:
        """Of the ball, if it has any, and of the box: outward normals (F, d), and distances (n, F)."""
        n_samples, dimension = self.low.shape
        axes = np.eye(dimension)
        low, high = self.low, self.high
        if self.norm is Norm.LINF:
            low, high = np.maximum(low, -self.radius), np.minimum(high, self.radius)
        normals = [axes, -axes] if np.isfinite(low).any() or np.isfinite(high).any() else []
        distances = [high, -low] if normals else []
        if self.norm is Norm.L1:
            signs = np.array(list(product([-1.0, 1.0], repeat=dimension))) / math.sqrt(dimension)
            normals.append(signs)
            distances.append(np.full((n_samples, len(signs)), self.radius / math.sqrt(dimension)))
        if not normals:
            return np.empty((0, dimension)), np.empty((n_samples, 0))
        return np.concatenate(normals), np.concatenate(distances, axis=1)

    def count_facets(self) -> int:
        """How many `facets` there are."""
        dimension = self.low.shape[1]
        boxed = self.norm is Norm.LINF or np.isfinite(self.low).any() or np.isfinite(self.high).any()
        return (2 * dimension if boxed else 0) + (1 << dimension if self.norm is Norm.L1 else 0)


def count_boundaries(n_half_spaces: int, n_facets: int, most: int, enough: int) -> int:
    """How many sets of at most `most` boundaries there are, each with a half-space's; counted up to `enough`."""
    total = 1
    for size in range(1, most + 1):
        total += math.comb(n_half_spaces + n_facets, size) - math.comb(n_facets, size)
        if total > enough:
            break
    return total


@dataclass(eq=False)
class Visits:
    """Sets visited on every sample, each with a move that reaches it."""

    sample: IntArray
    code: Codes
    move: FloatArray

    @classmethod
    def none(cls, dimension: int) -> Visits:
        return cls(np.empty(0, np.int64), np.empty(0, np.uint64), np.empty((0, dimension)))

    def __add__(self, other: Visits) -> Visits:
        return Visits(
            np.concatenate([self.sample, other.sample]),
            np.concatenate([self.code, other.code]),
            np.concatenate([self.move, other.move]),
        )

    def chosen(self, which: npt.NDArray[np.generic]) -> Visits:
        return Visits(self.sample[which], self.code[which], self.move[which])

    def distinct(self) -> Visits:
        """Each set of a sample once, by sample and code."""
        order = np.lexsort((self.code, self.sample))
        sample, code = self.sample[order], self.code[order]
        first = np.ones(order.size, dtype=np.bool_)
        first[1:] = (sample[1:] != sample[:-1]) | (code[1:] != code[:-1])
        return self.chosen(order[first])

    def maximal(self) -> Visits:
        """Of distinct sets, by sample: those that are part of no other one."""
        kept = np.ones(self.sample.size, dtype=np.bool_)
        starts = np.flatnonzero(np.diff(self.sample, prepend=-1))
        sizes = np.diff(starts, append=self.sample.size)
        for size in np.unique(sizes):
            block = max(1, (1 << 22) // int(size) ** 2)
            alike = starts[sizes == size]
            for first in range(0, alike.size, block):
                place = alike[first : first + block, None] + np.arange(size)
                code = self.code[place]
                part = (code[:, :, None] & ~code[:, None, :]) == 0
                kept[place] = part.sum(axis=2) == 1  # a set is part of itself
        return self.chosen(kept)


@dataclass(eq=False)
class NearestPoints:
    """The tree of sets of boundaries, walked for all samples at once; branches out of reach are cut."""

    scene: Scene
    most: int
    """Boundaries in a set."""
    with_facets: bool
    """Whether those of the ball and the box are boundaries too: without them only some sets are visited."""
    found: Visits = field(init=False)
    _new: list[Visits] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        n_samples, dimension = self.scene.low.shape
        self._undecided = self.scene.undecided()
        self._facets, self._distances = np.empty((0, dimension)), np.empty((n_samples, 0))
        if self.with_facets:
            self._facets, self._distances = self.scene.facets()
        self.found = Visits.none(dimension)

    def walk(self) -> Visits:
        """All sets visited, each sample's once."""
        n_samples, dimension = self.scene.low.shape
        samples = np.arange(n_samples)
        moves = np.zeros((n_samples, dimension))
        self._visit(samples, moves)
        self._extend(0, samples, moves, [])
        self._merge()
        return self.found

    def _extend(self, first: int, samples: IntArray, moves: FloatArray, basis: list[FloatArray]) -> None:
        scene = self.scene
        n_half_spaces = scene.normals.shape[0]
        last = n_half_spaces + (self._facets.shape[0] if basis else 0)
        for number in range(first, last):
            if number < n_half_spaces:
                normal = scene.normals[number]
                near = np.flatnonzero(self._undecided[samples, number])
                level = scene.boundaries[samples[near], number] + scene.sides[samples[near]] * scene.margin
            else:
                normal = self._facets[number - n_half_spaces]
                level = self._distances[samples, number - n_half_spaces]
                near = np.flatnonzero(level <= scene.reach)
                level = level[near]
            across = _orthogonal(normal, basis)
            if across is None or not near.size:
                continue
            stepped = moves[near] + np.outer((level - moves[near] @ normal) / (across @ normal), across)
            close = np.flatnonzero(np.linalg.norm(stepped, axis=1) <= scene.reach * (1 + _ROUNDING))
            if not close.size:
                continue
            here, stepped = samples[near[close]], stepped[close]
            self._visit(here, stepped)
            if len(basis) + 1 < self.most:
                self._extend(number + 1, here, stepped, [*basis, across])

    def _visit(self, samples: IntArray, moves: FloatArray) -> None:
        inside = np.flatnonzero(self.scene.holds(samples, moves))
        samples, moves = samples[inside], moves[inside]
        self._new.append(Visits(samples, self.scene.codes(samples, moves), moves))
        if sum(part.sample.size for part in self._new) * moves.shape[1] > _MERGE_AT:
            self._merge()

    def _merge(self) -> None:
        for part in self._new:
            self.found = self.found + part
        self.found = self.found.distinct().maximal()
        self._new.clear()


def _orthogonal(normal: FloatArray, basis: list[FloatArray]) -> FloatArray | None:
    """The unit vector along what is left of a normal beside an orthonormal basis; None when that is nothing."""
    left = normal
    for _ in range(2):  # the second time for what rounding left
        for direction in basis:
            left = left - (left @ direction) * direction
        length = float(np.linalg.norm(left))
        if length <= _PARALLEL:
            return None
        left = left / length
    return left

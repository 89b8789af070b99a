"""The game on the core of row generation, and the strategies of both players that solve it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mixsolve.master import solve_core, solve_core_by_highs
from mixsolve.reduction import combined_largest, combined_sum
from mixsolve.simplex import normalise_weights
from mixsolve.solvers.purify import purify
from mixsolve.strategy import RowAttack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve import _native
    from mixsolve.master import CoreSolution
    from mixsolve.reduction import Reducer
    from mixsolve.solvers.active_rows import ActiveRows

NEAREST_ROWS = 4
"""The attack is written down with so many times n_classifiers of the rows that are nearest to being best responses."""

FEW_ROWS = 1000
"""Rows that a part of a large core holds, beside a best response of every sample."""

FEWER, FEWEST = 8, 32
"""It holds this part of the core's rows if that is more: where the solution is not known well yet, and where it is."""

PURE_ULPS = 100
"""Of the largest loss, that a purer strategy may prove less."""

FEW_MIXED = 200
"""So many rows beyond one a sample are used up one by one; where there are more, a linear programme is quicker."""

PICKED = 0.2
"""Of the samples of a large core, to find out near which mixture its solution lies."""


@dataclass(frozen=True, eq=False)
class CoreGame:
    """The game on some rows of every sample of positive weight.

    Samples with a single row are one linear term together: the master sees them as one sample with one row.
    """

    place: NDArray[np.int64]
    """(n,) of each row in the core, rising."""
    sample: NDArray[np.int64]
    attack: NDArray[np.int64]
    alone: NDArray[np.bool_]
    """(n,) whether the row is its sample's only one."""
    losses: NDArray[np.float64]
    """(n_master, n_classifiers) rows as the master sees them: of samples with several, then the mean of the others."""
    offsets: NDArray[np.int64]
    share: NDArray[np.float64]
    """Sums to 1 over the processes that hold the game together."""
    reducer: Reducer

    @classmethod
    def of(cls, core: ActiveRows, chosen: NDArray[np.int64]) -> CoreGame:
        """The game on the chosen rows of the core."""
        sample, attack = core.sample[chosen], core.attack[chosen]
        counts = np.bincount(sample, minlength=core.share.size)
        alone = counts[sample] == 1
        losses = core.rows[chosen[~alone]]
        several = counts > 1
        sizes, share = counts[several], core.share[several]
        if alone.any():
            mass = np.zeros(core.n_rows)
            mass[chosen[alone]] = core.share[sample[alone]]
            losses = np.concatenate([losses, (mass @ core.rows)[None] / mass.sum()])
            sizes, share = np.append(sizes, 1), np.append(share, mass.sum())
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        share = share / combined_sum(core.reducer, share.sum())
        return cls(chosen, sample, attack, alone, losses, offsets, share, core.reducer)

    @property
    def n_several(self) -> int:
        """Samples with several rows."""
        return self.share.size - bool(self.alone.any())

    def nearest(self, weights: NDArray[np.float64], room: int) -> CoreGame:
        """The game on a best response of every sample to a mixture, and on the `room` rows nearest to being one."""
        several = np.flatnonzero(~self.alone)
        owner = np.repeat(np.arange(self.n_several), np.diff(self.offsets)[: self.n_several])
        scores = self.losses[: several.size] @ weights
        slack = np.maximum.reduceat(scores, self.offsets[: self.n_several])[owner] - scores
        kept = _best_and_nearest(slack, owner, room)
        sizes = np.bincount(owner[kept], minlength=self.n_several)
        single = kept[sizes[owner[kept]] == 1]
        alone, stays = self.alone.copy(), self.alone.copy()
        alone[several[single]] = True
        stays[several[kept]] = True
        remaining = np.flatnonzero(stays)

        mass = self.share[owner[single]]
        rest, total = mass @ self.losses[single], mass.sum()
        if self.alone.any():
            rest, total = rest + self.share[-1] * self.losses[-1], total + self.share[-1]
        losses, share = self.losses[kept[sizes[owner[kept]] > 1]], self.share[: self.n_several][sizes > 1]
        sizes = sizes[sizes > 1]
        if total > 0:
            losses = np.concatenate([losses, (rest / total)[None]])
            share, sizes = np.append(share, total), np.append(sizes, 1)
        return CoreGame(
            self.place[remaining],
            self.sample[remaining],
            self.attack[remaining],
            alone[remaining],
            losses,
            np.concatenate([[0], np.cumsum(sizes)]),
            share / share.sum(),
            self.reducer,
        )

    @property
    def nbytes(self) -> int:
        """Memory that solving the game takes, roughly."""
        return 2 * self.losses.nbytes + 128 * len(self.losses) + 17 * self.sample.size

    def solve(
        self, gap: float, threads: int | None = None, cancel: _native.CancelToken | None = None
    ) -> Equilibrium:
        """Solve it to an absolute gap, or as well as rounding allows."""
        found = solve_core(
            self.losses,
            self.offsets,
            self.share,
            gap=gap,
            threads=threads,
            cancel=cancel,
            reducer=self.reducer,
        )
        return self._equilibrium(found)

    def solve_at_vertex(self) -> Equilibrium:
        """Solve it by a simplex method: slower, but the attacker mixes on few samples."""
        return self._equilibrium(solve_core_by_highs(self.losses, self.offsets, self.share, gap=0.0))

    def _equilibrium(self, found: CoreSolution) -> Equilibrium:
        probability = np.ones(self.sample.size)
        sizes = np.diff(self.offsets)
        several = self.sample.size - np.count_nonzero(self.alone)
        probability[~self.alone] = found.duals[:several] / np.repeat(self.share, sizes)[:several]
        return Equilibrium(
            self, normalise_weights(found.weights), probability, found.value, found.lower_bound
        )


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """Strategies of both players in a game on the core."""

    game: CoreGame
    weights: NDArray[np.float64]
    """(n_classifiers,) a mixture."""
    probability: NDArray[np.float64]
    """(n,) of the game's rows; sums to 1 over each sample."""
    value: float
    """Worst case of the mixture over the game's rows."""
    lower: float
    """``min_k sum_r s_i(r) probability_r row_rk``: a lower bound on the value of the whole table."""

    def as_rows(self, n_samples: int) -> RowAttack:
        """The attacker's strategy as explicit rows; samples of weight 0 are attacked at their first.

        An interior point spreads its strategy over all nearly best rows. One that is pure for all but
        n_classifiers - 1 samples is made of it, or found by a linear programme on few rows; it is taken if it proves
        the same bound up to rounding.
        """
        chosen = self
        few = self._n_mixed <= FEW_MIXED or self.game.reducer.size > 1
        if self._n_mixed > 0 and few:
            chosen = self._purer()
        elif self._n_mixed > 0:
            vertex = self.game.nearest(self.weights, NEAREST_ROWS * self.weights.size).solve_at_vertex()
            size = float(np.abs(self.game.losses).max())
            if vertex.lower >= self.lower - np.finfo(np.float64).eps * size:
                chosen = vertex
        used = np.flatnonzero(chosen.probability)
        sample, attack = chosen.game.sample[used], chosen.game.attack[used]
        cited = np.zeros(n_samples, dtype=np.bool_)
        cited[sample] = True
        unweighted = np.flatnonzero(~cited)
        return RowAttack(
            sample=np.concatenate([sample, unweighted]),
            attack=np.concatenate([attack, np.zeros_like(unweighted)]),
            probability=np.concatenate([chosen.probability[used], np.ones(unweighted.size)]),
            n_samples=n_samples,
        )

    @property
    def _n_mixed(self) -> int:
        """How many more rows are used than one a sample; 0 where they are as few as at a vertex."""
        used = np.count_nonzero(self.probability[~self.game.alone])
        extra = int(used) - self.game.n_several
        return extra if extra >= max(self.weights.size, 1) else 0

    def _purer(self) -> Equilibrium:
        """The same equilibrium with the attacker mixing on few samples, unless rounding costs some of the bound."""
        game = self.game
        several = np.flatnonzero(~game.alone)
        own = np.repeat(game.share, np.diff(game.offsets))[: several.size]
        before = self.probability[several]
        pure = purify(game.losses[: several.size], game.sample[several], own, before)
        change = (own * (pure - before)) @ game.losses[: several.size]
        slack = PURE_ULPS * float(np.finfo(np.float64).eps) * float(np.abs(game.losses).max())
        if change.min() < -slack:
            return self
        probability = self.probability.copy()
        probability[several] = pure
        return replace(self, probability=probability)


def solve_game(
    core: ActiveRows,
    gap: float,
    *,
    near: NDArray[np.float64] | None = None,
    loose: float = 0.0,
    threads: int | None = None,
    cancel: _native.CancelToken | None = None,
) -> Equilibrium:
    """Solve the game on the core to an absolute gap.

    A large core is solved on the rows that are nearest to being best responses to `near`; rows that beat these at the
    solution are brought in until they add no more than `loose`. Where `near` is not known, the solution for a part of
    the samples takes its place.
    """

    def play(chosen: NDArray[np.int64], gap: float) -> Equilibrium:
        game = CoreGame.of(core, chosen)
        core.note_memory(game.nbytes)
        return game.solve(gap, threads, cancel)

    everything = np.arange(core.n_rows)
    n_rows = round(combined_sum(core.reducer, core.n_rows))
    room = max(FEW_ROWS, n_rows // (FEWER if near is None else FEWEST))
    if n_rows <= 2 * room:
        return play(everything, gap)
    room = room * core.n_rows // n_rows
    if near is None:
        picked = np.random.default_rng(0).random(core.share.size) < PICKED
        part = np.flatnonzero(picked[core.sample])
        some = combined_sum(core.reducer, part.size) > 0
        near = play(part if some else everything, max(gap, loose)).weights
    active = np.zeros(core.n_rows, dtype=np.bool_)
    while True:
        active[nearest_rows(core, near, room)] = True
        found = play(np.flatnonzero(active), gap)
        near, value = found.weights, core.value(found.weights)
        if value - found.value <= max(gap, loose):
            return replace(found, value=value)
        scores = core.rows @ near
        missing = scores > core.highest(np.where(active, scores, -np.inf))[core.sample]
        if not combined_largest(core.reducer, missing.any()):
            return replace(found, value=value)
        active |= missing


def nearest_rows(core: ActiveRows, weights: NDArray[np.float64], room: int) -> NDArray[np.int64]:
    """A best response of every sample to a mixture, and the `room` others that are nearest to being one; rising."""
    scores = core.rows @ weights
    return _best_and_nearest(core.highest(scores)[core.sample] - scores, core.sample, room)


def _best_and_nearest(slack: NDArray[np.float64], owner: NDArray[np.int64], room: int) -> NDArray[np.int64]:
    """The first row of slack 0 of every owner, and the `room` others of least slack; rising."""
    chosen = np.zeros(slack.size, dtype=np.bool_)
    best = np.flatnonzero(slack == 0)
    chosen[best[np.diff(owner[best], prepend=-1) > 0]] = True
    others = np.flatnonzero(~chosen)
    if others.size > room:
        others = others[np.argpartition(slack[others], room)[:room]]
    chosen[others] = True
    return np.flatnonzero(chosen)

"""Games without a table: the oracle protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from mixsolve.inputs import check_sample_weight, real_array
from mixsolve.passes import PassAnswer
from mixsolve.reduction import ALONE, Reducer
from mixsolve.solvers.oracle_memory import OracleMemory

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mixsolve import _native
    from mixsolve.chunks import Chunks, Subsamples, Survey
    from mixsolve.solvers.source import Visitor
    from mixsolve.table import LossTable


@dataclass(frozen=True, eq=False)
class OracleAnswer:
    """One or more attacks on every sample, given as the losses of all classifiers.

    Attributes
    ----------
    losses : array, (n_classifiers, n, r)
        Losses on r attacks for each of n samples.
    samples : array of int, (n,), optional
        Which samples, each once; all, in order, by default. The others are attacked as before, by the best attack
        answered so far; so the first answer lists all. `OracleSubgradient` keeps no attacks and accepts all only.
    delta : float, optional
        The answer's mean losses are within `delta` of those of a best response, for every classifier. 0: it is a best
        response. None: not known; then the answers prove no upper bound.
    points : object, optional
        The attacks themselves, for the caller's own use.
    """

    losses: Any
    samples: Any = None
    delta: float | None = None
    points: Any = None


class Oracle(Protocol):
    """The adversary: a good attack on every sample against a mixture."""

    def __call__(self, weights: NDArray[np.float64]) -> OracleAnswer:
        """Answer the mixture `weights`, (n_classifiers,)."""


class OracleSource:
    """An oracle behind the driver: one query at temperature 0 at a time.

    Parameters
    ----------
    oracle : callable
    n_classifiers : int
    sample_weight : array, (n_samples,), optional
        Uniform by default.
    remembers : bool
        Keep all attacks: an answer is then the best attack known on every sample.
    """

    table: LossTable | Chunks | None = None
    reducer: Reducer = ALONE
    surveyed: Survey | None = None
    statistics: ClassVar[dict[str, int]] = {}
    always_float64 = True

    def __init__(
        self,
        oracle: Oracle,
        n_classifiers: int,
        sample_weight: ArrayLike | None = None,
        *,
        remembers: bool = False,
    ) -> None:
        self.n_classifiers = n_classifiers
        self.memory = OracleMemory() if remembers else None
        self._oracle = oracle
        self._given_weight = sample_weight
        self._share: NDArray[np.float64] | None = None

    def answer(
        self,
        weights: NDArray[np.float64],
        temperature: NDArray[np.float64],
        *,
        float64_scores: bool = False,
        best_attack: bool = False,
        hessians: int = 0,
        visit: Visitor | None = None,
        cancel: _native.CancelToken | None = None,
    ) -> tuple[PassAnswer, float]:
        """The best of the oracle's attacks on every sample, and how far from best they may be together."""
        given = self._oracle(weights[0].copy())
        losses = self._check(given)
        slack = math.inf if given.delta is None else float(given.delta)
        if self.memory is not None:
            self._remember(weights[0], given.samples, losses)
            best = self.memory.answer(weights[0])
            if visit is not None:
                visit(0, best)
            return best, slack
        if given.samples is not None and not np.array_equal(given.samples, np.arange(losses.shape[1])):
            raise ValueError("`OracleAnswer.samples` must be None or list all samples in order; got others")
        chosen = np.einsum("k,kij->ij", weights[0], losses).argmax(axis=1)
        mean_losses = losses[:, np.arange(chosen.size), chosen] @ self._shares(chosen.size)
        answer = PassAnswer(
            value=weights @ mean_losses,
            gradient=mean_losses[None],
            per_sample=None,
            best_attack=None,
            best_row=None,
            bytes_read=0,
        )
        return answer, slack

    def loss_range(self) -> tuple[float, float]:
        raise NotImplementedError("an oracle has no smallest and largest loss")

    def subsamples(self, seed: int, cancel: _native.CancelToken | None = None) -> Subsamples:
        raise NotImplementedError("an oracle has no samples to choose from")

    def _check(self, given: OracleAnswer) -> NDArray[np.float64]:
        if not isinstance(given, OracleAnswer):
            raise TypeError(f"`losses`, an oracle, must return an OracleAnswer; got {type(given).__name__}")
        losses = real_array(given.losses, "OracleAnswer.losses").astype(np.float64)
        if losses.ndim != 3 or losses.shape[0] != self.n_classifiers or 0 in losses.shape:
            raise ValueError(
                f"`OracleAnswer.losses` must have shape ({self.n_classifiers}, samples, attacks); "
                f"got shape {losses.shape}"
            )
        if not np.isfinite(losses).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(losses))[0])
            raise ValueError(f"`OracleAnswer.losses` must be finite; got {losses[where]} at {where}")
        if given.delta is not None and not 0 <= given.delta < math.inf:
            raise ValueError(
                f"`OracleAnswer.delta` must be a finite number >= 0 or None; got {given.delta!r}"
            )
        return losses

    def _remember(self, weights: NDArray[np.float64], samples: Any, losses: NDArray[np.float64]) -> None:
        assert self.memory is not None
        known = self.memory.n_samples
        listed = np.arange(losses.shape[1]) if samples is None else np.asarray(samples)
        if listed.dtype.kind not in "iu" or listed.shape != losses.shape[1:2]:
            raise ValueError(
                f"`OracleAnswer.samples` must be {losses.shape[1]} integers like the losses; "
                f"got type {listed.dtype}, shape {listed.shape}"
            )
        last = (known or listed.size) - 1
        if np.unique(listed).size != listed.size or listed.min() < 0 or listed.max() > last:
            raise ValueError(f"`OracleAnswer.samples` must be distinct, in 0..{last}; got {listed}")
        if not known:
            self.memory.begin(self.n_classifiers, self._shares(listed.size))
        elif samples is None:
            self._shares(listed.size)
        self.memory.take(weights, listed.astype(np.int64), losses)

    def _shares(self, n_samples: int) -> NDArray[np.float64]:
        """The sample weights, fixed by the first answer."""
        if self._share is None:
            checked = check_sample_weight(self._given_weight, n_samples)
            self._share = np.full(n_samples, 1 / n_samples) if checked is None else checked
        if self._share.size != n_samples:
            raise ValueError(
                f"`OracleAnswer.losses` must have {self._share.size} samples like the first answer; got {n_samples}"
            )
        return self._share

"""Evaluate a mixture: attack by attack, at joint points, and against what else its members could do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mixsolve.fit import fit_mixture
from mixsolve.neural.apgd import APGD
from mixsolve.neural.arc import ARC
from mixsolve.neural.attack import Attack, Keep
from mixsolve.neural.budget import Budget
from mixsolve.neural.climber import LatticeClimber
from mixsolve.neural.losses import AttackLoss
from mixsolve.neural.mixture import Mixture
from mixsolve.neural.pool import Weights
from mixsolve.neural.report import AttackRow, Estimate, EvaluationReport, FloatArray, Players
from mixsolve.neural.work import EvaluationProgress, Piece, Work

Answers = npt.NDArray[np.int64]

JOINT = "joint union"


def standard_attacks(steps: int = 100, restarts: int = 5) -> dict[str, Attack]:
    """APGD on the cross-entropy and on the difference of logits ratio, as the paper reports, ARC, and the climber."""
    return {
        "APGD-CE": APGD(steps, restarts),
        "APGD-DLR": APGD(steps, restarts, AttackLoss.DLR),
        "ARC": ARC(),
        "climber": LatticeClimber(),
    }


def evaluate(
    mixture: Mixture,
    loader: Iterable[tuple[Tensor, Tensor]],
    budget: Budget,
    attacks: Mapping[str, Attack] | None = None,
    *,
    seed: int = 0,
    held_out: bool = True,
    folder: str | os.PathLike[str] | None = None,
    progress: Callable[[EvaluationProgress], None] | None = None,
) -> EvaluationReport:
    """Attack a mixture with every attack, and report what it and its members are worth.

    Every attack is aimed at the mixture; to pool points for the game between its members, the first one is aimed
    at each member, at the uniform mixture and at the optimal one as well.

    Parameters
    ----------
    mixture : Mixture
    loader : iterable of (x, y)
        Batches, the same ones in the same order whenever it is run through: no shuffling.
    budget : Budget
    attacks : mapping of name to Attack, optional
        Each with ``Keep.FRACTION``; `standard_attacks` by default. Every name gets a column.
    seed : int
        Random starts belong to samples: the size of batches does not matter.
    held_out : bool
        Attack once more with other random numbers, aimed at the optimal mixture too, and report the risks there: the
        optimal weights are fitted on the pool, and look too good on it. Doubles the cost.
    folder : path, optional
        Finished pieces are kept there, and not done again when the same evaluation is run once more.
    progress : callable (EvaluationProgress) -> None, optional

    Returns
    -------
    EvaluationReport

    Raises
    ------
    TypeError, ValueError
        For attacks that keep something else, data outside the budget's bounds, or a folder of another evaluation.

    Notes
    -----
    Accuracy of a mixture at a point is the weight of the members that are right there. Robust accuracy is the mean
    over samples of its minimum over points, each of them one joint point for all members.
    """
    started = time.perf_counter()
    chosen = dict(standard_attacks() if attacks is None else attacks)
    _check(chosen)
    work = Work(mixture, list(loader), budget, seed, None if folder is None else Path(folder), progress)
    given = mixture.weights.cpu().numpy()
    first, aims = next(iter(chosen)), _aims(mixture.n_members)
    work.begin(chosen, len(chosen) + len(aims) + held_out * (len(chosen) + len(aims) + 1))
    labels, clean = work.labels, work.clean()

    def attacked(suffix: str) -> tuple[dict[str, Piece], list[Piece]]:
        own = {name: work.attack(name + suffix, attack, given) for name, attack in chosen.items()}
        aimed = [work.attack(f"{first} at {who}{suffix}", chosen[first], aim) for who, aim in aims.items()]
        return own, aimed

    own, aimed = attacked("")
    pool = np.stack([clean, *(piece.answers for piece in (*own.values(), *aimed))], axis=2)
    wrong = pool != labels[:, None]
    solution = fit_mixture(wrong)
    best = int(wrong.any(axis=2).mean(axis=1).argmin())
    fresh = None
    if held_out:
        again, aimed_again = attacked(", fresh")
        last = work.attack(f"{first} at the optimal mixture, fresh", chosen[first], solution.weights)
        pieces = (*again.values(), *aimed_again, last)
        fresh = np.stack([clean, *(piece.answers for piece in pieces)], axis=2)
    rows = tuple(_row(name, piece, labels, given) for name, piece in own.items())
    return EvaluationReport(
        samples=len(labels),
        weights=tuple(given.tolist()),
        budget=str(budget),
        clean=Estimate.of(given @ (clean == labels)),
        member_clean=tuple((clean == labels).mean(axis=1).tolist()),
        attacks=rows,
        joint=_joint(rows, given @ (clean == labels)),
        per_model_union=Estimate.of(given @ ~wrong.any(axis=2)),
        solution=solution,
        pooled=_players(pool, labels, given, solution.weights, best),
        held_out=None if fresh is None else _players(fresh, labels, given, solution.weights, best),
        pool_points=pool.shape[2],
        seconds=time.perf_counter() - started,
    )


def _check(attacks: Mapping[str, Attack]) -> None:
    wrong = [name for name, attack in attacks.items() if attack.keep is not Keep.FRACTION]
    if wrong or not attacks:
        raise ValueError(
            f"`attacks` must keep Keep.FRACTION, the points that hurt the mixture most; got {wrong or 'none'}"
        )


def _aims(n_members: int) -> dict[str, Weights]:
    """The mixtures that the pool's points are aimed at, beside the one that is evaluated."""
    if n_members == 1:
        return {}
    members = {f"member {number}": row for number, row in enumerate(np.eye(n_members))}
    return {**members, "the uniform mixture": np.full(n_members, 1 / n_members)}


def _row(name: str, piece: Piece, labels: Answers, weights: Weights) -> AttackRow:
    fraction = weights @ (piece.answers == labels)
    return AttackRow(name, Estimate.of(fraction), fraction, piece.looks / len(labels), piece.seconds)


def _joint(rows: tuple[AttackRow, ...], clean: FloatArray) -> AttackRow:
    """The lowest fraction of every sample, over the attacks on the mixture and the input itself."""
    fraction = np.min([clean, *(row.fraction for row in rows)], axis=0)
    looks, seconds = sum(row.looks_per_sample for row in rows), sum(row.seconds for row in rows)
    return AttackRow(JOINT, Estimate.of(fraction), fraction, looks, seconds)


def _players(pool: Answers, labels: Answers, given: Weights, optimal: Weights, best: int) -> Players:
    """Risks on a pool (n_members, n_samples, points): that of every sample at its worst point for the player."""
    wrong = pool != labels[:, None]
    n_members = len(pool)

    def risk(weights: Weights) -> FloatArray:
        worst: FloatArray = np.tensordot(weights, wrong, axes=1).max(axis=1)
        return worst

    single = np.eye(n_members)[best]
    voted = [
        np.tensordot(given, pool == label, axes=1) for label in range(int(max(pool.max(), labels.max())) + 1)
    ]
    vote = (np.argmax(voted, axis=0) != labels[:, None]).any(axis=1).astype(np.float64)
    return Players(
        best_single=Estimate.of(risk(single)),
        best_member=best,
        uniform=Estimate.of(risk(np.full(n_members, 1 / n_members))),
        given=Estimate.of(risk(given)),
        optimal=Estimate.of(risk(optimal)),
        vote=Estimate.of(vote),
        gain=Estimate.of(risk(single) - risk(optimal)),
    )

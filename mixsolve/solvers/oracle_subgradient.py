"""The paper's Algorithm 1: projected subgradient steps against an oracle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mixsolve.certificate import Queries
from mixsolve.inputs import check_integer
from mixsolve.results import Status
from mixsolve.simplex import normalise_weights, project_to_simplex
from mixsolve.solvers.protocol import Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.solvers.protocol import Problem, Steps
    from mixsolve.solvers.source import Source


@dataclass(frozen=True)
class OracleSubgradient:
    """Algorithm 1 of the paper, for temperature 0; the adversary is a table or any oracle.

    From w_0, the start, with ``eta = 2 / (M sqrt(L T))``::

        for t = 1..T:   g_t = mean losses of an attack within delta of a best response to w_{t-1}
                        w_t = Proj_simplex(w_{t-1} - eta g_t)

    guarantees ``min_t F_0(w_t) - V <= 2 delta + 2 M sqrt(L) / sqrt(T)`` over w_0..w_{T-1} (Proposition 6); so does
    the mean of these iterates, with the mean of the answers as the attacker's strategy. The best iterate or the mean,
    whichever is better, is returned; the mean iterate and the mean answer are in the result's `statistics`.

    Attributes
    ----------
    iterations : int
        T; fixes the step as well.
    loss_bound : float, optional
        M: every loss of a classifier lies in an interval of length M, such as [0, M]. By default the difference of the
        table's largest and smallest loss, found in one read. Without a table it must be given.

    References
    ----------
    Meunier et al., ICML 2021, Algorithm 1 and Proposition 6. A constant added to all losses adds a multiple of
    (1, .., 1) to every g_t, which the projection removes: hence an interval of length M is enough.
    """

    iterations: int
    loss_bound: float | None = None

    def __post_init__(self) -> None:
        check_integer("iterations", self.iterations, 1)
        if self.loss_bound is not None and not 0 < self.loss_bound < math.inf:
            raise ValueError(f"`loss_bound` must be a positive number or None; got {self.loss_bound!r}")

    def check(self, source: Source, temperature: float | NDArray[np.float64]) -> None:
        if np.any(np.asarray(temperature) > 0):
            raise ValueError(f"`temperature` must be 0 for OracleSubgradient; got {temperature}")
        if source.table is None and self.loss_bound is None:
            raise ValueError("`loss_bound` must be given when the game is behind an oracle; got None")

    def iterate(self, problem: Problem) -> Steps:
        bound = self.loss_bound
        if bound is None:
            smallest, largest = problem.desk.loss_range()
            bound = largest - smallest or 1.0  # all losses equal: any step does
        assert problem.first is not None
        w, answer = problem.start, problem.first
        step = 2 / (bound * math.sqrt(problem.n_classifiers * self.iterations))
        mean_w, mean_g = np.zeros_like(w), np.zeros_like(w)
        for t in range(1, self.iterations + 1):
            if t > 1:
                answer = yield Queries(w[None], np.zeros(1))
            g = answer.gradient[0]
            mean_w += (w - mean_w) / t
            mean_g += (g - mean_g) / t
            problem.desk.note(average_weights=mean_w, average_answer=mean_g)
            w = project_to_simplex(w - step * g)
        yield Queries(normalise_weights(mean_w)[None], np.zeros(1))
        return Outcome(Status.ITERATION_LIMIT)

"""What a solve returns: the mixture, its certificate, how it ended, and its file."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve.documents import decode_float, encode_float, write_document

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray

    from mixsolve.strategy import RowAttack
    from mixsolve.table import LossTable


class Status(IntEnum):
    """How a solve ended. The numbers never change once released."""

    OPTIMAL = 0
    PASS_LIMIT = 1
    ITERATION_LIMIT = 2
    TIME_LIMIT = 3
    INTERRUPTED = 4
    STOPPED_BY_CALLBACK = 5
    NUMERICAL_ERROR = 6
    ORACLE_LIMIT = 7
    TABLE_CHANGED = 8

    @property
    def message(self) -> str:
        """One sentence for people."""
        return _STATUS_MESSAGES[self]


_STATUS_MESSAGES = {
    Status.OPTIMAL: "the certified gap meets the tolerance",
    Status.PASS_LIMIT: "the limit on passes was reached; this is the best mixture so far",
    Status.ITERATION_LIMIT: "the solver made its number of iterations; this is the best mixture so far",
    Status.TIME_LIMIT: "the time limit was reached; this is the best mixture so far",
    Status.INTERRUPTED: "interrupted from the keyboard; this is the best mixture so far",
    Status.STOPPED_BY_CALLBACK: "the callback asked to stop; this is the best mixture so far",
    Status.ORACLE_LIMIT: "the oracle finds no better attack; the gap is what its answers leave open",
    Status.TABLE_CHANGED: "the table changed or could not be read any more; this is the best mixture so far",
    Status.NUMERICAL_ERROR: "floating point allows no further progress; this is the best mixture so far",
}


class TableChangedError(OSError):
    """A table that is read from files or an iterator changed, vanished or could not be read during a solve."""

    result: MixtureResult | None = None
    """The best mixture so far, with what is proved of it; None before the first pass."""


@dataclass(frozen=True)
class Progress:
    """Where a solve stands after a pass."""

    passes: int
    """Full reads of the table so far."""
    evaluations: int
    """Queries answered so far."""
    seconds: float
    """Wall clock since the solve began."""
    value: float
    """Best upper bound so far; inf before there is one."""
    lower_bound: float
    """Best lower bound so far; -inf before there is one."""
    iterate_value: float = math.nan
    """Upper bound that this pass proved for `iterate`; nan when it evaluated no mixture (a point off the simplex)."""
    bytes_read: int = 0
    """Bytes of the table read so far."""
    iterate: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)
    """(n_classifiers,) the mixture that this pass evaluated first; None without one. Not saved in files."""

    @property
    def gap(self) -> float:
        """``value - lower_bound``."""
        return self.value - self.lower_bound


@dataclass(frozen=True)
class Statistics:
    """What a solve cost beyond its passes; None where the solver has no such thing."""

    peak_memory: int | None = None
    """Bytes held at most beyond the table, as accounted by the solver."""
    core_rows: int | None = None
    """Rows of the table that the solver's last subproblem held."""
    rows: int | None = None
    """Rows of the table before compression."""
    compressed_rows: int | None = None
    """Rows left after identical rows of a sample were merged, and of 0/1 losses what else is alike."""
    phase_seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall-clock seconds by phase."""
    answered_value: float | None = None
    """Of a game behind an oracle: value of the mixture against the attacks answered, without what they may lack."""
    average_weights: tuple[float, ...] | None = None
    """(n_classifiers,) mean of the iterates, from a solver that keeps it."""
    communicated: Mapping[str, int] | None = None
    """Bytes that each process received from the others of its group, by phase."""
    proxy_bytes_read: int | None = None
    """Bytes of the compact copy read, where losses were solved with a `proxy`."""
    rows_read: int | None = None
    """Rows of the losses looked up beside the proxy, once for each pass that needed them."""
    average_answer: tuple[float, ...] | None = None
    """(n_classifiers,) mean losses under the mean of the attacker's answers: the least of them is a lower bound."""

    def __post_init__(self) -> None:
        for name in ("average_weights", "average_answer"):
            if (kept := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(float(x) for x in kept))


class AttackStrategy(ABC):
    """A mixed strategy of the adversary: for every sample, a distribution over its attacks.

    Every strategy proves a lower bound on the value of the game. The two kinds are in `mixsolve.strategy`:
    explicit rows, and a convex combination of responses to mixtures.
    """

    @abstractmethod
    def rows(self, losses: Any = None, threshold: float = 0.0) -> RowAttack:
        """The strategy as explicit rows (`sample`, `attack`, `probability`)."""

    @abstractmethod
    def mean_losses(self, table: LossTable, *, threads: int | None = None) -> NDArray[np.float64]:
        """Mean loss of every classifier under this strategy, (n_classifiers,)."""

    @abstractmethod
    def lower_bound(self, table: LossTable, temperature: Any = 0.0, *, threads: int | None = None) -> float:
        """The lower bound on the value of the game that this strategy proves, recomputed in float64."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The strategy as JSON values."""


@dataclass(frozen=True, eq=False)
class MixtureResult:
    """An optimal, or best known, mixture with the certificate that says how good it is.

    The value of the table's game lies in ``[lower_bound, value]``: `value` is what `weights` guarantees
    against every attack of the table, `lower_bound` what `attack` inflicts on every mixture, both from
    float64 scores. Against attacks that are not in the table only the lower bound survives.
    """

    weights: NDArray[np.float64]
    """(n_classifiers,) the mixture; sums to 1 to the last ulp. Read only."""
    temperature: float | NDArray[np.float64]
    """The problem's: 0 for the worst case; an array when given per sample, (n_samples,)."""
    value: float
    """Objective at `weights`: an upper bound on the value of the game; inf when nothing was evaluated."""
    lower_bound: float
    """Proved by `attack`; -inf when there is none."""
    worst_case_value: float
    """Worst-case objective (temperature 0) at `weights`."""
    attack: AttackStrategy | None
    """The adversary's strategy that proves `lower_bound`."""
    status: Status
    message: str
    """The status in words, with what this solve adds to it."""
    passes: int
    """Full reads of the table."""
    evaluations: int
    """Queries answered."""
    bytes_read: int
    """Bytes of the table read, re-reads included."""
    seconds: float
    """Wall clock."""
    history: tuple[Progress, ...]
    """One entry a pass."""
    solver: str
    """The solver with its options, as it prints."""
    statistics: Statistics = field(default_factory=Statistics)

    def __post_init__(self) -> None:
        weights = np.array(self.weights, dtype=np.float64)
        weights.setflags(write=False)
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "history", tuple(self.history))

    @property
    def gap(self) -> float:
        """``value - lower_bound``: how far from optimal the mixture can be at most."""
        return self.value - self.lower_bound

    def sample(self, rng: np.random.Generator | int | None = None, size: Any = None) -> Any:
        """Draw classifiers from the mixture.

        Parameters
        ----------
        rng : numpy.random.Generator, int or None
            A generator, or the seed of a new one.
        size : int, tuple of int or None
            Shape of the answer; None for one integer.

        Returns
        -------
        int or ndarray of int64
            Indices of classifiers.
        """
        drawn = np.random.default_rng(rng).choice(self.weights.size, size=size, p=self.weights)
        return int(drawn) if size is None else drawn

    def save(self, path: str | PathLike[str]) -> None:
        """Write the result as JSON with a digest of its contents; an existing file is replaced in one step.

        Floats keep every bit, infinite bounds included. `mixsolve.load_result` reads it back, and
        `mixsolve.verify` proves its bounds anew from the table.

        Raises
        ------
        OSError
            If the file cannot be written; an existing one is then left as it was.
        """
        write_document(path, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "weights": self.weights.tolist(),
            "temperature": np.asarray(self.temperature, dtype=np.float64).tolist(),
            "value": encode_float(self.value),
            "lower_bound": encode_float(self.lower_bound),
            "worst_case_value": encode_float(self.worst_case_value),
            "attack": None if self.attack is None else self.attack.to_dict(),
            "status": self.status.name,
            "message": self.message,
            "passes": int(self.passes),
            "evaluations": int(self.evaluations),
            "bytes_read": int(self.bytes_read),
            "seconds": float(self.seconds),
            "history": [_encode_progress(entry) for entry in self.history],
            "solver": self.solver,
            "statistics": {
                name: dict(x) if isinstance(x, Mapping) else x for name, x in vars(self.statistics).items()
            },
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], attack: AttackStrategy | None) -> MixtureResult:
        """The result that `to_dict` described, with its attack strategy already rebuilt.

        Raises
        ------
        KeyError
            If a field is missing.
        """
        temperature = content["temperature"]
        if isinstance(temperature, list):
            temperature = np.array(temperature, dtype=np.float64)
        unchanged = ("message", "passes", "evaluations", "bytes_read", "seconds", "solver")
        return cls(
            weights=np.array(content["weights"], dtype=np.float64),
            temperature=temperature,
            value=decode_float(content["value"]),
            lower_bound=decode_float(content["lower_bound"]),
            worst_case_value=decode_float(content["worst_case_value"]),
            attack=attack,
            status=Status[content["status"]],
            history=tuple(_decode_progress(entry) for entry in content["history"]),
            statistics=Statistics(**content["statistics"]),
            **{name: content[name] for name in unchanged},
        )


_BOUNDS = ("value", "lower_bound", "iterate_value")


def _encode_progress(entry: Progress) -> dict[str, Any]:
    saved = ((name, x) for name, x in vars(entry).items() if name != "iterate")
    return {name: encode_float(x) if name in _BOUNDS else x for name, x in saved}


def _decode_progress(content: Mapping[str, Any]) -> Progress:
    fields: dict[str, Any] = {name: decode_float(x) if name in _BOUNDS else x for name, x in content.items()}
    return Progress(**fields)

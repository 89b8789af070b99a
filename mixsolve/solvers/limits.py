"""When a solve ends: tolerances and limits, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixsolve.inputs import check_integer


@dataclass(frozen=True)
class Limits:
    """A solve ends when ``gap <= max(tol * abs(value), atol)``, or at a limit.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what is required and what was given.
    """

    tol: float = 1e-6
    """Gap relative to the value."""
    atol: float = 0.0
    """Gap in units of the losses."""
    pass_limit: int | None = None
    time_limit: float | None = None
    """Seconds."""

    def __post_init__(self) -> None:
        for name in ("tol", "atol"):
            given = getattr(self, name)
            if not 0 <= _real(name, given) < math.inf:
                raise ValueError(f"`{name}` must be a finite number >= 0; got {given!r}")
        if self.pass_limit is not None:
            check_integer("pass_limit", self.pass_limit, 1)
        if self.time_limit is not None and not _real("time_limit", self.time_limit) >= 0:
            raise ValueError(
                f"`time_limit` must be None or a number >= 0 of seconds; got {self.time_limit!r}"
            )


def _real(name: str, given: Any) -> float:
    if isinstance(given, (bool, np.bool_)) or not isinstance(given, (int, float, np.integer, np.floating)):
        raise TypeError(f"`{name}` must be a number; got {given!r}")
    return float(given)

"""Ranges that the numbers in a bound must lie in."""

from __future__ import annotations

import math


def check_positive(name: str, value: float) -> None:
    """Raise ValueError, naming the argument, unless the value is positive and finite."""
    if not 0.0 < value < math.inf:
        raise ValueError(f"`{name}` must be positive and finite; got {value!r}")


def check_fraction(name: str, value: float, one_allowed: bool) -> None:
    """Raise ValueError, naming the argument, unless the value lies in (0, 1), or is 1 where allowed."""
    if not (0.0 < value < 1.0 or (one_allowed and value == 1.0)):
        interval = "(0, 1]" if one_allowed else "(0, 1)"
        raise ValueError(f"`{name}` must lie in {interval}; got {value!r}")

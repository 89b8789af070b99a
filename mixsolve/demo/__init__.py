"""The two games that `mixsolve demo` plays: the paper's synthetic one (section 5.1) and handwritten digits."""

from __future__ import annotations

from mixsolve.demo.run import FULL, SMALL, DemoSettings, run_demo
from mixsolve.demo.summary import summarise

__all__ = ["FULL", "SMALL", "DemoSettings", "run_demo", "summarise"]

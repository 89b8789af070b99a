"""Runs the PTX that nvcc emits, in NumPy, and watches every access to memory while it does."""

from tests.cuda.ptx.machine import Interpreter
from tests.cuda.ptx.memory import PtxError

__all__ = ["Interpreter", "PtxError"]

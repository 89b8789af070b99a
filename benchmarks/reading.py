"""How fast this machine reads a table: the yardstick of the pass, and two rivals that keep the yardstick honest."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.harness import Bar, Report, Spread, clocked, interleaved
from mixsolve import _native

Array = np.ndarray[Any, np.dtype[Any]]
WAYS = ("vector", "prefetch", "memcpy")
RESIDENT_BYTES = 1 << 18  # a copy target of this size stays in a core's second-level cache


def native_reading(array: Array, threads: int) -> Callable[[], float]:
    """Seconds of the extension's fastest plain reading of ``array``: vector loads, nothing computed.

    Every way to read is tried three times first, and the fastest one for this array is kept.
    """

    def reading(how: str) -> Callable[[], float]:
        return lambda: float(_native.read_seconds(array, threads, how))

    return min((reading(how) for how in WAYS), key=lambda read: min(read() for _ in range(3)))


def numpy_sum(array: Array, threads: int) -> Callable[[], object]:
    """numpy.sum of the same bytes as 64-bit integers, one slice per thread."""
    parts = np.array_split(array.reshape(-1).view(np.uint64), threads)
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(np.sum, parts))


def memcpy(array: Array, threads: int) -> Callable[[], object]:
    """memcpy of the same bytes into memory of the same size, one slice per thread."""
    parts = np.array_split(array.reshape(-1).view(np.uint64), threads)
    targets = [np.zeros_like(part) for part in parts]
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(np.copyto, targets, parts))


def resident_memcpy(array: Array, threads: int) -> Callable[[], object]:
    """memcpy of the same bytes into a small buffer per thread that stays in its cache: all its traffic is reading."""
    pool = ThreadPoolExecutor(threads)

    def copy(part: Array) -> None:
        target = np.empty(RESIDENT_BYTES // 8, dtype=np.uint64)
        for start in range(0, len(part), len(target)):
            piece = part[start : start + len(target)]
            np.copyto(target[: len(piece)], piece)

    parts = np.array_split(array.reshape(-1).view(np.uint64), threads)
    return lambda: list(pool.map(copy, parts))


def add_reading_row(report: Report, array: Array, threads: int, rounds: int) -> None:
    """Row ``reading``: GB/s of the yardstick and of its rivals, with the bar that none of them reads much faster."""
    rivals = {"numpy_sum": numpy_sum, "memcpy": memcpy, "resident_memcpy": resident_memcpy}
    actions = {"native": native_reading(array, threads)}
    actions |= {name: clocked(make(array, threads)) for name, make in rivals.items()}
    seconds = interleaved(actions, rounds)
    speeds = {f"{name}_gb_per_s": Spread.of(array.nbytes / taken / 1e9) for name, taken in seconds.items()}
    best_rival = max(speeds[f"{name}_gb_per_s"].median for name in rivals)
    share = speeds["native_gb_per_s"].median / best_rival
    bar = Bar("share of the best rival", "at least", 0.9, share)
    report.add(
        "reading", bars=[bar], bytes=array.nbytes, threads=threads, share_of_best_rival=share, **speeds
    )

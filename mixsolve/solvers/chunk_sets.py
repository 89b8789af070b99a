"""0/1 losses that are read in chunks, or that several processes hold: their sets, by one read, within some memory."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mixsolve import _native
from mixsolve.chunks import Shard
from mixsolve.reduction import combined_largest
from mixsolve.solvers.binary_sets import MOST_CLASSIFIERS, BinaryGame, BinarySets, is_worth_it

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.chunks import Chunk, Chunks
    from mixsolve.reduction import Reducer

SETS_PART = 16
"""The sets may take this part of the limit on memory; while they are put together some times as much is held."""

GAME_PART = 4
"""The game that they make may take this part of it."""

LEAST_BYTES = 24
"""What is kept of a sample takes at least so much: one set, its attack, and how many sets there are."""


class _Sets(NamedTuple):
    """What was found in one chunk."""

    counts: NDArray[np.int64]
    """Sets of each sample."""
    fooled: NDArray[np.uint64]
    attack: NDArray[np.int64]
    mass: NDArray[np.float64]
    """Prior of every set; empty where it does not matter."""


@dataclass
class _Reading:
    """One process's part of the table, as far as it was read."""

    room: float
    """Bytes that the sets may still take."""
    sets: list[_Sets] = field(default_factory=list)
    rows_read: int = 0
    apt: bool = True
    """Whether all losses were 0 or 1 so far, and the sets fit."""
    abandoned: bool = False


def all_may_be_binary(chunks: Chunks, reducer: Reducer) -> bool:
    """Whether the table begins with 0 or 1 on every process, and has few enough classifiers."""
    return chunks.n_classifiers <= MOST_CLASSIFIERS and not combined_largest(
        reducer, not chunks.may_be_binary
    )


def compress_chunks(
    chunks: Chunks,
    temperature: float | NDArray[np.float64],
    reducer: Reducer,
    *,
    memory_limit: int | None,
    threads: int | None,
    cancel: _native.CancelToken | None = None,
) -> tuple[int | None, BinaryGame | None]:
    """`compress_binary` for a table that is read in chunks; of several processes, each compresses its own part.

    Returns
    -------
    bytes_read : int or None
        Of this process's part; None where every process read all of its own.
    game : BinaryGame or None
        This process's part of it. None on all processes where the losses of one are not all 0 and 1, or its sets
        exceed the memory, or the game of all hardly gets smaller.

    Raises
    ------
    Cancelled
        On all processes, when the token of one is set.
    """
    warm = bool(np.any(np.asarray(temperature) > 0))
    level = np.asarray(temperature, dtype=np.float64) if np.ndim(temperature) else None
    reading = _Reading(np.inf if memory_limit is None else memory_limit / SETS_PART)
    try:
        _read_sets(chunks, level, warm, threads, cancel, reading)
    except _native.Cancelled:
        reading.abandoned = True  # the others learn of it here
    partly = reading.rows_read < chunks.n_rows
    unfit, partly, abandoned = reducer.combine(
        np.array([not reading.apt, partly, reading.abandoned], dtype=np.float64), 3
    ).astype(bool)
    if abandoned:
        raise _native.Cancelled
    bytes_read = reading.rows_read * chunks.nbytes // max(chunks.n_rows, 1) if partly else None
    if unfit:
        return bytes_read, None
    sets = _joined(reading.sets, warm, level)
    reading.sets.clear()
    kept = sets.n_kept
    large = memory_limit is not None and kept * chunks.n_classifiers * 8 > memory_limit / GAME_PART
    n_kept, n_rows, large = reducer.combine(np.array([kept, chunks.n_rows, large], dtype=np.float64), 1)
    if large or not is_worth_it(n_kept, n_rows, chunks.n_classifiers):
        return bytes_read, None
    return bytes_read, sets.as_game(chunks.n_classifiers, chunks.sample_weight, temperature)


def _read_sets(
    chunks: Chunks,
    level: NDArray[np.float64] | None,
    warm: bool,
    threads: int | None,
    cancel: _native.CancelToken | None,
    reading: _Reading,
) -> None:
    """Read this process's part, up to its end or to the first chunk that is of no use."""
    if LEAST_BYTES * chunks.n_samples > reading.room:
        reading.apt = False
        return
    held = isinstance(chunks, Shard)
    with closing(chunks.read(cancel)) as parts:
        for chunk in parts:
            table = chunk.table
            own = None if level is None else np.ascontiguousarray(level[chunk.first :][: table.n_samples])
            rows_read, found = _sets_of(chunk, warm, own, threads, cancel)
            reading.rows_read += rows_read if held else table.n_rows
            if found is not None:
                reading.sets.append(found)
                reading.room -= sum(array.nbytes for array in found)
            if found is None or reading.room < 0:
                reading.apt = False
                return


def _sets_of(
    chunk: Chunk,
    warm: bool,
    level: NDArray[np.float64] | None,
    threads: int | None,
    cancel: _native.CancelToken | None,
) -> tuple[int, _Sets | None]:
    """Rows read, and what was found in them."""
    table = chunk.table
    if not table.begins_binary:
        return 0, None
    rows_read, found = _native.binary_rows(table.native, not warm, level, threads or 0, cancel)
    if found is None:
        return rows_read, None
    offsets, fooled, attack, mass, _, _ = found
    counts = np.diff(offsets)
    if warm and table.attack_prior is None:
        mass /= np.repeat(table.attack_counts, counts)
    return rows_read, _Sets(counts, fooled, attack, mass)


def _joined(parts: list[_Sets], warm: bool, level: NDArray[np.float64] | None) -> BinarySets:
    """The sets of all chunks, and the groups that their samples make together."""
    none = _Sets(np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0))
    counts, fooled, attack, mass = (np.concatenate(column) for column in zip(none, *parts, strict=True))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    known = mass if warm else None
    return BinarySets(offsets, fooled, attack, known, *_native.binary_groups(offsets, fooled, known, level))

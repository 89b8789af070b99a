"""Which losses are read in chunks: paths, mapped files, lists of shards, and iterators."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mixsolve.chunk_iterator import ChunkIterator
from mixsolve.file_stream import FileStream
from mixsolve.inputs import check_integer
from mixsolve.npy_files import NpyFile
from mixsolve.table import LossTable

__all__ = ["Stream", "check_memory_limit", "is_stream", "open_stream"]

Stream = FileStream | ChunkIterator

FREE_PART = 4
"""The default limit on memory is this part of what is free."""


def check_memory_limit(memory_limit: Any) -> int:
    """Bytes that a solve may hold beside the table; by default a quarter of what is free.

    Raises
    ------
    TypeError, ValueError
        If it is neither None nor an integer >= 1.
    """
    if memory_limit is not None:
        return check_integer("memory_limit", memory_limit, 1)
    return _free_memory() // FREE_PART


def _free_memory() -> int:
    """Bytes that programs may still take; all there are where the system does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = {line.split(":")[0]: int(line.split()[1]) for line in file}
    except FileNotFoundError:  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return lines["MemAvailable"] * 1024


def is_stream(losses: Any) -> bool:
    """Whether losses are read in chunks: they are no array that is, as a whole, in memory."""
    if isinstance(losses, Stream):
        return True
    if isinstance(losses, np.memmap):
        return _maps_a_file(losses)
    if isinstance(losses, (str, os.PathLike)):
        return True
    if isinstance(losses, (list, tuple)):
        paths = [isinstance(part, (str, os.PathLike)) for part in losses]
        return bool(losses) and (all(paths) or all(_is_chunk(part) for part in losses))
    array_like = any(
        hasattr(losses, name) for name in ("__array__", "__dlpack__", "__cuda_array_interface__")
    )
    return isinstance(losses, Iterable) and not array_like and not callable(losses)


def open_stream(
    losses: Any,
    *,
    row_offsets: Any = None,
    sample_weight: Any = None,
    attack_prior: Any = None,
    memory_limit: int,
    seed: int = 0,
    mass: float = 1.0,
) -> Stream:
    """The table behind a path, a mapped file, a list of shards or an iterator.

    Raises
    ------
    TypeError, ValueError
        Naming the argument or the file, what is required and what was given.
    """
    if isinstance(losses, Stream):
        given = {"row_offsets": row_offsets, "sample_weight": sample_weight, "attack_prior": attack_prior}
        for name, value in given.items():
            if value is not None:
                raise ValueError(
                    f"`{name}` must be None when `losses` is a stream, which has its own; got a second one"
                )
        return losses
    files = _files(losses)
    if files is not None:
        return FileStream(
            files,
            row_offsets=row_offsets,
            sample_weight=sample_weight,
            attack_prior=attack_prior,
            memory_limit=memory_limit,
            mass=mass,
        )
    for name, given in (("row_offsets", row_offsets), ("attack_prior", attack_prior)):
        if given is not None:
            raise ValueError(
                f"`{name}` must be None when `losses` is an iterator; got {type(given).__name__}: "
                "let it hand out LossTables"
            )
    return ChunkIterator(losses, sample_weight=sample_weight, memory_limit=memory_limit, seed=seed, mass=mass)


def _files(losses: Any) -> list[NpyFile] | None:
    """The files of a table; None for an iterator."""
    if isinstance(losses, np.memmap):
        return [NpyFile.of(losses)]
    if isinstance(losses, (str, os.PathLike)):
        folder = Path(losses)
        if not folder.is_dir():
            return [NpyFile.open(losses)]
        shards = sorted(folder.glob("*.npy"))
        if not shards:
            raise ValueError(f"`losses` must be a folder of .npy files; {folder} holds none")
        return [NpyFile.open(path) for path in shards]
    if isinstance(losses, (list, tuple)) and isinstance(losses[0], (str, os.PathLike)):
        return [NpyFile.open(path) for path in losses]
    return None


def _maps_a_file(losses: np.memmap[Any, Any]) -> bool:
    """Whether a mapped array is a file from its offset on, as it was opened and as the file is now."""
    base: Any = losses.base
    whole = isinstance(base, mmap.mmap) and losses.filename is not None and losses.mode != "c"
    return whole and losses.flags.c_contiguous and losses.ndim > 1


def _is_chunk(part: Any) -> bool:
    return isinstance(part, LossTable) or getattr(part, "ndim", None) == 3

"""`mixsolve fit` as one of the processes that torchrun started."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mixsolve.distributed import GroupReducer, gather_attack
from mixsolve.fit import fit_mixture
from mixsolve.npy_files import NpyFile
from mixsolve.results import MixtureResult


def fit_in_group(
    arguments: argparse.Namespace, extras: dict[str, Any], options: dict[str, Any]
) -> MixtureResult | None:
    """Fit this process's part of the files; the first process gets the whole result, the others None.

    Of several files each process takes some, of a single one a range of the samples. The process group is that of
    torchrun's environment variables, over gloo. `options` are those of `fit_mixture`.

    Raises
    ------
    ImportError
        If torch is not installed.
    ValueError
        For ragged tables: their offsets belong to all files together.
    """
    try:
        import torch.distributed as torch_distributed
    except ImportError as error:
        raise ImportError("a group of processes needs torch: pip install mixsolve[torch]") from error
    if extras.get("row_offsets") is not None:
        raise ValueError(
            "`--row-offsets` must not be given to a group of processes; call fit_mixture in each of them"
        )
    torch_distributed.init_process_group("gloo")
    try:
        group = torch_distributed.group.WORLD
        reducer = GroupReducer(group)
        losses, first, last = own_part(arguments.losses, reducer.rank, reducer.size)
        own = {name: array[first:last] for name, array in extras.items()}
        leads = reducer.rank == 0
        result = fit_mixture(
            losses,
            **own,
            **options,
            verbose=arguments.verbose and leads,
            group=group,
        )
        if arguments.out is not None:
            result = gather_attack(result, last - first, reducer)
        return result if leads else None
    finally:
        torch_distributed.destroy_process_group()


def own_part(paths: Sequence[str], rank: int, size: int) -> tuple[Any, int, int]:
    """What this process reads, and which samples of the whole table that is."""
    shards = [Path(path) for path in paths]
    if len(shards) == 1 and shards[0].is_dir():
        shards = sorted(shards[0].glob("*.npy"))
        if not shards:
            raise ValueError(f"`losses` must be a folder of .npy files; {paths[0]} holds none")
    files = [NpyFile.open(path) for path in shards]
    if any(len(file.shape) != 3 for file in files):
        raise ValueError(
            "`losses` must have 3 dimensions (classifiers, samples, attacks) in a group of processes"
        )
    if len(files) == 1:
        ends = np.linspace(0, files[0].shape[1], size + 1).astype(int).tolist()
        mapped = np.load(shards[0], mmap_mode="r")
        return mapped[:, ends[rank] : ends[rank + 1]], ends[rank], ends[rank + 1]
    ends = np.linspace(0, len(files), size + 1).astype(int).tolist()
    starts = np.cumsum([0, *(file.shape[1] for file in files)]).tolist()
    own = shards[ends[rank] : ends[rank + 1]]
    first, last = starts[ends[rank]], starts[ends[rank + 1]]
    if not own:
        return np.empty((files[0].shape[0], 0, files[0].shape[2]), dtype=files[0].dtype), first, last
    return own, first, last

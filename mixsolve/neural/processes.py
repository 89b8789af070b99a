"""The processes of a run, one or several started by ``torchrun``: who works on what, and what they tell each other."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Processes:
    """This process among all of them."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Processes:
        """The default process group, if one is open."""
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return cls()

    @property
    def is_first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def share(self, indices: Tensor) -> Tensor:
        """This process's part of a batch: contiguous, as even as can be."""
        return indices.tensor_split(self.size)[self.rank]

    def wrap(self, member: nn.Module) -> nn.Module:
        """A member whose gradients are averaged over all processes."""
        if self.size == 1:
            return member
        device = next(member.parameters()).device
        return DistributedDataParallel(member, [device.index] if device.type == "cuda" else None)

    def total(self, values: Tensor) -> Tensor:
        """Sums over all processes."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    @property
    def group(self) -> Any:
        """The process group of torch.distributed; None for a single process."""
        return distributed.group.WORLD if self.size > 1 else None

    def meet(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            distributed.barrier()


def leave_torchrun() -> None:
    """Close the process group, if one is open."""
    if distributed.is_available() and distributed.is_initialized():
        gc.collect()  # wrapped members that nobody holds any more still hold the group
        distributed.destroy_process_group()


def join_torchrun() -> Processes:
    """Open the process group of ``torchrun``, nccl on GPUs and gloo elsewhere; alone where it did not start this."""
    if "TORCHELASTIC_RUN_ID" in os.environ and not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return Processes.current()

"""Tables that several processes hold together, on a process group of `torch.distributed`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve.chunks import Chunks, Shard
from mixsolve.reduction import GroupError, Reducer, combined_largest
from mixsolve.results import AttackStrategy, MixtureResult
from mixsolve.row_attack import RowAttack
from mixsolve.storage import Storage, view_losses
from mixsolve.streams import check_memory_limit, is_stream, open_stream
from mixsolve.table import LossTable, as_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAME = 128
"""Numbers in a message of fixed length, which says how long the rest is and whether its sender goes on."""

HEAD = 2
"""The first numbers of a frame: whether its sender failed, and how many numbers it combines."""


class GroupReducer:
    """Sums over the processes of a group: every process receives what the others hold, and adds in order of rank.

    Answers have the same bits on every process, whatever the backend does. Every call begins with a frame, so that a
    process that fails can tell the others wherever they are.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup
        Of any backend. Its timeout bounds how long the others wait for a process that died.
    """

    def __init__(self, group: Any) -> None:
        import torch
        import torch.distributed as torch_distributed

        if not torch_distributed.is_available() or not torch_distributed.is_initialized():
            raise ValueError(
                f"`group` must be a process group of torch.distributed, initialised beforehand; got {group!r}"
            )
        try:
            self.rank = int(torch_distributed.get_rank(group))
            self.size = int(torch_distributed.get_world_size(group))
            backend = str(torch_distributed.get_backend(group))
        except (ValueError, TypeError, AttributeError) as error:
            raise TypeError(f"`group` must be a process group of torch.distributed; got {group!r}") from error
        if self.rank < 0:
            raise ValueError(
                "`group` must be a process group that this process is a member of; got another one"
            )
        self.communicated = 0
        self._group = group
        self._torch = torch
        self._device = torch.device("cuda", torch.cuda.current_device()) if "nccl" in backend else None

    def combine(self, values: NDArray[np.float64], n_largest: int = 0) -> NDArray[np.float64]:
        head, rest = values[: FRAME - HEAD], values[FRAME - HEAD :]
        received = self._exchange_frames(0.0, values.size, head)
        parts = received[:, HEAD : HEAD + head.size]
        if rest.size:
            parts = np.concatenate([parts, self._gather(rest)], axis=1)
        total: NDArray[np.float64] = parts[0].copy()
        for part in parts[1:]:
            total += part
        if n_largest:
            total[-n_largest:] = parts[:, -n_largest:].max(axis=0)
        return total

    def fail(self, error: BaseException) -> None:
        try:
            self._exchange_frames(1.0, 0, np.empty(0), f"{type(error).__name__}: {error}")
        except GroupError:
            return  # it is the error of this process that its caller sees

    def gather_bytes(self, own: bytes) -> list[bytes]:
        """What every process hands in, in order of rank."""
        sizes = self._gather(np.array([float(len(own))]))[:, 0].astype(np.int64)
        padded = np.zeros(-(-int(sizes.max()) // 8) * 8, dtype=np.uint8)
        padded[: len(own)] = np.frombuffer(own, dtype=np.uint8)
        received = (
            self._gather(padded.view(np.float64)).view(np.uint8) if padded.size else np.empty((self.size, 0))
        )
        return [received[rank, :size].tobytes() for rank, size in enumerate(sizes.tolist())]

    def agree(self, facts: Mapping[str, Any]) -> None:
        """Raise ValueError on every process where they were not asked for the same, naming what and which ranks."""
        self._exchange_frames(0.0, 0, np.empty(0))
        everyone = [json.loads(text) for text in self.gather_bytes(json.dumps(dict(facts)).encode())]
        for name in facts:
            given = [other[name] for other in everyone]
            if any(value != given[0] for value in given):
                told = ", ".join(f"rank {rank} has {value}" for rank, value in enumerate(given))
                raise DisagreementError(f"`{name}` must be the same on all processes of the group; {told}")

    def _exchange_frames(
        self, failed: float, length: int, head: NDArray[np.float64], message: str = ""
    ) -> NDArray[np.float64]:
        frame = np.zeros(FRAME)
        frame[:HEAD] = failed, length
        frame[HEAD : HEAD + head.size] = head
        received = self._gather(frame)
        if received[:, 0].any():
            told = self.gather_bytes(message.encode())
            failures = [
                f"rank {rank}: {text.decode()}" for rank, text in enumerate(told) if received[rank, 0]
            ]
            raise GroupError("another process of the group failed: " + "; ".join(failures))
        if np.ptp(received[:, 1]) != 0:
            lengths = received[:, 1].astype(int).tolist()
            raise GroupError(f"the processes of the group are out of step: they combine {lengths} numbers")
        return received

    def _gather(self, own: NDArray[np.float64]) -> NDArray[np.float64]:
        """The vectors of all processes, (size, n)."""
        torch = self._torch
        sent = torch.from_numpy(np.ascontiguousarray(own)).to(self._device or "cpu")
        received = [torch.empty_like(sent) for _ in range(self.size)]
        try:
            torch.distributed.all_gather(received, sent, group=self._group)
        except RuntimeError as error:  # what torch raises where a process died or the group timed out
            raise GroupError(f"a process of the group died or timed out: {error}") from error
        self.communicated += 8 * own.size * (self.size - 1)
        gathered: NDArray[np.float64] = torch.stack(received).cpu().numpy()
        return gathered


class DisagreementError(GroupError, ValueError):
    """The processes of a group were not asked for the same."""


def hold_together(
    losses: Any,
    reducer: Reducer,
    *,
    row_offsets: Any,
    sample_weight: Any,
    attack_prior: Any,
    memory_limit: int | None,
    seed: int,
) -> tuple[Chunks, str]:
    """This process's part of the table, weighed against those of the others, and the type of its losses.

    Sample weights count as they are given, so that 2 weighs twice as much as 1 on another process; where none are
    given each sample has weight 1.

    Raises
    ------
    TypeError, ValueError
        As `LossTable` and `open_stream` do; if no process has a sample of positive weight.
    """
    if sample_weight is not None and not np.any(np.asarray(sample_weight)):
        sample_weight, weightless = None, True
    else:
        weightless = False
    own = {"row_offsets": row_offsets, "sample_weight": sample_weight, "attack_prior": attack_prior}
    if is_stream(losses):
        stream = open_stream(losses, **own, memory_limit=check_memory_limit(memory_limit), seed=seed)
        total = 0.0 if weightless else stream.total_weight
        stream.mass = _share(total, reducer)
        return stream, stream.kind
    if isinstance(losses, LossTable):
        kind = losses.storage.name.lower()
    else:
        array, storage = view_losses(losses)
        kind = str(array.dtype.name) if storage is None else storage.name.lower()
        if not _has_samples(losses):
            _share(0.0, reducer)
            return Shard(None, int(array.shape[0]), 0.0, storage is Storage.FLOAT64), kind
    table = as_table(losses, **own)
    mass = _share(0.0 if weightless else table.total_weight, reducer)
    return Shard(table, table.n_classifiers, mass, table.storage is Storage.FLOAT64), kind


def _has_samples(losses: Any) -> bool:
    shape = getattr(losses, "shape", None)
    return shape is None or len(shape) < 2 or shape[0] == 0 or shape[1] > 0


def _share(weight: float, reducer: Reducer) -> float:
    if not np.isfinite(weight):
        raise ValueError(f"`sample_weight` must have a finite sum; got {weight}")
    total = float(reducer.combine(np.array([weight]))[0])
    if not total > 0:
        raise ValueError(
            "`sample_weight` must have a positive entry on some process; got no sample of positive weight"
        )
    return weight / total


def common_temperature(
    temperature: float | NDArray[np.float64], n_samples: int, reducer: Reducer
) -> float | NDArray[np.float64]:
    """The temperature, which a process without samples cannot tell to be positive from an array without entries."""
    positive = combined_largest(reducer, np.any(np.asarray(temperature) > 0))
    return positive if np.ndim(temperature) and n_samples == 0 else temperature


def gather_attack(result: MixtureResult, n_samples: int, reducer: GroupReducer) -> MixtureResult:
    """The result with the attacker's strategy for the samples of all processes, in order of rank.

    Responses to mixtures are the same for all samples, unless they have temperatures of their own.
    """
    first = sum(int(own) for own in reducer.gather_bytes(str(n_samples).encode())[: reducer.rank])
    attack: AttackStrategy | None = result.attack
    if not isinstance(attack, RowAttack):
        return result
    columns = [attack.sample + first, attack.attack, attack.probability]
    gathered = [reducer.gather_bytes(column.tobytes()) for column in columns]
    sample, place, probability = (
        np.concatenate([np.frombuffer(part, dtype=column.dtype) for part in parts])
        for column, parts in zip(columns, gathered, strict=True)
    )
    total = sum(int(own) for own in reducer.gather_bytes(str(n_samples).encode()))
    return replace(result, attack=RowAttack(sample, place, probability, total))

"""The work of an evaluation, in pieces that are kept: one attack on one batch after another."""

from __future__ import annotations

import hashlib
import re
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mixsolve.neural.attack import Attack
from mixsolve.neural.budget import Budget
from mixsolve.neural.checkpoint import read_checkpoint, write_checkpoint
from mixsolve.neural.mixture import Mixture
from mixsolve.neural.noise import Noise, mixed
from mixsolve.neural.pool import Weights

STATE = "evaluation.pt"


@dataclass(frozen=True)
class EvaluationProgress:
    """How far an evaluation is."""

    attack: str
    done: int
    """Pieces of work, a batch under one attack each."""
    total: int
    seconds: float
    """Since this process began."""


@dataclass(frozen=True, eq=False)
class Piece:
    """All members at the points that one attack found."""

    answers: npt.NDArray[np.int64]
    """(n_members, n_samples) labels."""
    looks: int
    """Points at which the mixture was asked."""
    seconds: float


class Work:
    """Attacks on one mixture and one set of batches; finished batches are kept in a folder, if there is one."""

    def __init__(
        self,
        mixture: Mixture,
        batches: Sequence[tuple[Tensor, Tensor]],
        budget: Budget,
        seed: int,
        folder: Path | None,
        progress: Callable[[EvaluationProgress], None] | None,
    ) -> None:
        if not batches:
            raise ValueError("`loader` must hold at least one batch; got none")
        self._mixture, self._batches, self._budget, self._seed = mixture, batches, budget, seed
        self._path = None if folder is None else folder / STATE
        self._progress, self._started = progress, time.perf_counter()
        self._total = self._done = 0
        self._kept: dict[str, dict[str, Any]] = {}
        self.labels = torch.cat([y for _, y in batches]).cpu().numpy()

    def begin(self, attacks: Mapping[str, Attack], n_pieces: int) -> None:
        """Say how many attacks there will be, and take over what an earlier process finished.

        Raises
        ------
        ValueError
            If the folder holds another evaluation.
        """
        self._total = n_pieces * len(self._batches)
        self._fingerprint = self._digest(attacks)
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            content = read_checkpoint(self._path)
            if content.get("fingerprint") != self._fingerprint:
                raise ValueError(
                    f"`folder` must be empty or hold this evaluation; {self._path} is of another mixture, other data, "
                    "other attacks or another seed"
                )
            self._kept = content["pieces"]

    def clean(self) -> npt.NDArray[np.int64]:
        """Labels (n_members, n_samples) that the members give the inputs."""
        with self._mixture.frozen(), torch.no_grad():
            return np.concatenate([self._answers(x) for x, _ in self._batches], axis=1)

    def attack(self, name: str, attack: Attack, weights: Weights) -> Piece:
        """One attack on all batches, aimed at these weights of the members."""
        target = self._mixture.reweighed(weights)
        kept = self._kept.setdefault(name, {"answers": [], "looks": 0, "seconds": 0.0})
        first = 0
        for number, (x, y) in enumerate(self._batches):
            samples = torch.arange(first, first + len(x))
            first += len(x)
            if number >= len(kept["answers"]):
                self._one(name, attack, target, x, y, samples, kept)
            self._tell(name)
        answers = torch.cat(kept["answers"], dim=1).numpy()
        return Piece(answers, kept["looks"], kept["seconds"])

    def _one(
        self,
        name: str,
        attack: Attack,
        target: Mixture,
        x: Tensor,
        y: Tensor,
        samples: Tensor,
        kept: dict[str, Any],
    ) -> None:
        started = time.perf_counter()
        device = self._mixture.weights.device
        x, y = x.to(device), y.to(device)
        noise = Noise(mixed(self._seed, zlib.crc32(name.encode())), samples.to(device))
        found = attack.run(target, x, y, self._budget, noise)
        with self._mixture.frozen():
            kept["answers"].append(torch.from_numpy(self._answers(found.points)))
        kept["looks"] += found.looks
        kept["seconds"] += time.perf_counter() - started
        if self._path is not None:
            write_checkpoint(self._path, {"fingerprint": self._fingerprint, "pieces": self._kept})

    def _answers(self, x: Tensor) -> npt.NDArray[np.int64]:
        mixture = self._mixture
        x = x.to(mixture.weights.device)
        with torch.no_grad():
            labels = [mixture.member_logits(k, x).argmax(dim=1) for k in range(mixture.n_members)]
        return torch.stack(labels).cpu().numpy()

    def _tell(self, name: str) -> None:
        self._done += 1
        if self._progress is not None:
            seconds = time.perf_counter() - self._started
            self._progress(EvaluationProgress(name, self._done, self._total, seconds))

    def _digest(self, attacks: Mapping[str, Attack]) -> str:
        """Of the parameters, the data and every choice: equal for the same evaluation, in any process."""
        told = [str(self._seed), str(self._budget)]
        told += [
            f"{name}: {re.sub(r' at 0x[0-9a-f]+', '', repr(attack))}" for name, attack in attacks.items()
        ]
        digest = hashlib.sha256("\n".join(told).encode())
        tensors = [*self._mixture.state_dict().values(), *(t for batch in self._batches for t in batch)]
        for tensor in tensors:
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

"""One training run: networks, optimisers, where it stands, what it writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mixsolve.neural.batches import Batches, augmented
from mixsolve.neural.checkpoint import read_checkpoint, write_checkpoint
from mixsolve.neural.logs import EpochRow, write_logs
from mixsolve.neural.mixture import Mixture
from mixsolve.neural.noise import Noise, generator_of, mixed
from mixsolve.neural.plan import Order, Precision, TrainingPlan
from mixsolve.neural.processes import Processes
from mixsolve.neural.weight_phase import PhaseOutcome, find_weights

CHECKPOINT = "checkpoint.pt"
ORDER, UPDATE, PHASE, SELECTION = 201, 202, 203, 204
"""Keys of what is random."""

Progress = Callable[[EpochRow], None]


class Run:
    """One run: networks, optimisers, where it stands, what happened."""

    def __init__(
        self,
        members: Sequence[nn.Module],
        data: Any,
        plan: TrainingPlan,
        folder: Path | None,
        given: TrainingPlan,
    ) -> None:
        self.plan, self.folder, self._described = plan, folder, given.described()
        self.processes = Processes.current()
        self.mixture = Mixture(members)
        device = next(self.mixture.parameters()).device
        self.mixture.weights = self.mixture.weights.to(device)
        share = plan.selection.share if plan.selection else 0.0
        self.batches = Batches(data, plan.batch_size, plan.seed, share, device, split_seed=given.seed)
        self.optimisers = [plan.optimiser(m.parameters()) for m in self.mixture.members]
        n_updates = plan.epochs * self.batches.per_epoch
        self.schedules = [plan.schedule(o, n_updates) for o in self.optimisers] if plan.schedule else []
        self.scaler = torch.amp.GradScaler(device.type, enabled=plan.precision is Precision.FLOAT16)
        self.wrapped = [self.processes.wrap(m) for m in self.mixture.members]
        self.update = 0
        self.history: list[EpochRow] = []
        self.best_epoch, self.best_score = 0, -1.0
        self.best: dict[str, Any] = {}
        if len(self.batches.training) < self.processes.size:
            raise ValueError(f"`data` must hold a sample for every process; got {len(self.batches.training)}")

    # -- the algorithm ---------------------------------------------------------------------------------------------

    def train(self, progress: Progress | None) -> None:
        """Go on from where the folder's checkpoint stands, to the end."""
        self._resume()
        while len(self.history) < self.plan.epochs:
            row = self._epoch()
            self.history.append(row)
            self._save()
            if progress is not None and self.processes.is_first:
                progress(row)

    def _epoch(self) -> EpochRow:
        """One round of the data for every member: the updates and weight phases that fall into it, then a look."""
        started = time.perf_counter()
        n_members = self.mixture.n_members
        n_updates = n_members * self.batches.per_epoch
        period = n_members * self.plan.updates_per_member
        lr = self.optimisers[0].param_groups[0]["lr"]
        loss = torch.zeros((), dtype=torch.float64)
        phases: list[PhaseOutcome] = []
        for _ in range(n_updates):
            loss += self._update(self.update)
            self.update += 1
            finished = self.update == self.plan.epochs * n_updates
            if self.plan.weights and n_members > 1 and (self.update % period == 0 or finished):
                key = mixed(PHASE, self.update)
                phases.append(
                    find_weights(
                        self.mixture,
                        self.batches,
                        self.plan,
                        self.plan.weights,
                        key,
                        self.processes,
                        last=finished,
                    )
                )
        updated = time.perf_counter()
        accuracy, robust = self._look()
        pool_seconds = sum(phase.pool_seconds for phase in phases)
        solve_seconds = sum(phase.solve_seconds for phase in phases)
        before = self.history[-1] if self.history else None
        bounds: PhaseOutcome | EpochRow | None = phases[-1] if phases else before
        return EpochRow(
            epoch=len(self.history) + 1,
            loss=float(loss) / n_updates,
            accuracy=accuracy,
            robust_accuracy=robust,
            weights=tuple(self.mixture.weights.tolist()),
            value=float("nan") if bounds is None else bounds.value,
            lower_bound=float("nan") if bounds is None else bounds.lower_bound,
            lr=lr,
            update_seconds=updated - started - pool_seconds - solve_seconds,
            pool_seconds=pool_seconds,
            solve_seconds=solve_seconds,
            look_seconds=time.perf_counter() - updated,
        )

    def _member_of(self, update: int) -> int:
        """Which member an update is for."""
        n_members = self.mixture.n_members
        size = n_members * self.plan.updates_per_member
        period, place = divmod(update, size)
        generator = generator_of(self.plan.seed, ORDER, period)
        if self.plan.order is Order.RANDOM:
            return int(torch.randint(n_members, (size,), generator=generator)[place])
        return int(torch.randperm(size, generator=generator)[place]) % n_members

    def _update(self, update: int) -> float:
        """Attack the mixture on one batch, and take a step of one member; the mean loss of the batch."""
        plan, number = self.plan, self._member_of(update)
        everyone = self.batches.of_update(update)
        rows = self.processes.share(everyone)
        x, y = self.batches.load(rows)
        noise = Noise(mixed(plan.seed, UPDATE, update), rows.to(x.device))
        x = augmented(x, plan.augmentation, noise.keyed(1))
        self.mixture.train()
        with self._autocast(x.device):
            x_adv = plan.loss.attack.run(self.mixture, x, y, plan.budget, noise.keyed(2)).points
        torch.manual_seed(mixed(plan.seed, UPDATE, update, self.processes.rank))  # for dropout and the like
        optimiser = self.optimisers[number]
        optimiser.zero_grad(set_to_none=True)
        with self._autocast(x.device):
            losses = plan.loss.losses(self.wrapped[number], x, x_adv, y)
        # The processes' gradients are averaged: this is the mean over the whole batch, however it is shared out.
        mean = losses.sum() * (self.processes.size / len(everyone))
        self.scaler.scale(mean).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(optimiser)
        self.scaler.update()
        if self.schedules:
            self.schedules[number].step()
        total = self.processes.total(losses.detach().sum().double())
        return float(total) / len(everyone)

    def _look(self) -> tuple[float, float]:
        """Accuracy and robust accuracy of the mixture on the held-out images; nan where there are none."""
        selection = self.plan.selection
        if selection is None:
            return float("nan"), float("nan")
        sums = torch.zeros(2, dtype=torch.float64)
        own, size = self.processes.share(self.batches.held_out), self.plan.batch_size
        for start in range(0, len(own), size):
            rows = own[start : start + size]
            x, y = self.batches.load(rows)
            noise = Noise(mixed(self.plan.seed, SELECTION), rows.to(x.device))
            with self._autocast(x.device):
                found = selection.attack.run(self.mixture, x, y, self.plan.budget, noise)
                with self.mixture.frozen():
                    clean = self.mixture.fraction(x, y)
                    robust = self.mixture.fraction(found.points, y)
            sums += torch.stack([clean.sum(), robust.sum()]).cpu()
        sums = self.processes.total(sums.to(self.mixture.weights.device)).cpu() / len(self.batches.held_out)
        return float(sums[0]), float(sums[1])

    def _autocast(self, device: torch.device) -> torch.autocast:
        kind = self.plan.precision
        return torch.autocast(
            device.type,
            torch.bfloat16 if kind is Precision.FLOAT32 else kind.kind,
            enabled=kind is not Precision.FLOAT32,
        )

    # -- files -----------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        return {
            "plan": self._described,
            "samples": len(self.batches.training) + len(self.batches.held_out),
            "update": self.update,
            "mixture": self.mixture.state_dict(),
            "optimisers": [one.state_dict() for one in self.optimisers],
            "schedules": [one.state_dict() for one in self.schedules],
            "scaler": self.scaler.state_dict(),
            "history": [row.to_json() for row in self.history],
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
        }

    def _save(self) -> None:
        """Write the checkpoint and the logs; first, where this epoch is the best one, its parameters."""
        row = self.history[-1] if self.history else None
        better = row is not None and (self.plan.selection is None or row.robust_accuracy > self.best_score)
        if row is not None and better:
            self.best_epoch = row.epoch
            self.best_score = row.robust_accuracy if self.plan.selection else -1.0
            self.best = {name: value.clone() for name, value in self.mixture.state_dict().items()}
        if self.folder is None or not self.processes.is_first:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if better and self.plan.selection is not None:
            write_checkpoint(self._best_path(), {"mixture": self.best})
        write_checkpoint(self.folder / CHECKPOINT, self._state())
        for path in self.folder.glob("best-*.pt"):
            if path != self._best_path():
                path.unlink()
        write_logs(self.folder, self.history)

    def _best_path(self) -> Path:
        assert self.folder is not None
        return self.folder / f"best-{self.best_epoch:05d}.pt"

    def _resume(self) -> None:
        """Take over the folder's checkpoint; without one, write that of the beginning."""
        path = None if self.folder is None else self.folder / CHECKPOINT
        if path is None or not path.exists():
            self.processes.meet()
            self._save()
            self.processes.meet()
            return
        content = read_checkpoint(path)
        differing = [name for name, words in self._described.items() if content["plan"].get(name) != words]
        if differing or content["samples"] != len(self.batches.training) + len(self.batches.held_out):
            raise ValueError(
                f"`plan.folder` must be empty or hold a run of this plan and data; {path} differs in "
                f"{', '.join(differing) or 'the number of samples'}"
            )
        self.mixture.load_state_dict(content["mixture"])
        for one, state in zip(self.optimisers, content["optimisers"], strict=True):
            one.load_state_dict(state)
        for schedule, state in zip(self.schedules, content["schedules"], strict=True):
            schedule.load_state_dict(state)
        self.scaler.load_state_dict(content["scaler"])
        self.update = content["update"]
        self.history = [EpochRow.from_json(row) for row in content["history"]]
        self.best_epoch, self.best_score = content["best_epoch"], content["best_score"]
        if self.best_epoch:
            self.best = (
                read_checkpoint(self._best_path())["mixture"] if self.plan.selection else content["mixture"]
            )
        if self.folder is not None and self.processes.is_first:
            write_logs(self.folder, self.history)  # a run killed before it wrote them has them now
        self.processes.meet()

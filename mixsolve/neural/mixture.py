"""A mixture of classifiers as one torch module, in three views: log-probabilities, a sampler, the expected loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mixsolve.simplex import check_simplex

MemberLoss = Callable[[Tensor, Tensor], Tensor]
"""Logits (n, n_classes) and labels (n,) to losses (n,)."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of every input, (n,)."""
    return functional.cross_entropy(logits, labels, reduction="none")


class Mixture(nn.Module):
    """A classifier that answers every input by a member drawn at random.

    Three views of it: ``mixture(x)`` gives the log-probabilities that it predicts each class with,
    ``logsumexp_k(log w_k + log_softmax f_k(x))``; `predict` is the classifier that is deployed, with its draws; and
    `expected_loss` is ``sum_k w_k loss(f_k(x), y)``, the cross-entropy of no single vector of logits.

    Parameters
    ----------
    members : iterable of torch.nn.Module
        Each maps inputs (n, ...) to logits (n, n_classes). Kept as they are, not copied.
    weights : array of float, (n_members,), optional
        A point of the simplex; uniform by default.

    Attributes
    ----------
    members : torch.nn.ModuleList
    weights : Tensor of float64, (n_members,)
        A buffer, so part of `state_dict`. It keeps its precision when the mixture is cast.

    Raises
    ------
    TypeError, ValueError
        If a member is no module, there is none, or the weights are no mixture.

    Notes
    -----
    A member gets its inputs in the type of its parameters, and its logits count in float32 or better: `half()` and
    autocast change the members' arithmetic alone. Members of weight 0 are not run, where nothing asks for them.
    """

    weights: Tensor

    def __init__(self, members: Iterable[nn.Module], weights: Any = None) -> None:
        super().__init__()
        given = list(members)
        for number, member in enumerate(given):
            if not isinstance(member, nn.Module):
                raise TypeError(f"`members[{number}]` must be a torch.nn.Module; got {type(member).__name__}")
        if not given:
            raise ValueError("`members` must hold at least one classifier; got none")
        self.members = nn.ModuleList(given)
        self.register_buffer("weights", torch.full((len(given),), 1 / len(given), dtype=torch.float64))
        self.reweigh(np.full(len(given), 1 / len(given)) if weights is None else weights)

    @property
    def n_members(self) -> int:
        return len(self.members)

    def reweigh(self, weights: Any) -> Mixture:
        """Set the weights, a point of the simplex (n_members,); the mixture itself is returned."""
        given = weights.detach().cpu() if isinstance(weights, Tensor) else weights
        checked = check_simplex(given, self.n_members, "weights")
        self.weights.copy_(torch.from_numpy(checked))
        return self

    def reweighed(self, weights: Any) -> Mixture:
        """Another mixture of the same members: parameters are shared, not copied."""
        other = Mixture(self.members, weights)
        other.weights = other.weights.to(self.weights.device)
        other.training = self.training
        return other

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities (n, n_classes) that the mixture predicts each class with."""
        parts = [
            self.weights[k].log().to(logits.dtype) + functional.log_softmax(logits, dim=1)
            for k, logits in self.active_logits(x)
        ]
        return parts[0] if len(parts) == 1 else torch.logsumexp(torch.stack(parts), dim=0)

    def member_logits(self, number: int, x: Tensor) -> Tensor:
        """Logits (n, n_classes) of one member, in float32 or better."""
        member = self.members[number]
        kinds = (p.dtype for p in member.parameters() if p.dtype.is_floating_point)
        logits: Tensor = member(x.to(next(kinds, x.dtype)))
        return logits if logits.dtype is torch.float64 else logits.float()

    def active_logits(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The logits of the members that have weight, one after another."""
        for number, weight in enumerate(self.weights.tolist()):
            if weight > 0:
                yield number, self.member_logits(number, x)

    def expected_loss(self, x: Tensor, y: Tensor, loss: MemberLoss = cross_entropy) -> Tensor:
        """``sum_k w_k loss(f_k(x), y)`` of every input, (n,)."""
        total = torch.zeros((), device=x.device)
        for number, logits in self.active_logits(x):
            total = total + self.weights[number].to(logits.dtype) * loss(logits, y)
        return total

    def right(self, x: Tensor, y: Tensor) -> Tensor:
        """Which members are right, bool (n_members, n); all are run, those of weight 0 too."""
        with torch.no_grad():
            answers = [self.member_logits(k, x).argmax(dim=1) for k in range(self.n_members)]
        return torch.stack(answers) == y

    def fraction(self, x: Tensor, y: Tensor) -> Tensor:
        """Expected accuracy on every input, ``sum_k w_k 1[f_k(x) = y]``, float64 (n,); exactly 0 when all fail."""
        return self.weights @ self.right(x, y).to(torch.float64)

    def draw(self, size: int, generator: torch.Generator | int | None = None) -> Tensor:
        """Members drawn by the weights, int64 (size,); an integer seeds a generator of its own."""
        if isinstance(generator, int):
            generator = torch.Generator().manual_seed(generator)
        weights = self.weights if generator is None else self.weights.to(generator.device)
        return torch.multinomial(weights, size, replacement=True, generator=generator).to(self.weights.device)

    @torch.no_grad()
    def predict(self, x: Tensor, generator: torch.Generator | int | None = None) -> Tensor:
        """Labels (n,), each by a member drawn for this input alone: the classifier that is deployed.

        Parameters
        ----------
        x : Tensor, (n, ...)
        generator : torch.Generator, int or None
            Draws the members; an integer is the seed of a new one, None torch's own.
        """
        drawn = self.draw(len(x), generator)
        labels = torch.empty(len(x), dtype=torch.int64, device=x.device)
        for number in sorted(set(drawn.tolist())):
            rows = (drawn == number).nonzero().squeeze(1).to(x.device)
            labels[rows] = self.member_logits(number, x[rows]).argmax(dim=1)
        return labels

    @contextmanager
    def frozen(self) -> Iterator[Mixture]:
        """In evaluation mode and without gradients for parameters; every mode and flag comes back, also on errors."""
        flags = [(parameter, parameter.requires_grad) for parameter in self.parameters()]
        modes = [(module, module.training) for module in self.modules()]
        try:
            self.eval()
            for parameter, _ in flags:
                parameter.requires_grad_(False)
            yield self
        finally:
            for module, training in modes:
                module.training = training
            for parameter, wanted in flags:
                parameter.requires_grad_(wanted)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Mixture:
        """Move or cast; the weights move along and keep their type."""
        weights = self.weights
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.weights = weights.to(self.weights.device)
        return self

    def extra_repr(self) -> str:
        return "weights=[" + ", ".join(f"{weight:.4g}" for weight in self.weights.tolist()) + "]"

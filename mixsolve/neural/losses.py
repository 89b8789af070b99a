"""What an attack climbs: losses of one member on a batch, higher where it fails."""

from __future__ import annotations

import enum

import torch
from torch import Tensor
from torch.nn import functional

from mixsolve.neural.mixture import cross_entropy


class AttackLoss(enum.Enum):
    """The loss of every member that a gradient attack maximises on average over the mixture."""

    CROSS_ENTROPY = "cross_entropy"
    DLR = "dlr"  #: difference of logits ratio (Croce and Hein 2020): free of the logits' scale; 3 classes at least
    KL = "kl"  #: divergence from what the member predicts at the clean input, as in TRADES

    def of(self, logits: Tensor, labels: Tensor, clean: Tensor | None = None) -> Tensor:
        """Losses (n,) from logits (n, n_classes); KL needs the clean log-probabilities, of the same shape."""
        if self is AttackLoss.CROSS_ENTROPY:
            return cross_entropy(logits, labels)
        if self is AttackLoss.DLR:
            return difference_of_logits_ratio(logits, labels)
        if clean is None:
            raise ValueError("AttackLoss.KL needs the clean log-probabilities; got none")
        return divergence(logits, clean)


def difference_of_logits_ratio(logits: Tensor, labels: Tensor) -> Tensor:
    """``-(z_y - max_{c != y} z_c) / (z_(1) - z_(3))``, with z sorted, (n,).

    Raises
    ------
    ValueError
        For fewer than 3 classes.
    """
    if logits.shape[1] < 3:
        raise ValueError(f"`loss` DLR needs at least 3 classes; got {logits.shape[1]}")
    top = logits.topk(3, dim=1)
    is_first = top.indices[:, 0] == labels
    rival = torch.where(is_first, top.values[:, 1], top.values[:, 0])
    own = logits.gather(1, labels[:, None]).squeeze(1)
    return (rival - own) / (top.values[:, 0] - top.values[:, 2] + 1e-12)


def divergence(logits: Tensor, clean: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the prediction from the clean log-probabilities (n, n_classes), (n,)."""
    return functional.kl_div(
        functional.log_softmax(logits, dim=1), clean, reduction="none", log_target=True
    ).sum(dim=1)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """``z_y - max_{c != y} z_c``, (n,): negative where the member is wrong."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return own - others.amax(dim=1)

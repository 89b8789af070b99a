"""Batches by the numbers of their samples: which ones an update sees, loaded, moved and augmented."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mixsolve.neural.noise import Noise, generator_of
from mixsolve.neural.plan import Augmentation

PADDING = 4


class Batches:
    """A data set whose samples are known by number, split into training and held-out ones.

    Parameters
    ----------
    data : map-style Dataset, Images, or (x, y) tensors
        Items are (x, y). Whole batches are asked of a method ``batch(indices)`` where there is one.
    batch_size, seed : int
    held_out : float
        Share of the samples that is not trained on.
    device : torch.device
    split_seed : int
        Of the choice of the held-out samples.
    """

    def __init__(
        self, data: Any, batch_size: int, seed: int, held_out: float, device: torch.device, split_seed: int
    ) -> None:
        if isinstance(data, tuple):
            data = torch.utils.data.TensorDataset(*data)
        if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) or len(data) == 0:
            raise TypeError(
                f"`data` must be a data set of (x, y) items with a length, not empty; got {type(data).__name__}"
            )
        self._data, self._device, self._seed, self._size = data, device, seed, batch_size
        order = torch.randperm(len(data), generator=generator_of(split_seed, _SPLIT))
        n_held_out = round(held_out * len(data)) if held_out else 0
        self.held_out = order[:n_held_out].sort().values
        self.training = order[n_held_out:].sort().values
        if held_out and not (len(self.held_out) and len(self.training)):
            raise ValueError(
                f"`selection.share` must leave images to train and to select on; {held_out} of {len(data)} does not"
            )
        self._epoch, self._order = -1, order

    @property
    def per_epoch(self) -> int:
        """Batches in one round of the training samples; the last one may be smaller."""
        return -(-len(self.training) // self._size)

    def of_update(self, update: int) -> Tensor:
        """Numbers of the samples of the batch of an update; every round of the data has its own order."""
        epoch, place = divmod(update, self.per_epoch)
        if epoch != self._epoch:
            generator = generator_of(self._seed, _SHUFFLE, epoch)
            order = torch.randperm(len(self.training), generator=generator)
            self._epoch, self._order = epoch, self.training[order]
        return self._order[place * self._size : (place + 1) * self._size]

    def load(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and labels of some samples, on the device."""
        if hasattr(self._data, "batch"):
            x, y = self._data.batch(numbers)
        else:
            items = [self._data[number] for number in numbers.tolist()]
            x = torch.stack([torch.as_tensor(item[0]) for item in items])
            y = torch.stack([torch.as_tensor(item[1]) for item in items])
        return x.to(self._device), y.to(self._device, torch.int64)


_SPLIT, _SHUFFLE = 101, 102


def augmented(x: Tensor, augmentation: Augmentation, noise: Noise) -> Tensor:
    """Images (n, channels, height, width), changed as their noise says."""
    if augmentation is Augmentation.NONE:
        return x
    n, channels, height, width = x.shape
    padded = functional.pad(x, [PADDING] * 4)
    top, left = noise.integers(2 * PADDING + 1), noise.integers(2 * PADDING + 1)
    across = torch.arange(width, device=x.device).expand(n, width)
    across = torch.where(noise.integers(2)[:, None] == 1, across.flip(1), across)
    rows = (top[:, None] + torch.arange(height, device=x.device))[:, None, :, None]
    columns = (left[:, None] + across)[:, None, None, :]
    sample = torch.arange(n, device=x.device)[:, None, None, None]
    channel = torch.arange(channels, device=x.device)[None, :, None, None]
    return padded[sample, channel, rows, columns]

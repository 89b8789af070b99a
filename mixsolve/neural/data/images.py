"""Images in memory: pixels of one byte, labels, and batches in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset


@dataclass(frozen=True, eq=False)
class Images(Dataset[tuple[Tensor, Tensor]]):
    """A data set whose items are (pixels in [0, 1], label), and that hands out whole batches at once.

    Attributes
    ----------
    pixels : Tensor of uint8, (n, channels, height, width)
        In 0..`highest`.
    labels : Tensor of int64, (n,)
    n_classes : int
    name : str
    highest : int
        The byte that stands for 1.
    """

    pixels: Tensor
    labels: Tensor
    n_classes: int
    name: str = "images"
    highest: int = 255

    def __post_init__(self) -> None:
        if self.pixels.dtype is not torch.uint8 or self.pixels.ndim != 4:
            raise ValueError(
                "`pixels` must be uint8, (n, channels, height, width); "
                f"got {self.pixels.dtype}, {tuple(self.pixels.shape)}"
            )
        if self.labels.shape != self.pixels.shape[:1] or self.labels.dtype is not torch.int64:
            raise ValueError(
                f"`labels` must be int64, ({len(self.pixels)},); got {self.labels.dtype}, "
                f"{tuple(self.labels.shape)}"
            )
        if len(self.labels) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < self.n_classes:
            raise ValueError(
                f"`labels` must lie in 0..{self.n_classes - 1}; got {int(self.labels.min())} to "
                f"{int(self.labels.max())}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pixels[index].float() / self.highest, self.labels[index]

    def batch(self, indices: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Pixels in [0, 1], float32 (n, channels, height, width), and labels (n,) of some images."""
        return self.pixels[indices].float() / self.highest, self.labels[indices]

    def part(self, indices: Tensor | Sequence[int] | slice) -> Images:
        """Some of the images."""
        return Images(self.pixels[indices], self.labels[indices], self.n_classes, self.name, self.highest)

    @classmethod
    def of(
        cls,
        pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
        labels: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
        n_classes: int,
        name: str,
        highest: int = 255,
    ) -> Images:
        """From arrays: pixels (n, channels, height, width) or (n, height, width), labels (n,)."""
        shaped = pixels[:, None] if pixels.ndim == 3 else pixels
        bytes_ = torch.from_numpy(np.array(shaped, order="C"))
        return cls(bytes_, torch.from_numpy(labels.astype(np.int64)), n_classes, name, highest)

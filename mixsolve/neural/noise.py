"""Random numbers by key: what a sample draws depends on the seed and its own number, on nothing else of its batch.

So a batch may be cut differently, finished samples may leave it, and several processes may share it, and every sample
still meets the same random start and the same augmentation. Counter-based, as Salmon et al., "Parallel random numbers:
as easy as 1, 2, 3", SC 2011; the mixing function is that of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class Noise:
    """A stream of random numbers for every sample of a batch.

    Parameters
    ----------
    seed : int
        Any integer.
    samples : Tensor of int64, (n,)
        Numbers of the samples: equal numbers draw equal noise.
    draws : int
        How many draws came before.
    """

    def __init__(self, seed: int, samples: Tensor, draws: int = 0) -> None:
        self.seed, self.samples, self.draws = seed, samples, draws

    @classmethod
    def of(cls, generator: torch.Generator | None, n_samples: int, device: torch.device) -> Noise:
        """Streams for a batch, seeded by one draw of a generator; None stands for torch's own."""
        where = "cpu" if generator is None else generator.device
        seed = torch.randint(2**62, (), generator=generator, device=where)
        return cls(int(seed), torch.arange(n_samples, device=device))

    def at(self, rows: Tensor) -> Noise:
        """The streams of some samples, where they stand now."""
        return Noise(self.seed, self.samples[rows], self.draws)

    def keyed(self, *keys: int) -> Noise:
        """Fresh streams for the same samples, apart from these and from those of other keys."""
        return Noise(mixed(self.seed, *keys), self.samples)

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1) in the shape and type of a batch (n, ...); 24 bits each."""
        return self._unit(like).to(like.dtype)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers in the shape and type of a batch (n, ...)."""
        middle = self._unit(like) + 2.0**-25  # the middle of its cell: neither 0 nor 1
        return (math.sqrt(2.0) * torch.erfinv(2.0 * middle - 1.0)).to(like.dtype)

    def integers(self, high: int) -> Tensor:
        """Integers in [0, high), one a sample, int64 (n,)."""
        return (self._unit(self.samples[:, None]).squeeze(1) * high).long()

    def _unit(self, like: Tensor) -> Tensor:
        self.draws += 1
        start = _mix(_mix(self.samples + _signed(mixed(self.seed, self.draws))))
        place = torch.arange(like[0].numel(), device=like.device) * _signed(_GOLDEN)
        bits = _mix(start[:, None] + place) >> 40 & 0xFFFFFF
        return (bits.to(torch.float64) * 2.0**-24).reshape(like.shape)


def mixed(*keys: int) -> int:
    """One seed in [0, 2**63) of several integers, scattered."""
    state = 0
    for key in keys:
        state = int(_mix(torch.tensor(_signed(state + key + _GOLDEN)))) % 2**64
    return state >> 1


def generator_of(*keys: int) -> torch.Generator:
    """A generator on the CPU seeded by several integers."""
    return torch.Generator().manual_seed(mixed(*keys))


def _mix(state: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64, wrapping; shifts are made logical by masks."""
    state = (state ^ (state >> 30 & (1 << 34) - 1)) * _signed(_FIRST)
    state = (state ^ (state >> 27 & (1 << 37) - 1)) * _signed(_SECOND)
    return state ^ (state >> 31 & (1 << 33) - 1)


def _signed(number: int) -> int:
    """The int64 with the low 64 bits of a number."""
    low = number % 2**64
    return low - 2**64 if low >= 2**63 else low

"""Data sets from packages and from the user's disk, as `Images`. Nothing is downloaded."""

from __future__ import annotations

from mixsolve.neural.data.cifar import load_cifar10, load_cifar100
from mixsolve.neural.data.digits import load_digits
from mixsolve.neural.data.idx import load_fashion_mnist, load_mnist
from mixsolve.neural.data.images import Images

__all__ = ["Images", "load_cifar10", "load_cifar100", "load_digits", "load_fashion_mnist", "load_mnist"]

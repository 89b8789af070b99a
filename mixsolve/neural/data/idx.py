"""MNIST and Fashion-MNIST in their own format: four IDX files, gzipped or not, in one folder."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mixsolve.neural.data.images import Images

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""

_UNSIGNED_BYTE = 0x08


def load_fashion_mnist(root: str | os.PathLike[str] | None = None, *, train: bool = True) -> Images:
    """Fashion-MNIST: 60,000 images for training, 10,000 for testing, (n, 1, 28, 28).

    Parameters
    ----------
    root : path, optional
        Folder of the IDX files; that of Debian's package ``dataset-fashion-mnist`` by default.
    train : bool

    Raises
    ------
    FileNotFoundError, ValueError
        Naming the file, what is wrong with it, and where to put it.
    """
    if root is None and not DEBIAN_FASHION_MNIST.is_dir():
        raise FileNotFoundError(
            "Fashion-MNIST needs its four IDX files: name their folder as `root`, or install Debian's package "
            f"dataset-fashion-mnist, which puts them into {DEBIAN_FASHION_MNIST}"
        )
    return _load(Path(DEBIAN_FASHION_MNIST if root is None else root), train, "fashion-mnist")


def load_mnist(root: str | os.PathLike[str], *, train: bool = True) -> Images:
    """MNIST in the same format, from the folder of its four IDX files; errors as for `load_fashion_mnist`."""
    return _load(Path(root), train, "mnist")


def _load(root: Path, train: bool, name: str) -> Images:
    part = "train" if train else "t10k"
    pixels = read_idx(_find(root, f"{part}-images-idx3-ubyte", f"{part}-images.idx3-ubyte"), 3)
    labels = read_idx(_find(root, f"{part}-labels-idx1-ubyte", f"{part}-labels.idx1-ubyte"), 1)
    if len(pixels) != len(labels):
        raise ValueError(f"{root} must hold as many images as labels; got {len(pixels)} and {len(labels)}")
    if pixels.shape[1:] != (28, 28):
        raise ValueError(f"the images in {root} must be 28 x 28; got {pixels.shape[1:]}")
    return Images.of(pixels, labels, 10, name)


def _find(root: Path, *names: str) -> Path:
    for name in names:
        for path in (root / f"{name}.gz", root / name):
            if path.is_file():
                return path
    raise FileNotFoundError(f"{names[0]}.gz (or {names[0]}) is missing: put it into {root}")


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """The bytes of an IDX file, gzipped where its name ends in .gz.

    Raises
    ------
    ValueError
        If it is no IDX file of bytes with that many dimensions, is truncated, or holds more than it says.
    """
    required = f"{path} must be an IDX file of bytes with {dimensions} dimensions"
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{required}; it is truncated or not gzipped ({error})") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, _UNSIGNED_BYTE, dimensions)):
        raise ValueError(f"{required}; it begins with {content[:4].hex() or 'nothing'}")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise ValueError(f"{required}; it says shape {shape}, and holds {len(content) - header} bytes")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)

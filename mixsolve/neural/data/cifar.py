"""CIFAR-10 and CIFAR-100 in their official formats, python (pickled) and binary, from a folder or the archive in it."""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixsolve.neural.data.images import Images
from mixsolve.neural.data.unpickle import unpickle_arrays

BYTES_PER_IMAGE = 3 * 32 * 32


@dataclass(frozen=True)
class _Layout:
    """Where one data set keeps what."""

    name: str
    n_classes: int
    python_folder: str
    binary_folder: str
    python_files: tuple[tuple[str, ...], tuple[str, ...]]
    """For training, for testing."""
    binary_files: tuple[tuple[str, ...], tuple[str, ...]]
    label: bytes
    """Of the labels in a pickled file."""
    label_bytes: int
    """Before the pixels of a binary record; the last one counts."""


_CIFAR10 = _Layout(
    "cifar10",
    10,
    "cifar-10-batches-py",
    "cifar-10-batches-bin",
    (tuple(f"data_batch_{k}" for k in range(1, 6)), ("test_batch",)),
    (tuple(f"data_batch_{k}.bin" for k in range(1, 6)), ("test_batch.bin",)),
    b"labels",
    1,
)
_CIFAR100 = _Layout(
    "cifar100",
    100,
    "cifar-100-python",
    "cifar-100-binary",
    (("train",), ("test",)),
    (("train.bin",), ("test.bin",)),
    b"fine_labels",
    2,
)


def load_cifar10(root: str | os.PathLike[str], *, train: bool = True) -> Images:
    """CIFAR-10: 50,000 images for training, 10,000 for testing, (n, 3, 32, 32).

    Parameters
    ----------
    root : path
        The folder that holds ``cifar-10-batches-py`` or ``cifar-10-batches-bin``, or the official archive
        ``cifar-10-python.tar.gz`` or ``cifar-10-binary.tar.gz``, or the files themselves.
    train : bool

    Raises
    ------
    FileNotFoundError, ValueError
        Naming the file, what is wrong with it, and where to put it.
    """
    return _load(_CIFAR10, Path(root), train)


def load_cifar100(root: str | os.PathLike[str], *, train: bool = True) -> Images:
    """CIFAR-100 with its 100 fine labels, (n, 3, 32, 32), from ``cifar-100-python`` or ``cifar-100-binary``."""
    return _load(_CIFAR100, Path(root), train)


def _load(layout: _Layout, root: Path, train: bool) -> Images:
    part = 0 if train else 1
    for folder, names, is_python in (
        (layout.python_folder, layout.python_files[part], True),
        (layout.binary_folder, layout.binary_files[part], False),
    ):
        files = _read_all(root, folder, names)
        if files is None:
            continue
        pairs = [_decode(layout, where, content, is_python) for where, content in files]
        pixels, labels = (np.concatenate(side) for side in zip(*pairs, strict=True))
        return Images.of(pixels, labels, layout.n_classes, layout.name)
    raise FileNotFoundError(
        f"{layout.python_folder}/{layout.python_files[part][0]} or "
        f"{layout.binary_folder}/{layout.binary_files[part][0]} is missing: put the folder, or the official "
        f"archive that holds it, into {root}"
    )


def _read_all(root: Path, folder: str, names: tuple[str, ...]) -> list[tuple[str, bytes]] | None:
    """Contents of the files with where they come from; None where there is no trace of them."""
    for place in (root / folder, root):
        if any((place / name).is_file() for name in names):
            for name in names:
                if not (place / name).is_file():
                    raise FileNotFoundError(f"{name} is missing: put it into {place}")
            return [(str(place / name), (place / name).read_bytes()) for name in names]
    archive = root / _archive_of(folder)
    if not archive.is_file():
        return None
    try:
        with tarfile.open(archive) as content:
            return [(f"{name} in {archive}", _extract(content, f"{folder}/{name}")) for name in names]
    except (tarfile.TarError, EOFError, OSError, KeyError) as error:
        raise ValueError(
            f"{archive} must be the official archive; it is truncated or is not ({error})"
        ) from error


def _archive_of(folder: str) -> str:
    """``cifar-10-batches-py`` came in ``cifar-10-python.tar.gz``, and so on."""
    dataset = "-".join(folder.split("-")[:2])
    return f"{dataset}-{'python' if folder.endswith(('py', 'python')) else 'binary'}.tar.gz"


def _extract(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    if member is None:
        raise KeyError(f"{name} is no file")
    return member.read()


def _decode(
    layout: _Layout, where: str, content: bytes, is_python: bool
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
    """Pixels (n, 3, 32, 32) and labels (n,) of one file."""
    if is_python:
        pixels, labels = _from_pickle(layout, where, content)
    else:
        size = layout.label_bytes + BYTES_PER_IMAGE
        if not content or len(content) % size:
            raise ValueError(
                f"{where} must hold records of {size} bytes; it is truncated: {len(content)} bytes"
            )
        records = np.frombuffer(content, dtype=np.uint8).reshape(-1, size)
        pixels, labels = records[:, layout.label_bytes :], records[:, layout.label_bytes - 1]
    if labels.size and not 0 <= labels.min() <= labels.max() < layout.n_classes:
        raise ValueError(f"{where} must hold labels below {layout.n_classes}; got {labels.max()}")
    return pixels.reshape(-1, 3, 32, 32), labels


def _from_pickle(
    layout: _Layout, where: str, content: bytes
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
    found = unpickle_arrays(content, where)
    if not isinstance(found, dict):
        raise ValueError(f"{where} must hold a dictionary; got {type(found).__name__}")
    keyed = {key.encode() if isinstance(key, str) else key: value for key, value in found.items()}
    pixels, labels = keyed.get(b"data"), keyed.get(layout.label)
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.ndim != 2
        or pixels.shape[1] != BYTES_PER_IMAGE
        or not isinstance(labels, list)
        or len(labels) != len(pixels)
    ):
        raise ValueError(
            f"{where} must hold data of uint8, (n, {BYTES_PER_IMAGE}), and n {layout.label.decode()}; it does not"
        )
    return pixels, np.array(labels, dtype=np.int64)

"""Tiny files in the official formats of MNIST and CIFAR, with known contents."""

import gzip
import pickle
import struct
import tarfile

import numpy as np


def images(n, shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size=(n, *shape), dtype=np.uint8)


def write_idx(path, array):
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(root, n=20, suffix=".gz"):
    """The four files; pixels and labels by part."""
    root.mkdir(parents=True, exist_ok=True)
    parts = {}
    for seed, part in enumerate(("train", "t10k")):
        pixels, labels = images(n, (28, 28), seed), (np.arange(n) % 10).astype(np.uint8)
        write_idx(root / f"{part}-images-idx3-ubyte{suffix}", pixels)
        write_idx(root / f"{part}-labels-idx1-ubyte{suffix}", labels)
        parts[part] = (pixels, labels)
    return parts


CIFAR10_FILES = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]


def write_cifar10(root, n=4, binary=False):
    """Six files of n images each; pixels (n, 3072) and labels by file."""
    folder = root / ("cifar-10-batches-bin" if binary else "cifar-10-batches-py")
    folder.mkdir(parents=True, exist_ok=True)
    parts = {}
    for seed, name in enumerate(CIFAR10_FILES):
        pixels, labels = images(n, (3072,), seed), (np.arange(n) + seed) % 10
        if binary:
            records = np.concatenate([labels[:, None].astype(np.uint8), pixels], axis=1)
            (folder / f"{name}.bin").write_bytes(records.tobytes())
        else:
            content = {b"batch_label": b"", b"labels": labels.tolist(), b"data": pixels, b"filenames": [b"a"]}
            (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        parts[name] = (pixels, labels)
    return parts


def write_cifar100(root, n=8, binary=False):
    """Two files of n images each; pixels (n, 3072) and fine labels by file."""
    folder = root / ("cifar-100-binary" if binary else "cifar-100-python")
    folder.mkdir(parents=True, exist_ok=True)
    parts = {}
    for seed, name in enumerate(("train", "test")):
        pixels, fine = images(n, (3072,), seed), (7 * np.arange(n) + seed) % 100
        coarse = fine // 5
        if binary:
            head = np.stack([coarse, fine], axis=1).astype(np.uint8)
            (folder / f"{name}.bin").write_bytes(np.concatenate([head, pixels], axis=1).tobytes())
        else:
            content = {b"fine_labels": fine.tolist(), b"coarse_labels": coarse.tolist(), b"data": pixels}
            (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        parts[name] = (pixels, fine)
    return parts


def pack(root, folder, archive):
    """The folder as the official archive, and gone."""
    with tarfile.open(root / archive, "w:gz") as file:
        file.add(root / folder, arcname=folder)
    for path in (root / folder).iterdir():
        path.unlink()
    (root / folder).rmdir()

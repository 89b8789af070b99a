"""Loaders on tiny files in the official formats: contents, archives, and what is wrong with damaged ones."""

import gzip
import os
import pickle
import struct

import numpy as np
import pytest
import torch

from mixsolve.neural.data import (
    Images,
    idx,
    load_cifar10,
    load_cifar100,
    load_digits,
    load_fashion_mnist,
    load_mnist,
)
from mixsolve.neural.data.unpickle import unpickle_arrays
from tests.neural.official import (
    CIFAR10_FILES,
    images,
    pack,
    write_cifar10,
    write_cifar100,
    write_idx,
    write_mnist,
)
from tests.refusals import refuse


def assert_holds(loaded, pixels, labels, shape):
    assert tuple(loaded.pixels.shape) == (len(pixels), *shape)
    np.testing.assert_array_equal(
        loaded.pixels.numpy().reshape(len(pixels), -1), pixels.reshape(len(pixels), -1)
    )
    np.testing.assert_array_equal(loaded.labels.numpy(), labels)


def test_digits_come_in_two_parts_that_do_not_meet():
    train, test = load_digits(), load_digits(train=False)
    assert (len(train), len(test)) == (1347, 450)
    x, y = train.batch(torch.arange(3))
    assert x.dtype is torch.float32
    assert x.shape == (3, 1, 8, 8)
    assert 0 <= x.min() < x.max() == 1.0
    item, label = train[0]
    assert torch.equal(item, x[0])
    assert label == y[0]
    both = torch.cat([train.pixels, test.pixels])
    assert len(torch.unique(both.flatten(1), dim=0)) == 1797
    assert sorted(set(test.labels.tolist())) == list(range(10))


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_mnist_and_fashion_mnist(tmp_path, suffix):
    parts = write_mnist(tmp_path, suffix=suffix)
    for load in (load_mnist, load_fashion_mnist):
        assert_holds(load(tmp_path), *parts["train"], (1, 28, 28))
        assert_holds(load(tmp_path, train=False), *parts["t10k"], (1, 28, 28))


def test_debians_fashion_mnist_is_found_by_itself(tmp_path, monkeypatch):
    if idx.DEBIAN_FASHION_MNIST.is_dir():
        train, test = load_fashion_mnist(), load_fashion_mnist(train=False)
        assert (len(train), len(test)) == (60_000, 10_000)
        assert np.bincount(test.labels.numpy()).tolist() == [1000] * 10
    monkeypatch.setattr(idx, "DEBIAN_FASHION_MNIST", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="dataset-fashion-mnist"):
        load_fashion_mnist()
    parts = write_mnist(tmp_path / "nowhere")
    assert_holds(load_fashion_mnist(), *parts["train"], (1, 28, 28))


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
@pytest.mark.parametrize("binary", [False, True], ids=["python", "binary"])
def test_cifar10(tmp_path, binary, packed):
    parts = write_cifar10(tmp_path, binary=binary)
    if packed:
        kind = "binary" if binary else "python"
        pack(tmp_path, f"cifar-10-batches-{'bin' if binary else 'py'}", f"cifar-10-{kind}.tar.gz")
    train = [np.concatenate(side) for side in zip(*(parts[n] for n in CIFAR10_FILES[:5]), strict=True)]
    assert_holds(load_cifar10(tmp_path), *train, (3, 32, 32))
    assert_holds(load_cifar10(tmp_path, train=False), *parts["test_batch"], (3, 32, 32))


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
@pytest.mark.parametrize("binary", [False, True], ids=["python", "binary"])
def test_cifar100_with_its_fine_labels(tmp_path, binary, packed):
    parts = write_cifar100(tmp_path, binary=binary)
    if packed:
        kind = "binary" if binary else "python"
        pack(tmp_path, f"cifar-100-{kind}", f"cifar-100-{kind}.tar.gz")
    assert_holds(load_cifar100(tmp_path), *parts["train"], (3, 32, 32))
    assert_holds(load_cifar100(tmp_path, train=False), *parts["test"], (3, 32, 32))


def test_the_files_themselves_are_a_root_too(tmp_path):
    parts = write_cifar10(tmp_path)
    loaded = load_cifar10(tmp_path / "cifar-10-batches-py", train=False)
    assert_holds(loaded, *parts["test_batch"], (3, 32, 32))


def test_missing_files_are_named_with_where_to_put_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"train-images-idx3-ubyte.gz .* put it into {tmp_path}"):
        load_mnist(tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"cifar-10-batches-py/data_batch_1 .* into {tmp_path}"):
        load_cifar10(tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"cifar-100-binary/test.bin .* into {tmp_path}"):
        load_cifar100(tmp_path, train=False)
    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"data_batch_3 is missing: put it into .*cifar-10-batches-py"
    ):
        load_cifar10(tmp_path)
    assert len(load_cifar10(tmp_path, train=False)) == 4


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_damaged_idx_files_are_named(tmp_path, suffix):
    write_mnist(tmp_path, suffix=suffix)
    path = tmp_path / f"train-images-idx3-ubyte{suffix}"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:3], b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.* must be an IDX file"):
            load_mnist(tmp_path)
    path.write_bytes(b"not gzipped and not IDX at all")
    with pytest.raises(ValueError, match="must be an IDX file"):
        load_mnist(tmp_path)
    write_idx(path, images(20, (27, 28)))
    with pytest.raises(ValueError, match=r"must be 28 x 28; got \(27, 28\)"):
        load_mnist(tmp_path)
    write_idx(path, images(19, (28, 28)))
    with pytest.raises(ValueError, match="as many images as labels; got 19 and 20"):
        load_mnist(tmp_path)


def test_an_idx_file_that_says_more_than_it_holds(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    header = bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**31, 2**31, 2**31)
    path.write_bytes(gzip.compress(header))
    with pytest.raises(ValueError, match="holds 0 bytes"):
        load_mnist(tmp_path)


def test_damaged_cifar_files_are_named(tmp_path):
    write_cifar10(tmp_path / "py")
    path = tmp_path / "py" / "cifar-10-batches-py" / "test_batch"
    whole = path.read_bytes()
    for damaged in (whole[:-10], b"", b"text"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="test_batch must be a pickle of plain arrays"):
            load_cifar10(tmp_path / "py", train=False)
    for content in ([1, 2], {b"labels": [1]}, {b"data": images(2, (3072,)), b"labels": [1]}):
        path.write_bytes(pickle.dumps(content, protocol=2))
        with pytest.raises(ValueError, match="test_batch must hold"):
            load_cifar10(tmp_path / "py", train=False)
    path.write_bytes(pickle.dumps({b"data": images(1, (3072,)), b"labels": [10]}, protocol=2))
    with pytest.raises(ValueError, match="labels below 10; got 10"):
        load_cifar10(tmp_path / "py", train=False)
    write_cifar10(tmp_path / "bin", binary=True)
    path = tmp_path / "bin" / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"test_batch\.bin must hold records of 3073 bytes; it is truncated"):
        load_cifar10(tmp_path / "bin", train=False)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"cifar-10-python\.tar\.gz must be the official archive"):
        load_cifar10(tmp_path)


class Call:
    """A pickle that runs something when it is loaded by the ordinary unpickler."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


EVIL = [
    Call(os.system, "touch executed"),
    Call(eval, "open('executed', 'w')"),
    Call(getattr, "", "join"),
    Call(np.load, "executed.npy"),
    Call(np.fromfile, "executed"),
    Call(pickle.loads, pickle.dumps(1)),
    Call(open, "executed", "w"),
    np.dtype("O"),
    np.array([Call(os.system, "touch executed")], dtype=object),
    np.matrix([[1]]),
    {1, 2},
]


@pytest.mark.parametrize("content", EVIL[:7], ids=lambda call: call.function.__name__)
@pytest.mark.parametrize("protocol", range(5))
def test_a_pickle_can_build_nothing_but_arrays(tmp_path, monkeypatch, content, protocol):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="only arrays are read"):
        unpickle_arrays(pickle.dumps({b"data": content}, protocol=protocol), "file")
    assert not list(tmp_path.iterdir())


def test_objects_in_arrays_are_refused_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content in EVIL[8:10]:
        with pytest.raises(ValueError, match="file must be a pickle of plain arrays"):
            unpickle_arrays(pickle.dumps(content, protocol=2), "file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.int64])
def test_arrays_of_every_protocol_are_read(protocol, kind):
    content = {b"data": np.arange(12, dtype=kind).reshape(3, 4), b"labels": [1, 2], b"name": b"x"}
    found = unpickle_arrays(pickle.dumps(content, protocol=protocol), "file")
    np.testing.assert_array_equal(found[b"data"], content[b"data"])
    assert found[b"data"].dtype == kind
    assert found[b"labels"] == [1, 2]


def test_old_and_new_names_of_numpys_modules_are_read():
    """The official files were written by Python 2 and NumPy 1: `numpy.core`, byte strings for keys."""
    new = pickle.dumps(np.arange(5, dtype=np.uint8), protocol=2)
    old = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    for content in (new, old):
        np.testing.assert_array_equal(unpickle_arrays(content, "file"), np.arange(5))


def test_bad_images_are_refused():
    pixels, labels = torch.zeros((3, 1, 2, 2), dtype=torch.uint8), torch.tensor([0, 1, 2])
    refuse(ValueError, "pixels", "uint8", "float32", lambda: Images(pixels.float(), labels, 3))
    refuse(ValueError, "labels", r"\(3,\)", r"\(2,\)", lambda: Images(pixels, labels[:2], 3))
    refuse(ValueError, "labels", r"0\.\.1", "2", lambda: Images(pixels, labels, 2))

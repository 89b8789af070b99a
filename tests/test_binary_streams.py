"""0/1 losses that are read in chunks: compressed by one read within some memory, and proved by another."""

import os
import signal
import time
from itertools import pairwise

import numpy as np
import pytest

from mixsolve import LossTable, Status, TableChangedError, fit_mixture, verify
from mixsolve.file_stream import FileStream
from mixsolve.npy_files import NpyFile
from mixsolve.reduction import ALONE
from mixsolve.solvers.chunk_sets import compress_chunks
from tests.certificates import assert_certificate
from tests.test_binary_losses import ragged_zero_one, zero_one
from tests.test_streams import Restartable, forms, saved, shards
from tests.tolerances import rounding_slack

LIMIT = 1 << 24
"""A limit on memory under which the tables here are compressed."""

LEVELS = {"worst case": 0.0, "smoothed": 0.05, "two temperatures": np.where(np.arange(900) % 3, 0.05, 0.2)}


def game(seed=0, n_samples=900):
    """Some classifiers are fooled more often than others: their mixture is far from even."""
    return zero_one(seed, 5, n_samples, 30, np.array([0.1, 0.12, 0.15, 0.2, 0.3])[:, None, None])


def opened(*paths, memory_limit=LIMIT, **own):
    return FileStream([NpyFile.open(path) for path in paths], memory_limit=memory_limit, **own)


@pytest.mark.parametrize("temperature", list(LEVELS.values()), ids=list(LEVELS))
@pytest.mark.parametrize("form", ["path", "memmap", "folder", "list of arrays", "iterator"])
def test_every_form_is_compressed_by_one_read_and_proved_by_one(form, temperature, tmp_path):
    losses = game().astype(np.float32)
    given = forms(tmp_path, losses)[form]
    found = fit_mixture(given, temperature=temperature, tol=1e-9, memory_limit=LIMIT)
    assert found.status is Status.OPTIMAL
    assert_certificate(found, losses, tol=1e-9)
    surveyed = form in ("list of arrays", "iterator")
    # a response may be a better mixture than the solution by an ulp, and its worst case takes another read
    assert found.passes - surveyed in ((2,) if temperature is LEVELS["worst case"] else (2, 3))
    assert found.bytes_read == found.passes * losses.nbytes
    assert found.statistics.compressed_rows < found.statistics.rows == 900 * 30
    assert 0 < found.statistics.peak_memory < LIMIT
    alone = fit_mixture(losses, temperature=temperature, tol=1e-9)
    assert found.lower_bound <= alone.value + rounding_slack(losses)
    assert alone.lower_bound <= found.value + rounding_slack(losses)
    assert found.statistics.compressed_rows == alone.statistics.compressed_rows


@pytest.mark.parametrize(
    "dtype", [bool, np.uint8, np.int64, np.float16, np.float32, np.float64, ">f4", ">i2"]
)
def test_every_type_of_file(dtype, tmp_path):
    losses = game(1)
    path = saved(tmp_path, losses.astype(dtype))
    stream = opened(path)
    found = fit_mixture(stream, memory_limit=LIMIT)
    assert_certificate(found, losses, tol=1e-6)
    assert found.statistics.compressed_rows < 9000
    assert found.bytes_read == stream.bytes_handed_out == 2 * stream.nbytes
    assert verify(found, path)


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_ragged_files_with_weights_and_a_prior(temperature, tmp_path):
    """The samples of one file weigh nothing."""
    rng = np.random.default_rng(2)
    losses, offsets = ragged_zero_one(2, 4, 300)
    prior = rng.random(losses.shape[1]) + 0.1
    prior /= np.repeat(np.add.reduceat(prior, offsets[:-1]), np.diff(offsets))
    weight = rng.exponential(size=300)
    weight[100:150] = 0.0
    own = {"row_offsets": offsets, "sample_weight": weight, "attack_prior": prior}
    cuts = offsets[[0, 100, 150, 300]]
    paths = [saved(tmp_path, losses[:, a:b], f"{a}.npy") for a, b in pairwise(cuts)]
    found = fit_mixture(paths, temperature=temperature, tol=1e-7, memory_limit=LIMIT, **own)
    assert found.status is Status.OPTIMAL
    assert found.statistics.compressed_rows < found.statistics.rows == losses.shape[1]
    assert_certificate(found, losses, tol=1e-7, **own)


@pytest.mark.parametrize("value", [0.5, 2.0, -1.0])
@pytest.mark.parametrize("place", [(4, 0, 29), (2, 500, 3), (0, 899, 29)])
def test_another_loss_is_seen_wherever_it_is(place, value, tmp_path, monkeypatch):
    """Reading stops at the chunk that has it, which counts as read; the table is then solved as it is."""
    monkeypatch.setattr("mixsolve.file_stream.CHUNK", 1 << 12)
    monkeypatch.setattr("mixsolve.file_stream.PIECE", 1)
    losses = game(3)
    losses[place] = value
    stream = opened(*sorted(shards(tmp_path, losses).iterdir()))
    found = fit_mixture(stream, memory_limit=LIMIT)
    assert found.statistics.compressed_rows is None
    assert_certificate(found, losses, tol=1e-6)
    assert found.bytes_read == stream.bytes_handed_out
    whole = place[1] == 899
    assert (found.bytes_read == found.passes * losses.nbytes) == whole
    assert found.passes <= 5


def test_sets_that_do_not_fit_are_left_alone(tmp_path):
    """64 rows a sample, hardly two alike: known before, during or after the read, with more and more memory."""
    losses = (np.random.default_rng(4).random((30, 500, 64)) < 0.5).astype(np.uint8)
    path = saved(tmp_path, losses)
    shares = []
    for limit in (100_000, 1 << 20, 1 << 23):
        stream = opened(path, memory_limit=limit)
        bytes_read, compressed = compress_chunks(stream, 0.0, ALONE, memory_limit=limit, threads=None)
        shares.append(stream.bytes_handed_out / losses.nbytes)
        assert compressed is None
        assert bytes_read == (None if shares[-1] == 1 else stream.bytes_handed_out)
        result = fit_mixture(stream, memory_limit=limit, tol=1e-2)
        assert result.statistics.compressed_rows is None
        assert_certificate(result, losses, tol=1e-2)
    assert shares[0] == 0 < shares[1] < 1 == shares[2]


def test_the_same_bits_from_chunks_of_any_size_and_threads(tmp_path, monkeypatch):
    path = saved(tmp_path, game(5).astype(np.uint8))
    found = [fit_mixture(path, memory_limit=LIMIT, threads=threads) for threads in (1, 2)]
    monkeypatch.setattr("mixsolve.file_stream.CHUNK", 1 << 12)
    monkeypatch.setattr("mixsolve.file_stream.PIECE", 1)
    found.append(fit_mixture(path, memory_limit=LIMIT))
    for other in found[1:]:
        assert other.weights.tobytes() == found[0].weights.tobytes()
        assert (other.value, other.lower_bound) == (found[0].value, found[0].lower_bound)
        assert other.attack.to_dict() == found[0].attack.to_dict()


def test_limits_and_callbacks(tmp_path):
    losses = game(6)
    path = saved(tmp_path, losses)
    for pass_limit in range(1, 6):
        found = fit_mixture(path, pass_limit=pass_limit, memory_limit=LIMIT)
        assert found.passes <= pass_limit
        assert_certificate(found, losses)
    instant = fit_mixture(path, time_limit=0.0, memory_limit=LIMIT)
    assert instant.status is Status.TIME_LIMIT
    stopped = fit_mixture(path, callback=lambda progress: True, memory_limit=LIMIT)
    assert stopped.status is Status.STOPPED_BY_CALLBACK
    for found in (instant, stopped):
        assert_certificate(found, losses)


@pytest.mark.parametrize("how", ["time limit", "interrupt"])
def test_the_read_that_compresses_is_left_where_it_is(how):
    """Ten seconds of it, the second read, were left; a third one proves something."""
    losses = game(7)

    class Slow(Restartable):
        def __iter__(self):
            for number, chunk in enumerate(super().__iter__()):
                if self.times == 2 and number == 2 and how == "interrupt":
                    os.kill(os.getpid(), signal.SIGINT)
                if self.times == 2:
                    time.sleep(0.25)
                yield chunk

    slow = Slow([losses[:, first : first + 20] for first in range(0, 900, 20)])
    begun = time.monotonic()
    limit = {"time_limit": 0.6} if how == "time limit" else {}
    found = fit_mixture(slow, **limit)
    assert time.monotonic() - begun < 5
    assert found.status is (Status.TIME_LIMIT if limit else Status.INTERRUPTED)
    assert slow.times == 3
    assert_certificate(found, losses)


def test_a_file_that_changes_before_the_proof(tmp_path):
    path = saved(tmp_path, game(8))

    def callback(progress):
        np.save(path, 1 - game(8))

    with pytest.raises(TableChangedError, match=r"losses.npy") as caught:
        fit_mixture(path, callback=callback, memory_limit=LIMIT)
    best = caught.value.result
    assert (best.status, best.passes) == (Status.TABLE_CHANGED, 1)
    assert best.lower_bound <= fit_mixture(game(8)).value
    assert best.attack.lower_bound(LossTable(game(8))) >= best.lower_bound - 1e-12


def test_a_compressed_solve_goes_on_from_its_checkpoint(tmp_path):
    losses = game(9)
    path, checkpoint = saved(tmp_path, losses), tmp_path / "here"
    options = {"checkpoint": checkpoint, "memory_limit": LIMIT, "tol": 1e-9}
    first = fit_mixture(path, **options, callback=lambda progress: progress.passes == 2)
    second = fit_mixture(path, **options)
    assert second.passes > first.passes
    assert_certificate(second, losses, tol=1e-9)

"""Tables from files, folders, shards and iterators: read in order, certified alike, with errors that name the file."""

import os
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from mixsolve import (
    Fista,
    LinearProgram,
    LossTable,
    Newton,
    Status,
    TableChangedError,
    _native,
    fit_mixture,
    verify,
)
from mixsolve.chunks import SUBSAMPLES
from mixsolve.file_stream import FileStream
from mixsolve.npy_files import NpyFile
from mixsolve.passes import run_pass
from mixsolve.read_ahead import read_ahead
from mixsolve.reduction import ALONE
from mixsolve.solvers.chunked_source import ChunkedSource
from mixsolve.solvers.source import TableSource
from tests.certificates import assert_certificate

CHUNKS = 1 << 19
"""A limit on memory under which the tables here are read in a dozen chunks."""


def game(seed=0, n_samples=900, dtype=np.float32):
    """Sigmoid losses, the samples in rising order of difficulty: no part of them is like the whole."""
    rng = np.random.default_rng(seed)
    z = np.linspace(-2, 2, n_samples)[:, None] + rng.normal(size=(5, n_samples, 1))
    return (1 / (1 + np.exp(-z - rng.normal(size=(5, n_samples, 30))))).astype(dtype)


@contextmanager
def refuses(error, *fragments):
    """The block raises the error, with a message that holds every fragment."""
    with pytest.raises(error) as caught:
        yield
    for fragment in fragments:
        assert fragment in str(caught.value)


class Restartable:
    """Chunks that are made anew each time."""

    def __init__(self, chunks):
        self.chunks, self.times = chunks, 0

    def __iter__(self):
        self.times += 1
        return iter([chunk() if callable(chunk) else chunk for chunk in self.chunks])


def saved(tmp_path, losses, name="losses.npy"):
    np.save(tmp_path / name, losses)
    return tmp_path / name


def shards(tmp_path, losses, cuts=(0, 100, 101, 640, 900)):
    folder = tmp_path / "shards"
    folder.mkdir()
    for number, (first, last) in enumerate(pairwise(cuts)):
        np.save(folder / f"part-{number:03}.npy", losses[:, first:last])
    return folder


def forms(tmp_path, losses):
    path, folder = saved(tmp_path, losses), shards(tmp_path, losses)
    parts = [losses[:, :300], losses[:, 300:310], losses[:, 310:]]
    return {
        "path": path,
        "text path": str(path),
        "memmap": np.load(path, mmap_mode="r"),
        "folder": folder,
        "list of files": sorted(folder.iterdir()),
        "list of arrays": parts,
        "iterator": Restartable([lambda part=part: LossTable(part) for part in parts]),
    }


@pytest.mark.parametrize(
    "form", ["path", "text path", "memmap", "folder", "list of files", "list of arrays", "iterator"]
)
def test_every_form_gives_the_certified_optimum(form, tmp_path):
    losses = game()
    known = fit_mixture(losses)
    found = fit_mixture(forms(tmp_path, losses)[form], memory_limit=CHUNKS * (1 + 20 * ("i" in form)))
    assert_certificate(found, losses, tol=1e-6)
    assert found.lower_bound <= known.value
    assert known.lower_bound <= found.value
    assert found.bytes_read == found.passes * losses.nbytes


@pytest.mark.parametrize("solver", [Newton(), Fista()])
def test_smoothed_solvers_stream(solver, tmp_path):
    losses, temperature = game(), np.linspace(0.02, 0.08, 900)
    found = fit_mixture(
        saved(tmp_path, losses), temperature=temperature, solver=solver, memory_limit=CHUNKS, tol=1e-5
    )
    assert_certificate(found, losses, tol=1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.uint8, np.bool_, np.int16, ">f4"])
def test_weights_priors_and_types(dtype, tmp_path):
    rng = np.random.default_rng(1)
    losses = (4 * game(1, 300, np.float64)).astype(dtype)
    weight = rng.random(300)
    weight[40:60] = 0
    weight[200] = 9
    prior = rng.random((300, 30)) + 0.5
    prior /= prior.sum(axis=1, keepdims=True)
    own = {"sample_weight": weight, "attack_prior": prior}
    path = saved(tmp_path, losses)
    for temperature in (0.0, 0.3):
        found = fit_mixture(path, temperature=temperature, memory_limit=CHUNKS // 4, **own)
        assert_certificate(found, losses.astype(np.float64), tol=1e-6, **own)


@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_verify_reads_streams_too(temperature, tmp_path):
    losses, weight = game(17), np.random.default_rng(17).random(900)
    own = {"sample_weight": weight}
    smooth = fit_mixture(losses, temperature=temperature, solver=None if temperature else Fista(), **own)
    exact = fit_mixture(losses, **own)
    path = saved(tmp_path, losses)
    for found in (smooth, exact, replace(smooth, attack=smooth.attack.rows(LossTable(losses, **own)))):
        here, there = verify(found, path, **own), verify(found, losses, **own)
        assert bool(here) == bool(there)
        assert here.value == pytest.approx(there.value, rel=1e-13)
        assert here.lower_bound == pytest.approx(there.lower_bound, rel=1e-12)
    assert verify(exact, path, **own)
    assert not verify(replace(exact, lower_bound=exact.value + 1e-6), path, **own)
    assert not verify(exact, path)


def test_ragged_files_and_chunks(tmp_path):
    rng = np.random.default_rng(2)
    counts = rng.integers(1, 60, size=400)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    losses = rng.random((4, offsets[-1])).astype(np.float32)
    cut = offsets[150]
    first, second = saved(tmp_path, losses[:, :cut], "a.npy"), saved(tmp_path, losses[:, cut:], "b.npy")
    found = fit_mixture([first, second], row_offsets=offsets, memory_limit=CHUNKS // 2)
    assert_certificate(found, losses, tol=1e-6, row_offsets=offsets)
    pieces = [LossTable(losses[:, :cut], row_offsets=offsets[:151])]
    pieces.append(LossTable(losses[:, cut:], row_offsets=offsets[150:] - cut))
    assert_certificate(fit_mixture(pieces), losses, tol=1e-6, row_offsets=offsets)
    with refuses(ValueError, "row_offsets", "cut a sample in two", "a.npy"):
        fit_mixture([first, second], row_offsets=np.delete(offsets, 150))


def test_one_pass_agrees_with_the_table_in_memory(tmp_path):
    losses = game(3)
    weights = np.random.default_rng(3).dirichlet(np.ones(5), size=3)
    level = np.array([0.0, 0.05, 1.0])
    stream = FileStream([NpyFile.open(saved(tmp_path, losses))], memory_limit=CHUNKS)
    options = {"float64_scores": True, "hessians": 3, "best_attack": True}
    here, _ = ChunkedSource(stream, None, ALONE).answer(weights, level, **options)
    there, _ = TableSource(LossTable(losses), None).answer(weights, level, **options)
    np.testing.assert_allclose(here.value, there.value, rtol=1e-12)
    np.testing.assert_allclose(here.gradient, there.gradient, rtol=1e-12)
    np.testing.assert_allclose(here.hessian, there.hessian, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(here.best_attack, there.best_attack)


@pytest.fixture
def small_pieces(monkeypatch):
    """Passes over files cut them into pieces of a dozen samples."""
    monkeypatch.setattr("mixsolve.file_table.PIECE", 7000)
    monkeypatch.setattr("mixsolve.file_table.PLANE_PIECE", 1)


def bytes_read_so_far():
    """Of this process, by the system's own count."""
    with open("/proc/self/io", encoding="ascii") as counts:
        return int(counts.readline().split()[1])


def test_a_pass_reads_every_byte_once(tmp_path, small_pieces):
    """The system counts a byte for each look at what is in memory, too: one per plane and some hundred KiB."""
    losses = game(4)
    stream = FileStream([NpyFile.open(saved(tmp_path, losses))], memory_limit=CHUNKS)
    before = bytes_read_so_far()
    answer, _ = ChunkedSource(stream, None, ALONE).answer(np.full((1, 5), 0.2), np.zeros(1))
    assert losses.nbytes <= bytes_read_so_far() - before < losses.nbytes + 2000
    assert answer.bytes_read == stream.bytes_handed_out == losses.nbytes
    for chunk in stream.read():
        rows = losses[:, chunk.first : chunk.first + chunk.table.n_samples]
        np.testing.assert_array_equal(chunk.table.array, rows)
    assert stream.bytes_handed_out == 2 * losses.nbytes


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("n_queries", [1, 3])
def test_what_a_pass_over_pieces_visits(n_queries, ragged, tmp_path, small_pieces, monkeypatch):
    """Every sample's best row, with weights (all 0 in one of the files), priors and temperatures of their own."""
    monkeypatch.setattr("mixsolve.solvers.source.LEAST_BLOCK", 1)
    rng = np.random.default_rng(21)
    counts = rng.integers(1, 60, size=300) if ragged else np.full(300, 20)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    prior, weight = rng.random(offsets[-1]) + 0.5, rng.random(300)
    prior /= np.repeat(np.add.reduceat(prior, offsets[:-1]), counts)
    weight[130:170] = 0
    losses = rng.random((5, offsets[-1])).astype(np.float32)
    cuts = offsets[[0, 130, 170, 300]]
    shape = (5, -1) if ragged else (5, -1, 20)
    pieces = [losses[:, first:last].reshape(shape) for first, last in pairwise(cuts)]
    own = {"sample_weight": weight, "attack_prior": prior if ragged else prior.reshape(300, 20)}
    own |= {"row_offsets": offsets} if ragged else {}
    files = [NpyFile.open(saved(tmp_path, piece, f"{at}.npy")) for at, piece in enumerate(pieces)]
    stream = FileStream(files, memory_limit=CHUNKS, **own)
    weights, level = rng.dirichlet(np.ones(5), size=n_queries), rng.random((n_queries, 300)) + 0.01
    level[0] = 0

    def visited(source):
        found = []
        answer, _ = source.answer(
            weights, level, float64_scores=True, visit=lambda first, part: found.append((first, part))
        )
        assert [first for first, _ in found] == sorted({first for first, _ in found})
        names = ("per_sample", "best_attack", "best_row")
        return answer, [np.concatenate([getattr(part, name) for _, part in found], axis=1) for name in names]

    here, own_rows = visited(ChunkedSource(stream, 2, ALONE))
    there, rows = visited(TableSource(LossTable(losses.reshape(shape), **own), 2))
    np.testing.assert_allclose(here.value, there.value, rtol=1e-13)
    np.testing.assert_allclose(here.gradient, there.gradient, rtol=1e-13)
    np.testing.assert_allclose(own_rows[0], rows[0], rtol=1e-13)
    np.testing.assert_array_equal(own_rows[1], rows[1])
    np.testing.assert_array_equal(own_rows[2], rows[2])


def test_a_pass_over_a_file_gives_equal_bits_at_any_number_of_threads(tmp_path, small_pieces):
    stream = FileStream([NpyFile.open(saved(tmp_path, game(22)))], memory_limit=CHUNKS)
    weights = np.random.default_rng(22).dirichlet(np.ones(5), size=2)
    options = {"float64_scores": True, "hessians": 2}
    one, *others = (
        ChunkedSource(stream, threads, ALONE).answer(weights, np.array([0.1, 0.5]), **options)[0]
        for threads in (1, 2, 3, None)
    )
    for other in others:
        for name in ("value", "gradient", "hessian"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes()


def test_a_file_is_fetched_from_the_disk_ahead_of_the_pass(tmp_path):
    """It is opened, and nobody reads a byte of it."""
    path = saved(tmp_path, np.ones((4, 500, 700), dtype=np.float32))
    with open(path, "rb+", buffering=0) as file:
        os.fsync(file)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

        def in_memory(at):
            try:
                return os.preadv(file.fileno(), [bytearray(1)], at, os.RWF_NOWAIT) == 1
            except BlockingIOError:
                return False

        places = range(128, path.stat().st_size, 200_000)
        if any(map(in_memory, places)):
            pytest.skip("the system keeps this folder's files in memory")
        with NpyFile.open(path).opened():
            end = time.monotonic() + 20
            while not all(map(in_memory, places)) and time.monotonic() < end:
                time.sleep(0.01)
            assert all(map(in_memory, places))


def test_a_pass_over_a_file_can_be_cancelled(tmp_path, monkeypatch):
    monkeypatch.setattr("mixsolve.solvers.source.LEAST_BLOCK", 1)
    stream = FileStream([NpyFile.open(saved(tmp_path, game(23)))], memory_limit=CHUNKS)
    token, visits = _native.CancelToken(), []

    def visit(first, answer):
        visits.append(first)
        token.cancel()

    with pytest.raises(_native.Cancelled):
        ChunkedSource(stream, None, ALONE).answer(
            np.full((1, 5), 0.2), np.zeros(1), visit=visit, cancel=token
        )
    assert visits == [0]


def test_buffers_stay_within_the_limit(tmp_path):
    path = saved(tmp_path, game(5))
    for limit in (CHUNKS // 8, CHUNKS, 8 * CHUNKS):
        stream = FileStream([NpyFile.open(path)], memory_limit=limit)
        assert stream._buffer.nbytes <= limit // 2
        for part in stream.parts():
            assert part.table._piece * part.table._most_threads <= limit // 2
    with refuses(ValueError, "memory_limit", "3600 bytes", "got 3000"):
        fit_mixture(path, memory_limit=3000)


def test_a_core_beyond_the_limit_is_not_held(tmp_path):
    losses = game(6)
    found = fit_mixture(saved(tmp_path, losses), memory_limit=100_000, tol=1e-3)
    assert "memory_limit" in found.message
    assert found.statistics.peak_memory < 100_000
    assert_certificate(found, losses, tol=1e-3)


def test_the_subsamples_are_like_the_whole_table(tmp_path):
    """Samples of rising difficulty: a sample of them has the mean of all within four standard errors."""
    losses = game(7)
    stream = FileStream([NpyFile.open(saved(tmp_path, losses))], memory_limit=16 * CHUNKS)
    found = stream.subsamples(0, ALONE)
    parts = [part.table for part in found.parts]
    assert found.count == len(parts) == SUBSAMPLES
    drawn = np.concatenate([part.array for part in parts], axis=1)
    assert drawn.shape == (5, 600, 30)
    assert len(np.unique(drawn[0, :, 0])) == len(np.unique(losses[0, :, 0])) - 300
    spread = losses.mean(axis=(0, 2)).std() / np.sqrt(100)
    for part in parts:
        assert abs(part.array.mean() - losses.mean()) < 4 * spread


def test_samples_that_hardly_fit_are_drawn_fewer(tmp_path):
    losses = game(8)
    stream = FileStream([NpyFile.open(saved(tmp_path, losses))], memory_limit=losses[:, :400].nbytes)
    assert 0 < sum(part.nbytes for part in stream.subsamples(0, ALONE).parts) <= losses[:, :100].nbytes


def test_equal_input_gives_equal_bits(tmp_path):
    path = saved(tmp_path, game(9))
    first, second = (fit_mixture(path, memory_limit=CHUNKS, threads=n) for n in (1, 2))
    assert first.weights.tobytes() == second.weights.tobytes()
    assert (first.value, first.lower_bound) == (second.value, second.lower_bound)


def test_a_loss_that_is_not_finite_is_named_by_its_place(tmp_path):
    losses = game(10)
    losses[3, 777, 11] = np.nan
    path = saved(tmp_path, losses)
    for given in (path, [losses[:, :500], losses[:, 500:]]):
        with refuses(ValueError, "losses", "nan at classifier 3, sample 777, attack 11"):
            fit_mixture(given, memory_limit=16 * CHUNKS)


def spoil(kind, path, losses):
    if kind == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    elif kind == "vanished":
        path.unlink()
    else:
        np.save(path, losses[:, ::-1])


@pytest.mark.parametrize("limit", [CHUNKS, 16 * CHUNKS])
@pytest.mark.parametrize("kind", ["truncated", "changed", "vanished"])
def test_files_that_change_between_passes(kind, limit, tmp_path):
    """With little memory the level bundle method is at work, else row generation."""
    losses = game(11)
    folder = shards(tmp_path, losses)
    path = folder / "part-002.npy"

    def callback(progress):
        if progress.passes == 2:
            spoil(kind, path, losses[:, 101:640])

    with pytest.raises(TableChangedError, match=f"part-002.npy (was |){kind}") as caught:
        fit_mixture(folder, callback=callback, tol=1e-12, memory_limit=limit)
    best = caught.value.result
    assert best.status.name == "TABLE_CHANGED"
    assert best.passes == 2
    assert best.lower_bound <= fit_mixture(losses).value + 1e-12
    assert best.value >= fit_mixture(losses).lower_bound - 1e-12
    assert best.value - best.lower_bound < 0.2
    assert best.attack.lower_bound(LossTable(losses)) >= best.lower_bound - 1e-12


def test_a_file_truncated_during_a_pass(tmp_path):
    path = saved(tmp_path, game(12))
    stream = FileStream([NpyFile.open(path)], memory_limit=CHUNKS // 4)
    chunks, parts = stream.read(), stream.parts()
    next(chunks)
    table = next(parts).table
    os.truncate(path, 1000)
    with pytest.raises(TableChangedError, match=r"losses.npy was truncated during the solve, before byte"):
        run_pass(table, np.full((1, 5), 0.2), 0.0)
    for left in (chunks, parts):
        with pytest.raises(TableChangedError, match=r"losses.npy was truncated"):
            list(left)


def test_iterators_that_change(tmp_path):
    parts = [game(13, 300), game(14, 300), game(15, 300)]
    known = fit_mixture(np.concatenate(parts, axis=1))

    class Fickle(Restartable):
        def __iter__(self):
            yield parts[0]
            self.times += 1
            if self.times == 3 and self.chunks == "other":
                yield parts[2]
            elif self.times == 3 and self.chunks == "broken":
                raise OSError("the disk is gone")
            elif not (self.times == 3 and self.chunks == "short"):
                yield parts[1]
                yield parts[2]

    for kind, message in (
        ("other", "chunk 1 of the iterator is not"),
        ("broken", "failed after 1 chunks: OSError"),
        ("short", "ended after 1 of 3 chunks"),
    ):
        with pytest.raises(TableChangedError, match=message) as caught:
            fit_mixture(Fickle(kind), tol=1e-12)
        assert caught.value.result.value >= known.lower_bound
        assert caught.value.result.lower_bound <= known.value


def test_what_is_refused(tmp_path):
    losses = game(16)
    path = saved(tmp_path, losses)
    with refuses(TypeError, "losses", "iterated over again", "generator"):
        fit_mixture(part for part in [losses])
    with refuses(ValueError, "losses", "nothing.npy does not exist"):
        fit_mixture(tmp_path / "nothing.npy")
    (tmp_path / "text.npy").write_text("no numbers")
    with refuses(ValueError, "losses", ".npy file", "text.npy"):
        fit_mixture(tmp_path / "text.npy")
    (tmp_path / "empty").mkdir()
    with refuses(ValueError, "losses", "folder", "holds none"):
        fit_mixture(tmp_path / "empty")
    with refuses(ValueError, "losses", "Fortran order"):
        fit_mixture(saved(tmp_path, np.asfortranarray(losses), "fortran.npy"))
    with refuses(ValueError, "losses", "equal numbers", "other.npy"):
        fit_mixture([path, saved(tmp_path, losses[:4], "other.npy")])
    with refuses(TypeError, "losses", "complex"):
        fit_mixture(saved(tmp_path, losses.astype(complex), "complex.npy"))
    with refuses(ValueError, "sample_weight", "(900,)"):
        fit_mixture(path, sample_weight=np.ones(800))
    with refuses(ValueError, "sample_weight", "(900,)"):
        fit_mixture([losses[:, :400], losses[:, 400:]], sample_weight=np.ones(800))
    with refuses(ValueError, "sample weights", "chunk 1"):
        fit_mixture([LossTable(losses), LossTable(losses, sample_weight=np.arange(900))])
    with refuses(ValueError, "solver", "LinearProgram", "in memory"):
        fit_mixture(path, solver=LinearProgram())
    with refuses(ValueError, "memory_limit", ">= 1"):
        fit_mixture(path, memory_limit=0)
    os.truncate(path, 5000)
    with refuses(ValueError, "losses", "losses.npy is not"):
        fit_mixture(path)


def test_ctrl_c_during_a_pass_returns_the_best_so_far(tmp_path):
    """The signal comes while a chunk of the third pass is handed out, from within the iterator."""
    losses = game(18)

    class Interrupting(Restartable):
        def __iter__(self):
            for chunk in super().__iter__():
                if self.times == 3:
                    os.kill(os.getpid(), signal.SIGINT)
                yield chunk

    before = threading.active_count()
    found = fit_mixture(Interrupting([losses[:, :400], losses[:, 400:]]), tol=1e-12)
    assert found.status.name == "INTERRUPTED"
    assert_certificate(found, losses)
    assert found.gap < 0.2
    assert threading.active_count() == before


@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_a_time_limit_ends_a_pass_where_it_is(temperature):
    """The third read takes over 6 s, and the limit comes in the first one; a smoothed game reads once more to prove."""
    losses = game(20)

    class Slow(Restartable):
        def __iter__(self):
            for chunk in super().__iter__():
                if self.times == 3:
                    time.sleep(0.15)
                yield chunk

    slow = Slow([losses[:, first : first + 20] for first in range(0, 900, 20)])
    before = threading.active_count()
    begun = time.monotonic()
    found = fit_mixture(slow, temperature=temperature, tol=1e-13, time_limit=1.0)
    assert found.status is Status.TIME_LIMIT
    assert time.monotonic() - begun < 4
    assert found.passes < slow.times + 1
    assert_certificate(found, losses)
    assert found.gap < 0.2
    assert threading.active_count() == before


def test_a_pass_that_fails_ends_its_reader(tmp_path):
    losses = game(19)
    losses[0, 10, 0] = np.inf
    stream = FileStream([NpyFile.open(saved(tmp_path, losses))], memory_limit=CHUNKS // 4)
    source = ChunkedSource(stream, 1, ALONE)
    before = len(os.listdir("/proc/self/task"))
    with pytest.raises(ValueError, match="inf at classifier 0, sample 10, attack 0"):
        source.answer(np.full((1, 5), 0.2), np.zeros(1))
    assert len(os.listdir("/proc/self/task")) == before


def test_a_reader_that_is_left_early_ends_its_thread():
    def items(free_buffer):
        for number in range(100):
            free_buffer()
            yield number

    before = threading.active_count()
    reader = read_ahead(items)
    assert [next(reader), next(reader)] == [0, 1]
    reader.close()
    assert threading.active_count() == before
    assert list(read_ahead(items)) == list(range(100))


def test_the_reader_hands_errors_on_at_their_place():
    def items(free_buffer):
        yield free_buffer()
        raise KeyError("later")

    reader = read_ahead(items)
    assert next(reader) == 0
    with pytest.raises(KeyError, match="later"):
        next(reader)

"""What a pass touches: the table and nothing beside it, read where it lies, with little memory of its own."""

import ctypes
import mmap
import multiprocessing
import resource
import sys

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from mixsolve import LossTable, _native
from mixsolve.passes import run_pass
from tests.pass_cases import STORAGES, Case, case, draw_prior
from tests.pass_checks import check

LINUX = sys.platform.startswith("linux")
PAGE = mmap.PAGESIZE
MEGABYTE = 1 << 20

# Threads' scratch memory, stacks and what Python allocates meanwhile; the tables here are much larger.
LITTLE = 12 * MEGABYTE


def run_child(work, *arguments):
    """The exit code of a new process that does this work: the number of the signal, negated, if it crashed."""
    child = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    child.start()
    child.join(120)
    if child.is_alive():
        child.kill()
        pytest.fail("the child hangs")
    return child.exitcode


# ---- nothing outside the table is read ------------------------------------------------------------------------


def pages_with_guards(n_pages):
    """Memory whose every second page must not be touched, as an array of bytes, (n_pages, 2 pages)."""
    memory = mmap.mmap(-1, (2 * n_pages + 1) * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for guard in range(0, 2 * n_pages + 1, 2):
        assert protect(start + guard * PAGE, PAGE, 0) == 0
    return np.frombuffer(memory, dtype=np.uint8, offset=PAGE)[: 2 * n_pages * PAGE].reshape(n_pages, 2 * PAGE)


def guarded(losses, to_the_end):
    """The same losses, with every row of attacks at the end or at the start of a page between two guards."""
    n_classifiers, n_samples, n_attacks = losses.shape
    pages = pages_with_guards(n_classifiers * n_samples)
    length = n_attacks * losses.itemsize
    first = PAGE - length if to_the_end else 0
    cells = pages[:, first : first + length].view(losses.dtype)
    placed = as_strided(cells, losses.shape, (n_samples * 2 * PAGE, 2 * PAGE, losses.itemsize))
    np.copyto(placed, losses)
    return placed


def read_between_guards():
    rng = np.random.default_rng(0)
    for isa in _native.available_isas():
        _native.set_isa(isa)
        for dtype in STORAGES.values():
            longest = PAGE // np.dtype(dtype).itemsize
            for n_attacks in (1, 2, 7, 16, 31, 33, 100, 511, longest - 1, longest):
                for n_classifiers in (3, 20):
                    losses = rng.random((n_classifiers, 4, n_attacks)).astype(dtype)
                    weights = rng.dirichlet(np.ones(n_classifiers), 5)
                    for to_the_end in (False, True):
                        read_once(guarded(losses, to_the_end), losses, weights, rng)


def read_once(placed, losses, weights, rng):
    table, copy = LossTable(placed), LossTable(losses)
    assert np.shares_memory(table.array, placed)
    temperature = [0.0, 0.1, 0.0, 1.0, 1e3]
    for float64_scores in (False, True):
        check(case(placed, weights, temperature, attack_prior=draw_prior(rng, placed.shape[1:])))
        run_pass(table, weights, temperature, float64_scores=float64_scores)
        run_pass(table, weights, 0.0, samples=[1, 3], float64_scores=float64_scores)
    assert _native.first_nonfinite(table.native) is None
    assert _native.extremes(table.native) == _native.extremes(copy.native)


def read_ragged_between_guards():
    """Planes of ragged rows fill their pages from guard to guard."""
    rng = np.random.default_rng(1)
    for isa in _native.available_isas():
        _native.set_isa(isa)
        for dtype in STORAGES.values():
            n_rows = PAGE // np.dtype(dtype).itemsize
            offsets = np.array([0, 1, 4, 5, 30, n_rows // 2, n_rows - 1, n_rows])
            placed = guarded(rng.random((5, 1, n_rows)).astype(dtype), True)[:, 0]
            check(case(placed, rng.dirichlet(np.ones(5), 3), [0.0, 0.1, 10.0], row_offsets=offsets))


@pytest.mark.skipif(not LINUX, reason="protects pages by Linux's mprotect")
@pytest.mark.parametrize("work", [read_between_guards, read_ragged_between_guards])
def test_no_byte_outside_the_table_is_read(work):
    assert run_child(work) == 0


def read_a_guard():
    pages_with_guards(1)[0, PAGE]


@pytest.mark.skipif(not LINUX, reason="protects pages by Linux's mprotect")
def test_the_guards_hold():
    assert run_child(read_a_guard) < 0


@pytest.mark.parametrize("storage", STORAGES)
def test_what_lies_between_rows_makes_no_difference(storage, isa):
    """Views into memory that is NaN wherever the table is not."""
    rng = np.random.default_rng(2)
    for n_attacks in (1, 5, 16, 40, 300, 1500):
        memory = np.full((9, 13, n_attacks + 7), np.nan).astype(STORAGES[storage])
        view = memory[1::2, 2:12:3, 3 : 3 + n_attacks]
        view[...] = rng.random(view.shape)
        asked = case(view, rng.dirichlet(np.ones(4), 3), [0.0, 0.1, 10.0])
        check(asked)
        check(Case(view, asked.weights, asked.temperature, samples=np.array([0, 2, 3])), float64_scores=True)


# ---- the table is not copied, and little else is allocated ----------------------------------------------------


def resident(field):
    """A field of this process's memory status, in bytes: VmRSS, resident now, or VmHWM, the peak."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) * 1024


def peak_beyond(call):
    """Bytes by which memory peaks above its present size during a call."""
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")
    before = resident("VmRSS")
    call()
    return resident("VmHWM") - before


@pytest.mark.skipif(not LINUX, reason="reads Linux's /proc")
@pytest.mark.parametrize("storage", STORAGES)
def test_a_table_is_read_where_it_lies(storage):
    losses = np.full((8, 2000, 4096 // np.dtype(STORAGES[storage]).itemsize), 0.5, dtype=STORAGES[storage])
    assert losses.nbytes > 5 * LITTLE
    samples, weights = np.arange(0, 2000, 2), np.full((3, 8), 0.125)

    def read():
        table = LossTable(losses[:, ::-1])
        for float64_scores in (False, True):
            run_pass(table, weights, [0.0, 0.1, 10.0], best_attack=True, float64_scores=float64_scores)
            run_pass(table, weights, 0.1, samples=samples, float64_scores=float64_scores)
        _native.extremes(table.native)

    assert peak_beyond(read) < LITTLE


@pytest.mark.skipif(not LINUX, reason="reads Linux's /proc")
def test_a_thousand_queries_of_a_thousand_classifiers_stay_within_bounds():
    """Partial sums of K (L + 1) numbers for each of up to 256 chunks would be gigabytes."""
    losses = np.random.default_rng(0).random((1024, 1, 16), dtype=np.float32)
    table = LossTable(np.broadcast_to(losses, (1024, 600, 16)))
    weights = np.random.default_rng(1).dirichlet(np.ones(1024), 1024)
    assert peak_beyond(lambda: run_pass(table, weights, 0.1, threads=2)) < 256 * MEGABYTE


def read_with_too_little_memory():
    """Memory that runs out anywhere in a pass is a MemoryError, and the next pass is answered."""
    losses = np.random.default_rng(0).random((1024, 1, 30), dtype=np.float32)
    table = LossTable(np.broadcast_to(losses, (1024, 300, 30)))
    weights = np.full((40, 1024), 1 / 1024)
    expected = run_pass(table, weights[:1], 0.1, threads=3).value[0]
    with open("/proc/self/statm") as pages:
        used = int(pages.read().split()[0]) * PAGE
    failures = 0
    for more in range(0, 100 * MEGABYTE, MEGABYTE // 16):
        resource.setrlimit(resource.RLIMIT_AS, (used + more, resource.RLIM_INFINITY))
        try:
            value = run_pass(table, weights, 0.1, threads=3).value
        except MemoryError:
            failures += 1
            continue
        break
    assert failures > 10
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert np.allclose(value, expected, rtol=1e-6)
    assert run_pass(table, weights[:1], 0.1, threads=3).value[0] == expected


@pytest.mark.skipif(not LINUX, reason="limits memory as Linux does")
def test_running_out_of_memory_is_an_error_and_no_crash():
    assert run_child(read_with_too_little_memory) == 0

"""The gate for what ptxas makes of the kernels: nothing spilt, nothing diverging, loads as wide as planned.

All five architectures, by `make test-large`: each takes a minute to build.
"""

import pytest

from tests.cuda.build import Unavailable
from tests.cuda.sass import ARCHITECTURES, kernels, registers

pytestmark = pytest.mark.large

TYPES = ("float64", "float32", "float16", "bfloat16", "uint8")

THREADS = 256
REGISTERS = 65536  # of one multiprocessor, on every architecture
LEAST_BLOCKS = 2  # that share a multiprocessor, as far as registers go
PROVISIONS = ("WARPSYNC.COLLECTIVE", "BRA.DIV")  # the latter up to sm_80
LEAST_BYTES_IN_FLIGHT = 18 * 1024  # of one multiprocessor: 3.35 TB/s for 0.7 microseconds, on 132 of them


@pytest.fixture(params=ARCHITECTURES)
def sass(request):
    try:
        return kernels(request.param)
    except Unavailable as reason:
        pytest.skip(f"what ptxas makes is not tested: {reason}")


def wide_loads(block, n_bytes):
    """Loads of so many bytes from the table before anything else can happen."""
    return sum(i.opcode.startswith("LDG") and f".{8 * n_bytes}" in i.opcode for i in block)


def wide_scores(block):
    """Loads of 16 bytes of scores from shared memory; sm_75 writes LDS.U.128."""
    return sum(i.name == "LDS" and ".128" in i.opcode for i in block)


def test_nothing_is_kept_in_local_memory(sass):
    for name, blocks in sass.items():
        local = [i.opcode for block in blocks for i in block if i.name in ("LDL", "STL")]
        assert not local, f"{name}: {local[:3]}"


def test_every_kernel_leaves_room_for_another_block(sass):
    for name, blocks in sass.items():
        assert REGISTERS // (THREADS * registers(blocks)) >= LEAST_BLOCKS, name


@pytest.mark.parametrize("storage", TYPES)
def test_warps_need_no_provision_for_missing_lanes(storage, sass):
    """Where the compiler cannot see that the lanes of a warp agree, an exchange gets a slow way beside it."""
    for kernel in (f"mixsolve_plain_{storage}", f"mixsolve_pass_{storage}"):
        divergent = [i.place[:2] for block in sass[kernel] for i in block if i.opcode in PROVISIONS]
        assert not divergent, divergent[:4]


@pytest.mark.parametrize("storage", TYPES)
def test_loads_are_wide_and_many_are_under_way(storage, sass):
    """Eight loads of 16 bytes a thread (8 of bytes), issued before the first is waited for, where rows are aligned."""
    n_bytes = 8 if storage == "uint8" else 16
    for kernel in (f"mixsolve_plain_{storage}", f"mixsolve_pass_{storage}"):
        most = max(wide_loads(block, n_bytes) for block in sass[kernel])
        assert most == 8
        assert most * n_bytes * THREADS * LEAST_BLOCKS >= LEAST_BYTES_IN_FLIGHT


@pytest.mark.parametrize("storage", ["float32", "float16", "bfloat16", "uint8"])
def test_an_attack_costs_one_exponential(storage, sass):
    """Four exponentials for each 16 bytes of scores in the loop over the attacks of short samples, and no more."""
    blocks = sass[f"mixsolve_plain_{storage}"]
    loops = [
        block for block in blocks if sum(i.opcode == "MUFU.EX2" for i in block) >= 4 and wide_scores(block)
    ]
    assert loops
    for block in loops:
        assert sum(i.opcode == "MUFU.EX2" for i in block) == 4 * wide_scores(block)

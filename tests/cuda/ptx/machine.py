"""Executes kernels: all threads of a block in step, block after block.

Of the threads that can go on, those at the lowest instruction do so together, which brings diverging threads together
again where their paths meet. A thread at a barrier waits for its block, one at an exchange for its warp.
"""

import numpy as np

from tests.cuda.ptx.compile import LANES, THREADS, compile_kernel
from tests.cuda.ptx.memory import SHARED_WINDOW, Memory, PtxError, Region
from tests.cuda.ptx.parse import parse

NEVER = 1 << 40


class Interpreter:
    """The kernels of one PTX module, ready to be launched by the emulated launcher.

    Parameters
    ----------
    text : str
        The module.
    emulator : module
        `_native_emulated`, whose device memory the kernels work in.
    disturb : int
        Units in the last place that are added to every result of ex2.approx.
    """

    def __init__(self, text, emulator, disturb=0):
        self.kernels, self.shared_name = parse(text)
        self.emulator, self.disturb = emulator, disturb
        self.compiled = {}
        self.executed = {}  # how often warps have executed each instruction, by kernel

    def __call__(self, name, n_blocks, shared_bytes, arguments):
        if name not in self.compiled:
            self.compiled[name] = compile_kernel(self.kernels[name], self.shared_name, self.disturb)
        regions = [
            Region.of_host(begin, size, label, not writable, np.array(written, dtype=bool))
            for begin, size, label, writable, written in self.emulator.regions()
        ]
        kernel = self.compiled[name]
        executed = self.executed.setdefault(name, np.zeros(len(kernel.code), dtype=np.int64))
        for block in range(n_blocks):
            run_block(kernel, block, regions, shared_bytes, arguments, executed)
        for region in regions:
            if region.read_only:
                self.emulator.note_loads(region.begin, region.loads)
            else:
                self.emulator.mark_written(region.begin, region.written)


class BlockState:
    """The threads of one block: where each of them is, its registers, and the memory they see."""

    def __init__(self, kernel, block, regions, shared_bytes, arguments):
        shared = np.full(shared_bytes, 0xFF, dtype=np.uint8)
        here = Region(SHARED_WINDOW, shared, "shared memory", written=np.zeros(shared_bytes, dtype=bool))
        self.memory = Memory([*regions, here])
        self.parameter = np.frombuffer(arguments, dtype=np.uint8)
        self.block, self.epoch = block, 0
        self.threads = np.arange(THREADS)
        self.registers = kernel.new_registers(THREADS)
        self.at = np.zeros(THREADS, dtype=np.int64)
        self.done = np.zeros(THREADS, dtype=bool)
        self.at_barrier = np.zeros(THREADS, dtype=bool)
        self.exchanging = np.zeros(THREADS, dtype=bool)


def run_block(kernel, block, regions, shared_bytes, arguments, executed):
    state = BlockState(kernel, block, regions, shared_bytes, arguments)
    with np.errstate(all="ignore"):
        while not state.done.all():
            ready = ~(state.done | state.at_barrier | state.exchanging)
            if ready.any():
                start = int(np.where(ready, state.at, NEVER).min())
                mask = ready & (state.at == start)
                executed[start : kernel.ends[start] + 1] += mask.reshape(-1, LANES).any(axis=1).sum()
                run_steps(kernel, state, start, mask)
            else:
                pass_barrier(kernel, state)


def run_steps(kernel, state, start, mask):
    """Straight on from `start`, up to the next instruction that others may meet these threads at."""
    place = start
    try:
        for place in range(start, kernel.ends[start]):
            kernel.steps[place](state, mask)
        place = kernel.ends[start]
        state.at[mask] = place + 1
        kernel.last_steps[place](state, mask)
    except PtxError as error:
        where = f"block {state.block}, {kernel.name}, instruction {place}: {kernel.code[place]}"
        raise PtxError(f"{error} ({where})") from None


def pass_barrier(kernel, state):
    waiting = np.flatnonzero(state.exchanging)
    if waiting.size:
        place = kernel.code[int(state.at[waiting[0]])]
        raise PtxError(f"an exchange is not reached by all lanes of warp {waiting[0] // LANES}: {place}")
    places = np.unique(state.at[state.at_barrier])
    if state.done.any():
        raise PtxError(f"a barrier is not reached by threads that have ended: {kernel.code[places[0] - 1]}")
    if places.size > 1:
        raise PtxError("threads of a block wait at different barriers")
    state.at_barrier[:] = False
    state.epoch += 1

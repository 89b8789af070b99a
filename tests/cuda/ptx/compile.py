"""From instructions to Python functions of a block's state and of the mask of threads that execute them."""

import re

import numpy as np

from tests.cuda.ptx.memory import SHARED_WINDOW, PtxError
from tests.cuda.ptx.operations import ARITHMETIC, TYPES, compared, converted, shifted

THREADS, LANES = 256, 32

# Where threads part, meet or wait.
WHOLE_STEPS = ("bra", "ret", "exit", "bar", "shfl", "vote")


class CompiledKernel:
    """Steps for straight code, and for the instructions that end it: branches, barriers, exchanges, labels."""

    def __init__(self, kernel, shared_name, disturb):
        self.name, self.code, self.labels = kernel.name, kernel.code, kernel.labels
        self.types = kernel.registers
        self.symbols = {shared_name: 0, kernel.parameter: 0}
        self.disturb = disturb
        targets = set(kernel.labels.values())
        is_end = [
            step.words[0] in WHOLE_STEPS or place + 1 in targets for place, step in enumerate(kernel.code)
        ]
        self.ends, end = [0] * len(kernel.code), len(kernel.code) - 1
        for place in range(len(kernel.code) - 1, -1, -1):
            end = place if is_end[place] else end
            self.ends[place] = end
        self.steps = [self.step(instruction) for instruction in kernel.code]
        self.last_steps = [
            self.last_step(place, step) if is_end[place] else self.steps[place]
            for place, step in enumerate(kernel.code)
        ]

    def new_registers(self, n_threads):
        return {name: np.zeros(n_threads, dtype=TYPES[kind]) for name, kind in self.types.items()}

    # ---- operands ----

    def reader(self, operand, kind):
        """A function of the state that gives the operand as numbers of a type, one per thread."""
        dtype = TYPES[kind]
        if operand.startswith("!"):
            inner = self.reader(operand[1:], kind)
            return lambda state: ~inner(state)
        if operand in self.types:
            own = TYPES[self.types[operand]]
            if own == dtype:
                return lambda state: state.registers[operand]
            if own.itemsize == dtype.itemsize:
                return lambda state: state.registers[operand].view(dtype)
            return lambda state: state.registers[operand].astype(dtype)  # the lower bits
        if operand == "%tid.x":
            return lambda state: state.threads.astype(dtype)
        if operand == "%ctaid.x":
            return lambda state: np.full(state.threads.size, state.block, dtype=dtype)
        constant = np.full(THREADS, self.constant(operand, dtype))
        return lambda state: constant

    def constant(self, operand, dtype):
        if operand in self.symbols:
            return dtype.type(self.symbols[operand])
        if operand[:2] in ("0f", "0F", "0d", "0D"):
            raw = np.array(int(operand[2:], 16), dtype=np.uint32 if operand[1] in "fF" else np.uint64)
            number = raw.view(np.float32 if operand[1] in "fF" else np.float64)
            return number.astype(dtype) if dtype.kind == "f" else raw.astype(dtype)
        value = int(operand.rstrip("U"), 0)
        return np.array(value & ((1 << 8 * dtype.itemsize) - 1), dtype=f"u{dtype.itemsize}").view(dtype)

    def writer(self, operand):
        """A function that puts numbers into a register, where the mask is set, with their bits as they are."""
        if operand == "_":
            return lambda state, numbers, mask: None

        def write(state, numbers, mask):
            register = state.registers[operand]
            if numbers.dtype != register.dtype:
                if numbers.dtype.itemsize == register.dtype.itemsize:
                    numbers = np.ascontiguousarray(numbers).view(register.dtype)
                else:  # a wider register takes the number, its sign with it
                    numbers = numbers.astype(register.dtype)
            np.copyto(register, numbers, where=mask)

        return write

    def address(self, operand):
        """Of ``[base+offset]``, as int64."""
        base, offset = re.fullmatch(r"\[\s*([%$\w]+)\s*(?:\+\s*(-?\d+))?\s*\]", operand).groups()
        kind = self.types.get(base, "u64")
        read, add = self.reader(base, "s32" if TYPES[kind].itemsize == 4 else "s64"), int(offset or 0)
        return lambda state: read(state).astype(np.int64) + add

    # ---- instructions ----

    def step(self, instruction):
        """What straight code does. Predicates narrow the mask."""
        name = instruction.words[0]
        if name in WHOLE_STEPS:
            return None
        special = {"ld": self.load, "st": self.store, "setp": self.set_predicate, "selp": self.select}
        special |= {"cvt": self.convert, "shl": self.shift, "shr": self.shift}
        if name in special:
            run = special[name](instruction)
        elif name == "mov" and "{" in instruction.operands[0] + instruction.operands[1]:
            run = self.move_parts(instruction)
        elif name in ("mul", "mad") and instruction.words[1] == "wide":
            run = self.widening(instruction)
        elif name in ARITHMETIC:
            run = self.arithmetic(instruction)
        else:
            raise PtxError(f"the interpreter does not know {instruction}")
        return self.guarded(instruction, run)

    def guarded(self, instruction, run):
        if instruction.predicate is None:
            return run
        negated, name = instruction.negated, instruction.predicate

        def narrowed(state, mask):
            holds = state.registers[name]
            mask = mask & (~holds if negated else holds)
            if mask.any():
                run(state, mask)

        return narrowed

    def arithmetic(self, instruction):
        words = instruction.words
        operation, kind = ARITHMETIC[words[0]], words[-1]
        reads = [self.reader(operand, kind) for operand in instruction.operands[1:]]
        write, disturb = self.writer(instruction.operands[0]), self.disturb if words[0] == "ex2" else 0
        offset = 0
        if words[0] == "cvta" and "shared" in words:
            offset = -SHARED_WINDOW if "to" in words else SHARED_WINDOW

        def run(state, mask):
            numbers = operation(words, *[read(state) for read in reads])
            for _ in range(abs(disturb)):
                numbers = np.nextafter(numbers, numbers * np.float32(2 if disturb > 0 else 0))
            if offset:
                numbers = (numbers.astype(np.int64) + offset).astype(np.uint64)
            write(state, numbers, mask)

        return run

    def widening(self, instruction):
        kind = instruction.words[-1]
        wide = {"s16": "s32", "u16": "u32", "s32": "s64", "u32": "u64"}[kind]
        kinds = (kind, kind, wide)[: len(instruction.operands) - 1]
        reads = [self.reader(*pair) for pair in zip(instruction.operands[1:], kinds, strict=True)]
        write = self.writer(instruction.operands[0])

        def run(state, mask):
            a, b, *c = (read(state).astype(TYPES[wide]) for read in reads)
            write(state, a * b + c[0] if c else a * b, mask)

        return run

    def shift(self, instruction):
        read = self.reader(instruction.operands[1], instruction.words[-1])
        count, write = self.reader(instruction.operands[2], "u32"), self.writer(instruction.operands[0])
        return lambda state, mask: write(
            state, shifted(instruction.words, read(state), count(state).astype(np.int64)), mask
        )

    def convert(self, instruction):
        target, source = (word for word in instruction.words if word in TYPES)
        read, write = self.reader(instruction.operands[1], source), self.writer(instruction.operands[0])
        return lambda state, mask: write(
            state, converted(instruction.words, read(state), TYPES[target]), mask
        )

    def select(self, instruction):
        kind = instruction.words[-1]
        a, b = (self.reader(operand, kind) for operand in instruction.operands[1:3])
        choice, write = self.reader(instruction.operands[3], "pred"), self.writer(instruction.operands[0])
        return lambda state, mask: write(state, np.where(choice(state), a(state), b(state)), mask)

    def set_predicate(self, instruction):
        words, kind = instruction.words, instruction.words[-1]
        a, b = (self.reader(operand, kind) for operand in instruction.operands[1:3])
        write = self.writer(instruction.operands[0])
        joined = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}.get(words[2])
        other = self.reader(instruction.operands[3], "pred") if joined else None

        def run(state, mask):
            holds = compared(words[1], a(state), b(state))
            write(state, joined(holds, other(state)) if joined else holds, mask)

        return run

    def move_parts(self, instruction):
        """Between one register and its parts, ``mov.b64 {%r1, %r2}, %rd1`` or the other way."""
        kind = instruction.words[-1]
        split = instruction.operands[0].startswith("{")
        parts = [part.strip() for part in instruction.operands[0 if split else 1].strip("{}").split(",")]
        part_kind = f"b{8 * TYPES[kind].itemsize // len(parts)}"
        if split:
            read, writes = self.reader(instruction.operands[1], kind), [self.writer(part) for part in parts]

            def take_apart(state, mask):
                pieces = np.ascontiguousarray(read(state)).view(TYPES[part_kind]).reshape(-1, len(parts))
                for i, write in enumerate(writes):
                    write(state, pieces[:, i], mask)

            return take_apart
        reads, write = [self.reader(part, part_kind) for part in parts], self.writer(instruction.operands[0])
        return lambda state, mask: write(
            state, np.stack([read(state) for read in reads], axis=1).view(TYPES[kind])[:, 0], mask
        )

    # ---- memory ----

    def load(self, instruction):
        words, kind = instruction.words, instruction.words[-1]
        address, writes = (
            self.address(instruction.operands[1]),
            self.vector(instruction.operands[0], self.writer),
        )
        dtype, n_bytes = TYPES[kind], TYPES[kind].itemsize * len(writes)

        def run(state, mask):
            who = np.flatnonzero(mask)
            where = address(state)[who]
            if "param" in words:
                found = state.parameter[where[:, None] + np.arange(n_bytes)]
            else:
                where = where + SHARED_WINDOW * ("shared" in words)
                found = state.memory.access(where, n_bytes, state.block, state.epoch, who)
            numbers = np.zeros((mask.size, len(writes)), dtype=dtype)
            numbers[who] = found.view(dtype)
            for i, write in enumerate(writes):
                write(state, numbers[:, i], mask)

        return run

    def store(self, instruction):
        words, kind = instruction.words, instruction.words[-1]
        address = self.address(instruction.operands[0])
        reads = self.vector(instruction.operands[1], lambda operand: self.reader(operand, kind))
        n_bytes = TYPES[kind].itemsize * len(reads)

        def run(state, mask):
            who = np.flatnonzero(mask)
            where = address(state)[who] + SHARED_WINDOW * ("shared" in words)
            numbers = np.stack([read(state)[who] for read in reads], axis=1)
            state.memory.access(
                where, n_bytes, state.block, state.epoch, who, numbers.view(np.uint8).reshape(-1, n_bytes)
            )

        return run

    def vector(self, operand, each):
        return [each(part.strip()) for part in operand.strip("{}").split(",")]

    # ---- where threads part, meet or wait ----

    def last_step(self, place, instruction):
        name = instruction.words[0]
        if name == "bra":
            target = self.labels[instruction.operands[-1]]
            return self.guarded(instruction, lambda state, mask: state.at.__setitem__(mask, target))
        if name in ("ret", "exit"):
            return self.guarded(instruction, lambda state, mask: state.done.__setitem__(mask, True))
        if name == "bar":
            return self.guarded(instruction, lambda state, mask: state.at_barrier.__setitem__(mask, True))
        if name == "shfl":
            return self.exchange(place, instruction)
        if name == "vote":
            return self.vote(place, instruction)
        return self.steps[place]

    def exchange(self, place, instruction):
        """``shfl.sync.bfly.b32 d|p, a, distance, 31, -1``, or ``idx`` and a lane: a warp waits for all its lanes."""
        if instruction.words[2] not in ("bfly", "idx") or instruction.predicate:
            raise PtxError(f"the interpreter does not know {instruction}")
        target = instruction.operands[0].split("|")
        read, write = self.reader(instruction.operands[1], "b32"), self.writer(target[0])
        distance, clamp, lanes = (self.reader(operand, "s32") for operand in instruction.operands[2:])

        def run(state, complete):
            if (clamp(state)[complete] != LANES - 1).any():
                raise PtxError("an exchange is not of a whole warp")
            own_lane = state.threads % LANES if instruction.words[2] == "idx" else 0
            write(state, read(state)[state.threads - own_lane ^ distance(state)], complete)
            if len(target) > 1:
                self.writer(target[1])(state, np.ones(state.threads.size, dtype=bool), complete)

        return self.of_whole_warps(place, lanes, run)

    def vote(self, place, instruction):
        """``vote.sync.any.pred p, q, -1``."""
        if instruction.words[2:] != ("any", "pred") or instruction.predicate:
            raise PtxError(f"the interpreter does not know {instruction}")
        read, write = self.reader(instruction.operands[1], "pred"), self.writer(instruction.operands[0])

        def run(state, complete):
            write(state, np.repeat(read(state).reshape(-1, LANES).any(axis=1), LANES), complete)

        return self.of_whole_warps(place, self.reader(instruction.operands[2], "s32"), run)

    def of_whole_warps(self, place, lanes, run):
        """A step that the lanes of a warp take together, when all have come."""

        def step(state, mask):
            if (lanes(state)[mask] != -1).any():
                raise PtxError("an exchange is not of a whole warp")
            arrived = (mask | (state.exchanging & (state.at == place))).reshape(-1, LANES)
            complete = np.repeat(arrived.all(axis=1), LANES)
            waiting = mask & ~complete
            state.exchanging[waiting], state.at[waiting] = True, place
            if complete.any():
                run(state, complete)
                state.exchanging[complete], state.at[complete] = False, place + 1

        return step


def compile_kernel(kernel, shared_name, disturb=0):
    """The functions of a parsed kernel."""
    return CompiledKernel(kernel, shared_name, disturb)

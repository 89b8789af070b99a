"""What arithmetic instructions compute, each from typed arrays with a number per thread."""

import numpy as np

from tests.cuda.ptx.memory import PtxError

TYPES = {
    "pred": np.bool_,
    "b8": np.uint8,
    "u8": np.uint8,
    "s8": np.int8,
    "b16": np.uint16,
    "u16": np.uint16,
    "s16": np.int16,
    "f16": np.float16,
    "b32": np.uint32,
    "u32": np.uint32,
    "s32": np.int32,
    "f32": np.float32,
    "b64": np.uint64,
    "u64": np.uint64,
    "s64": np.int64,
    "f64": np.float64,
}
TYPES = {name: np.dtype(kind) for name, kind in TYPES.items()}

FLUSHED = np.float32(1.17549435e-38)  # the smallest normal float32


def fused(a, b, c):
    """``a b + c``, rounded once (float64: rounded from 64 bits of mantissa, which is nearly the same)."""
    wide = np.float64 if a.dtype == np.float32 else np.longdouble
    return (a.astype(wide) * b.astype(wide) + c.astype(wide)).astype(a.dtype)


def quotient(a, b):
    if a.dtype.kind == "f":
        return a / b
    return np.where(b == 0, 0, np.trunc(a.astype(np.longdouble) / np.where(b == 0, 1, b))).astype(a.dtype)


def bits_set(a):
    bits = np.unpackbits(np.ascontiguousarray(a).view(np.uint8).reshape(a.size, -1), axis=1)
    return bits.sum(axis=1, dtype=np.uint32)


def toward_zero(exact):
    """Float64 numbers as float32, cut off."""
    near = exact.astype(np.float32)
    return np.where(np.abs(near.astype(np.float64)) > np.abs(exact), np.nextafter(near, np.float32(0)), near)


def add(words, a, b):
    if "rz" in words:
        return toward_zero(a.astype(np.float64) + b.astype(np.float64))
    return a + b


def reciprocal(words, a):
    if "approx" in words and a.dtype == np.float64:  # the upper half of its bits
        return ((1 / a).view(np.uint64) & np.uint64(0xFFFFFFFF00000000)).view(np.float64)
    return 1 / a


def power_of_two(words, a):
    exact = np.exp2(a.astype(np.float64)).astype(np.float32)
    return np.where(exact < FLUSHED, np.float32(0), exact) if "ftz" in words else exact


def shifted(words, a, count):
    width = 8 * a.dtype.itemsize
    beyond = count >= width
    by = np.minimum(count, width - 1).astype(a.dtype)
    if words[0] == "shl":
        return np.where(beyond, 0, a << by).astype(a.dtype)
    if a.dtype.kind == "i":
        return a >> by
    return np.where(beyond, 0, a >> by).astype(a.dtype)


def product(words, a, b):
    return a * b if words[1] != "hi" else high_half(a, b)


def high_half(a, b):
    width = 8 * a.dtype.itemsize
    return np.array([(int(x) * int(y)) >> width for x, y in zip(a, b, strict=True)]).astype(a.dtype)


def negated(words, a):
    return -a if a.dtype.kind == "f" else (~a + a.dtype.type(1)).astype(a.dtype)


def permuted(a, b, selection):
    """Four bytes of the eight in a and b, each by its number; of the other bits of the selection none may be set."""
    if (selection & ~np.uint32(0x7777)).any():
        raise PtxError("prmt with signs")
    both = np.stack([a, b], axis=1).astype(np.uint32).view(np.uint8)
    which = selection.astype(np.int64)[:, None] >> (4 * np.arange(4)) & 7
    return np.ascontiguousarray(np.take_along_axis(both, which, axis=1)).view(np.uint32)[:, 0]


# By the first word of the opcode: operands and result are of the instruction's last type.
ARITHMETIC = {
    "mov": lambda words, a: a,
    "cvta": lambda words, a: a,
    "add": add,
    "sub": lambda words, a, b: a - b,
    "mul": product,
    "mad": lambda words, a, b, c: a * b + c,
    "fma": lambda words, a, b, c: fused(a, b, c),
    "div": lambda words, a, b: quotient(a, b),
    "rem": lambda words, a, b: (a - quotient(a, b) * b).astype(a.dtype),
    "rcp": reciprocal,
    "sqrt": lambda words, a: np.sqrt(a),
    "ex2": power_of_two,
    "lg2": lambda words, a: np.log2(a.astype(np.float64)).astype(a.dtype),
    "neg": negated,
    "abs": lambda words, a: np.abs(a),
    "min": lambda words, a, b: np.fmin(a, b),
    "max": lambda words, a, b: np.fmax(a, b),
    "and": lambda words, a, b: a & b,
    "or": lambda words, a, b: a | b,
    "xor": lambda words, a, b: a ^ b,
    "not": lambda words, a: ~a,
    "prmt": lambda words, a, b, selection: permuted(a, b, selection),
    "popc": lambda words, a: bits_set(a),
}

COMPARISONS = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
}


def compared(comparison, a, b):
    """Comparisons of floats are false where one is NaN; those whose name ends in u are true there."""
    if comparison in ("num", "nan"):
        return (np.isnan(a) | np.isnan(b)) == (comparison == "nan")
    if a.dtype.kind != "f":
        return COMPARISONS[comparison](a, b)
    unordered = np.isnan(a) | np.isnan(b)
    if comparison.endswith("u"):
        return COMPARISONS[comparison[:-1]](a, b) | unordered
    return COMPARISONS[comparison](a, b) & ~unordered


def converted(words, a, target):
    """Integers to floats round to the nearest; floats to integers as the opcode says, held within the type."""
    if a.dtype.kind != "f" or target.kind == "f":
        return a.astype(target)
    whole = np.rint(a) if "rni" in words else np.floor(a) if "rmi" in words else np.trunc(a)
    limits = np.iinfo(target)
    held = np.clip(np.where(np.isnan(whole), 0, whole), float(limits.min), np.nextafter(float(limits.max), 0))
    return held.astype(target)

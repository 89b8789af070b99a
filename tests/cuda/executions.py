"""How many instructions of real machine code warps issue for a pass, without a machine that could count them.

The PTX of the same source is executed, which tells how often each of its instructions is; ptxas keeps the source lines,
with the chain of places they are inlined at. A block of machine code is executed as often as PTX of its lines is: the
median over its instructions, divided by how many copies ptxas has made of it, told by instructions that it translates
one to one. What only runs when lanes of a warp have parted (WARPSYNC.COLLECTIVE) is left out: they do not part there.
"""

from collections import Counter
from statistics import median

# PTX that becomes one instruction of the machine, by the first word of its opcode and its space.
ONE_TO_ONE = {
    ("fma", "f32"): "FFMA",
    ("ld", "shared"): "LDS",
    ("st", "shared"): "STS",
    ("ld", "global"): "LDG",
    ("shfl", "sync"): "SHFL",
    ("ex2", "approx"): "MUFU",
    ("bar", "sync"): "BAR",
    ("vote", "sync"): "VOTE",
}


def issued(blocks, code, executed):
    """Instructions that warps issue.

    Parameters
    ----------
    blocks : list of list of tests.cuda.sass.Instruction
        The kernel's machine code.
    code : list of tests.cuda.ptx.parse.Instruction
        Its PTX, with places.
    executed : array of int, (len(code),)
        How often warps have executed each instruction of the PTX.
    """
    often, known = Counter(), Counter()
    for instruction, times in zip(code, executed, strict=True):
        often[key(instruction.place)] += int(times)
        known[key(instruction.place)] += 1
    copies = copies_made(blocks, code)
    total, last = 0.0, 0.0
    for block in blocks:
        counts = [often[key(i.place)] / known[key(i.place)] for i in block if known[key(i.place)]]
        last = median(counts) if counts else last
        made = [copies[key(i.place), i.name] for i in block if (key(i.place), i.name) in copies]
        if any(i.opcode == "WARPSYNC.COLLECTIVE" for i in block):
            continue
        total += last / max(median(made) if made else 1, 1) * sum(i.name != "NOP" for i in block)
    return total


def key(place):
    """Lines that stand for something: the compiler says 0 where it does not know."""
    return tuple(where for where in place if where[1] > 0)


def copies_made(blocks, code):
    """{(place, name): copies in the machine code of each instruction of the PTX}, of those that are told one to one."""
    before, after = Counter(), Counter()
    for instruction in code:
        for (first, other), name in ONE_TO_ONE.items():
            if instruction.words[0] == first and other in instruction.words:
                before[key(instruction.place), name] += 1
    for block in blocks:
        for instruction in block:
            after[key(instruction.place), instruction.name] += 1
    return {which: after[which] / count for which, count in before.items()}

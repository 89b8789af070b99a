"""How many instructions of real machine code warps issue for a pass, without a machine that could count them.

The PTX of the same source is executed, which tells how often each of its instructions is; ptxas keeps the source lines,
with the chain of places they are inlined at. A block of machine code is executed as often as PTX of its lines is: the
median over its instructions, divided by how many copies ptxas has made of it, told by instructions that it translates
one to one. Where loads and stores come out fewer in all than were executed, the estimate is raised by as much. What
only runs when lanes of a warp have parted (WARPSYNC.COLLECTIVE) is left out: they do not part there. So are routines
out of line, which divide numbers near the ends of their range.
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
MOVES = ("LDG", "LDS", "STS")


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
    total, last, moved = 0.0, 0.0, 0.0
    for block in blocks:
        counts = [often[key(i.place)] / known[key(i.place)] for i in block if known[key(i.place)]]
        last = median(counts) if counts else last
        made = [copies[key(i.place), i.name] for i in block if (key(i.place), i.name) in copies]
        if any(i.opcode == "WARPSYNC.COLLECTIVE" for i in block):
            continue
        times = last / max(median(made) if made else 1, 1)
        total += times * sum(i.name != "NOP" for i in block)
        moved += times * sum(i.name in MOVES for i in block)
    truly_moved = sum(
        int(times)
        for instruction, times in zip(code, executed, strict=True)
        if one_to_one(instruction) in MOVES
    )
    return total * max(1.0, truly_moved / moved)


def key(place):
    """Lines that stand for something: the compiler says 0 where it does not know."""
    return tuple(where for where in place if where[1] > 0)


def one_to_one(instruction):
    """What an instruction of the PTX becomes, if it is told one to one."""
    for (first, other), name in ONE_TO_ONE.items():
        if instruction.words[0] == first and other in instruction.words:
            return name
    return None


def copies_made(blocks, code):
    """{(place, name): copies in the machine code of each instruction of the PTX}, of those that are told one to one."""
    before, after = Counter(), Counter()
    for instruction in code:
        name = one_to_one(instruction)
        if name:
            before[key(instruction.place), name] += 1
    for block in blocks:
        for instruction in block:
            after[key(instruction.place), instruction.name] += 1
    return {which: after[which] / count for which, count in before.items()}

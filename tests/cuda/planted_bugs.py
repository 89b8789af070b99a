"""Mistakes that kernels are made of, each planted into a copy of ours: both checkers must catch every one."""

import re
import shutil
from dataclasses import dataclass

from tests.cuda.build import CUDA, ROOT


@dataclass(frozen=True)
class Bug:
    """A replacement in one source file; `caught` is part of what the checkers say where they name the mistake."""

    name: str
    file: str
    right: str
    wrong: str
    caught: str = ""
    line: int = 0  # of a barrier that is left out


SHORT, LONG, MOMENTS, TILE, READER, WORK = (
    f"cuda/{name}.h" for name in ("short_samples", "long_samples", "moments", "tile", "tile_reader", "work")
)

# Against the rules of the machine.
BROKEN_RULES = [
    Bug(
        "lanes of a warp read what others write without a barrier",
        MOMENTS,
        "const Score sum = sum_over(add_up(sums), bits);",
        """const int rows = tile.asked.tile.rows;
            tile.scores[thread() % rows] = add_up(sums);
            Score sum = 0;
            for (int l = 0; l < 1 << bits; ++l) sum += tile.scores[(thread() - lane + l) % rows];""",
        "race",
    ),
    Bug(
        "a write one past the end of an answer",
        SHORT,
        "asked.per_sample[query.answer(at)] =",
        "asked.per_sample[query.answer(at) + 1] =",
    ),
    Bug(
        "shared memory past its end", TILE, "asked.tile.at.sums)", "asked.tile.at.bytes - 8)", "out of bounds"
    ),
    Bug(
        "a read of shared memory that nobody wrote",
        WORK,
        "work.sums()[i] = 0;",
        "break;",
        "not written",
    ),
    Bug(
        "a read of device memory that nobody wrote",
        LONG,
        "i < asked.n_queries * asked.record_numbers;",
        "i < 1;",
        "not written",
    ),
    Bug(
        "an exchange that some lanes of a warp skip",
        SHORT,
        "return largest_over(largest, here.bits);",
        "return here.count > 0 ? largest_over(largest, here.bits) : largest;",
    ),
    Bug(
        "a thread that ends before a barrier",
        SHORT,
        "const Query query{asked, q};\n",
        "const Query query{asked, q};\n            if (thread() >= 250) return;\n",
    ),
    Bug(
        "blocks that write into one place",
        WORK,
        "return asked.sums + block() * asked.n_sums;",
        "return asked.sums;",
        "race",
    ),
    Bug(
        "rows beyond the last one",
        READER,
        "if (lie == Lie::kAligned && here >= kRows) {",
        "if (lie == Lie::kAligned) {",
    ),
    Bug(
        "a load that is wider than its row is aligned",
        TILE,
        "asked.aligned_planes && reinterpret_cast<uintptr_t>(address) % sizeof(Group) == 0;",
        "asked.aligned_planes && address;",
        "misaligned",
    ),
]

# Numbers that are wrong.
WRONG_NUMBERS = [
    Bug(
        "a row left out",
        MOMENTS,
        "row < n_rows; row += 1 << tile.asked.tile.moment_bits",
        "row < n_rows - 1; row += 1 << tile.asked.tile.moment_bits",
    ),
    Bug("a moment that is not rescaled", MOMENTS, "target * shrink + grow", "target + grow"),
    Bug("a merge that forgets the total", "online_lse.h", " + state.total * shift_first", ""),
    Bug("a merge that forgets a factor", "online_lse.h", "other.mass * factors.second", "other.mass"),
    Bug("a merge that forgets how far means are apart", WORK, "between * apart(k) * apart(l)", "0 * between"),
    Bug(
        "a tile that forgets it",
        LONG,
        "return between * shift[k] * shift[l];",
        "return 0 * between * shift[k + l];",
    ),
    Bug(
        "entries of the Hessian mixed up",
        "cuda/second_moments.h",
        "target[k * (k + 1) / 2 + l]",
        "target[k * k / 2 + l]",
    ),
    Bug("a piece of a sample lost", WORK, "piece < split.n_chunks", "piece < split.n_chunks - 1"),
    Bug(
        "two planes swapped",
        READER,
        """*weight, sum);
                store_together(to, held[i]);""",
        """*weight, sum);
                store_together(to, held[kAtOnce - 1 - i]);""",
    ),
    Bug("the last of equal attacks", "cuda/arithmetic.h", "a.row <= b.row", "a.row >= b.row"),
    Bug("a weight of another query", TILE, "+ query * n_classifiers()", "+ 0 * query"),
    Bug("a sample's weight forgotten", "cuda/query.h", "return table.sample_weight ?", "return false ?"),
]

BARRIER = "__syncthreads();"


def barriers():
    """Every barrier of the kernels, deleted."""
    found = []
    for path in sorted(CUDA.glob("*.h")):
        text = path.read_text(encoding="utf-8")
        for number, match in enumerate(re.finditer(re.escape(BARRIER), text)):
            line = text.count("\n", 0, match.start()) + 1
            found.append(
                Bug(f"{path.name}, line {line}", f"cuda/{path.name}", BARRIER, str(number), line=line)
            )
    return found


def plant(bug, folder):
    """A copy of the sources with the bug, and kernels for float32 only, which compile faster; the kernels' file."""
    shutil.copytree(ROOT / "csrc", folder / "csrc", ignore=shutil.ignore_patterns("cpu", "*.cpp"))
    kernels = folder / "csrc" / "cuda" / "kernels.cu"
    text = kernels.read_text(encoding="utf-8")
    text = re.sub(r"^MIXSOLVE_(PASS|FINISH)\((?!float32,)\w+,.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"(?<=MIXSOLVE_KERNEL\()mixsolve_finish_\w+(?=,)", "mixsolve_finish_float32", text)
    kernels.write_text(re.sub(r"MIXSOLVE_KERNELS\(\w+\)(?=[,}])", "MIXSOLVE_KERNELS(float32)", text))
    if bug is not None:
        path = folder / "csrc" / bug.file
        path.write_text(spoilt(path.read_text(encoding="utf-8"), bug))
    return kernels


def spoilt(text, bug):
    if bug.right == BARRIER:
        parts = text.split(BARRIER)
        number = int(bug.wrong) + 1
        return BARRIER.join(parts[:number]) + ";" + BARRIER.join(parts[number:])
    if text.count(bug.right) != 1:
        raise ValueError(f"{bug.name}: {bug.right!r} is there {text.count(bug.right)} times")
    return text.replace(bug.right, bug.wrong)

"""What ptxas made of the kernels: instructions by kernel and block, as nvdisasm prints them."""

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.cuda.build import Unavailable, built, find_nvcc, ptx, run, version_of

ARCHITECTURES = ("75", "80", "90", "100", "120")

INSTRUCTION = re.compile(
    r"^\s+/\*[0-9a-f]+\*/\s+(?:\{\s*)?(@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)\s*(.*?)\s*;", re.MULTILINE
)
PLACE = re.compile(r'^\s*//## File "([^"]+)", line (\d+)')
ENDS = ("BRA", "EXIT", "RET", "BRX", "JMP", "CALL")


@dataclass(frozen=True)
class Instruction:
    """One instruction, and where in the source it comes from: file and line, and those it is inlined at."""

    opcode: str
    operands: str
    place: tuple[tuple[str, int], ...]

    @property
    def name(self):
        """The opcode without its modifiers."""
        return self.opcode.partition(".")[0]


def find_nvdisasm():
    """The disassembler: NVDISASM, on the PATH, or from the package nvidia-cuda-nvdisasm."""
    named = os.environ.get("NVDISASM") or shutil.which("nvdisasm")
    if named:
        return named
    found = importlib.util.find_spec("nvidia")
    for folder in found.submodule_search_locations if found else ():
        for path in Path(folder).glob("*/bin/nvdisasm"):
            return str(path)
    raise Unavailable("nvdisasm was not found: pip install nvidia-cuda-nvdisasm, or name it by NVDISASM")


@cache
def kernels(architecture, only=()):
    """{kernel: its basic blocks, lists of instructions} for an architecture such as ``80``, built and kept.

    The compiler takes the PTX of that architecture, as it does in the build; of `only` these kernels, if there are any.
    """
    nvcc, nvdisasm, source = find_nvcc(), find_nvdisasm(), ptx(f"compute_{architecture}")
    command = [nvcc, "-O3", "-lineinfo", f"-arch=sm_{architecture}", "-cubin"]
    command += [f"-Xptxas=--entry={name}" for name in only]

    def build(folder):
        run([*command, source, "-o", folder / "kernels.cubin"])
        printed = subprocess.run(
            [nvdisasm, "-c", "-gi", folder / "kernels.cubin"], capture_output=True, text=True, check=True
        )
        (folder / "kernels.sass").write_text(printed.stdout, encoding="utf-8")
        (folder / "kernels.cubin").unlink()

    folder = built("sass", [source], [*command, version_of(nvcc), version_of(nvdisasm)], build)
    return parse((folder / "kernels.sass").read_text(encoding="utf-8"))


def parse(text):
    """{kernel: basic blocks} of what ``nvdisasm -c -gi`` prints.

    Routines out of line, which divisions of numbers near the ends of their range call, are ``kernel$routine``.
    """
    found = {}
    for part in re.split(r"^\.text\.", text, flags=re.MULTILINE)[1:]:
        name, _, body = part.partition(":")
        body, *routines = re.split(r"^(\$\S+):\n", body, flags=re.MULTILINE)
        found[name] = blocks(body)
        for label, routine in zip(routines[::2], routines[1::2], strict=True):
            found[name + label] = blocks(routine)
    return found


def blocks(body):
    """Straight runs of instructions: cut at labels, and after what may go elsewhere."""
    found, current, place, fresh = [], [], [], True
    for line in body.splitlines():
        where = PLACE.match(line)
        if where:
            place = [*([] if fresh else place), (where[1].rsplit("/", 1)[-1], int(where[2]))]
            fresh = False
            continue
        if line.lstrip().startswith(".section"):
            break
        if line.startswith(".L") and current:
            found.append(current)
            current = []
        instruction = INSTRUCTION.match(line)
        if instruction is None:
            continue
        fresh = True
        current.append(Instruction(instruction[2], instruction[3], tuple(place)))
        if current[-1].name in ENDS:
            found.append(current)
            current = []
    return [*found, current] if current else found


def registers(blocks_of_kernel):
    """How many registers a kernel names."""
    numbers = [
        int(number)
        for block in blocks_of_kernel
        for instruction in block
        for number in re.findall(r"\bR(\d+)\b", instruction.operands)
    ]
    return max(numbers) + 1

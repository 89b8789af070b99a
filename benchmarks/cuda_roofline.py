"""What the CUDA pass would be bound by on real GPUs, computed on paper: no GPU was there to time it.

Warp instructions per 512 bytes of the table, of the machine code that ptxas makes, against the issue slots that a GPU
has while its memory delivers 512 bytes. Every row says "paper, not timed".

    python -m benchmarks.cuda_roofline

Needs nvcc and nvdisasm; `tests/cuda/executions.py` says how instructions are counted.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from benchmarks.harness import Bar, Report, add_report_options, require_close
from mixsolve.passes import run_pass
from mixsolve.reference import reference_pass
from mixsolve.storage import Storage, widen
from tests.cuda.build import ptx
from tests.cuda.emulated import Emulated, EmulatedTable, native
from tests.cuda.executions import issued
from tests.cuda.ptx import Interpreter
from tests.cuda.sass import kernels

BAR = 0.7
BARRED = ("A100", "H100")
BARRED_CLASSIFIERS = (4, 10, 32, 128, 1024)
TEMPERATURE = 0.1
STORAGES = ("float32", "float64", "float16", "bfloat16", "uint8")


@dataclass(frozen=True)
class Gpu:
    """What its memory and its schedulers do in a second, from the manufacturer's data sheets."""

    name: str
    architecture: str
    bytes_per_second: float
    processors: int
    clock: float

    @property
    def slots(self) -> float:
        """Instructions that four schedulers a processor can issue while 512 bytes arrive."""
        return 4 * self.processors * self.clock / (self.bytes_per_second / 512)


GPUS = (
    Gpu("A100", "80", 2.0e12, 108, 1.41e9),
    Gpu("H100", "90", 3.35e12, 132, 1.76e9),
    Gpu("H200", "90", 4.8e12, 132, 1.76e9),
    Gpu("B200", "100", 8.0e12, 148, 1.85e9),
)


@dataclass(frozen=True)
class Settings:
    """What rows are computed for."""

    gpus: tuple[Gpu, ...] = GPUS
    storages: tuple[str, ...] = STORAGES
    classifiers: tuple[int, ...] = (2, 4, 10, 32, 128, 1024)
    attacks: tuple[int, ...] = (32, 33, 48, 100, 129, 200, 1000)
    every: range = range(32, 65)
    """Numbers of attacks of which the worst is a row, for what the bar is for."""


def draw(storage: str, n_classifiers: int, n_attacks: int) -> Any:
    """The losses that one block of threads gets of a large table.

    For an odd number of attacks the samples of the large table are so too: rows then begin at any place, under each
    classifier at another.
    """
    import ml_dtypes

    dtype = np.dtype(getattr(ml_dtypes, storage) if storage == "bfloat16" else storage)
    n_samples = native().samples_of_block(Storage[storage.upper()].value, n_classifiers, n_attacks)
    more = (n_samples + 1) % 2 if n_attacks % 2 else 0
    shape = (n_classifiers, n_samples + more, n_attacks)
    rng = np.random.default_rng(0)
    if dtype == np.uint8:
        losses = rng.integers(0, 256, shape, dtype=np.uint8)
    else:
        losses = rng.random(shape, dtype=np.float32).astype(dtype)
    return losses[:, :n_samples]


@cache
def interpreter(text: str) -> Interpreter:
    """An executor of PTX; parsing takes seconds."""
    return Interpreter(text, native())


@cache
def executions(text: str, storage: str, n_classifiers: int, n_attacks: int) -> tuple[Any, Any, int]:
    """The PTX of the plain kernel, how often each instruction is executed in a pass, and the bytes of its table.

    The answer of the pass is checked.
    """
    module, name, executor = native(), f"mixsolve_plain_{storage}", interpreter(text)
    losses = draw(storage, n_classifiers, n_attacks)
    scale = 1 / 255 if storage == "uint8" else 1.0
    table = EmulatedTable(losses, Emulated(), scale=scale)
    weights = np.full((1, n_classifiers), 1 / n_classifiers)
    executor.executed.clear()
    module.set_interpreter(executor)
    try:
        found = run_pass(table, weights, TEMPERATURE)
    finally:
        module.set_interpreter(None)
    exact = reference_pass(scale * widen(table.array, table.storage), weights, TEMPERATURE)
    require_close("value", found.value, exact.value, 1e-5)
    require_close("gradient", found.gradient, exact.gradient, 1e-5)
    return executor.compiled[name].code, executor.executed[name], table.nbytes


@cache
def ptx_without_target(architecture: str) -> str:
    """sm_80 and sm_90 have the same PTX but for the line that names them."""
    return re.sub(r"^\.target .*$", "", ptx(f"compute_{architecture}").read_text(), flags=re.MULTILINE)


@cache
def slots_used(architecture: str, storage: str, n_classifiers: int, n_attacks: int) -> float:
    """Instructions that warps issue per 512 bytes of a plain pass."""
    code, executed, n_bytes = executions(ptx_without_target(architecture), storage, n_classifiers, n_attacks)
    compiled = kernels(architecture, tuple(f"mixsolve_plain_{each}" for each in STORAGES))
    return issued(compiled[f"mixsolve_plain_{storage}"], code, executed) / (n_bytes / 512)


def run(settings: Settings, allow_dirty: bool = False) -> Report:
    """A row for every GPU, storage type and shape."""
    kept = {"note": "paper, not timed", "temperature": TEMPERATURE}
    report = Report("cuda_roofline", allow_dirty, settings=kept)
    for gpu in settings.gpus:
        for storage in settings.storages:
            for n_classifiers in settings.classifiers:
                for n_attacks in settings.attacks:
                    add_row(report, gpu, storage, n_classifiers, n_attacks)
                if settings.every and is_barred(gpu, storage, n_classifiers):
                    add_worst(report, gpu, storage, n_classifiers, settings.every)
    return report


def is_barred(gpu: Gpu, storage: str, n_classifiers: int) -> bool:
    """Whether the bar is for such a pass."""
    return storage == "float32" and gpu.name in BARRED and n_classifiers in BARRED_CLASSIFIERS


def add_row(report: Report, gpu: Gpu, storage: str, n_classifiers: int, n_attacks: int) -> None:
    instructions = slots_used(gpu.architecture, storage, n_classifiers, n_attacks)
    share = instructions / gpu.slots
    barred = is_barred(gpu, storage, n_classifiers)
    report.add(
        f"{gpu.name}/{storage}/{n_classifiers}x{n_attacks}",
        bars=[Bar("share_of_memory_time", "at most", BAR, share)] if barred else [],
        basis="paper, not timed",
        instructions_per_512_bytes=instructions,
        issue_slots_per_512_bytes=gpu.slots,
        share_of_memory_time=share,
    )


def add_worst(report: Report, gpu: Gpu, storage: str, n_classifiers: int, every: range) -> None:
    shares = {m: slots_used(gpu.architecture, storage, n_classifiers, m) / gpu.slots for m in every}
    worst = max(shares, key=lambda m: shares[m])
    report.add(
        f"{gpu.name}/{storage}/{n_classifiers}x{every[0]}..{every[-1]}",
        bars=[Bar("share_of_memory_time", "at most", BAR, shares[worst])],
        basis="paper, not timed",
        share_of_memory_time=shares[worst],
        worst_number_of_attacks=worst,
        above_the_bar=[m for m in every if shares[m] > BAR],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cuda_roofline", description=__doc__.split("\n")[0]
    )
    add_report_options(parser)
    given = parser.parse_args(arguments)
    return run(Settings(), given.allow_dirty).finish(given.out)


if __name__ == "__main__":
    sys.exit(main())

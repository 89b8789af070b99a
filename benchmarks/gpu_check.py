"""`make gpu-check`: what only a GPU can tell, on the one that is here; prints one table and writes rows.

The backend tests of the CUDA pass for every storage type and layout; equal bits in repeated runs; games solved on the
GPU whose certificates are recomputed on the CPU; the torch operations; CUDA-graph capture, which passes refuse since
they return numbers of the host; compute-sanitizer where it is found; and the bandwidth of passes against a measured
copy within the device. Needs torch with CUDA.

    python -m benchmarks.gpu_check [--out FILE]
    python -m benchmarks.gpu_check --emulated     # the same checks, small, on the emulator: writes no rows
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np

import mixsolve
from benchmarks.gpu_machine import EmulatedGpu, Gpu, Placed
from benchmarks.harness import Report, Spread, WrongAnswer, add_report_options, require_close
from mixsolve import fit_mixture, verify
from mixsolve.passes import run_pass
from tests.cuda.small_cases import small_cases
from tests.pass_cases import STORAGES, case
from tests.pass_checks import check, check_sums
from tests.test_pass_hessian import check as check_hessian

Machine = Gpu | EmulatedGpu


class LeftOut(Exception):
    """Says why a check is not made here."""


# Those of strides that torch has, and ragged tables.
LAYOUTS = ("contiguous", "every third sample", "attacks cut out", "samples outermost", "windows", None)
SHAPES = (
    (2, 5000, 3),
    (4, 2000, 32),
    (10, 300, 100),
    (32, 100, 77),
    (128, 9, 500),
    (1024, 3, 40),
    (3, 1, 200_000),
)
TIMED = ((4, 32), (4, 100), (10, 32), (10, 100), (10, 500), (32, 100), (128, 100), (1024, 100))
TIMED_BYTES = 2 << 30
ROUNDS = 20


def backend_tests_pass(machine: Machine) -> str:
    """Every answer of a pass against the specification, as the tests of the CPU's pass ask for it."""
    number, largest = (1, 2000) if machine.emulated else (20, 2_000_000)
    done = 0
    for storage in STORAGES:
        for layout in LAYOUTS:
            for drawn in small_cases(storage, layout, number, largest):
                placed = Placed(drawn, machine)
                for float64_scores in (False, True):
                    check(placed, float64_scores=float64_scores)
                check_hessian(placed)
                done += 1
    return f"{done} cases"


def large_shapes_agree(machine: Machine) -> str:
    """Plain passes and worst cases of tables that fill the machine."""
    for dtype in STORAGES.values():
        for n_classifiers, n_samples, n_attacks in SHAPES:
            shape = (n_classifiers, max(n_samples // machine.scale, 1), n_attacks // machine.scale + 1)
            rng = np.random.default_rng(sum(shape))
            losses = rng.random(shape).astype(dtype)
            asked = Placed(case(losses, rng.dirichlet(np.ones(n_classifiers), 2), [0.1, 1.0]), machine)
            check_sums(asked)
            check_sums(asked, float64_scores=True)
    return f"{len(STORAGES)} types, {len(SHAPES)} shapes"


def bits_repeat(machine: Machine) -> str:
    """Ten runs, one set of bits."""
    losses = np.random.default_rng(0).random((10, 20_000 // machine.scale**2, 100), dtype=np.float32)
    table, weights = machine.table(losses), np.full((1, 10), 0.1)
    answers = {run_pass(table, weights, 0.05).gradient.tobytes() for _ in range(10)}
    if len(answers) != 1:
        raise WrongAnswer(f"{len(answers)} different gradients in 10 runs")
    return "10 runs, one set of bits"


def games_are_solved(machine: Machine) -> str:
    """Certificates of games solved on the machine, recomputed by the CPU's pass."""
    losses = np.random.default_rng(1).random((8, 3000 // machine.scale, 60), dtype=np.float32)
    gaps = []
    for temperature in (0.0, 0.05):
        result = fit_mixture(machine.table(losses), temperature=temperature)
        if not verify(result, losses):
            raise WrongAnswer(f"the certificate at temperature {temperature} does not hold on the CPU")
        gaps.append(result.gap)
    return f"gaps {gaps[0]:.1e}, {gaps[1]:.1e}"


def torch_operations_agree(machine: Machine) -> str:
    """Value and gradients against the CPU's."""
    from mixsolve.torch_ops import smoothed_worst_case

    torch = machine.torch
    host = torch.rand(3, 50, 700, dtype=torch.float64)
    found = []
    for device in ("cpu", machine.device):
        losses = host.to(device).requires_grad_()
        weights = torch.full((3,), 1 / 3, dtype=torch.float64, device=device, requires_grad=True)
        smoothed_worst_case(losses, weights, 0.1).backward()
        found.append((losses.grad.cpu().numpy(), weights.grad.cpu().numpy()))
    for name, here, there in zip(("losses", "weights"), *found, strict=True):
        require_close(f"gradient by {name}", there, here, 1e-12)
    return "gradients agree"


def capture_is_refused(machine: Machine) -> str:
    """A pass says why it cannot be captured into a CUDA graph, and the capture goes on."""
    if machine.emulated:
        raise LeftOut("the emulator has no graphs")
    torch = machine.torch
    table = machine.table(np.random.default_rng(2).random((4, 50, 10), dtype=np.float32))
    weights, graph = np.full((1, 4), 0.25), torch.cuda.CUDAGraph()
    numbers = torch.ones(4, device="cuda")
    with torch.cuda.graph(graph):
        try:
            run_pass(table, weights, 0.1)
        except RuntimeError as error:
            said = str(error)
        else:
            raise WrongAnswer("a pass was captured, though it returns numbers of the host")
        numbers += 1
    if "captured" not in said:
        raise WrongAnswer(f"a pass within a capture fails with {said!r}")
    graph.replay()
    require_close("numbers of the captured graph", numbers.cpu().numpy(), np.full(4, 2.0), 0)
    return "refused, by a message; the graph is whole"


def sanitizer_is_silent(machine: Machine) -> str:
    """compute-sanitizer over the games above, in a process of its own."""
    tool = shutil.which("compute-sanitizer")
    if tool is None or machine.emulated:
        raise LeftOut("the emulator watches itself" if machine.emulated else "it was not found")
    code = (
        "import torch; from benchmarks.gpu_check import games_are_solved; from benchmarks.gpu_machine import Gpu; "
        "games_are_solved(Gpu(torch))"
    )
    for kind in ("memcheck", "racecheck", "synccheck"):
        done = subprocess.run(
            [tool, "--tool", kind, "--error-exitcode", "9", sys.executable, "-c", code],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise WrongAnswer(f"{kind}: {done.stdout.decode()[-400:]}")
    return "memcheck, racecheck and synccheck are silent"


CHECKS: dict[str, Callable[[Machine], str]] = {
    "backend tests": backend_tests_pass,
    "large shapes": large_shapes_agree,
    "equal bits in repeated runs": bits_repeat,
    "games against certificates on the CPU": games_are_solved,
    "torch operations against the CPU": torch_operations_agree,
    "CUDA-graph capture": capture_is_refused,
    "compute-sanitizer": sanitizer_is_silent,
}


def run_checks(machine: Machine, report: Report | None) -> bool:
    """Print a line per check, add its row to the report; whether none fails."""
    verdicts = []
    for name, run in CHECKS.items():
        try:
            verdict, outcome = "holds", run(machine)
        except LeftOut as reason:
            verdict, outcome = "left out", str(reason)
        except (AssertionError, RuntimeError, ValueError) as error:
            verdict, outcome = "FAILS", str(error)
        print(f"{name:<40} {verdict:<9} {outcome}")
        verdicts.append(verdict)
        if report is not None:
            report.add(name, verdict=verdict, outcome=outcome)
    return "FAILS" not in verdicts


def measure_bandwidth(
    machine: Machine, report: Report | None, n_bytes: int = TIMED_BYTES, rounds: int = ROUNDS
) -> None:
    """Bytes of the table per second of a whole pass, launches and copies of its answer included, and of a copy."""
    torch = machine.torch
    source = torch.empty(n_bytes // 4, device=machine.device)
    taken = [machine.seconds(source.clone) for _ in range(rounds)]
    copy = Spread.of(2 * source.nbytes / second / 1e9 for second in taken)
    if report is not None:
        report.add("copy", gb_per_second=copy)
    del source
    for n_classifiers, n_attacks in TIMED:
        n_samples = max(n_bytes // (4 * n_classifiers * n_attacks), 1)
        losses = np.random.default_rng(3).random((n_classifiers, n_samples, n_attacks), dtype=np.float32)
        table, weights = machine.table(losses), np.full((1, n_classifiers), 1 / n_classifiers)
        run_pass(table, weights, 0.1)
        taken = [machine.seconds(lambda t=table, w=weights: run_pass(t, w, 0.1)) for _ in range(rounds)]
        speed = Spread.of(table.nbytes / second / 1e9 for second in taken)
        share = speed.median / copy.median
        print(f"{n_classifiers:5d} classifiers, {n_attacks:4d} attacks   " + said_of(machine, speed, share))
        if report is not None:
            name = f"float32/{n_classifiers}x{n_attacks}"
            report.add(name, gb_per_second=speed, share_of_copy=share)


def said_of(machine: Machine, speed: Spread, share: float) -> str:
    return "not timed" if machine.emulated else f"{speed.median:8.0f} GB/s   {share:6.1%} of a copy"


def why_not() -> str | None:
    """Why nothing can be checked here."""
    cuda = mixsolve.backends()[1]
    if not cuda.usable:
        return f"the CUDA pass cannot be used: {cuda.reason}"
    try:
        import torch
    except ImportError:
        return "torch is not installed"
    return None if torch.cuda.is_available() else "this torch finds no CUDA device"


def check_emulated() -> int:
    """All that can be checked without a GPU. There are no rows of it."""
    import torch

    print("emulated: no GPU is used, nothing is timed and no rows are written")
    machine = EmulatedGpu(torch)
    held = run_checks(machine, None)
    measure_bandwidth(machine, None, n_bytes=20_000, rounds=1)
    return 0 if held else 1


def check_gpu(report: Report) -> bool:
    import torch

    machine = Gpu(torch)
    held = run_checks(machine, report)
    if held:
        measure_bandwidth(machine, report)
    return held


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check", description=__doc__.split("\n")[0]
    )
    add_report_options(parser)
    parser.add_argument(
        "--emulated", action="store_true", help="run small checks without a GPU; writes no rows"
    )
    given = parser.parse_args(arguments)
    if given.emulated:
        if given.out is not None:
            parser.error("--emulated writes no rows: leave out --out")
        return check_emulated()
    reason = why_not()
    if reason is not None:
        print(f"nothing was checked: {reason}")
        return 2
    device = mixsolve.backends()[1].devices[0]
    print(f"{device.name}, compute capability {device.capability}")
    report = Report(
        "gpu_check", given.allow_dirty, settings={"gpu": device.name, "capability": device.capability}
    )
    held = check_gpu(report)
    print(f"rows written to {report.write(given.out)}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())

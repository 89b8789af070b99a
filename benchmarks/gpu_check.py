"""`make gpu-check`: the checks that need a GPU, on the one that is here; prints one table and writes rows.

Answers against the specification for every storage type and shape of sample, equal bits in repeated runs, a game solved
on the GPU whose certificate is recomputed on the CPU, the torch operations, the bandwidth of a pass against a measured
copy within the device, and compute-sanitizer where it is found. Needs torch with CUDA. Passes begin and end on the host
(the question travels there, sums come back), so they cannot be captured into CUDA graphs: that is not checked.

    python -m benchmarks.gpu_check [--out FILE]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import mixsolve
from benchmarks.harness import Report, Spread, WrongAnswer, add_report_options, require_close
from mixsolve import LossTable, fit_mixture, verify
from mixsolve.passes import run_pass
from mixsolve.reference import reference_pass

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


def answers_agree(torch: Any) -> str:
    """Largest error of values and gradients, relative to losses of at most 1."""
    worst = 0.0
    for name in ("float64", "float32", "float16", "bfloat16"):
        for shape in SHAPES:
            rng = np.random.default_rng(sum(shape))
            host = torch.from_numpy(rng.random(shape, dtype=np.float32)).to(getattr(torch, name))
            exact = host.double().numpy()
            weights = rng.dirichlet(np.ones(shape[0]), 2)
            truth = reference_pass(exact, weights, [0.0, 0.1])
            table = LossTable(host.cuda())
            for precise in (False, True):
                asked = {"per_sample": True, "best_attack": True, "float64_scores": precise}
                found = run_pass(table, weights, [0.0, 0.1], **asked)
                allowed = 1e-12 if precise or name == "float64" else 1e-5
                where = f"{name} {shape}"
                worst = max(worst, require_close(where, found.value, truth.value, allowed))
                require_close(where, found.gradient[1], truth.gradient[1], 100 * allowed)
                plain = run_pass(table, weights[1:], [0.1], float64_scores=precise)
                require_close(where, plain.gradient[0], truth.gradient[1], 100 * allowed)
    return f"largest error {worst:.1e}"


def bits_repeat(torch: Any) -> str:
    """Ten runs, one set of bits."""
    table = LossTable(torch.rand(10, 20_000, 100, device="cuda"))
    weights = np.full((1, 10), 0.1)
    answers = {run_pass(table, weights, 0.05).gradient.tobytes() for _ in range(10)}
    if len(answers) != 1:
        raise WrongAnswer(f"{len(answers)} different gradients in 10 runs")
    return "10 runs, one set of bits"


def games_are_solved(torch: Any) -> str:
    """Certificates of games solved on the GPU, recomputed on the CPU."""
    losses = torch.rand(8, 3000, 60, device="cuda")
    gaps = []
    for temperature in (0.0, 0.05):
        result = fit_mixture(losses, temperature=temperature)
        if not verify(result, losses.cpu()):
            raise WrongAnswer(f"the certificate at temperature {temperature} does not hold on the CPU")
        gaps.append(result.gap)
    return f"gaps {gaps[0]:.1e}, {gaps[1]:.1e}"


def torch_operations_agree(torch: Any) -> str:
    """Value and gradients against the CPU's."""
    from mixsolve.torch_ops import smoothed_worst_case

    host = torch.rand(3, 50, 700, dtype=torch.float64)
    found = []
    for device in ("cpu", "cuda"):
        losses = host.to(device).requires_grad_()
        weights = torch.full((3,), 1 / 3, dtype=torch.float64, device=device, requires_grad=True)
        smoothed_worst_case(losses, weights, 0.1).backward()
        found.append((losses.grad.cpu().numpy(), weights.grad.cpu().numpy()))
    for name, here, there in zip(("losses", "weights"), *found, strict=True):
        require_close(f"gradient by {name}", there, here, 1e-12)
    return "gradients agree"


def sanitizer_is_silent(torch: Any) -> str:
    """compute-sanitizer over the answers above, in a process of its own."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return "compute-sanitizer was not found: left out"
    code = "import torch; from benchmarks.gpu_check import games_are_solved; games_are_solved(torch)"
    for kind in ("memcheck", "racecheck", "synccheck"):
        done = subprocess.run(
            [tool, "--tool", kind, "--error-exitcode", "9", sys.executable, "-c", code],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise WrongAnswer(f"{kind}: {done.stdout.decode()[-400:]}")
    return "memcheck, racecheck and synccheck are silent"


CHECKS: dict[str, Callable[[Any], str]] = {
    "answers against the specification": answers_agree,
    "equal bits in repeated runs": bits_repeat,
    "games against certificates on the CPU": games_are_solved,
    "torch operations against the CPU": torch_operations_agree,
    "compute-sanitizer": sanitizer_is_silent,
}


def bandwidth_rows(torch: Any, report: Report) -> None:
    """Bytes of the table per second of a whole pass, launches and copies of its answer included, and of a copy."""
    source = torch.empty(TIMED_BYTES // 4, device="cuda")
    copy = Spread.of(2 * source.nbytes / seconds(torch, source.clone) / 1e9 for _ in range(ROUNDS))
    report.add("copy", gb_per_second=copy)
    del source
    for n_classifiers, n_attacks in TIMED:
        n_samples = TIMED_BYTES // (4 * n_classifiers * n_attacks)
        losses = torch.rand(n_classifiers, n_samples, n_attacks, device="cuda")
        table, weights = LossTable(losses), np.full((1, n_classifiers), 1 / n_classifiers)
        run_pass(table, weights, 0.1)
        taken = [seconds(torch, lambda t=table, w=weights: run_pass(t, w, 0.1)) for _ in range(ROUNDS)]
        speed = Spread.of(table.nbytes / t / 1e9 for t in taken)
        report.add(
            f"float32/{n_classifiers}x{n_attacks}",
            gb_per_second=speed,
            share_of_copy=speed.median / copy.median,
        )
        print(
            f"{n_classifiers:5d} classifiers, {n_attacks:4d} attacks   {speed.median:8.0f} GB/s   "
            f"{speed.median / copy.median:6.1%} of a copy"
        )


def seconds(torch: Any, action: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    action()
    torch.cuda.synchronize()
    return time.perf_counter() - start


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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check", description=__doc__.split("\n")[0]
    )
    add_report_options(parser)
    given = parser.parse_args(arguments)
    reason = why_not()
    if reason is not None:
        print(f"nothing was checked: {reason}")
        return 2
    import torch

    device = mixsolve.backends()[1].devices[0]
    report = Report(
        "gpu_check", given.allow_dirty, settings={"gpu": device.name, "capability": device.capability}
    )
    print(f"{device.name}, compute capability {device.capability}")
    failed = False
    for name, check in CHECKS.items():
        try:
            outcome, holds = check(torch), True
        except (WrongAnswer, RuntimeError) as error:
            outcome, holds, failed = str(error), False, True
        print(f"{name:<40} {'holds' if holds else 'FAILS'}   {outcome}")
        report.add(name, holds=holds, outcome=outcome)
    if not failed:
        bandwidth_rows(torch, report)
    print(f"rows written to {report.write(given.out)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

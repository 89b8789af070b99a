"""Groups of real processes that do the jobs of tests/group_jobs.py, and their answers as one."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from mixsolve.row_attack import RowAttack
from mixsolve.strategy import ResponseAttack, strategy_from_dict

ROOT = Path(__file__).resolve().parent.parent
PRIVATE = ("seconds", "attack", "communicated", "compressed_rows")
"""What the processes' answers may differ in."""


def run_group(folder, size, jobs, timeout=150):
    """What the processes answered to each of the jobs; None of a process that died."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.group_jobs", str(rank), str(size), str(folder), json.dumps(jobs)],
            cwd=ROOT,
        )
        for rank in range(size)
    ]
    try:
        for process in processes:
            process.wait(timeout=timeout)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    files = [folder / f"{rank}.json" for rank in range(size)]
    return [json.loads(file.read_text()) if file.exists() else None for file in files]


class Groups:
    """Groups of several sizes, each started once; called with a job it says what the processes answered to it."""

    def __init__(self, jobs, tmp_path_factory):
        self.jobs = jobs
        self.folders = {size: tmp_path_factory.mktemp(f"group-{size}") for size in jobs}
        self.answers = {size: run_group(self.folders[size], size, jobs[size]) for size in jobs}

    def __call__(self, size, *job, last=False):
        places = [place for place, known in enumerate(self.jobs[size]) if known == job]
        found = [answer[places[-1 if last else 0]] for answer in self.answers[size]]
        return self.folders[size], found


def shared(answer):
    return {name: value for name, value in answer.items() if name not in PRIVATE}


class Together:
    """The answers of all processes as one result, for the checker."""

    def __init__(self, answers, temperature, ends):
        first = answers[0]
        self.weights = np.array(first["weights"])
        self.temperature = temperature
        self.value, self.lower_bound = first["value"], first["lower_bound"]
        self.worst_case_value = first["worst_case_value"]
        self.gap = self.value - self.lower_bound
        self.attack = joined([strategy_from_dict(answer["attack"]) for answer in answers], ends)


def joined(attacks, ends):
    if not isinstance(attacks[0], RowAttack):
        return joined_responses(attacks)
    return RowAttack(
        np.concatenate([attack.sample + first for attack, first in zip(attacks, ends, strict=False)]),
        np.concatenate([attack.attack for attack in attacks]),
        np.concatenate([attack.probability for attack in attacks]),
        int(ends[-1]),
    )


def joined_responses(attacks):
    """Responses with one temperature, or one per sample; then a process without samples has no part in them."""
    first = attacks[0]
    for other in attacks[1:]:
        assert np.array_equal(other.coefficient, first.coefficient)
        assert np.array_equal(other.weights, first.weights)
    own = [attack.temperature for attack in attacks if attack.temperature.ndim == 2]
    return ResponseAttack(first.coefficient, first.weights, np.concatenate(own, axis=1)) if own else first

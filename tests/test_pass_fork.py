"""The pool of threads in a world of forks, new processes and interpreters that come to their end."""

import multiprocessing
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from mixsolve import LossTable, _native
from mixsolve.passes import run_pass
from tests.pass_cases import endless_table

# Python 3.12 and later warn of what is tested here.
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

WEIGHTS = [[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]


def table():
    """Several chunks, so that helpers are called."""
    return LossTable(np.random.default_rng(0).random((3, 40_000, 12), dtype=np.float32))


def answer_bits(losses=None, threads=3):
    found = run_pass(losses or table(), WEIGHTS, [0.1, 0.0], per_sample=True, threads=threads)
    return b"".join(part.tobytes() for part in (found.value, found.gradient, found.per_sample))


def leave_with(right):
    """End a child: 0 says that its answer was right."""
    sys.exit(0 if right else 3)


def check_in_child(expected, losses=None):
    leave_with(answer_bits(losses) == expected == answer_bits(losses, threads=1))


def check_in_grandchild(expected):
    before = answer_bits()
    exitcode = run_child("fork", check_in_child, expected)
    leave_with(exitcode == 0 and before == expected == answer_bits())


def run_child(method, work, *arguments):
    """The exit code of a child that does this work; it is killed when it hangs."""
    child = multiprocessing.get_context(method).Process(target=work, args=arguments)
    child.start()
    child.join(60)
    if child.is_alive():
        child.kill()
        child.join()
        pytest.fail("the child hangs")
    return child.exitcode


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_computes_what_its_parent_does(method):
    expected = answer_bits()
    assert run_child(method, check_in_child, expected) == 0
    assert answer_bits() == expected


def test_a_fork_shares_the_parents_table():
    losses = table()
    assert run_child("fork", check_in_child, answer_bits(losses), losses) == 0


def test_children_may_fork_too():
    assert run_child("fork", check_in_grandchild, answer_bits()) == 0


def test_many_forks_while_other_threads_are_in_passes():
    """Locks are held and helpers at work at the moment of the fork: none of it must matter to the child."""
    expected, token, endless, broken = answer_bits(), _native.CancelToken(), endless_table(120), []

    def stay_in_a_pass():
        with pytest.raises(_native.Cancelled):
            run_pass(endless, [[0.5, 0.5]], 0.1, threads=2, cancel=token)

    def make_short_passes():
        losses = table()
        while not token.cancelled:
            if answer_bits(losses) != expected:
                broken.append("a pass of the parent")

    others = [
        threading.Thread(target=work) for work in (stay_in_a_pass, make_short_passes, make_short_passes)
    ]
    for other in others:
        other.start()
    try:
        exitcodes = [run_child("fork", check_in_child, expected) for _ in range(8)]
    finally:
        token.cancel()
        for other in others:
            other.join(60)
    assert exitcodes == [0] * 8
    assert not broken
    assert not any(other.is_alive() for other in others)


def test_a_child_of_a_plain_fork_exits():
    expected = answer_bits()
    child = os.fork()
    if child == 0:
        os._exit(0 if answer_bits() == expected else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


LEAVE_DURING_PASSES = """
import threading, time
import numpy as np
from mixsolve import LossTable
from mixsolve.passes import run_pass

losses = np.random.default_rng(0).random((2, 1, 500), dtype=np.float32)
table = LossTable(np.broadcast_to(losses, (2, {n_samples}, 500)))

def work():
    while True:
        run_pass(table, [[0.5, 0.5]], 0.1, threads={threads})

for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
print("the main thread leaves")
"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n_samples", [1, 100, 10_000_000])
def test_a_process_may_end_while_daemon_threads_are_in_passes(n_samples, threads):
    """Python lets go of such threads one way or another; none may take the process down with it."""
    script = LEAVE_DURING_PASSES.format(n_samples=n_samples, threads=threads)
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "the main thread leaves\n", "")

"""What a machine cannot test is said at the end of the suite."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_a_missing_compiler_is_said_last_and_loudly():
    """The tests of what nvcc makes, where there is no nvcc."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "large", "tests/cuda/test_sass.py", "-k", "local_memory"],
        cwd=ROOT,
        env={**os.environ, "NVCC": "an-nvcc-that-is-not-here"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    said = done.stdout[done.stdout.index("NOT TESTED HERE") :]
    assert "5 skipped: what ptxas makes is not tested: an-nvcc-that-is-not-here was not found" in said
    assert "short test summary" not in said

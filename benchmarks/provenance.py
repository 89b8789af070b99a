"""Where a row comes from: commit, machine, library versions and date."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = (
    "numpy",
    "scipy",
    "torch",
    "cvxpy",
    "highspy",
    "clarabel",
    "scs",
    "osqp",
    "pytest-benchmark",
    "mixsolve",
)


def git(root: Path, *arguments: str) -> str | None:
    """Output of a git command in a checkout, or None outside one."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def is_dirty(root: Path) -> bool:
    """Whether the tree differs from its commit; new result files alone do not count, an unknown state does."""
    changes = git(root, "status", "--porcelain", "--", ".", ":!benchmarks/results")
    return changes is None or changes != ""


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError):
        return None


def versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def native_module() -> dict[str, str]:
    """Digest and instruction set of the compiled module that the rows measured."""
    import mixsolve._native as native

    return {"sha256": hashlib.sha256(Path(native.__file__).read_bytes()).hexdigest(), "isa": native.isa()}


def provenance(root: Path = ROOT) -> dict[str, Any]:
    """One flat record, the same for every row of a run."""
    return {
        "commit": git(root, "rev-parse", "HEAD"),
        "dirty": is_dirty(root),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "cores": cores(),
        "memory_gb": memory_gb(),
        "python": platform.python_version(),
        "libraries": versions(),
        "native": native_module(),
    }

"""What an installer gets: from a checkout or an sdist, editable or not, into an environment without torch."""

import ast
import os
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import numpy as np
import pytest

from mixsolve import _native

ROOT = Path(__file__).resolve().parent.parent


def test_the_stub_names_what_the_native_module_has():
    tree = ast.parse((ROOT / "mixsolve" / "_native.pyi").read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    constants = {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}
    assert functions | constants | set(classes) == {
        name for name in vars(_native) if not name.startswith("_")
    }
    for name, node in classes.items():
        methods = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        assert methods <= set(dir(getattr(_native, name)))


def test_the_best_kernel_in_use_is_one_this_machine_has():
    assert "baseline" in _native.available_isas()
    assert _native.isa() in _native.available_isas()


# Matching pennies: its value is 1/2, known to everybody.
SOLVE = """
import sys, numpy as np, mixsolve
result = mixsolve.fit_mixture(np.array([[[0.0, 1.0]], [[1.0, 0.0]]]))
assert abs(result.value - 0.5) < 1e-6, result
assert "torch" not in sys.modules
print(mixsolve.__file__)
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command outside this test's environment; its output."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def fresh_python(folder: Path) -> Path:
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


@pytest.fixture
def checkout(tmp_path):
    """The files under version control, as a clone has them."""
    for name in filter(None, run("git", "ls-files", "-z", cwd=ROOT).split("\0")):
        target = tmp_path / "checkout" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    return tmp_path / "checkout"


@pytest.mark.large
def test_sdist_installs_with_core_dependencies_only(checkout, tmp_path):
    run(sys.executable, "-c", "from setuptools.build_meta import build_sdist as b; b('..')", cwd=checkout)
    [sdist] = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    kept = {path.relative_to(checkout).as_posix() for path in checkout.rglob("*.*") if path.is_file()}
    assert {name for name in kept if not name.startswith(("build/", "mixsolve.egg-info/"))} <= inside

    python = fresh_python(tmp_path / "env")
    run(python, "-m", "pip", "install", "--quiet", sdist, cwd=tmp_path)
    module = Path(run(python, "-c", SOLVE, cwd=tmp_path))
    assert module.is_relative_to(tmp_path / "env")
    assert (module.parent / "py.typed").exists()
    assert (module.parent / "_native.pyi").exists()
    installed = run(python, "-m", "pip", "list", "--format=freeze", cwd=tmp_path).lower().split()
    assert {line.partition("==")[0] for line in installed} <= {
        "mixsolve",
        "numpy",
        "scipy",
        "pip",
        "setuptools",
    }
    assert "verify" in run(tmp_path / "env" / "bin" / "mixsolve", "--help", cwd=tmp_path)


@pytest.mark.large
@pytest.mark.parametrize("editable", [False, True], ids=["plain", "editable"])
def test_checkout_installs_under_build_isolation(checkout, tmp_path, editable):
    python = fresh_python(tmp_path / "env")
    run(python, "-m", "pip", "install", "--quiet", *["--editable"] * editable, checkout, cwd=tmp_path)
    module = Path(run(python, "-c", SOLVE, cwd=tmp_path))
    assert module.is_relative_to(checkout if editable else tmp_path / "env")


@pytest.mark.large
def test_portable_build_answers_alike(checkout):
    """Without the x86 kernels, as on any other processor."""
    run(sys.executable, "setup.py", "build_ext", "--inplace", cwd=checkout, MIXSOLVE_PORTABLE="1")
    ask = (
        "import numpy as np, mixsolve; losses = np.random.default_rng(0).random((5, 40, 30)); "
        "print(*mixsolve.smoothed_value_and_grad(losses, np.full(5, 0.2), 0.1)[1].tolist())"
    )
    isas = run(
        sys.executable, "-c", "from mixsolve import _native as n; print(n.available_isas())", cwd=checkout
    )
    assert isas == "['baseline']"
    here, there = (
        np.fromstring(run(sys.executable, "-c", ask, cwd=cwd), sep=" ") for cwd in (ROOT, checkout)
    )
    # float64 throughout; the kernels differ in the order of sums over 30 attacks and in the last bits of exp.
    np.testing.assert_allclose(there, here, rtol=1e-13)

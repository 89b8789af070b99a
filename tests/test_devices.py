"""What passes can run on: found, named, and loaded only when it is asked for."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mixsolve
from mixsolve import _native

ROOT = Path(__file__).resolve().parent.parent


def cuda_module():
    return pytest.importorskip("mixsolve._native_cuda", reason="the CUDA module is not compiled: no nvcc")


def test_every_backend_is_listed_and_says_why_it_cannot_be_used():
    cpu, cuda = mixsolve.backends()
    assert (cpu.name, cpu.usable, cpu.compiled) == ("cpu", True, tuple(_native.available_isas()))
    assert [device.capability for device in cpu.devices] == [_native.isa()]
    assert cuda.name == "cuda"
    assert cuda.usable == bool(cuda.devices)
    assert cuda.usable or cuda.reason


def test_a_missing_cuda_module_is_a_reason_and_no_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "mixsolve._native_cuda", None)
    monkeypatch.delattr(mixsolve, "_native_cuda", raising=False)
    assert "not compiled" in mixsolve.backends()[1].reason


def test_a_compiled_cuda_module_names_its_architectures_and_what_keeps_it_from_use():
    cuda_module()
    cuda = mixsolve.backends()[1]
    assert all(name.startswith("sm_") for name in cuda.compiled)
    assert cuda.usable or "driver" in cuda.reason or "device" in cuda.reason


def test_work_on_the_cpu_does_not_load_the_cuda_module():
    code = (
        "import sys, numpy as np, mixsolve; mixsolve.fit_mixture(np.eye(3)[:, None]); "
        "print('mixsolve._native_cuda' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.strip() == "False", done.stderr


def test_a_failing_call_names_itself_the_device_and_the_driver():
    native = cuda_module()
    if mixsolve.backends()[1].usable:
        pytest.skip("there is a GPU here: the call would not fail")
    prior = np.full((1, 2), 0.5)
    with pytest.raises(
        native.DeviceError, match=r"cuda\w+.* failed on CUDA device 0: .*driver.*built with CUDA"
    ):
        native.Table(4096, 0, (1, 1, 2), (16, 16, 8), attack_prior=prior)


def test_the_stub_names_what_the_cuda_module_has():
    native = cuda_module()
    tree = ast.parse((ROOT / "mixsolve" / "_native_cuda.pyi").read_text(encoding="utf-8"))
    named = {getattr(node, "name", None) or node.target.id for node in tree.body if not skip(node)}
    assert named == {name for name in vars(native) if not name.startswith("_")}


def skip(node):
    return isinstance(node, (ast.Import, ast.ImportFrom, ast.Expr))


def test_a_wrong_choice_for_the_build_is_refused():
    environment = {**os.environ, "MIXSOLVE_CUDA": "perhaps"}
    done = subprocess.run(
        [sys.executable, "setup.py", "--name"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )
    assert done.returncode != 0
    assert "MIXSOLVE_CUDA must be auto, on or off; got 'perhaps'" in done.stderr

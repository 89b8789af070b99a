"""`import mixsolve` is fast and loads nothing optional, and the parts of the package import one way."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mixsolve

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mixsolve"

# Lowest first: a part imports from its own layer and from those before it.
LAYERS = (
    (
        "_native",
        "_native_cuda",
        "cuda_backend",
        "device_array",
        "devices",
        "documents",
        "inputs",
        "quantisation",
        "reduction",
        "reference",
        "results",
        "row_game",
        "simplex",
        "storage",
    ),
    ("master", "npy_files", "read_ahead", "row_attack", "table"),
    ("chunks", "file_table", "passes"),
    ("proxy", "reservoir", "values"),
    ("chunk_iterator", "file_stream"),
    ("streams",),
    ("distributed",),
    ("strategy",),
    ("matrix_game", "responses"),
    ("bounds", "certificate"),
    ("solvers",),
    ("sources",),
    ("fit", "verification"),
    ("comparison", "path"),
    ("attacks", "plots", "torch_ops"),
    ("neural",),
    ("demo", "cli", "fit_cli", "group_fit", "neural_cli", "progress_bar"),
    ("__main__",),
)
LAYER = {part: level for level, parts in enumerate(LAYERS) for part in parts}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
OPTIONAL = {"torch", "cvxpy", "matplotlib", "sklearn"}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node, inside functions too, but for `if TYPE_CHECKING:` blocks."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        yield from running_nodes(node)


def imported_parts(source: str, package: tuple[str, ...]) -> set[str]:
    """The parts of mixsolve that a module of `package` imports."""
    names = []
    for node in running_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            names += [f"{module}.{alias.name}" for alias in node.names]
    public = set(mixsolve.__all__)
    return {name.split(".")[1] for name in names if name.startswith("mixsolve.")} - public


def test_imported_parts_sees_every_way_to_import():
    source = """
from typing import TYPE_CHECKING
import numpy
import mixsolve.table
from mixsolve import passes, fit_mixture
from mixsolve.solvers.fista import Fista
from .protocol import Oracle
from ..certificate import Certificate
if TYPE_CHECKING:
    from mixsolve.demo import main
def late():
    from mixsolve.bounds import smoothing_error
"""
    expected = {"table", "passes", "solvers", "certificate", "bounds"}
    assert imported_parts(source, ("mixsolve", "solvers")) == expected


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_parts_import_one_way(path):
    own = part_of(path)
    assert own in LAYER, f"give {own} a place in LAYERS"
    parts = imported_parts(path.read_text(encoding="utf-8"), path.relative_to(ROOT).parts[:-1])
    assert parts <= set(LAYER), f"give {sorted(parts - set(LAYER))} a place in LAYERS"
    climbing = {part for part in parts - {own} if LAYER[part] > LAYER[own]}
    assert not climbing, f"{own} stands below {sorted(climbing)}"


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_no_optional_package_is_loaded():
    touch_all = "all(getattr(mixsolve, name) is not None for name in mixsolve.__all__)"
    loaded = run_python(f"import sys, mixsolve; assert {touch_all}; print(*sys.modules)").split()
    assert "mixsolve.fit" in loaded
    assert not OPTIONAL & set(loaded)


def test_import_is_fast():
    """Under 0.3 s of the processor beyond NumPy, with the front door and the native module; the best of three."""
    code = (
        "import time, numpy; start = time.process_time(); "
        "import mixsolve; mixsolve.fit_mixture; mixsolve.LossTable; mixsolve.worst_case; "
        "print(time.process_time() - start)"
    )
    assert min(float(run_python(code)) for _ in range(3)) < 0.3


def test_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'fit_mixtures'"):
        _ = mixsolve.fit_mixtures
    assert set(mixsolve.__all__) <= set(dir(mixsolve))


def test_type_checkers_see_what_is_loaded():
    """The imports under TYPE_CHECKING, the names loaded on first use and `__all__` are one list."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {
        alias.name: (node.module or "").removeprefix("mixsolve.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == mixsolve._HOME
    assert set(mixsolve.__all__) == {*typed, "__version__"}


@pytest.mark.parametrize("module", ["torch_ops", "neural"])
def test_without_torch_the_extra_is_named(module):
    """None in sys.modules is what Python itself takes for "this module cannot be imported"."""
    code = f"import sys; sys.modules['torch'] = None\nimport mixsolve.{module}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expected = f"ImportError: mixsolve.{module} needs torch: pip install mixsolve[torch]"
    assert ended.stderr.strip().endswith(expected)

"""Builds the native module `mixsolve._native`; everything else about the package is in pyproject.toml.

The sources under csrc/ are compiled by ninja from a build file written here: in parallel, and again only
where a source, a header or a flag changed. What is in KERNELS is compiled once per instruction set and chosen
at run time, so that one build serves every processor of its family.

    python setup.py build_ext --inplace      # or: make build

Environment: CXX, CXXFLAGS and LDFLAGS as usual. MIXSOLVE_PORTABLE=1 leaves out the x86 kernels.
"""

import filecmp
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

KERNELS = ["csrc/cpu/kernel.cpp", "csrc/dense_kernel.cpp"]
CUDA = Path("csrc", "cuda")
SOURCES = sorted(path.as_posix() for path in Path("csrc").glob("**/*.cpp") if path.parent != CUDA)

# No -march=native and no -ffast-math: a build ships to other machines, and sums keep their order.
OPTIMISE = ["-std=c++17", "-O3", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", "-pthread"]
WARN = ["-Wall", "-Wextra", "-Wno-psabi"]

AVX2 = ["-mavx2", "-mfma", "-mf16c", "-mbmi2"]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512", *AVX2]
GCC_FALSE_ALARM = ["-Wno-uninitialized"]  # GCC 12, about what its own AVX-512 header does

# Lowest first, and the link keeps this order: when an inline function of the standard library is left in
# several objects, the linker keeps the first copy, which has to be the one that every processor can run.
KERNEL_ISAS = {"baseline": [], "avx2": AVX2, "avx512": [*AVX512, *GCC_FALSE_ALARM]}

RULES = """\
rule compile
  command = {cxx} -MD -MF $out.d {flags} $isa -c $in -o $out
  depfile = $out.d
  deps = gcc
  description = compiling $out
rule link
  command = {cxx} {link} $in -o $out {ldflags}
  description = linking $out
"""


class BuildWithNinja(build_ext):
    """Compiles the one extension with ninja in build/native-<python>-<platform>/."""

    def build_extension(self, ext: Extension) -> None:
        if os.name == "nt":
            raise SystemExit("mixsolve builds on Linux and macOS; on Windows, use it inside WSL.")
        cxx, ninja = find_compiler(), find_ninja()
        require_python_headers()
        folder = Path("build", f"native-{sys.implementation.cache_tag}-{sysconfig.get_platform()}")
        folder.mkdir(parents=True, exist_ok=True)
        with one_build_at_a_time(folder):
            replace(folder / "build.ninja", write_build_file(cxx, folder).encode())
            if subprocess.run([*ninja, "-f", str(folder / "build.ninja")], check=False).returncode:
                raise SystemExit("mixsolve: the native module did not compile; the message is above.")
            install(folder / "_native.so", Path(self.get_ext_fullpath(ext.name)))

    def copy_extensions_to_source(self) -> None:
        """Put the module beside its Python sources, for editable installs and `--inplace`."""
        for ext in self.extensions:
            name = self.get_ext_filename(ext.name)
            install(Path(self.build_lib, name), Path(name))


class BuildAfresh(build_py):
    """Leaves out of a wheel what an earlier build copied and the sources no longer have."""

    def run(self) -> None:
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


def write_build_file(cxx: list[str], folder: Path) -> str:
    """The text of build.ninja. Our own paths are relative, so that a moved checkout is not rebuilt."""
    import pybind11

    includes = [sysconfig.get_path("include"), sysconfig.get_path("platinclude"), pybind11.get_include()]
    flags = [*OPTIMISE, *WARN, "-Icsrc", *(f"-isystem{path}" for path in dict.fromkeys(includes))]
    isas = dict(KERNEL_ISAS)
    if is_x86_64():
        flags.append("-DMIXSOLVE_HAVE_X86_KERNELS")
    else:
        isas = {"baseline": isas["baseline"]}
    flags += shlex.split(os.environ.get("CXXFLAGS", ""))
    link = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
    ldflags = ["-pthread", *shlex.split(os.environ.get("LDFLAGS", ""))]

    objects = [(source, source, []) for source in SOURCES if source not in KERNELS]
    for isa, isa_flags in isas.items():
        objects += [(kernel, f"{kernel}.{isa}", [f"-DMIXSOLVE_ISA={isa}", *isa_flags]) for kernel in KERNELS]
    lines = [
        f"builddir = {escape(folder)}",
        RULES.format(cxx=join(cxx), flags=join(flags), link=join(link), ldflags=join(ldflags)),
    ]
    outputs = []
    for source, stem, isa_flags in objects:
        outputs.append(escape(folder / f"{stem}.o"))
        lines += [f"build {outputs[-1]}: compile {escape(source)}", f"  isa = {join(isa_flags)}"]
    lines += [f"build {escape(folder / '_native.so')}: link {' '.join(outputs)}", ""]
    return "\n".join(lines)


@contextmanager
def one_build_at_a_time(folder: Path) -> Iterator[None]:
    import fcntl

    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_x86_64() -> bool:
    x86 = platform.machine().lower() in ("x86_64", "amd64") and sys.maxsize > 2**32
    return x86 and os.environ.get("MIXSOLVE_PORTABLE", "0") in ("", "0")


def join(words: list[str]) -> str:
    """A shell command inside a ninja file."""
    return shlex.join(words).replace("$", "$$")


def escape(path: Path | str) -> str:
    """A path inside a ninja file."""
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def replace(path: Path, content: bytes) -> None:
    """Write in one step, and not at all when nothing changed: a process may have the old file mapped."""
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    scratch.write_bytes(content)
    scratch.replace(path)


def install(built: Path, target: Path) -> None:
    if not (target.exists() and filecmp.cmp(built, target, shallow=False)):
        replace(target, built.read_bytes())
        shutil.copymode(built, target)


def find_compiler() -> list[str]:
    if os.environ.get("CXX"):
        return shlex.split(os.environ["CXX"])
    for name in ("g++", "c++", "clang++"):
        if shutil.which(name):
            return [name]
    raise SystemExit(
        "mixsolve has a C++ part, and no C++ compiler was found (g++, c++ or clang++; CXX is not set).\n"
        "Install one, then try again:\n"
        "    Debian, Ubuntu    sudo apt install g++\n"
        "    Fedora            sudo dnf install gcc-c++\n"
        "    macOS             xcode-select --install"
    )


def require_python_headers() -> None:
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if header.exists():
        return
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    raise SystemExit(
        f"mixsolve has a C++ part, and the headers of Python {version} were not found ({header}).\n"
        "Install them, then try again:\n"
        f"    Debian, Ubuntu    sudo apt install python3-dev    (or python{version}-dev)\n"
        "    Fedora            sudo dnf install python3-devel"
    )


def find_ninja() -> list[str]:
    try:
        import ninja
    except ImportError:
        found = shutil.which("ninja")
        if found is None:
            raise SystemExit("mixsolve is built with ninja. Install it: pip install ninja") from None
        return [found]
    return [str(Path(ninja.BIN_DIR) / "ninja")]


setup(
    ext_modules=[Extension("mixsolve._native", sources=SOURCES, language="c++")],
    cmdclass={"build_ext": BuildWithNinja, "build_py": BuildAfresh},
)

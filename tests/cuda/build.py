"""Builds what the tests of the CUDA pass run: the kernels for the CPU, and the PTX that nvcc makes of them.

Builds are kept in build/cuda-tests/ under a digest of the sources, the flags and the compiler, so that a suite that
finds nothing changed compiles nothing.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CUDA, EMULATOR = ROOT / "csrc" / "cuda", ROOT / "tests" / "cuda" / "emulator"
HEADERS = [*sorted((ROOT / "csrc").glob("*.h")), *sorted(CUDA.glob("*.h")), *sorted(EMULATOR.glob("*.h"))]

COMPILE = [
    "-std=c++17",
    "-O2",
    "-g1",
    "-fPIC",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
]
# The kernels alone are watched: every access to memory calls what emulator/memory.cpp defines.
WATCHED = ["-x", "c++", "-fsanitize=thread", "-Wno-unknown-pragmas", "-Wno-tsan"]


class Unavailable(Exception):
    """Says why something cannot be built here."""


def emulated_module() -> Path:
    """The native module `_native_emulated`: the launcher and the kernels of the CUDA pass on the CPU."""
    if platform.machine() not in ("x86_64", "AMD64") or sys.platform != "linux":
        raise Unavailable("the emulator needs Linux on an x86-64 processor")
    compiler = shlex.split(os.environ.get("CXX", "g++"))
    if shutil.which(compiler[0]) is None:
        raise Unavailable(f"{compiler[0]} was not found")
    import pybind11

    includes = [
        f"-I{EMULATOR}",
        f"-isystem{pybind11.get_include()}",
        f"-isystem{sysconfig.get_path('include')}",
    ]
    defines = ["-DMIXSOLVE_EMULATED", "-DMIXSOLVE_MODULE=_native_emulated"]
    launcher = [source for source in sorted(CUDA.glob("*.cpp")) if source.name != "runtime_cuda.cpp"]
    sources = [CUDA / "kernels.cu", *launcher, *sorted(EMULATOR.glob("*.cpp"))]

    def build(folder: Path) -> None:
        def compile_one(source: Path) -> Path:
            out = folder / f"{source.name}.o"
            watched = WATCHED if source.suffix == ".cu" else []
            run([*compiler, *COMPILE, *defines, *includes, *watched, "-c", source, "-o", out])
            return out

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_one, sources))
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        run([*compiler, "-shared", *objects, "-o", folder / f"_native_emulated{suffix}"])

    folder = built("emulated", [*sources, *HEADERS], [*compiler, *COMPILE, *defines, *WATCHED], build)
    [module] = folder.glob("_native_emulated*.so")
    return module


def emulated_variant(kernels: Path, folder: Path) -> Path:
    """`_native_emulated` with other kernels, made in a folder of the caller's."""
    compiler, module = shlex.split(os.environ.get("CXX", "g++")), emulated_module()
    flags = [*COMPILE, "-DMIXSOLVE_EMULATED", f"-I{EMULATOR}", *WATCHED]
    run([*compiler, *flags, "-c", kernels, "-o", folder / "kernels.o"])
    others = [path for path in module.parent.glob("*.o") if path.name != "kernels.cu.o"]
    run([*compiler, "-shared", folder / "kernels.o", *others, "-o", folder / module.name])
    return folder / module.name


def ptx(architecture: str, source: Path = CUDA / "kernels.cu", folder: Path | None = None) -> Path:
    """What nvcc makes of the kernels for a virtual architecture such as ``compute_80``; kept unless in a folder."""
    nvcc = find_nvcc()
    command = [nvcc, "-std=c++17", "-O3", "-lineinfo", f"-arch={architecture}", "-ptx"]

    def build(into: Path) -> None:
        run([*command, source, "-o", into / "kernels.ptx"])

    if folder is None:
        folder = built("ptx", [source, *HEADERS], [*command, version_of(nvcc)], build)
    else:
        build(folder)
    return folder / "kernels.ptx"


def find_nvcc() -> str:
    """The nvcc of this machine: NVCC, on the PATH, or from NVIDIA's wheels."""
    named = os.environ.get("NVCC")
    wheels = Path(sysconfig.get_path("purelib"), "nvidia", "cu13", "bin")
    found = shutil.which(named or "nvcc") or (None if named else shutil.which("nvcc", path=str(wheels)))
    if found is None:
        raise Unavailable(
            f"{named or 'nvcc'} was not found: install the CUDA toolkit 13, or name nvcc by NVCC"
        )
    return found


def version_of(compiler: str) -> str:
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout


def built(kind: str, sources: list[Path], command: list, build) -> Path:
    """The folder that `build` has filled for these sources and this command; filled now if there is none."""
    digest = hashlib.sha256(repr([str(word) for word in command]).encode())
    for source in sources:
        digest.update(source.name.encode() + source.read_bytes())
    folder = ROOT / "build" / "cuda-tests" / f"{kind}-{digest.hexdigest()[:16]}"
    if not folder.exists():
        scratch = folder.with_name(f"{folder.name}.{os.getpid()}")
        scratch.mkdir(parents=True)
        build(scratch)
        try:
            scratch.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(scratch)
    return folder


def run(command: list) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(map(str, command))}\n{done.stdout}{done.stderr}")

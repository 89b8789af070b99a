"""Builds the native modules `mixsolve._native` and `mixsolve._native_cuda`; for the rest see pyproject.toml.

The sources under csrc/ are compiled by ninja from a build file written here: in parallel, and again only
where a source, a header or a flag changed. What is in KERNELS is compiled once per instruction set and chosen
at run time, so that one build serves every processor of its family.

    python setup.py build_ext --inplace      # or: make build

Environment: CXX, CXXFLAGS and LDFLAGS as usual. MIXSOLVE_PORTABLE=1 leaves out the x86 kernels.
MIXSOLVE_CUDA=auto builds the CUDA module if nvcc is found (NVCC, PATH, CUDA_HOME, or NVIDIA's wheels); `on` insists,
`off` leaves it out. MIXSOLVE_CUDA_ARCHITECTURES="80 90" chooses what it is compiled for: all of
75 80 90 100 120 by default, 80 alone in place.
"""

import filecmp
import os
import platform
import re
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

KERNELS = [f"csrc/cpu/{name}.cpp" for name in ("kernel", "set_kernel", "loss_gradient_kernel")]
KERNELS += ["csrc/dense_kernel.cpp", "csrc/near_best_kernel.cpp"]
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


CUDA_ARCHITECTURES, CUDA_ARCHITECTURE_IN_PLACE = "75 80 90 100 120", "80"
CUDA_SOURCES = sorted(path.as_posix() for suffix in ("cpp", "cu") for path in CUDA.glob(f"*.{suffix}"))
OLDEST_NVCC = (12, 8)  # knows all those architectures

# Registers that do not suffice are an error: what is spilt into memory is read again for every loss.
NVCC = ["-std=c++17", "-O3", "-lineinfo", "--compress-mode=size", "-Icsrc"]
NVCC += ["-Xptxas", "--warn-on-spills,--warning-as-error"]
NVCC_RULES = """\
rule nvcc
  command = {nvcc} -MD -MF $out.d {flags} -c $in -o $out
  depfile = $out.d
  deps = gcc
  description = compiling $out
rule nvcc_link
  command = {nvcc} -shared -cudart static {libraries} $in -o $out
  description = linking $out
"""


class BuildWithNinja(build_ext):
    """Compiles the extensions with ninja in build/native-<python>-<platform>/."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.in_place = bool(self.inplace or self.editable_mode)  # `inplace` is put aside during the build

    def build_extension(self, ext: Extension) -> None:
        if os.name == "nt":
            raise SystemExit("mixsolve builds on Linux and macOS; on Windows, use it inside WSL.")
        cxx, ninja = find_compiler(), find_ninja()
        require_python_headers()
        folder = Path("build", f"native-{sys.implementation.cache_tag}-{sysconfig.get_platform()}")
        folder.mkdir(parents=True, exist_ok=True)
        with one_build_at_a_time(folder):
            build_file = write_build_file(cxx, folder) + write_cuda_build_file(cxx, folder, self.in_place)
            replace(folder / "build.ninja", build_file.encode())
            if subprocess.run([*ninja, "-f", str(folder / "build.ninja")], check=False).returncode:
                raise SystemExit("mixsolve: the native module did not compile; the message is above.")
            module = ext.name.rpartition(".")[2]
            install(folder / f"{module}.so", Path(self.get_ext_fullpath(ext.name)))

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


def write_cuda_build_file(cxx: list[str], folder: Path, in_place: bool) -> str:
    """The part of build.ninja that nvcc works off: it hands what is plain C++ to the C++ compiler."""
    import pybind11

    nvcc = find_nvcc()
    if nvcc is None:
        return ""
    wanted = os.environ.get("MIXSOLVE_CUDA_ARCHITECTURES") or (
        CUDA_ARCHITECTURE_IN_PLACE if in_place else CUDA_ARCHITECTURES
    )
    architectures = wanted.split()
    targets = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in architectures]
    newest = architectures[-1]
    targets.append(f"-gencode=arch=compute_{newest},code=compute_{newest}")
    includes = [sysconfig.get_path("include"), sysconfig.get_path("platinclude"), pybind11.get_include()]
    named = " ".join(f"sm_{number}" for number in architectures)
    flags = [*NVCC, *targets, *(f"-isystem={path}" for path in dict.fromkeys(includes))]
    flags += ["-Xcompiler", "-fPIC,-fvisibility=hidden,-Wall", "-DMIXSOLVE_MODULE=_native_cuda"]
    flags.append(f'-DMIXSOLVE_ARCHITECTURES="{named}"')
    command = [nvcc, "-ccbin", cxx[-1]]
    # Where NVIDIA's wheels have the runtime, and their nvcc does not look.
    libraries = f"-L{Path(nvcc).resolve().parents[1] / 'lib'}"
    lines = [NVCC_RULES.format(nvcc=join(command), flags=join(flags), libraries=join([libraries]))]
    outputs = []
    for source in CUDA_SOURCES:
        outputs.append(escape(folder / f"{source}.o"))
        lines.append(f"build {outputs[-1]}: nvcc {escape(source)}")
    lines += [f"build {escape(folder / '_native_cuda.so')}: nvcc_link {' '.join(outputs)}", ""]
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


def find_nvcc() -> str | None:
    """The nvcc to build the CUDA module with, or None to leave the module out."""
    mode = os.environ.get("MIXSOLVE_CUDA", "auto").lower() or "auto"
    if mode not in ("auto", "on", "off"):
        raise SystemExit(f"MIXSOLVE_CUDA must be auto, on or off; got {mode!r}")
    if mode == "off" or os.name == "nt" or sys.platform == "darwin":
        return None
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    homes += [Path(sysconfig.get_path("purelib"), "nvidia", "cu13")]
    named = [
        os.environ.get("NVCC"),
        shutil.which("nvcc"),
        *(Path(home, "bin", "nvcc") for home in homes if home),
    ]
    found = [str(nvcc) for nvcc in named if nvcc and Path(nvcc).exists()]
    if found and nvcc_version(found[0]) >= OLDEST_NVCC:
        return found[0]
    if mode == "on":
        what = (
            f"{found[0]} is older than {'.'.join(map(str, OLDEST_NVCC))}" if found else "nvcc was not found"
        )
        raise SystemExit(
            f"MIXSOLVE_CUDA=on, but {what}.\nInstall the CUDA toolkit 13, or name its nvcc: NVCC=/path/to/nvcc"
        )
    return None


def nvcc_version(nvcc: str) -> tuple[int, ...]:
    printed = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
    release = re.search(r"release (\d+)\.(\d+)", printed)
    return tuple(map(int, release.groups())) if release else (0, 0)


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


extensions = [Extension("mixsolve._native", sources=SOURCES, language="c++")]
if find_nvcc() is not None:
    extensions.append(Extension("mixsolve._native_cuda", sources=CUDA_SOURCES, language="c++"))

setup(ext_modules=extensions, cmdclass={"build_ext": BuildWithNinja, "build_py": BuildAfresh})

"""Compiles the CPU kernels while the package is built or installed, where there is a C compiler.

Without one, and wherever compiling fails, the package is complete all the same: torch's own kernels
take over (`sightline doctor` says so). `python hatch_build.py` compiles in place. CC and CFLAGS are
obeyed; SIGHTLINE_KERNELS=0 leaves the kernels out, SIGHTLINE_KERNELS=1 makes a failure an error.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # compiled in place
    BuildHookInterface = object

FOLDER = Path(__file__).resolve().parent / "src" / "sightline" / "models" / "cpu"
# The last flags win, so these stand behind CFLAGS: numbers that are not finite have to stay so.
FLAGS = (
    "-std=gnu11", "-O3", "-fPIC", "-shared", "-fno-fast-math", "-ffp-contract=fast",
    "-fno-math-errno",
)  # fmt: skip
# What the processor must have for each library.
AVX512 = (
    "-DLANES=16", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma",
    "-mprefer-vector-width=512",
)  # fmt: skip
WIDTHS = {
    "avx2": ("-DLANES=8", "-mavx2", "-mfma"),
    "avx512": AVX512,
    "avx512vnni": (*AVX512, "-mavx512vnni"),
    "avx512bf16": (*AVX512, "-mavx512vnni", "-mavx512bf16"),
}
# What compilers of this decade may not know; such processors run the others as well.
NEW = {"avx512bf16"}


def compile_kernels() -> list[Path]:
    """Compile one library for each kind of processor, and return their paths.

    One for instructions that the compiler does not know is left out. Raises OSError, ValueError or
    subprocess.CalledProcessError if the compiler is missing, named in a way that cannot be read, or
    fails.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return []
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        raise FileNotFoundError("there is no C compiler (cc, gcc or clang)")
    sources = b"".join(path.read_bytes() for path in sorted(FOLDER.glob("*.[ch]")))
    # `compiled.py` compares the sum with that of the sources that it finds.
    named = [*shlex.split(compiler), *shlex.split(os.environ.get("CFLAGS", ""))]
    command = [*named, *FLAGS, f"-DSOURCES={zlib.crc32(sources)}u"]
    with ThreadPoolExecutor(len(WIDTHS)) as pool:
        made = {
            width: pool.submit(_compile, [*command, *flags], FOLDER / f"kernels_{width}.so")
            for width, flags in WIDTHS.items()
        }
    # `result` raises what a thread raised.
    return [
        library.result()
        for width, library in made.items()
        if width not in NEW or not isinstance(library.exception(), subprocess.CalledProcessError)
    ]


def _compile(command: list[str], library: Path) -> Path:
    # Under another name first: a running server has the old file mapped.
    part = library.with_suffix(f".{os.getpid()}.part")
    sources = map(str, sorted(FOLDER.glob("*.c")))
    try:
        subprocess.run([*command, "-o", str(part), *sources, "-lm"], check=True)
        part.replace(library)
    finally:
        part.unlink(missing_ok=True)
    return library


def _current_libraries() -> list[Path] | None:
    """Return the libraries if all are there and none is older than what it is made of."""
    libraries = sorted(FOLDER.glob("kernels_*.so"))
    if {library.stem for library in libraries} != {f"kernels_{width}" for width in WIDTHS}:
        return None
    sources = (Path(__file__), *FOLDER.glob("*.[ch]"))
    newest = max(path.stat().st_mtime for path in sources)
    is_current = all(library.stat().st_mtime > newest for library in libraries)
    return libraries if is_current else None


def _compile_if_possible() -> list[Path]:
    wanted = os.environ.get("SIGHTLINE_KERNELS", "")
    if wanted == "0":
        return []
    # Installers ask twice: once for what the package is called, once for the package.
    if (libraries := _current_libraries()) is not None:
        return libraries
    try:
        return compile_kernels()
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        if wanted == "1":
            raise
        print(f"sightline: CPU kernels are left out, torch's are used: {error}", file=sys.stderr)
        return []


class CompileKernels(BuildHookInterface):  # type: ignore[misc]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        libraries = _compile_if_possible() if self.target_name == "wheel" else []
        if libraries:
            # Any Python, this system: they are loaded with ctypes.
            system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{system}"
            build_data["artifacts"] += [str(each.relative_to(self.root)) for each in libraries]


if __name__ == "__main__":
    print(*compile_kernels(), sep="\n")

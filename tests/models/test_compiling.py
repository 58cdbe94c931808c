"""What `hatch_build.py` does with compilers of all kinds; none of them compiles anything here."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "hatch_build.py"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="kernels are compiled for Linux alone"
)


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with a folder of its own that holds one source."""
    spec = importlib.util.spec_from_file_location("hatch_build", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (tmp_path / "kernel.c").write_text("int nothing;")
    return module


def a_compiler(folder: Path, *refused: str) -> str:
    """One that makes an empty library, unless it is given what it does not know."""
    compiler = folder / "cc.py"
    compiler.write_text(
        f"import sys\n"
        f"sys.exit(1) if {set(refused)!r} & set(sys.argv) else None\n"
        f"open(sys.argv[sys.argv.index('-o') + 1], 'w').close()\n"
    )
    return f"{sys.executable} {compiler}"


def names(libraries: list[Path]) -> list[str]:
    return sorted(library.stem.removeprefix("kernels_") for library in libraries)


def test_each_kind_of_processor_gets_a_library(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", a_compiler(tmp_path))
    made = build.compile_kernels()
    assert names(made) == ["avx2", "avx512", "avx512bf16", "avx512vnni"]
    assert all(library.exists() for library in made)


def test_an_old_compiler_leaves_out_what_it_does_not_know(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", a_compiler(tmp_path, "-mavx512bf16"))
    made = build.compile_kernels()
    assert names(made) == ["avx2", "avx512", "avx512vnni"]
    assert not list(tmp_path.glob("*.part"))


def test_a_compiler_that_fails_at_more_is_an_error(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", a_compiler(tmp_path, "-mavx2"))
    with pytest.raises(subprocess.CalledProcessError):
        build.compile_kernels()

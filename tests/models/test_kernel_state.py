"""Which kernels a processor is given: what is found, and what is said of it."""

import ctypes
from pathlib import Path

import pytest

from sightline.models.cpu import compiled, state
from sightline.models.cpu.compiled import kernels
from sightline.models.cpu.state import KernelState, kernel_state

pytestmark = pytest.mark.engine

if_compiled = pytest.mark.skipif(kernels() is None, reason="our own kernels were not compiled")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the libraries of a processor with AVX2, none compiled yet."""
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    monkeypatch.setattr("sys.platform", "linux")
    pretend(monkeypatch, "AVX2")
    return tmp_path


def pretend(monkeypatch: pytest.MonkeyPatch, capability: str) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)


@if_compiled
def test_what_was_compiled_and_computes_rightly_is_used() -> None:
    found = kernel_state()
    assert (found.state, found.problem) == ("ours", "")
    assert str(found) == f"our own ({found.kind})"
    assert Path(compiled.__file__).with_name(f"kernels_{found.kind}.so").exists()


def test_what_was_not_compiled_is_said_so(folder: Path) -> None:
    found = kernel_state()
    assert found == KernelState(state="not_compiled", kind="avx2")
    assert str(found) == "torch's (ours were not compiled)"


def test_a_library_that_cannot_be_loaded_tells_why(folder: Path) -> None:
    (folder / "kernels_avx2.so").write_bytes(b"not a library")
    found = kernel_state()
    assert (found.state, found.kind) == ("unusable", "avx2")
    assert "kernels_avx2.so" in found.problem
    assert found.problem in str(found)


@if_compiled
def test_a_torch_without_that_openmp_tells_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing:
        pass

    real = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda name: real(name) if name else Nothing())
    found = kernel_state()
    assert found.state == "unusable"
    assert "GOMP_parallel" in found.problem


@if_compiled
@pytest.mark.parametrize("what", ["can_stream", "can_attend"])
def test_kernels_that_compute_something_else_are_unusable(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, what, lambda *dtype: False)
    assert kernel_state().problem == "they compute something else"


@pytest.mark.parametrize(
    ("system", "capability"), [("darwin", "AVX2"), ("linux", "DEFAULT"), ("linux", "SVE256")]
)
def test_other_systems_and_processors_have_none(
    system: str, capability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", system)
    pretend(monkeypatch, capability)
    found = kernel_state()
    assert found == KernelState(state="foreign")
    assert str(found) == "torch's (there are none of ours for this machine)"


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        (set(), "avx512"),
        ({"avx512_vnni"}, "avx512vnni"),
        ({"avx512_bf16"}, "avx512"),
        ({"avx512_vnni", "avx512_bf16"}, "avx512bf16"),
    ],
    ids=["neither", "bytes", "bfloat16", "both"],
)
def test_products_of_bytes_and_of_bfloat16_have_libraries_of_their_own(
    flags: set[str], kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, "AVX512")
    monkeypatch.setattr(compiled, "cpu_flags", lambda: flags)
    assert kernel_state().kind == kind


def test_without_the_newest_library_the_one_before_it_serves(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the compiler was too old for it."""
    pretend(monkeypatch, "AVX512")
    monkeypatch.setattr(compiled, "cpu_flags", lambda: {"avx512_vnni", "avx512_bf16"})
    (folder / "kernels_avx512vnni.so").write_bytes(b"")
    assert kernel_state().kind == "avx512vnni"
    (folder / "kernels_avx512bf16.so").write_bytes(b"")
    assert kernel_state().kind == "avx512bf16"

"""Our own kernel: right for every shape, the same bits for all vectors, threads and cuts."""

import ctypes
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from products import all_expected, all_products
from torch import Tensor
from torch_threads import torch_threads

from sightline.models.cpu import compiled
from sightline.models.cpu.compiled import Kernels, kernels
from sightline.models.cpu.streamed_weight import StreamedWeight
from sightline.models.scratch import Scratch

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(kernels() is None, reason="our own kernel was not compiled"),
]

LIBRARIES = sorted(Path(compiled.__file__).parent.glob("kernels_*.so"))


@pytest.fixture(params=LIBRARIES, ids=lambda path: path.stem)
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kernels:
    """One of the libraries that this processor can run: AVX-512 runs AVX2 as well."""
    here = kernels()
    built = Kernels(request.param)
    assert here is not None
    if built.panel_width > here.panel_width:
        pytest.skip("this processor has no vectors of that width")
    monkeypatch.setattr("sightline.models.cpu.streamed_weight.kernels", lambda: built)
    return built


def draw(rows: int, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(rows * 1009 + inputs * 31 + outputs)
    weight = torch.randn(outputs, inputs, generator=random) / inputs**0.5
    return torch.randn(rows, inputs, generator=random), weight.bfloat16()


@given(
    rows=st.integers(1, 40) | st.sampled_from([100, 284]),
    inputs=st.integers(1, 70) | st.sampled_from([896, 1024, 1025, 2100]),
    outputs=st.integers(1, 140) | st.sampled_from([512, 1000]),
    threads=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_products_are_right_for_every_shape_and_number_of_threads(
    rows: int, inputs: int, outputs: int, threads: int
) -> None:
    x, weight = draw(rows, inputs, outputs)
    bias, residual = torch.randn(outputs), torch.randn(rows, outputs)
    exact = x.double() @ weight.double().T
    with torch_threads(threads):
        packed = StreamedWeight(weight)
        found = all_products(packed, x, bias, residual)
        gated = StreamedWeight(torch.cat((weight, weight.flip(0))), is_gated=True).gated(x)
    expected = all_expected(exact, bias, residual)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, atol=2e-5, rtol=2e-5)
    gate = F.silu(exact) * exact.flip(1)
    torch.testing.assert_close(gated.double(), gate, atol=2e-5, rtol=2e-5)


def test_every_width_of_vectors_gives_the_same_bits(
    width: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, weight = draw(29, 1500, 200)
    found = StreamedWeight(weight).apply(x, None)
    assert StreamedWeight(weight)._products is width.products
    monkeypatch.setattr("sightline.models.cpu.streamed_weight.kernels", kernels)
    assert torch.equal(found, StreamedWeight(weight).apply(x, None))


RANGE = torch.cat((torch.linspace(-120, 120, 40001), torch.tensor([0.0, -0.0, 1e-30, -1e-30])))


@pytest.mark.usefixtures("width")
def test_activations_are_right_over_the_whole_range() -> None:
    one = torch.eye(1).repeat(32, 1).bfloat16()
    packed = StreamedWeight(one)
    silu, gelu = (packed.apply(RANGE[:, None], None, then)[:, 0] for then in ("swish", "gelu"))
    exact = RANGE.double()
    torch.testing.assert_close(silu.double(), F.silu(exact), atol=1e-36, rtol=3e-7)
    torch.testing.assert_close(gelu.double(), F.gelu(exact), atol=2e-7, rtol=2e-7)
    both = torch.stack((RANGE, torch.ones_like(RANGE)), dim=1)
    packed = StreamedWeight(torch.eye(2).repeat_interleave(16, 0).bfloat16(), is_gated=True)
    torch.testing.assert_close(packed.gated(both)[:, 0], silu, atol=0, rtol=0)


@pytest.mark.usefixtures("width")
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_not_finite_stay_so_and_in_their_row(bad: float) -> None:
    x, weight = draw(20, 96, 64)
    packed, gated = StreamedWeight(weight), StreamedWeight(weight, is_gated=True)
    healthy = packed.apply(x, None), gated.gated(x)
    x[7, 3] = bad
    for found, before in zip((packed.apply(x, None), gated.gated(x)), healthy, strict=True):
        assert not found[7].isfinite().any()
        for others in (slice(0, 7), slice(8, 20)):
            assert torch.equal(found[others], before[others])


def test_rows_without_a_batch_and_with_two_are_taken() -> None:
    x, weight = draw(6, 48, 40)
    packed = StreamedWeight(weight)
    assert torch.equal(packed.apply(x.view(2, 3, 48), None), packed.apply(x, None).view(2, 3, 40))
    assert torch.equal(packed.apply(x[0], None), packed.apply(x, None)[0])
    assert torch.equal(packed.apply(x.t().contiguous().t(), None), packed.apply(x, None))
    assert packed.apply(x[:0], None).shape == (0, 40)
    narrow = packed.apply(x.bfloat16(), None)
    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow, packed.apply(x, None).bfloat16(), atol=0.1, rtol=0.1)


def test_rows_and_residuals_that_do_not_fit_are_refused_or_expanded() -> None:
    x, weight = draw(9, 48, 64)
    packed = StreamedWeight(weight)
    for unfit in (x[:, :24], x.repeat(1, 2), x.to("meta")):
        with pytest.raises(ValueError, match="rows of 48 on the CPU"):
            packed.apply(unfit, None)
    plain = packed.apply(x, None)
    for residual in (torch.randn(1, 64), torch.randn(9, 1), torch.randn(1)):
        assert torch.equal(packed.plus(x, None, residual), plain + residual)
    for unfit in (torch.randn(2, 64), torch.randn(3, 9, 64), torch.randn(9, 32)):
        with pytest.raises(RuntimeError, match="expand"):
            packed.plus(x, None, unfit)


def test_views_are_read_as_what_they_are() -> None:
    x, weight = draw(9, 48, 64)
    packed, residual = StreamedWeight(weight), torch.randn(9, 64)
    expected = packed.plus(x, None, residual)
    offset = torch.zeros(9 * 48 + 5)[5:].view(9, 48).copy_(x)
    beside = torch.cat((residual, residual), dim=1)[:, 64:]
    assert torch.equal(packed.plus(offset, None, beside), expected)
    same = x[:1].expand(9, 48)
    assert torch.equal(packed.apply(same, None), packed.apply(x[:1], None).expand(9, 64))
    assert torch.equal(StreamedWeight(weight.t().contiguous().t()).apply(x, residual[0]),
                       packed.apply(x, residual[0]))  # fmt: skip


def test_the_default_number_format_is_not_that_of_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sightline.models.cpu.streamed_weight._scratch", Scratch())
    x, weight = draw(9, 48, 64)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        packed = StreamedWeight(weight)
        assert packed.apply(x, None).dtype == torch.float32
    finally:
        torch.set_default_dtype(before)


@pytest.mark.usefixtures("width")
def test_gelu_is_nothing_for_numbers_far_below_zero() -> None:
    x = torch.cat((torch.linspace(-12, 12, 2001), torch.tensor([-1e2, -1e4, -1e20, 1e30])))
    packed = StreamedWeight(torch.eye(1).repeat_interleave(32, 0).bfloat16())
    found = packed.apply(x[:, None], None, "gelu")[:, 0]
    torch.testing.assert_close(found, F.gelu(x.double()).float(), atol=1e-7, rtol=3e-6)


def test_a_library_that_cannot_be_loaded_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for path in LIBRARIES:
        (tmp_path / path.name).write_bytes(b"not a library")
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    kernels.cache_clear()
    try:
        assert kernels() is None
        assert "torch's take over" in caplog.text
        for path in LIBRARIES:
            (tmp_path / path.name).unlink()
        kernels.cache_clear()
        assert kernels() is None
    finally:
        monkeypatch.undo()
        kernels.cache_clear()
    assert kernels() is not None


def test_a_library_of_other_sources_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiled, "sum_of_sources", lambda: 0)
    kernels.cache_clear()
    try:
        assert kernels() is None
        assert "compiled from other sources" in caplog.text
    finally:
        monkeypatch.undo()
        kernels.cache_clear()


def test_a_torch_without_that_openmp_does_without_the_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Nothing:
        pass

    real = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda name: real(name) if name else Nothing())
    kernels.cache_clear()
    try:
        assert kernels() is None
    finally:
        monkeypatch.undo()
        kernels.cache_clear()


@pytest.mark.parametrize(("capability", "panel"), [("AVX2", 16), ("DEFAULT", None)])
def test_a_processor_that_can_do_less_gets_narrower_vectors_or_none(
    capability: str, panel: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    kernels.cache_clear()
    try:
        found = kernels()
    finally:
        kernels.cache_clear()
    assert (found and found.panel_width) == panel

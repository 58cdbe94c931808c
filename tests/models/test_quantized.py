"""Matrices in 8 and 4 bits: how far they are from what they stand for, and products with them."""

import math
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch_threads import torch_threads

from sightline.models import quantized_kernels
from sightline.models.quantization import GROUP_SIZE, Scheme
from sightline.models.quantized import QuantizedWeight, quantize, stored_tensors
from sightline.models.quantized_kernels import (
    FASTEST_FIRST,
    DequantizingKernel,
    IntegerKernel,
    Kernel,
    StreamedKernel,
    choose_kernel,
    keeps_its_promise,
)

pytestmark = pytest.mark.engine

SCHEMES: tuple[Scheme, ...] = ("int8", "int4")
CPU = torch.device("cpu")
WHOLE_SUMS = (StreamedKernel, IntegerKernel)


@pytest.fixture(
    params=[(StreamedKernel, "int8"), (IntegerKernel, "int8"), (StreamedKernel, "int4")],
    ids=lambda param: f"{param[0].__name__}-{param[1]}",
)
def whole_sums(request: pytest.FixtureRequest) -> tuple[type[Kernel], Scheme]:
    kind, scheme = request.param
    weight = quantize(draw(1, 32, 64), scheme)
    if not kind.suits(weight) or not keeps_its_promise(kind, scheme, CPU):
        pytest.skip("no such products on this processor")
    return kind, scheme


@pytest.fixture(params=SCHEMES)
def streamed(request: pytest.FixtureRequest) -> Scheme:
    scheme: Scheme = request.param
    if not StreamedKernel.suits(quantize(draw(1, 32, 64), scheme)):
        pytest.skip("no int8 products on this processor")
    return scheme


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@st.composite
def matrices(draw_from: st.DrawFn) -> Tensor:
    """Of any size, scale and offset, now and then with one weight far off."""
    seed = draw_from(st.integers(0, 2**32))
    shape = draw_from(st.integers(1, 40)), GROUP_SIZE * draw_from(st.integers(1, 8))
    scale = 10.0 ** draw_from(st.integers(-6, 4))
    matrix = (draw(seed, *shape) + draw_from(st.sampled_from([0.0, 3.0]))) * scale
    if draw_from(st.booleans()):
        matrix[0, 0] = 50 * scale
    return matrix.to(draw_from(st.sampled_from([torch.float32, torch.bfloat16])))


@given(matrix=matrices())
@settings(max_examples=60, deadline=None)
def test_int8_is_within_half_a_step_of_every_weight(matrix: Tensor) -> None:
    weight = quantize(matrix, "int8")
    error = (weight.dequantized(torch.float32) - matrix.float()).abs()
    assert (error <= 0.501 * weight.scales[:, None]).all()
    assert (weight.scales <= matrix.float().abs().amax(1) / 127 + 1e-12).all()


@given(matrix=matrices())
@settings(max_examples=60, deadline=None)
def test_int4_is_no_worse_than_half_a_step_of_each_group(matrix: Tensor) -> None:
    groups = matrix.float().view(len(matrix), -1, GROUP_SIZE)
    span = groups.amax(2) - groups.amin(2)
    found = quantize(matrix, "int4").dequantized(torch.float32).view_as(groups)
    # Step and zero are bfloat16, of 8 bits: their own rounding is part of the bound.
    bound = span / 30 + (span + groups.abs().amax(2)) * 2**-8
    assert ((found - groups).square().mean(2).sqrt() <= bound).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_numbers_can_say_exactly_stays_exact(scheme: Scheme) -> None:
    exact = torch.arange(-8.0, 8.0).repeat(3, 4)
    exact[:, -1] = 127 / 16 if scheme == "int8" else 7
    found = quantize(exact, scheme).dequantized(torch.float32)
    if scheme == "int4":
        assert torch.equal(found, exact)
    zeros = torch.zeros(2, 64)
    assert quantize(zeros, scheme).dequantized(torch.float32).abs().max() < 1e-20


@pytest.mark.parametrize("scheme", SCHEMES)
def test_cutting_the_work_into_pieces_changes_nothing(
    scheme: Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = draw(1, 50, 64)
    whole = quantize(matrix, scheme)
    monkeypatch.setattr("sightline.models.quantized._PIECE_ELEMENTS", 64 * 7)
    pieces = quantize(matrix, scheme)
    assert torch.equal(whole.values, pieces.values)
    assert torch.equal(whole.scales, pieces.scales)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_device_that_has_to_be_launched_gets_large_pieces(scheme: Scheme) -> None:
    """A layer of 8 million numbers in at most a few hundred launches, not in thousands."""

    class Launches(TorchDispatchMode):
        number = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            self.number += 1
            return func(*args, **(kwargs or {}))

    with Launches() as launches:
        quantize(torch.empty(2048, 4096, device="meta"), scheme)
    assert launches.number < 300


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_weight_that_is_no_number_does_not_become_one(scheme: Scheme, bad: float) -> None:
    matrix = draw(1, 16, 64)
    matrix[3, 5] = bad
    kernel = choose_kernel(quantize(matrix, scheme))
    found = kernel(draw(2, 4, 64), None)
    assert not torch.isfinite(found[:, 3]).any()
    assert torch.isfinite(found[:, 4:]).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_bytes_are_those_that_are_told_without_torch(scheme: Scheme) -> None:
    from sightline.models.quantization import quantized_bytes

    weight = quantize(draw(1, 24, 96), scheme)
    stored = stored_tensors("w", (24, 96), scheme)
    assert weight.size_bytes == quantized_bytes((24, 96), scheme)
    assert weight.size_bytes == sum(tensor.num_bytes for tensor in stored.values())
    assert (weight.num_outputs, weight.num_inputs, weight.scheme) == (24, 96, scheme)


def usable(weight: QuantizedWeight) -> list[type[Kernel]]:
    return [
        kernel
        for kernel in (*FASTEST_FIRST, DequantizingKernel)
        if kernel.suits(weight)
        and (kernel is DequantizingKernel or keeps_its_promise(kernel, weight.scheme, CPU))
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("shape", [(48, 64), (100, 96), (7, 160)], ids=str)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_kernel_computes_what_the_plain_twin_does_in_any_company(
    scheme: Scheme, shape: tuple[int, int], dtype: torch.dtype
) -> None:
    weight = quantize(draw(1, *shape), scheme)
    x, bias = draw(2, 40, shape[1]).to(dtype), draw(3, shape[0]).to(dtype)
    expected = x.double() @ weight.dequantized(torch.float64).T + bias.double()
    for made in usable(weight):
        kernel = made(weight)
        found = kernel(x, bias)
        assert found.dtype == dtype
        error = (found.double() - expected).norm() / expected.norm()
        assert error < (1e-4 if made in (*WHOLE_SUMS, DequantizingKernel) else 5e-3) + (
            0.0 if dtype == torch.float32 else 5e-3
        )
        for rows in (1, 2, 3, 17):
            assert torch.equal(kernel(x[:rows], bias), found[:rows]), made
        assert torch.equal(kernel(x.view(5, 8, -1), bias), found.view(5, 8, -1)), made


@given(seed=st.integers(0, 2**32), scale=st.integers(-30, 30), spike=st.integers(0, 3))
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_activations_in_16_bits_cost_next_to_nothing(
    whole_sums: tuple[type[Kernel], Scheme], seed: int, scale: int, spike: int
) -> None:
    """Also where one activation is a thousand times the others, as large models have them."""
    kind, scheme = whole_sums
    weight = quantize(draw(seed, 32, 128), scheme)
    x = draw(seed + 1, 9, 128) * 2.0**scale
    x[:, 7] *= 10.0**spike
    expected = x.double() @ weight.dequantized(torch.float64).T
    found = kind(weight)(x, None)
    step = x.double().abs().amax(1, keepdim=True) / 32512
    size = weight.dequantized(torch.float64).norm(dim=1)
    # Rounding errors of at most half a step each add up like noise: six deviations.
    assert ((found.double() - expected).abs() <= 6 * 0.3 * step * size + 1e-6 * step).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_row_that_is_not_finite_spoils_itself_alone(scheme: Scheme) -> None:
    kernel = choose_kernel(quantize(draw(1, 32, 64), scheme))
    x = draw(2, 6, 64)
    clean = kernel(x, None)
    x[2, 9], x[4, 1] = math.nan, math.inf
    found = kernel(x, None)
    for row in range(6):
        if row in (2, 4):
            assert not torch.isfinite(found[row]).all()
        else:
            assert torch.equal(found[row], clean[row])


def test_a_kernel_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the check at start: sums that depend on company, and sums that are off."""
    sums = IntegerKernel._sums
    monkeypatch.setattr(quantized_kernels, "FASTEST_FIRST", (IntegerKernel, *FASTEST_FIRST[2:]))
    wrongs = (
        lambda out, _: out * (1 + 1e-5 * out.shape[1]),
        lambda out, scales: out.minimum(40_000 * scales),
    )
    for wrong in wrongs:
        monkeypatch.setattr(
            IntegerKernel, "_sums", lambda self, x, w=wrong: w(sums(self, x), self._scales)
        )
        keeps_its_promise.cache_clear()
        weight = quantize(draw(1, 32, 64), "int8")
        assert not isinstance(choose_kernel(weight), IntegerKernel)
    monkeypatch.undo()
    keeps_its_promise.cache_clear()


def test_rows_of_any_size_are_split_and_bad_ones_show(
    whole_sums: tuple[type[Kernel], Scheme],
) -> None:
    kind, scheme = whole_sums
    kernel = kind(quantize(draw(1, 32, 64), scheme))
    x = draw(2, 6, 64)
    plain = kernel(x, None)
    x[0], x[1, 3], x[2, 5] = 0.0, torch.nan, torch.inf
    x[3] *= 2.0**-60
    x[4] *= 2.0**90
    found = kernel(x, None)
    assert (found[0] == 0).all()
    assert not found[1:3].isfinite().any()
    assert torch.equal(found[3] * 2.0**60, plain[3])
    assert torch.equal(found[4] * 2.0**-90, plain[4])
    assert torch.equal(found[5], plain[5])


def test_our_sums_are_those_of_the_library_for_every_shape_and_number_of_threads() -> None:
    """But for a row's number now and then that lies between two whole ones."""
    for kind in WHOLE_SUMS:
        if not kind.suits(quantize(draw(1, 32, 64), "int8")):
            pytest.skip("no such int8 products on this processor")
    shapes = [(1, 4, 16), (3, 70, 33), (11, 130, 48), (14, 896, 160), (40, 4864, 96)]
    for threads, (rows, inputs, outputs) in product((1, 3), shapes):
        weight = quantize(draw(outputs, outputs, inputs), "int8")
        x = draw(rows, rows, inputs)
        with torch_threads(threads):
            ours, library = (kind(weight)(x, None) for kind in WHOLE_SUMS)
        assert (ours - library).norm() < 2e-5 * library.norm()


def test_sums_of_groups_are_those_of_rounded_rows_for_every_shape_and_number_of_threads() -> None:
    if not StreamedKernel.suits(quantize(draw(1, 32, 64), "int4")):
        pytest.skip("no int8 products on this processor")
    shapes = [(1, 32, 16), (3, 96, 33), (11, 160, 48), (14, 896, 160), (40, 4864, 96)]
    for threads, (rows, inputs, outputs) in product((1, 3), shapes):
        weight = quantize(draw(outputs, outputs, inputs), "int4")
        x = draw(rows, rows, inputs)
        factor = 32512 / x.abs().amax(1, keepdim=True)
        rounded = (x * factor).round().double() / factor.double()
        expected = rounded @ weight.dequantized(torch.float64).T
        with torch_threads(threads):
            found = StreamedKernel(weight)(x, None)
        assert (found - expected).norm() < 4e-6 * expected.norm()


def test_a_row_next_to_nothing_is_nothing(streamed: Scheme) -> None:
    weight = quantize(draw(1, 32, 64), streamed)
    assert (StreamedKernel(weight)(torch.full((1, 64), 1e-42), None).abs() < 1e-30).all()


def test_sums_of_the_largest_numbers_fit() -> None:
    if not StreamedKernel.suits(quantize(draw(1, 32, 64), "int8")):
        pytest.skip("no such int8 products on this processor")
    for num_inputs, suits in ((2**16, True), (2**16 + 1, False)):
        values = torch.full((16, num_inputs), 127, dtype=torch.int8)
        values[8:] = -128
        weight = QuantizedWeight(values, torch.ones(16))
        assert StreamedKernel.suits(weight) == suits
        if suits:
            x = torch.ones(2, num_inputs)
            x[1] = -1.0
            expected = num_inputs * torch.tensor([127.0] * 8 + [-128.0] * 8)
            found = StreamedKernel(weight)(x, None)
            torch.testing.assert_close(found, torch.stack((expected, -expected)))


def test_sums_of_the_largest_groups_fit_however_many_there_are() -> None:
    num_inputs = 2**18
    values = torch.full((16, num_inputs // 2), 0xFF, dtype=torch.uint8)
    values[8:] = 0
    weight = QuantizedWeight(values, torch.ones(16, num_inputs // GROUP_SIZE, 2).bfloat16())
    if not StreamedKernel.suits(weight):
        pytest.skip("no int8 products on this processor")
    x = torch.ones(2, num_inputs)
    x[1] = -1.0
    expected = num_inputs * torch.tensor([8.0] * 8 + [-7.0] * 8)
    torch.testing.assert_close(StreamedKernel(weight)(x, None), torch.stack((expected, -expected)))


def test_gates_residuals_and_float16_are_taken_along(streamed: Scheme) -> None:
    weight = quantize(draw(1, 96, 64), streamed)
    kernel, x, residual = StreamedKernel(weight), draw(2, 21, 64), draw(3, 21, 96)
    outputs = kernel(x, None)
    gate, up = outputs.chunk(2, -1)
    assert kernel.packed.can_gate
    torch.testing.assert_close(kernel.packed.gated(x), F.silu(gate) * up, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(kernel.packed.plus(x, None, residual), outputs + residual)
    bias = residual[0]
    for then, function in (("swish", F.silu), ("gelu", F.gelu)):
        found = kernel.packed.apply(x, bias, then)  # type: ignore[arg-type]
        torch.testing.assert_close(found, function(outputs + bias), atol=2e-6, rtol=2e-6)
    huge = kernel.packed.plus(x.half() * 1000, None, residual.half() * 60000)
    assert huge.isfinite().all()
    assert not StreamedKernel(quantize(draw(1, 40, 64), streamed)).packed.can_gate


@pytest.mark.parametrize("num_rows", [1, 5, 32, 33, 70])
def test_the_products_of_a_gpu_are_the_same_sums(
    monkeypatch: pytest.MonkeyPatch, num_rows: int
) -> None:
    """cuBLAS's operator has a twin on the CPU; many rows are taken a few at a time."""
    monkeypatch.setattr(quantized_kernels, "_CUDA_ROWS_AT_ONCE", 32)
    weight = quantize(draw(1, 32, 64), "int8")
    x, bias = draw(2, num_rows, 64), draw(3, 1, 32)[0]
    expected = DequantizingKernel(weight)(x, bias)
    kernel = IntegerKernel(weight)
    kernel._is_cpu, kernel._values = False, weight.values.t()
    torch.testing.assert_close(kernel(x, bias), expected, atol=1e-3, rtol=1e-3)
    half = kernel(x.bfloat16(), bias.bfloat16())
    torch.testing.assert_close(half, expected.bfloat16(), atol=0.1, rtol=0.02)


def test_without_any_kernel_the_plain_twin_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized_kernels, "FASTEST_FIRST", ())
    weight = quantize(draw(1, 32, 64), "int4")
    x = draw(2, 5, 64)
    torch.testing.assert_close(
        choose_kernel(weight)(x, None), x @ weight.dequantized(torch.float32).T
    )

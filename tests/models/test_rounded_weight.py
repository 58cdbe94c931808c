"""Our own kernel for rows of bfloat16: right for every shape, the same bits in any company."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from cpu_kernels import needs_bfloat16_products
from hypothesis import given, settings
from hypothesis import strategies as st
from products import all_expected, all_products
from torch import Tensor
from torch_threads import torch_threads

from sightline.models import packed_weight
from sightline.models.cpu.streamed_weight import StreamedWeight
from sightline.models.packed_weight import can_round, pack_gated, pack_weight

pytestmark = [
    pytest.mark.engine,
    needs_bfloat16_products,
]


def draw(rows: int, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(rows * 1009 + inputs * 31 + outputs)
    weight = torch.randn(outputs, inputs, generator=random) / inputs**0.5
    return torch.randn(rows, inputs, generator=random), weight.bfloat16()


def rounded(weight: Tensor) -> StreamedWeight:
    return StreamedWeight(weight, rounds_rows=True)


@given(
    rows=st.integers(1, 40) | st.sampled_from([100, 284]),
    inputs=st.integers(1, 70) | st.sampled_from([896, 1023, 1024, 1025, 2100]),
    outputs=st.integers(1, 140) | st.sampled_from([512, 1000]),
    threads=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_products_are_those_of_rounded_rows_for_every_shape_and_number_of_threads(
    rows: int, inputs: int, outputs: int, threads: int
) -> None:
    x, weight = draw(rows, inputs, outputs)
    bias, residual = torch.randn(outputs), torch.randn(rows, outputs)
    exact = x.bfloat16().double() @ weight.double().T
    with torch_threads(threads):
        packed = rounded(weight)
        found = all_products(packed, x, bias, residual)
        both = torch.cat((weight, weight.flip(0)))
        gated = StreamedWeight(both, is_gated=True, rounds_rows=True).gated(x)
    expected = all_expected(exact, bias, residual)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, atol=2e-5, rtol=2e-5)
    gate = F.silu(exact) * exact.flip(1)
    torch.testing.assert_close(gated.double(), gate, atol=2e-5, rtol=2e-5)


@given(
    start=st.integers(0, 60),
    rows=st.integers(1, 60),
    inputs=st.sampled_from([1, 2, 33, 896, 1025, 3000]),
    threads=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_a_row_has_the_same_bits_alone_and_in_any_company(
    start: int, rows: int, inputs: int, threads: int
) -> None:
    x, weight = draw(120, inputs, 200)
    packed, residual = rounded(weight), torch.randn(120, 200)
    everyone = packed.plus(x, None, residual)
    with torch_threads(threads):
        some = slice(start, start + rows)
        assert torch.equal(packed.plus(x[some], None, residual[some]), everyone[some])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_not_finite_stay_so_and_in_their_row(bad: float) -> None:
    x, weight = draw(20, 97, 64)
    packed = rounded(weight)
    healthy = packed.apply(x, None)
    x[7, 96] = bad
    found = packed.apply(x, None)
    assert not found[7].isfinite().any()
    for others in (slice(0, 7), slice(8, 20)):
        assert torch.equal(found[others], healthy[others])


def test_only_what_may_be_rounded_is(monkeypatch: pytest.MonkeyPatch) -> None:
    _, weight = draw(1, 48, 64)
    assert pack_weight(weight, torch.float32, rounds_rows=True)._rounds_rows  # type: ignore[union-attr]
    assert pack_gated(weight, torch.float32, rounds_rows=True)._rounds_rows  # type: ignore[union-attr]
    assert not pack_weight(weight, torch.float32)._rounds_rows  # type: ignore[union-attr]


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A processor that says it has tiles of matrices."""
    with_tiles = frozenset({"avx512_bf16", "amx_bf16"})
    monkeypatch.setattr(packed_weight, "cpu_flags", lambda: with_tiles)
    can_round.cache_clear()
    yield
    can_round.cache_clear()


def one_dnn_gives(monkeypatch: pytest.MonkeyPatch, *, the_same_bits: bool) -> None:
    def keeps_its_promise(pack: object, dtype: torch.dtype) -> bool:
        return the_same_bits if pack is packed_weight.OneDnnWeight else True

    monkeypatch.setattr(packed_weight, "_keeps_its_promise", keeps_its_promise)


@pytest.mark.usefixtures("tiles")
def test_tiles_of_matrices_are_left_to_one_dnn(monkeypatch: pytest.MonkeyPatch) -> None:
    one_dnn_gives(monkeypatch, the_same_bits=True)
    assert not can_round()


@pytest.mark.usefixtures("tiles")
def test_tiles_are_not_used_where_a_row_has_other_bits_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one_dnn_gives(monkeypatch, the_same_bits=False)
    assert can_round()

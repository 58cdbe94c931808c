"""Layers of the same rows that are joined into one product."""

import pytest
import torch
from torch import Tensor

from sightline.models.linear import GatedLinear, Linear, RoundingNorm
from sightline.models.quantization import Scheme
from sightline.models.quantized import quantize
from sightline.models.side_by_side import GateAndUp, SideBySide

pytestmark = pytest.mark.engine
EPS = 1e-6


@pytest.fixture(autouse=True)
def without_gradients() -> object:
    with torch.inference_mode():
        yield


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer(seed: int, num_outputs: int, *, bias: bool = False, num_inputs: int = 64) -> Linear:
    made = Linear(num_inputs, num_outputs, bias)
    for number, parameter in enumerate(made.parameters()):
        parameter.copy_(drawn(seed + number, *parameter.shape) / num_inputs**0.5)
    return made


def heads(*, bias: bool) -> SideBySide:
    return SideBySide(*(layer(10 * size, size, bias=bias) for size in (48, 16, 16)))


def gate_and_up(*, bias: bool = False) -> GateAndUp:
    return GateAndUp(layer(1, 40, bias=bias), layer(2, 40, bias=bias))


@pytest.mark.parametrize("bias", [False, True])
def test_outputs_stand_side_by_side_joined_or_not(bias: bool) -> None:
    beside, x, norm = heads(bias=bias), drawn(1, 3, 64), RoundingNorm(64, EPS)
    expected = torch.cat([each(x) for each in beside.apart], dim=-1)
    assert torch.equal(beside(x), expected)
    behind_norm = beside.normed(x, norm)
    assert beside.join()
    assert beside.products == (beside.joined,)
    torch.testing.assert_close(beside(x), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(beside.normed(x, norm), behind_norm, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_a_gate_and_what_it_gates_become_one_gated_layer(bias: bool) -> None:
    beside, x = gate_and_up(bias=bias), drawn(1, 3, 64)
    gate, up = (each(x) for each in beside.apart)
    assert beside.join()
    assert isinstance(beside.joined, GatedLinear)
    expected = torch.nn.functional.silu(gate) * up
    torch.testing.assert_close(beside(x), expected, atol=1e-6, rtol=1e-5)


def test_joined_layers_share_one_memory_and_keep_their_own_weights() -> None:
    beside = heads(bias=False)
    before = [each.weight.clone() for each in beside.apart]
    beside.join()
    assert beside.joined is not None
    whole = beside.joined.weight.untyped_storage()
    for each, weight in zip(beside.apart, before, strict=True):
        assert torch.equal(each.weight, weight)
        assert each.weight.untyped_storage().data_ptr() == whole.data_ptr()
    assert whole.nbytes() == sum(weight.nbytes for weight in before)


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_quantised_layers_are_joined_number_by_number(scheme: Scheme) -> None:
    x = drawn(1, 3, 64)
    for beside in (heads(bias=True), gate_and_up()):
        for each in beside.apart:
            each.quantize(quantize(each.weight, scheme))
        expected = beside(x)
        assert beside.join()
        torch.testing.assert_close(beside(x), expected, atol=1e-6, rtol=1e-5)
        assert beside.joined is not None
        whole = beside.joined.quantized
        for each in beside.apart:
            assert whole is not None
            assert each.quantized is not None
            for mine, shared in (
                (each.quantized.values, whole.values),
                (each.quantized.scales, whole.scales),
            ):
                assert mine.untyped_storage().data_ptr() == shared.untyped_storage().data_ptr()


def test_what_is_not_alike_stays_apart() -> None:
    half_quantised = gate_and_up()
    first, _ = half_quantised.apart
    first.quantize(quantize(first.weight, "int8"))
    packed = heads(bias=False)
    for each in packed.apart:
        each.register_parameter("weight", None)  # a kernel has it in a layout of its own
    beside = (
        half_quantised,
        packed,
        SideBySide(layer(1, 8), layer(2, 8, bias=True)),
        SideBySide(layer(1, 8), layer(2, 8).to(torch.bfloat16)),
    )
    for layers in beside:
        assert not layers.join()
        assert layers.products == layers.apart

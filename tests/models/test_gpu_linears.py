"""The kernels around linear layers, in Triton's interpreter where there is no GPU."""

import pytest
import tiny_families
import torch
import torch.nn.functional as F
from gpu_kernels import HAS_GPU, HAS_TRITON
from torch import Tensor

if not HAS_TRITON:
    pytest.skip("Triton is not installed", allow_module_level=True)

from sightline.models.gpu import fast_norms, fast_tower, quantized_linears
from sightline.models.gpu.fast_linears import rms_norm, silu_times
from sightline.models.gpu.few_rows import FewRows, Tiles
from sightline.models.gpu.quantized_linears import StoredKernel
from sightline.models.linear import LARGEST_HALF, GatedLinear, LayerNorm, Linear, Norm, RoundingNorm
from sightline.models.quantization import Scheme
from sightline.models.quantized import quantize
from sightline.models.qwen2_vision import Qwen2VisionTower
from sightline.models.qwen2_vl_blueprint import Qwen2VLConfig

DEVICE = "cuda" if HAS_GPU else "cpu"
pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]  # an interpreter takes its time
if HAS_GPU:  # where there is one they belong to what `-m gpu` runs
    pytestmark.append(pytest.mark.gpu)
EPS = 1e-5
VISION = tiny_families.QWEN2["vision_config"]
# Neither the inputs nor the outputs fill these whole.
TILES = Tiles(outputs=16, inputs=32, num_warps=4, num_stages=2)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def layer_of(kind: type[Linear], inputs: int, outputs: int, *, bias: bool = False) -> Linear:
    layer = kind(inputs, outputs, bias=bias)
    for seed, parameter in enumerate(layer.parameters()):
        parameter.data.copy_(drawn(seed, *parameter.shape) / inputs**0.5)
    return layer.to(DEVICE)


@pytest.fixture
def norm() -> Norm:
    made = Norm(48, EPS).to(DEVICE)
    made.weight.data.copy_(drawn(9, 48))
    return made


@torch.inference_mode()
@pytest.mark.parametrize("num_rows", [1, 3, 16])
@pytest.mark.parametrize("outputs", [40, 48])
def test_few_rows_give_what_the_library_gives(norm: Norm, num_rows: int, outputs: int) -> None:
    x = drawn(1, num_rows, 48)
    plain = layer_of(Linear, 48, outputs, bias=True)
    torch.testing.assert_close(FewRows(plain, TILES)(x), plain(x), atol=1e-5, rtol=1e-4)
    behind_norm = FewRows(plain, TILES)(x, norm=norm)
    torch.testing.assert_close(behind_norm, plain.normed(x, norm), atol=1e-5, rtol=1e-4)
    residual = drawn(2, num_rows, outputs)
    added = layer_of(Linear, 48, outputs)
    found = FewRows(added, TILES)(x, residual=residual)
    torch.testing.assert_close(found, added.plus(x, residual), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("bias", [False, True])
def test_gated_layers_are_activated_while_the_weight_comes_in(norm: Norm, bias: bool) -> None:
    x = drawn(1, 5, 48)
    gated = layer_of(GatedLinear, 48, 40, bias=bias)
    found = FewRows(gated, TILES)(x, norm=norm)
    torch.testing.assert_close(found, gated.normed(x, norm), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_a_layer_uses_its_kernel_for_few_rows_only(norm: Norm) -> None:
    layer = layer_of(Linear, 48, 32)
    many, few = drawn(1, 17, 48), drawn(2, 4, 48)
    expected = layer.normed(many, norm), layer.normed(few, norm), layer.plus(few, few[:, :32])
    asked: list[int] = []

    class Noted(FewRows):
        def __call__(self, x: Tensor, **also: object) -> Tensor:
            asked.append(len(x))
            return super().__call__(x, **also)  # type: ignore[arg-type]

    layer.few = Noted(layer, TILES)
    found = layer.normed(many, norm), layer.normed(few, norm), layer.plus(few, few[:, :32])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert asked == [4, 4]


SCHEMES: tuple[Scheme, ...] = ("int8", "int4")


@torch.inference_mode()
@pytest.mark.parametrize("num_rows", [1, 16, 17, 64, 65])
@pytest.mark.parametrize(("outputs", "inputs"), [(40, 96), (48, 320), (64, 256)])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_quantised_weights_are_multiplied_as_they_are_stored(
    scheme: Scheme, outputs: int, inputs: int, num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few rows by the kernel, many by the library, a piece of the outputs after the other."""
    monkeypatch.setattr(quantized_linears, "_PIECE_ELEMENTS", 17 * inputs)
    weight = quantize(drawn(3, outputs, inputs), scheme)
    x, bias = drawn(4, num_rows, inputs), drawn(5, outputs)
    found = StoredKernel(weight)(x, bias)
    expected = x @ weight.dequantized(torch.float32).T + bias
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("scheme", SCHEMES)
def test_few_rows_take_norm_gate_and_residual_along_in_any_format(scheme: Scheme) -> None:
    norm = Norm(96, EPS).to(DEVICE)
    norm.weight.data.copy_(drawn(9, 96))
    x, residual = drawn(1, 5, 96), drawn(2, 5, 40)
    for kind, is_gated in ((Linear, False), (GatedLinear, True)):
        layer = layer_of(kind, 96, 40)
        layer.quantize(quantize(layer.weight, scheme))
        few = FewRows(layer, TILES)
        torch.testing.assert_close(few(x, norm=norm), layer.normed(x, norm), atol=1e-4, rtol=1e-4)
        if not is_gated:
            expected = layer.plus(x, residual)
            torch.testing.assert_close(few(x, residual=residual), expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_stored_weight_that_is_no_number_does_not_become_one(scheme: Scheme) -> None:
    matrix = drawn(1, 32, 64)
    matrix[3, 5] = torch.nan
    kernel = StoredKernel(quantize(matrix, scheme))
    for num_rows in (4, 70):
        found = kernel(drawn(2, num_rows, 64), None)
        assert not torch.isfinite(found[:, 3]).any()
        assert torch.isfinite(found[:, 4:]).all()


@torch.inference_mode()
def test_small_kernels_give_what_the_modules_give(norm: Norm) -> None:
    x = drawn(1, 5, 48)
    torch.testing.assert_close(rms_norm(x, norm.weight, EPS), norm(x), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(silu_times(x), GatedLinear.activate(x), atol=1e-6, rtol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize(("dtype", "apart"), [(torch.float32, 1e-5), (torch.float16, 5e-3)])
def test_layer_norms_and_their_residuals_are_what_they_were(
    dtype: torch.dtype, apart: float
) -> None:
    """Up to the last bit of a norm, which sums in another order may turn."""
    norm = LayerNorm(200, EPS).to(DEVICE, dtype)
    norm.weight.data.copy_(drawn(1, 200))
    norm.bias.data.copy_(drawn(2, 200))
    x, residual = ((3 + drawn(seed, 2, 7, 200)).to(dtype) for seed in (3, 4))
    expected = norm(x), norm.plus(x, residual)
    fast_norms.install(norm)
    assert norm.kernel is fast_norms.layer_norm
    found = norm(x), norm.plus(x, residual)
    torch.testing.assert_close(found, expected, atol=apart, rtol=apart)


@torch.inference_mode()
def test_norms_that_round_twice_do_so_in_one_pass() -> None:
    norm = RoundingNorm(200, EPS).to(DEVICE, torch.float16)
    norm.weight.data.copy_(drawn(1, 200))
    x = (3 * drawn(2, 2, 7, 200)).half()
    expected = norm(x)
    fast_norms.install(norm)
    assert norm.rounding_kernel is fast_norms.rounding_norm
    torch.testing.assert_close(norm(x), expected, atol=5e-3, rtol=5e-3)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tower_of_any_shape_sees_the_same_with_the_kernels_between_its_products(
    dtype: torch.dtype,
) -> None:
    """Heads of 24 numbers fill no power of two; two pictures share one table of angles."""
    config = Qwen2VLConfig.from_hub(
        tiny_families.QWEN2 | {"vision_config": VISION | {"embed_dim": 72, "num_heads": 3}}
    )
    tower = Qwen2VisionTower(config.vision).to(DEVICE, dtype)
    for seed, parameter in enumerate(tower.parameters()):
        parameter.data.copy_(drawn(seed, *parameter.shape) / 8)
    pictures = drawn(1, 2, 3, 56, 84).to(dtype)
    expected = tower(pictures)
    fast_tower.install(tower)
    assert all(block.attn.turn is fast_tower.turn_halves for block in tower.blocks)
    assert all(block.mlp.activate is fast_tower.quick_gelu for block in tower.blocks)
    apart = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(tower(pictures), expected, atol=apart, rtol=apart)


@torch.inference_mode()
@pytest.mark.filterwarnings("ignore:overflow")  # NumPy's, of infinite exponentials
def test_quick_gelu_of_the_largest_numbers_is_a_number() -> None:
    x = torch.tensor([-1e30, -100.0, -1.0, 0.0, 1.0, 100.0, 1e30]).to(DEVICE)
    expected = x * torch.sigmoid(1.702 * x)
    torch.testing.assert_close(fast_tower.quick_gelu(x), expected)


@torch.inference_mode()
def test_float16_saturates_where_it_would_overflow() -> None:
    """As bfloat16 it would be a large number; as infinity it would become NaN in the next norm."""
    layer = Linear(64, 8, bias=False).half()
    layer.weight.data.fill_(100.0)
    x = torch.full((2, 64), 100.0, dtype=torch.float16)
    assert torch.isinf(F.linear(x, layer.weight)).all()
    assert (layer(x) == LARGEST_HALF).all()
    assert (layer.plus(x, layer(x)) == LARGEST_HALF).all()
    assert (layer.plus(-x, layer(-x)) == -LARGEST_HALF).all()
    x[0, 0] = torch.nan
    assert torch.isnan(layer(x)[0]).all()
    gated = GatedLinear(64, 8).half()
    gated.weight.data.fill_(10.0)
    assert torch.isfinite(gated(x[1:])).all()

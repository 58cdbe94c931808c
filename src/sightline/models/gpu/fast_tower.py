"""What stands between the products of Qwen2-VL's towers, in one pass where torch takes several.

Turning queries and keys is ten passes in fp32, a fifth of what a layer reads and writes; quick_gelu
is three. Importing this module needs Triton. Shapes: N pictures, P patches, Dh head width.
"""

import torch
import triton
from torch import Tensor, nn

from sightline.models.activations import quick_gelu as plain_quick_gelu
from sightline.models.gpu import tower_kernels as kernels
from sightline.models.qwen2_vision import PlainMlp, VisionAttention, turned

PATCHES_CHECKED, PICTURES_CHECKED = 7, 2
TOLERANCE = 0.02
_BLOCK = 4096


def turn_halves(rows: Tensor, cosines: Tensor, sines: Tensor, num_heads: int) -> None:
    """Turn the first `num_heads` heads of contiguous rows `[N, P, heads * Dh]`, in place.

    Tables are fp32 `[P, Dh]`.
    """
    num_pictures, num_rows, row_width = rows.shape
    half = cosines.shape[-1] // 2
    kernels.turn_halves[num_pictures * num_rows,](
        rows, cosines, sines, num_rows, ROW_WIDTH=row_width, NUM_HEADS=num_heads, HALF=half,
        BLOCK_H=triton.next_power_of_2(num_heads), BLOCK_D=triton.next_power_of_2(half),
        num_warps=4,
    )  # fmt: skip


def quick_gelu(x: Tensor) -> Tensor:
    """Return x * sigmoid(1.702 x) of contiguous numbers, which are overwritten."""
    count = x.numel()
    kernels.quick_gelu[triton.cdiv(count, _BLOCK),](x, count, BLOCK=_BLOCK, num_warps=4)
    return x


@torch.inference_mode()
def install(model: nn.Module) -> None:
    """Let the tower of `model`, on a GPU, use the kernels. Raises whatever goes wrong."""
    turning = [module for module in model.modules() if isinstance(module, VisionAttention)]
    mlps = [module for module in model.modules() if isinstance(module, PlainMlp)]
    for attention in turning[:1]:
        _check_turning(attention)
    for mlp in mlps[:1]:
        x = _drawn(PATCHES_CHECKED, mlp.fc1.out_features).to(mlp.fc2.bias)
        _same(quick_gelu(x.clone()), plain_quick_gelu(x))
    for attention in turning:
        attention.turn = turn_halves
    for mlp in mlps:
        mlp.activate = quick_gelu


def _check_turning(attention: VisionAttention) -> None:
    num_heads, width = attention.num_heads, attention.qkv.out_features // 3
    like = attention.proj.bias
    rows = _drawn(PICTURES_CHECKED, PATCHES_CHECKED, 3 * width).to(like)
    angles = _drawn(PATCHES_CHECKED, width // num_heads).to(like.device)
    cosines, sines = angles.cos(), angles.sin()
    heads = rows.view(*rows.shape[:2], 3 * num_heads, -1)
    expected = turned(heads[:, :, : 2 * num_heads], cosines[:, None], sines[:, None])
    values = heads[:, :, 2 * num_heads :].clone()
    turn_halves(rows, cosines, sines, 2 * num_heads)
    _same(heads, torch.cat((expected, values), dim=2))


def _drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _same(found: Tensor, expected: Tensor) -> None:
    worst = (found.float() - expected.float()).abs().max()
    if not bool(worst <= TOLERANCE * (1 + expected.float().abs().max())):
        raise RuntimeError(f"off by {float(worst):.3g} from torch's")

"""Norms in one pass over their rows, where torch takes several.

Layer norms add the residual on the way: the tower of GLM-4V adds what its 126 norms return to rows
of 23 MB, which torch writes and reads again in between. Norms that round twice, as Qwen's do, are
four operators of torch, of which a decode step is launched for each. Importing this module needs
Triton. Shapes: T rows, W numbers of a row.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
import triton
from torch import Tensor, nn

from sightline.models.gpu import norm_kernels as kernels
from sightline.models.linear import LayerNorm, RoundingNorm

N = TypeVar("N", LayerNorm, RoundingNorm)

ROWS_CHECKED = 5
TOLERANCE = 0.02


def layer_norm(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, residual: Tensor | None
) -> Tensor:
    """Return the norm of `[..., W]`, and its sum with `residual` if there is one."""
    width = x.shape[-1]
    x = x.contiguous()
    out = torch.empty_like(x)
    kernels.layer_norm[x.numel() // width,](
        x, weight, bias, x if residual is None else residual.contiguous(), out, eps,
        WIDTH=width, BLOCK=triton.next_power_of_2(width), HAS_RESIDUAL=residual is not None,
        num_warps=4,
    )  # fmt: skip
    return out


def rounding_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return what `RoundingNorm` makes of `[..., W]`."""
    width = x.shape[-1]
    x = x.contiguous()
    out = torch.empty_like(x)
    kernels.rounding_norm[x.numel() // width,](
        x, weight, out, eps, WIDTH=width, BLOCK=triton.next_power_of_2(width), num_warps=4
    )
    return out


@torch.inference_mode()
def install(model: nn.Module) -> None:
    """Let the norms of `model`, on a GPU, use the kernels. Raises whatever goes wrong."""
    layer_norms = [module for module in model.modules() if isinstance(module, LayerNorm)]
    rounding = [module for module in model.modules() if isinstance(module, RoundingNorm)]
    for norm in _one_of_each_width(layer_norms):
        x, residual = _rows(norm.weight), -2 * _rows(norm.weight)
        of_norm = norm.weight, norm.bias, norm.eps
        _same(layer_norm(x, *of_norm, None), norm(x))
        _same(layer_norm(x, *of_norm, residual), norm.plus(x, residual))
    for rms in _one_of_each_width(rounding):
        x = _rows(rms.weight)
        _same(rounding_norm(x, rms.weight, rms.eps), rms(x))
    for norm in layer_norms:
        norm.kernel = layer_norm
    for rms in rounding:
        rms.rounding_kernel = rounding_norm


def _one_of_each_width(norms: Sequence[N]) -> Iterable[N]:
    return {len(norm.weight): norm for norm in norms}.values()


def _rows(weight: Tensor) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn(ROWS_CHECKED, len(weight), generator=random).to(weight)


def _same(found: Tensor, expected: Tensor) -> None:
    worst = (found.float() - expected.float()).abs().max()
    if not bool(worst <= TOLERANCE * (1 + expected.float().abs().max())):
        raise RuntimeError(f"a norm is off by {float(worst):.3g} from torch's")

"""Layer norms of a vision tower in one pass over its rows, the residual added on the way.

The tower of GLM-4V adds what its 126 norms return to rows of 23 MB: written and read again in
between, as torch does it, that is a third of what lies between the products. Importing this module
needs Triton. Shapes: T rows, W numbers of a row.
"""

import torch
import triton
from torch import Tensor, nn

from sightline.models.gpu import norm_kernels as kernels
from sightline.models.linear import LayerNorm

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


@torch.inference_mode()
def install(model: nn.Module) -> None:
    """Let the layer norms of `model`, on a GPU, use the kernel. Raises whatever goes wrong."""
    norms = [module for module in model.modules() if isinstance(module, LayerNorm)]
    for norm in {len(norm.weight): norm for norm in norms}.values():
        _check(norm)
    for norm in norms:
        norm.kernel = layer_norm


def _check(norm: LayerNorm) -> None:
    random = torch.Generator().manual_seed(0)
    shape = ROWS_CHECKED, len(norm.weight)
    x, residual = (torch.randn(shape, generator=random).to(norm.weight) for _ in range(2))
    of_norm = norm.weight, norm.bias, norm.eps
    for found, expected in (
        (layer_norm(x, *of_norm, None), norm(x)),
        (layer_norm(x, *of_norm, residual), norm.plus(x, residual)),
    ):
        worst = (found.float() - expected.float()).abs().max()
        if not bool(worst <= TOLERANCE * (1 + expected.float().abs().max())):
            raise RuntimeError(f"a layer norm is off by {float(worst):.3g} from torch's")

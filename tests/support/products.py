"""Everything that a packed weight is asked for, and the same from exact products."""

import torch.nn.functional as F
from torch import Tensor

from sightline.models.packed_weight import PackedWeight


def all_products(packed: PackedWeight, x: Tensor, bias: Tensor, residual: Tensor) -> list[Tensor]:
    return [
        packed.apply(x, bias),
        packed.plus(x, None, residual),
        packed.plus(x, bias, residual),
        packed.times(x, bias, residual),
        packed.apply(x, bias, "swish"),
        packed.apply(x, bias, "gelu"),
        packed.apply(x, bias, "quick_gelu"),
    ]


def all_expected(exact: Tensor, bias: Tensor, residual: Tensor) -> list[Tensor]:
    """`exact` are the products alone, in double precision."""
    with_bias = exact + bias
    return [
        with_bias,
        exact + residual,
        with_bias + residual,
        with_bias * residual,
        F.silu(with_bias),
        F.gelu(with_bias),
        F.silu(1.702 * with_bias) / 1.702,
    ]

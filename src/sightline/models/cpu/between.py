"""What stands between products, by our own kernels: one pass in the place of many operators.

Each row has the same bits in any company.
"""

import torch
from torch import Tensor

from sightline.models.cpu.compiled import kernels


def can_norm(*weights: Tensor) -> bool:
    library = kernels()
    return library is not None and all(
        weight.is_cpu
        and weight.dtype == torch.float32
        and weight.is_contiguous()
        and len(weight) % library.head_multiple == 0
        for weight in weights
    )


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return the root-mean-square norm of fp32 rows `[..., D]`."""
    library = kernels()
    assert library is not None, "ask can_norm first"
    rows = _plain(x)
    out = torch.empty_like(rows)
    width = weight.shape[0]
    library.norm_rows(
        rows.data_ptr(), rows.numel() // width, width, weight.data_ptr(), eps, out.data_ptr(),
        torch.get_num_threads(),
    )  # fmt: skip
    return out.to(x.dtype)


def layer_norm(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, residual: Tensor | None = None
) -> Tensor:
    """Return the layer norm of rows `[..., D]`, plus `residual` of the same shape."""
    library = kernels()
    assert library is not None, "ask can_norm first"
    if residual is not None and residual.shape != x.shape:
        raise ValueError(f"the sum of {x.shape} and {residual.shape} is not meant")
    rows, added = _plain(x), None if residual is None else _plain(residual)
    out = torch.empty_like(rows)
    width = weight.shape[0]
    library.layer_norm_rows(
        rows.data_ptr(), rows.numel() // width, width, weight.data_ptr(), bias.data_ptr(), eps,
        0 if added is None else added.data_ptr(), out.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    return out.to(x.dtype)


def can_turn(rows: Tensor, *angles: Tensor) -> bool:
    return kernels() is not None and all(
        each.is_cpu and each.dtype == torch.float32 and each.is_contiguous()
        for each in (rows, *angles)
    )


def turn_halves(rows: Tensor, cosines: Tensor, sines: Tensor, num_heads: int) -> None:
    """Turn the first `num_heads` heads of rows `[N, P, heads * Dh]`, in place.

    Each number of a head's lower half has its partner in the upper half; cosines and sines are
    `[P, Dh]`.
    """
    library = kernels()
    assert library is not None, "ask can_turn first"
    num_items, num_rows, row_width = rows.shape
    head_dim = cosines.shape[-1]
    fits = cosines.shape == sines.shape == (num_rows, head_dim) and head_dim % 2 == 0
    if not fits or row_width < num_heads * head_dim:
        raise ValueError(f"{num_heads} heads of {rows.shape} do not turn by {cosines.shape}")
    library.turn_halves(
        rows.data_ptr(), row_width, num_items * num_rows, num_heads, head_dim,
        cosines.data_ptr(), sines.data_ptr(), num_rows, torch.get_num_threads(),
    )  # fmt: skip


def _plain(x: Tensor) -> Tensor:
    return x.to(torch.float32).contiguous()

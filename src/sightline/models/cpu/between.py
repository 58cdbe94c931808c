"""Root-mean-square norms by our own kernel: one pass in the place of eight operators."""

import torch
from torch import Tensor

from sightline.models.cpu.compiled import kernels


def can_norm(weight: Tensor) -> bool:
    library = kernels()
    return (
        library is not None
        and weight.is_cpu
        and weight.dtype == torch.float32
        and weight.is_contiguous()
        and len(weight) % library.head_multiple == 0
    )


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return the norm of fp32 rows `[..., D]`, each with the same bits in any company."""
    library = kernels()
    assert library is not None, "ask can_norm first"
    is_plain = x.dtype == torch.float32 and x.is_contiguous()
    rows = x if is_plain else x.to(torch.float32).contiguous()
    out = torch.empty_like(rows)
    width = weight.shape[0]
    library.norm_rows(
        rows.data_ptr(), rows.numel() // width, width, weight.data_ptr(), eps, out.data_ptr(),
        torch.get_num_threads(),
    )  # fmt: skip
    return out if is_plain else out.to(x.dtype)

"""Root-mean-square norms by our own kernel: one pass in the place of eight operators."""

import torch
from torch import Tensor

from sightline.models.cpu.compiled import kernels

# Numbers for which waking another thread takes longer than it saves.
ONE_THREAD = 1 << 15


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
    count, width = rows.numel(), weight.shape[0]
    num_threads = 1 if count <= ONE_THREAD else torch.get_num_threads()
    library.norm_rows(
        rows.data_ptr(), count // width, width, weight.data_ptr(), eps, out.data_ptr(), num_threads
    )
    return out if is_plain else out.to(x.dtype)

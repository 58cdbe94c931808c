"""Attention among all rows of a picture by our own kernel, with numbers rounded to bfloat16.

Shapes: N pictures or windows of them, P rows of each, H heads of Dh numbers.
"""

import ctypes

import torch
from torch import Tensor

from sightline.models.cpu.compiled import Picture, kernels
from sightline.models.scratch import Scratch

_scratch = Scratch()


def takes(query: Tensor) -> bool:
    """Whether the kernel exists here and is made for such rows."""
    library = kernels()
    return (
        library is not None
        and library.rounded_products is not None
        and query.is_cpu
        and query.dtype == torch.float32
        and query.shape[-1] % 2 == 0
        and query.shape[-1] <= library.most_picture_width
    )


def attend_to_all(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return what every row of `[N, P, H, Dh]`, fp32, makes of all rows of its picture.

    Raises ValueError where shapes or formats differ.
    """
    library = kernels()
    assert library is not None, "ask takes first"
    heads = [each if each.stride(-1) == 1 else each.contiguous() for each in (query, key, value)]
    if any((each.shape, each.dtype) != (query.shape, torch.float32) for each in heads):
        raise ValueError(f"heads do not fit: {[(each.shape, each.dtype) for each in heads]}")
    items, rows, num_heads, head_dim = query.shape
    out = query.new_empty(query.shape)
    num_threads = torch.get_num_threads()
    room = library.picture_room(rows, head_dim)
    call = Picture(
        *(each.data_ptr() for each in heads),
        *((ctypes.c_int64 * 3)(*each.stride()[:3]) for each in heads),
        out.data_ptr(), _scratch.address(room * num_threads),
        items, rows, num_heads, head_dim, head_dim**-0.5, room, 0, 0,
    )  # fmt: skip
    library.attend_to_all(ctypes.byref(call), num_threads)
    return out

"""Triton kernels between the products of a vision tower. Importing this module needs Triton."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["num_rows"])
def turn_halves(
    rows, cosines, sines, num_rows,
    ROW_WIDTH: tl.constexpr, NUM_HEADS: tl.constexpr, HALF: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Turn the first heads of each row in place, in fp32: a number of the lower half with its
    partner in the upper half. Tables are `[num_rows, 2 * HALF]`; every picture begins them anew.

    Programs: (rows of all pictures,).
    """
    row = tl.program_id(0)
    h = tl.arange(0, BLOCK_H)
    d = tl.arange(0, BLOCK_D)
    is_number = d < HALF
    inside = (h < NUM_HEADS)[:, None] & is_number[None, :]
    lower = rows + row.to(tl.int64) * ROW_WIDTH + h[:, None] * (2 * HALF) + d[None, :]
    first = tl.load(lower, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(lower + HALF, mask=inside, other=0.0).to(tl.float32)
    table = (row % num_rows) * (2 * HALF) + d
    cosine = tl.load(cosines + table, mask=is_number, other=0.0)[None, :]
    sine = tl.load(sines + table, mask=is_number, other=0.0)[None, :]
    tl.store(lower, (first * cosine - second * sine).to(rows.dtype.element_ty), mask=inside)
    cosine = tl.load(cosines + table + HALF, mask=is_number, other=0.0)[None, :]
    sine = tl.load(sines + table + HALF, mask=is_number, other=0.0)[None, :]
    tl.store(lower + HALF, (second * cosine + first * sine).to(rows.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["count"])
def quick_gelu(x, count, BLOCK: tl.constexpr):
    """Multiply each x by sigmoid(1.702 x) in place, in fp32. Programs: blocks of numbers."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    made = values / (1.0 + tl.exp(-1.702 * values))
    tl.store(x + at, made.to(x.dtype.element_ty), mask=inside)

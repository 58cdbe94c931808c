"""Triton kernels around linear layers: few rows against a large weight, and what stands between.

With few rows a layer's time is that of reading its weight once. So whatever can be done while the
weight comes in is done there: the norm before it, bias, activation, product and residual behind.

Importing this module needs Triton. Legend: T rows, I inputs, O outputs.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["num_rows", "eps"])
def few_rows(
    x, weight, bias, norm, residual, out, num_rows, eps,
    NUM_INPUTS: tl.constexpr, NUM_OUTPUTS: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_NORM: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    IS_GATED: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """`out` `[T, O]` of `x` `[T, I]`, at most BLOCK_T rows, by `weight` `[O, I]`.

    With a norm, rows are divided by their root mean square and multiplied by `norm` `[I]` first;
    the division is made up for at the end, when the sum of squares is known. A gated weight is
    `[2 O, I]`: silu of the first half of its outputs times the second half. Programs: blocks of
    outputs.
    """
    t = tl.arange(0, BLOCK_T)
    o = tl.program_id(0) * BLOCK_O + tl.arange(0, BLOCK_O)
    i = tl.arange(0, BLOCK_I)
    is_row = t < num_rows
    is_output = o < NUM_OUTPUTS
    IS_WHOLE: tl.constexpr = NUM_INPUTS % BLOCK_I == 0 and NUM_OUTPUTS % BLOCK_O == 0
    sums = tl.zeros((BLOCK_T, BLOCK_O), tl.float32)
    ups = tl.zeros((BLOCK_T, BLOCK_O), tl.float32)
    squares = tl.zeros((BLOCK_T,), tl.float32)
    for first in range(0, NUM_INPUTS, BLOCK_I):
        at = first + i
        is_input = at < NUM_INPUTS
        rows = tl.load(x + t[:, None] * NUM_INPUTS + at[None, :],
                       mask=is_row[:, None] & is_input[None, :], other=0.0)  # fmt: skip
        place = o.to(tl.int64)[:, None] * NUM_INPUTS + at[None, :]
        if IS_WHOLE:
            w = tl.load(weight + place, eviction_policy="evict_first")
        else:
            inside = is_output[:, None] & is_input[None, :]
            w = tl.load(weight + place, mask=inside, other=0.0)
        if HAS_NORM:
            exact = rows.to(tl.float32)
            squares += tl.sum(exact * exact, 1)
            factor = tl.load(norm + at, mask=is_input, other=0.0).to(tl.float32)
            rows = (exact * factor[None, :]).to(w.dtype)
        sums = tl.dot(rows, tl.trans(w), sums, input_precision="ieee")
        if IS_GATED:
            below = weight + place + NUM_OUTPUTS * NUM_INPUTS
            if IS_WHOLE:
                up = tl.load(below, eviction_policy="evict_first")
            else:
                up = tl.load(below, mask=inside, other=0.0)
            ups = tl.dot(rows, tl.trans(up), ups, input_precision="ieee")
    if HAS_NORM:
        scale = 1.0 / tl.sqrt(squares / NUM_INPUTS + eps)
        sums *= scale[:, None]
        ups *= scale[:, None]
    if HAS_BIAS:
        sums += tl.load(bias + o, mask=is_output, other=0.0).to(tl.float32)[None, :]
    if IS_GATED:
        sums = sums / (1.0 + tl.exp(-sums)) * ups
    square = is_row[:, None] & is_output[None, :]
    place = t[:, None] * NUM_OUTPUTS + o[None, :]
    if HAS_RESIDUAL:
        sums += tl.load(residual + place, mask=square, other=0.0).to(tl.float32)
    tl.store(out + place, sums.to(out.dtype.element_ty), mask=square)


@triton.jit(do_not_specialize=["eps"])
def rms_norm(x, weight, out, eps, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Root-mean-square norm of rows, in fp32 and rounded once. Programs: (T,)."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < WIDTH
    values = tl.load(x + row * WIDTH + at, mask=inside, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(values * values, 0) / WIDTH + eps)
    factor = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * WIDTH + at, (values * scale * factor).to(out.dtype.element_ty),
             mask=inside)  # fmt: skip


@triton.jit
def silu_times(x, out, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Silu of the first half of each row `[2 * WIDTH]` times the second. Programs: (T, blocks)."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < WIDTH
    gate = tl.load(x + row * 2 * WIDTH + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(x + row * 2 * WIDTH + WIDTH + at, mask=inside, other=0.0).to(tl.float32)
    silu = (gate / (1.0 + tl.exp(-gate))).to(out.dtype.element_ty).to(tl.float32)
    tl.store(out + row * WIDTH + at, (silu * up).to(out.dtype.element_ty), mask=inside)

"""Triton kernels around linear layers: few rows against a large weight, and what stands between.

With few rows a layer's time is that of reading its weight once. So whatever can be done while the
weight comes in is done there: the norm before it, bias, activation, product and residual behind.

Importing this module needs Triton. Legend: T rows, I inputs, O outputs.
"""

import triton
import triton.language as tl

from sightline.models.gpu.dependent_launch import begin, call_for

# What a program of a dependent kernel calls for of each matrix while it has to wait.
CALLED_BYTES = tl.constexpr(64 * 1024)


@triton.jit
def _widened(bits):
    """fp32 of the bits of bfloat16, also for cards and compilers that do not know it."""
    return (bits.to(tl.int32) << 16).to(tl.float32, bitcast=True)


@triton.jit
def _load_weight(
    weight, scales, o, first, is_output,
    NUM_INPUTS: tl.constexpr, IS_WHOLE: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr,
    BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """Inputs from `first` on of the weight's outputs `o`, `[BLOCK_O, BLOCK_I]`; int8 as it is."""
    PER_ELEMENT: tl.constexpr = 2 if BITS == 4 else 1
    WIDTH: tl.constexpr = NUM_INPUTS // PER_ELEMENT
    at = first // PER_ELEMENT + tl.arange(0, BLOCK_I // PER_ELEMENT)
    place = o.to(tl.int64)[:, None] * WIDTH + at[None, :]
    if IS_WHOLE:
        w = tl.load(weight + place, eviction_policy="evict_first")
    else:
        w = tl.load(weight + place, mask=is_output[:, None] & (at < WIDTH)[None, :], other=0)
    if BITS == 4:
        # An fp32 number from 2^23 on is whole, and its lower bits are that number: cheaper than a
        # conversion, of which a processor does few at once. Less 2^23 and the middle of 0 to 15.
        numbers = tl.interleave(w & 15, w >> 4).to(tl.int32) | 0x4B000000
        steps = numbers.to(tl.float32, bitcast=True) - 8388616.0
        group = first // GROUP + tl.arange(0, BLOCK_I // GROUP)
        place = (o.to(tl.int64)[:, None] * (NUM_INPUTS // GROUP) + group[None, :]) * 2
        inside = is_output[:, None] & (group < NUM_INPUTS // GROUP)[None, :]
        scale = _widened(tl.load(scales + place, mask=inside, other=0))
        zero = _widened(tl.load(scales + place + 1, mask=inside, other=0))
        steps = tl.reshape(steps, (BLOCK_O, BLOCK_I // GROUP, GROUP))
        w = tl.reshape(steps * scale[:, :, None] + zero[:, :, None], (BLOCK_O, BLOCK_I))
    return w


@triton.jit(do_not_specialize=["num_rows", "eps"])
def few_rows(
    x, weight, scales, bias, norm, residual, out, num_rows, eps,
    NUM_INPUTS: tl.constexpr, NUM_OUTPUTS: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_NORM: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    IS_GATED: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
):  # fmt: skip
    """`out` `[T, O]` of `x` `[T, I]`, at most BLOCK_T rows, by `weight` `[O, I]`.

    With BITS of 8 or 4, weight and `scales` are those of a `QuantizedWeight`, in groups of GROUP;
    scales that are bfloat16 come as their bits.
    With a norm, rows are divided by their root mean square and multiplied by `norm` `[I]` first;
    the division is made up for at the end, when the sum of squares is known. A gated weight is
    `[2 O, I]`: silu of the first half of its outputs times the second half. Programs: blocks of
    outputs.
    """
    if IS_DEPENDENT:
        ROW_BYTES: tl.constexpr = NUM_INPUTS * BITS // 8
        if ROW_BYTES % 16 == 0:
            STEP: tl.constexpr = BLOCK_O * ROW_BYTES
            MOST: tl.constexpr = STEP if STEP < CALLED_BYTES else CALLED_BYTES
            END: tl.constexpr = NUM_OUTPUTS * ROW_BYTES
            call_for(weight, 0, STEP, MOST, END)
            if IS_GATED:
                call_for(weight, END, STEP, MOST, 2 * END)
        begin()
    t = tl.arange(0, BLOCK_T)
    o = tl.program_id(0) * BLOCK_O + tl.arange(0, BLOCK_O)
    is_row = t < num_rows
    is_output = o < NUM_OUTPUTS
    IS_WHOLE: tl.constexpr = NUM_INPUTS % BLOCK_I == 0 and NUM_OUTPUTS % BLOCK_O == 0
    sums = tl.zeros((BLOCK_T, BLOCK_O), tl.float32)
    ups = tl.zeros((BLOCK_T, BLOCK_O), tl.float32)
    squares = tl.zeros((BLOCK_T,), tl.float32)
    for first in range(0, NUM_INPUTS, BLOCK_I):
        at = first + tl.arange(0, BLOCK_I)
        is_input = at < NUM_INPUTS
        rows = tl.load(x + t[:, None] * NUM_INPUTS + at[None, :],
                       mask=is_row[:, None] & is_input[None, :], other=0.0)  # fmt: skip
        if HAS_NORM:
            exact = rows.to(tl.float32)
            squares += tl.sum(exact * exact, 1)
            factor = tl.load(norm + at, mask=is_input, other=0.0).to(tl.float32)
            rows = (exact * factor[None, :]).to(x.dtype.element_ty)
        w = _load_weight(
            weight, scales, o, first, is_output,
            NUM_INPUTS, IS_WHOLE, BITS, GROUP, BLOCK_O, BLOCK_I,
        )  # fmt: skip
        sums = tl.dot(rows, tl.trans(w.to(rows.dtype)), sums, input_precision="ieee")
        if IS_GATED:
            up = _load_weight(
                weight, scales, NUM_OUTPUTS + o, first, is_output,
                NUM_INPUTS, IS_WHOLE, BITS, GROUP, BLOCK_O, BLOCK_I,
            )  # fmt: skip
            ups = tl.dot(rows, tl.trans(up.to(rows.dtype)), ups, input_precision="ieee")
    if HAS_NORM:
        scale = 1.0 / tl.sqrt(squares / NUM_INPUTS + eps)
        sums *= scale[:, None]
        ups *= scale[:, None]
    if BITS == 8:
        sums *= tl.load(scales + o, mask=is_output, other=0.0)[None, :]
        if IS_GATED:
            ups *= tl.load(scales + NUM_OUTPUTS + o, mask=is_output, other=0.0)[None, :]
    if HAS_BIAS:
        sums += tl.load(bias + o, mask=is_output, other=0.0).to(tl.float32)[None, :]
        if IS_GATED:
            shift = tl.load(bias + NUM_OUTPUTS + o, mask=is_output, other=0.0)
            ups += shift.to(tl.float32)[None, :]
    if IS_GATED:
        sums = sums / (1.0 + tl.exp(-sums)) * ups
    square = is_row[:, None] & is_output[None, :]
    place = t[:, None] * NUM_OUTPUTS + o[None, :]
    if HAS_RESIDUAL:
        sums += tl.load(residual + place, mask=square, other=0.0).to(tl.float32)
    tl.store(out + place, sums.to(out.dtype.element_ty), mask=square)


@triton.jit(do_not_specialize=["num_outputs"])
def dequantize(
    values, scales, out, num_outputs,
    NUM_INPUTS: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr,
    BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """`out` `[O, I]` of a `QuantizedWeight`. Programs: blocks of outputs, blocks of inputs."""
    o = tl.program_id(0) * BLOCK_O + tl.arange(0, BLOCK_O)
    first = tl.program_id(1) * BLOCK_I
    is_output = o < num_outputs
    made = _load_weight(
        values, scales, o, first, is_output, NUM_INPUTS, False, BITS, GROUP, BLOCK_O, BLOCK_I
    ).to(tl.float32)
    if BITS == 8:
        made *= tl.load(scales + o, mask=is_output, other=0.0)[:, None]
    i = first + tl.arange(0, BLOCK_I)
    tl.store(out + o.to(tl.int64)[:, None] * NUM_INPUTS + i[None, :],
             made.to(out.dtype.element_ty),
             mask=is_output[:, None] & (i < NUM_INPUTS)[None, :])  # fmt: skip


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

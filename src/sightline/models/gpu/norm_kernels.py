"""Triton kernels of norms. Importing this module needs Triton. Legend: T rows, W numbers of one."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["eps"])
def layer_norm(
    x, weight, bias, residual, out, eps,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
):  # fmt: skip
    """Norm in fp32, rounded as torch rounds it: once, and once more with the residual.

    Programs: (T,).
    """
    row = tl.program_id(0).to(tl.int64) * WIDTH
    at = tl.arange(0, BLOCK)
    inside = at < WIDTH
    values = tl.load(x + row + at, mask=inside, other=0.0).to(tl.float32)
    off = tl.where(inside, values - tl.sum(values, 0) / WIDTH, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(off * off, 0) / WIDTH + eps)
    factor = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    shift = tl.load(bias + at, mask=inside, other=0.0).to(tl.float32)
    made = (off * scale * factor + shift).to(out.dtype.element_ty)
    if HAS_RESIDUAL:
        added = tl.load(residual + row + at, mask=inside, other=0.0).to(tl.float32)
        made = (made.to(tl.float32) + added).to(out.dtype.element_ty)
    tl.store(out + row + at, made, mask=inside)


@triton.jit(do_not_specialize=["eps"])
def rounding_norm(x, weight, out, eps, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Root-mean-square norm in fp32, rounded before the weight is applied too. Programs: (T,)."""
    row = tl.program_id(0).to(tl.int64) * WIDTH
    at = tl.arange(0, BLOCK)
    inside = at < WIDTH
    values = tl.load(x + row + at, mask=inside, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(values * values, 0) / WIDTH + eps)
    factor = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    made = (values * scale).to(out.dtype.element_ty).to(tl.float32) * factor
    tl.store(out + row + at, made.to(out.dtype.element_ty), mask=inside)

"""silu, gelu and quick_gelu with the same bits wherever a number stands in a tensor.

torch's own compute what is left behind the last whole vector with another function on a CPU, and
where that is depends on the number of rows and threads. `exp` and `erf` do not, but wake threads.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Literal["none", "swish", "gelu", "quick_gelu"]

SLAB = 32  # rows whose passes over the same values stay within a core's cache
ONE_THREAD = 32767  # values that torch computes on the calling thread
VECTORS = 64  # values in whole pairs of vectors, of any processor


@cache
def settle_vector_functions() -> None:
    """Let the vector library find its functions on one thread, before two want them at once.

    It looks for each at the first call, unguarded: in one of a dozen processes the first sine of
    3072 numbers, on two threads, was off by 1e-4 in half of them (torch 2.13, MKL).
    """
    for function in (torch.exp, torch.erf, torch.sin, torch.cos, torch.tanh, torch.log):
        function(torch.ones(1))


def silu(x: Tensor) -> Tensor:
    """Return silu of `x`, which may be overwritten."""
    if x.device.type == "cpu" and not x.requires_grad:
        return _rounded(x, silu_)
    return F.silu(x, inplace=not x.requires_grad)


def gelu(x: Tensor) -> Tensor:
    """Return gelu of `x`, which may be overwritten: a large picture's inner rows are 200 MB."""
    if x.requires_grad:
        return F.gelu(x)
    if x.device.type == "cpu":
        return _rounded(x, gelu_)
    overwritten: Tensor = torch.ops.aten.gelu_(x)
    return overwritten


def quick_gelu(x: Tensor) -> Tensor:
    """Return x * sigmoid(1.702 x); `x` may be overwritten."""
    if x.requires_grad:
        return x * torch.sigmoid(1.702 * x)
    if x.device.type == "cpu":
        return _rounded(x, quick_gelu_)
    return x.mul_((1.702 * x).sigmoid_())


def activate(y: Tensor, then: Activation) -> Tensor:
    """Apply an activation to fp32 numbers `[..., O]`, in place."""
    if then != "none":
        {"swish": silu_, "gelu": gelu_, "quick_gelu": quick_gelu_}[then](y.view(-1, y.shape[-1]))
    return y


def silu_(rows: Tensor) -> Tensor:
    """Apply silu in place to fp32 numbers `[T, O]`, to every value with the same function.

    Nothing is left behind the vectors of rows of whole ones that stay on one thread, so those can
    have torch's own.
    """
    width = rows.shape[-1]
    if width % VECTORS == 0 and width <= ONE_THREAD:
        for part in torch.split(rows, ONE_THREAD // width):
            F.silu(part, inplace=True)
        return rows
    for part in torch.split(rows, SLAB):
        part.div_(part.neg().exp_().add_(1.0))
    return rows


def gelu_(rows: Tensor) -> Tensor:
    """The same for gelu."""
    for part in torch.split(rows, SLAB):
        part.mul_(part.mul(math.sqrt(0.5)).erf_().add_(1.0).mul_(0.5))
    return rows


def quick_gelu_(rows: Tensor) -> Tensor:
    """The same for x * sigmoid(1.702 x)."""
    for part in torch.split(rows, SLAB):
        part.div_(part.mul(-1.702).exp_().add_(1.0))
    return rows


def _rounded(x: Tensor, apply: Callable[[Tensor], Tensor]) -> Tensor:
    numbers = x.float()
    apply(numbers.view(-1, x.shape[-1]))
    return numbers.to(x.dtype)

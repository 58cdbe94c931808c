"""Weights in the layouts of the CPU libraries that stream them fast and keep every row's bits.

A kernel is used only if a row's result is the same for every number of rows; `keeps_its_promise`
tries that at start, in milliseconds. Three do:

- Our own layers (`cpu.streamed_weight`) multiply fp32 rows with bfloat16 weights and add up in
  fp32, in one order for every number of rows. They are the fastest for few rows, as fast as any
  for many, and packed at the speed of memory; but they exist only where they were compiled, and
  take only weights that bfloat16 holds.
- oneDNN's packed layers keep one order of addition from two rows on, so a lone row is computed
  twice. Activation, product and residual are fused behind it.
- FBGEMM's layers do the same with fp16 weights. They read half the memory of fp32 weights too, in
  one stream a core. A weight that came from a bfloat16 or fp16 checkpoint fits exactly, times a
  power of two. Packing takes longer than reading the file, so what always has many rows is left to
  oneDNN, which is faster there.

The operators are private to torch or old, hence the check.

Shapes: I inputs, O outputs; x `[..., I]`.
"""

import logging
import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.models.activations import Activation, activate, settle_vector_functions, silu_
from sightline.models.cpu.compiled import kernels
from sightline.models.cpu.streamed_weight import StreamedWeight
from sightline.models.device_memory import cpu_flags, cpu_has_bfloat16
from sightline.models.scratch import Scratch

logger = logging.getLogger(__name__)

ONE_DNN_DTYPES = (torch.float32, torch.bfloat16)
ROWS_HINT = 16
HALF_LARGEST = 2.0**15  # half of what fp16 holds
# A weight's own rounding must stay below what fp32 sums lose anyway.
HALF_TOLERANCE = 2.0**-32
_PIECE = 2**16  # numbers that are judged at once, within a core's cache
_ROWS_CHECKED = (1, 2, 17, 131)
_SHAPE_CHECKED = (96, 528)  # (O, I): more inputs than kernels add up in one go
_scratch = Scratch()


class PackedWeight(Protocol):
    """One weight `[O, I]` of `size_bytes`; `bias` `[O]`. Results have the dtype of `x`.

    `takes_any_rows` says that it is ready for every number of rows, one included.
    """

    size_bytes: int
    takes_any_rows: bool

    def apply(self, x: Tensor, bias: Tensor | None, then: Activation = "none") -> Tensor: ...

    def times(self, x: Tensor, bias: Tensor | None, factor: Tensor) -> Tensor:
        """Return the product of the outputs with `factor` `[..., O]`."""
        ...

    def plus(self, x: Tensor, bias: Tensor | None, residual: Tensor) -> Tensor:
        """Return the sum of the outputs and `residual` `[..., O]`."""
        ...


class GatedWeight(Protocol):
    """Two layers in one weight, ready for every number of rows."""

    size_bytes: int

    def gated(self, x: Tensor) -> Tensor:
        """Return silu of the first half of the outputs times the second half."""
        ...


def pack_weight(
    weight: Tensor, dtype: torch.dtype, *, has_many_rows: bool = False, rounds_rows: bool = False
) -> PackedWeight | None:
    """Return `weight` for the fastest kernel that keeps its promise here; None if none does.

    `dtype` is that of the rows; `weight` may be in another that it holds. With `rounds_rows`, where
    `can_round`, rows may be rounded to bfloat16 before they are multiplied.
    """
    if rounds_rows and (rounded := StreamedWeight.fit(weight, rounds_rows=True)):
        return rounded
    by_one_dnn = can_pack(dtype)
    prefers_one_dnn = has_many_rows and by_one_dnn and dtype == torch.float32
    if _widens(dtype) and not prefers_one_dnn and (narrow := _fit_two_bytes(weight, dtype)):
        return narrow
    return OneDnnWeight(weight.to(dtype)) if by_one_dnn else None


def pack_gated(
    weight: Tensor, dtype: torch.dtype, *, rounds_rows: bool = False
) -> GatedWeight | None:
    """The same for gate and up projection in one; None if no kernel takes both."""
    if rounds_rows and (rounded := StreamedWeight.fit(weight, is_gated=True, rounds_rows=True)):
        return rounded
    return _fit_two_bytes(weight, dtype, is_gated=True) if _widens(dtype) else None


def _fit_two_bytes(
    weight: Tensor, dtype: torch.dtype, *, is_gated: bool = False
) -> "StreamedWeight | HalfWeight | None":
    """Our own kernel before FBGEMM's, where the weight fits it."""
    if can_stream() and (streamed := StreamedWeight.fit(weight, is_gated=is_gated)):
        return streamed
    return HalfWeight.fit(weight) if can_pack_half(dtype) else None


class OneDnnWeight:
    takes_any_rows = False

    def __init__(self, weight: Tensor) -> None:
        self.size_bytes = weight.nbytes
        # The number of rows is a hint that changes nothing: one packing serves any number.
        self._packed = torch.ops.mkldnn._reorder_linear_weight(
            weight.detach().contiguous(), ROWS_HINT
        )

    def apply(self, x: Tensor, bias: Tensor | None, then: Activation = "none") -> Tensor:
        if len(x) == 1 and x.dim() == 2:
            return self.apply(x.repeat(2, 1), bias, then)[:1]
        algorithm = "none" if then == "gelu" else ""
        return torch.ops.mkldnn._linear_pointwise.default(
            x, self._packed, bias, then, [], algorithm
        )

    def times(self, x: Tensor, bias: Tensor | None, factor: Tensor) -> Tensor:
        return self._binary(x, bias, factor, "mul")

    def plus(self, x: Tensor, bias: Tensor | None, residual: Tensor) -> Tensor:
        return self._binary(x, bias, residual, "add")

    def _binary(self, x: Tensor, bias: Tensor | None, other: Tensor, what: str) -> Tensor:
        if len(x) == 1 and x.dim() == 2:
            return self._binary(x.repeat(2, 1), bias, other.repeat(2, 1), what)[:1]
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, self._packed, bias, what)


class HalfWeight:
    """fp16 weights, times a power of two."""

    takes_any_rows = True

    def __init__(self, scaled: Tensor, scale: float) -> None:
        self.size_bytes = scaled.numel() * torch.float16.itemsize
        self._packed = torch.ops.quantized.linear_prepack_fp16(scaled, None)
        self._unscale = 1.0 / scale

    @classmethod
    def fit(cls, weight: Tensor) -> "HalfWeight | None":
        """Pack `weight` if fp16 holds all of it, times some power of two."""
        scaled = _scratch.take(weight.numel()).view(weight.shape)
        scaled.copy_(weight.detach())
        largest = _largest(scaled)
        if not 0 < largest < math.inf:
            return None
        scale = 2.0 ** math.floor(math.log2(HALF_LARGEST / largest))
        for piece in torch.split(scaled.view(-1), _PIECE):
            piece.mul_(scale)
            if _largest(piece - piece.half()) > HALF_LARGEST * HALF_TOLERANCE:
                return None
        return cls(scaled, scale)

    def apply(self, x: Tensor, bias: Tensor | None, then: Activation = "none") -> Tensor:
        return activate(self._outputs(x, bias), then).to(x.dtype)

    def times(self, x: Tensor, bias: Tensor | None, factor: Tensor) -> Tensor:
        return self._outputs(x, bias).mul_(factor).to(x.dtype)

    def plus(self, x: Tensor, bias: Tensor | None, residual: Tensor) -> Tensor:
        if bias is None:
            return torch.add(residual, self._scaled(x), alpha=self._unscale).to(x.dtype)
        return self._outputs(x, bias).add_(residual).to(x.dtype)

    def gated(self, x: Tensor) -> Tensor:
        """Return silu of the first half of the outputs times the second half."""
        outputs = self._outputs(x, None)
        gate, up = outputs.view(-1, outputs.shape[-1]).chunk(2, dim=-1)
        return torch.mul(silu_(gate), up).view(*x.shape[:-1], -1).to(x.dtype)

    def _outputs(self, x: Tensor, bias: Tensor | None) -> Tensor:
        outputs = self._scaled(x)
        if bias is None:
            return outputs.mul_(self._unscale)
        return torch.add(bias, outputs, alpha=self._unscale)

    def _scaled(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic_fp16.default(x.float(), self._packed)


def _largest(values: Tensor) -> float:
    lowest, highest = torch.aminmax(values)
    return max(-float(lowest), float(highest))


@lru_cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch on this processor has oneDNN's packed kernel, and it keeps its promise."""
    if dtype not in ONE_DNN_DTYPES or not torch._C._has_mkldnn:
        return False
    works = _keeps_its_promise(OneDnnWeight, dtype)
    if not works:
        logger.warning("oneDNN's packed linear layers are not usable here; steps will be slower")
    return works


@lru_cache
def can_pack_half(dtype: torch.dtype) -> bool:
    """The same of FBGEMM's kernel for weights of two bytes, which only x86 has."""
    return dtype in ONE_DNN_DTYPES and _keeps_its_promise(HalfWeight.fit, dtype)


@lru_cache
def can_stream() -> bool:
    """The same of our own kernel, which only x86 has, where there was a compiler."""
    if kernels() is None:
        return False
    works = _keeps_its_promise(StreamedWeight.fit, torch.float32)
    if not works:
        logger.warning("the compiled kernels are not usable here; steps will be slower")
    return works


@lru_cache
def can_round() -> bool:
    """Whether our own kernel for rows of bfloat16 is the fastest on this processor.

    Where there are tiles of matrices (AMX), oneDNN's is, if it keeps its promise: a single row may
    be multiplied without tiles there, in another order.
    """
    library = kernels()
    if library is None or library.rounded_products is None:
        return False
    if "amx_bf16" in cpu_flags() and _keeps_its_promise(OneDnnWeight, torch.bfloat16):
        return False
    works = _keeps_its_promise(partial(StreamedWeight.fit, rounds_rows=True), torch.float32)
    if not works:
        logger.warning("the compiled bfloat16 kernel is not usable here; steps will be slower")
    return works


def is_faster_in_float32(dtype: torch.dtype) -> bool:
    """Whether weights of two bytes are best multiplied with fp32 rows here."""
    return dtype == torch.bfloat16 and _widens(dtype) and can_pack(torch.float32)


@lru_cache
def _widens(dtype: torch.dtype) -> bool:
    """Whether rows of `dtype` are best multiplied as fp32 numbers with weights of two bytes."""
    if dtype == torch.bfloat16 and cpu_has_bfloat16():
        return False
    return dtype in ONE_DNN_DTYPES and (can_stream() or can_pack_half(dtype))


@torch.inference_mode()
def _keeps_its_promise(pack: Callable[[Tensor], PackedWeight | None], dtype: torch.dtype) -> bool:
    settle_vector_functions()
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        # Numbers that every format holds.
        return (torch.randn(shape, generator=random) * 16).round().div(16).to(dtype)

    num_outputs, num_inputs = _SHAPE_CHECKED
    weight, bias = draw(num_outputs, num_inputs) / 32, draw(num_outputs)
    x, other = draw(max(_ROWS_CHECKED), num_inputs), draw(max(_ROWS_CHECKED), num_outputs)
    plain = F.linear(x, weight, bias)
    expected = [plain, F.silu(plain), F.gelu(plain), plain * other, plain + other]
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    try:
        packed = pack(weight)
        if packed is None:
            return False

        def results(rows: int) -> list[Tensor]:
            few, beside = x[:rows], other[:rows]
            activated = [packed.apply(few, bias, then) for then in ("none", "swish", "gelu")]
            return [*activated, packed.times(few, bias, beside), packed.plus(few, bias, beside)]

        found = results(len(x))
        return all(
            torch.allclose(a.float(), b.float(), atol=tolerance, rtol=tolerance)
            for a, b in zip(found, expected, strict=True)
        ) and all(
            torch.equal(few, all_[:rows])
            for rows in _ROWS_CHECKED
            for few, all_ in zip(results(rows), found, strict=True)
        )
    except (RuntimeError, AttributeError, NotImplementedError):
        return False

"""Products with quantised matrices: the fastest way that this torch and processor do right.

`StreamedKernel` and `IntegerKernel` round each row of activations to 16 bits and multiply its
upper and lower bytes, as two rows of 8 bits, by int8 weights, the former by int4 weights, too. The
sums (of an int4 group) are whole numbers and thus exact: a row's bits depend neither on its company
nor on a library's order of addition, and all but the weights' own error is below one part in
10,000. The packed kernels widen weights in registers; activations are rounded to bfloat16.
`DequantizingKernel` always works.

A kernel is chosen by trying it against what it is trusted for, once per process. The operators
are private to torch, hence the check.

Shapes: M rows, O outputs, I inputs.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.models.cpu.streamed_weight import StreamedNumbers
from sightline.models.device import has_bfloat16
from sightline.models.quantization import GROUP_SIZE, Scheme
from sightline.models.quantized import QuantizedWeight, quantize, unpack_int4

logger = logging.getLogger(__name__)

TILE = 16
_ROWS_CHECKED = (1, 2, 17, 131)
_SHAPE_CHECKED = (96, 640)  # (O, I): more inputs than kernels add up in one go

# Activations in 16 bits: -32512 to 32512, so that the upper byte stays within -127 to 127.
_HIGHEST = 32512.0
# Upper and lower byte are both stored as unsigned with a zero of 128.
_BYTE_ZERO = 128
_OFFSET = 2.0**23 + 256.0 * _BYTE_ZERO + _BYTE_ZERO
# The CPU's int4 layout is made of 64 rows at a time.
_ROWS_PACKED = 256
# _int_mm on CUDA wants more than 16 rows, and multiples of 8 elsewhere.
_CUDA_ROWS, _CUDA_MULTIPLE = 32, 8
# Of more rows, CUDA's sums in 32 bits, twice over, would be the largest thing of a step.
_CUDA_ROWS_AT_ONCE = 1024


class Kernel(ABC):
    """Holds a quantised matrix in the form that its operator wants, and only in that form."""

    def __init__(self, weight: QuantizedWeight) -> None:
        self.num_outputs = weight.num_outputs
        self.size_bytes = weight.size_bytes

    @classmethod
    @abstractmethod
    def suits(cls, weight: QuantizedWeight) -> bool:
        """Whether scheme, device and shape are what the operator is made for."""

    @abstractmethod
    def product(self, rows: Tensor) -> Tensor:
        """Return a new `[M, O]` of `[M, I]`."""

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return `x W^T + b` of `[..., I]`, in the type of `x`."""
        is_flat = x.dim() == 2
        out = self.product(x if is_flat else x.reshape(-1, x.shape[-1]))
        if bias is not None:
            out.add_(bias)
        if out.dtype != x.dtype:
            out = out.to(x.dtype)
        return out if is_flat else out.view(*x.shape[:-1], self.num_outputs)


class DequantizingKernel(Kernel):
    """The plain twin of the others: the matrix is made anew for every product."""

    def __init__(self, weight: QuantizedWeight) -> None:
        super().__init__(weight)
        self.weight = weight

    @classmethod
    def suits(cls, weight: QuantizedWeight) -> bool:
        return True

    def product(self, rows: Tensor) -> Tensor:
        matrix = self.weight.dequantized(rows.dtype)
        if rows.device.type != "cpu":
            return F.linear(rows, matrix)
        # In tiles of one size, a row has the same bits in any company.
        tiles = torch.split(F.pad(rows, (0, 0, 0, -len(rows) % TILE)), TILE)
        return torch.cat([F.linear(tile, matrix) for tile in tiles])[: len(rows)]


class StreamedKernel(Kernel):
    """Our own whole sums, on processors with int8 products.

    See `whole_products.c` for int8 and `group_products.c` for int4.
    """

    def __init__(self, weight: QuantizedWeight) -> None:
        super().__init__(weight)
        self.packed = StreamedNumbers.of(weight)

    @classmethod
    def suits(cls, weight: QuantizedWeight) -> bool:
        return StreamedNumbers.suits(weight)

    def product(self, rows: Tensor) -> Tensor:
        return self.packed.apply(rows, None)


class IntegerKernel(Kernel):
    """int8 weights, 16-bit activations, whole sums; oneDNN's on a CPU, cuBLAS's on CUDA."""

    def __init__(self, weight: QuantizedWeight) -> None:
        super().__init__(weight)
        self._scales = weight.scales / _HIGHEST
        self._offset = torch.tensor(_OFFSET, device=weight.values.device)
        self._is_cpu = weight.values.device.type == "cpu"
        if self._is_cpu:
            self._values = torch.ops.onednn.qlinear_prepack(weight.values, None)
            self._multiply = torch.ops.onednn.qlinear_pointwise.default
            self._zeros = torch.zeros(weight.num_outputs, dtype=torch.int64)
        else:
            self._values = weight.values.t()

    @classmethod
    def suits(cls, weight: QuantizedWeight) -> bool:
        if weight.scheme != "int8":
            return False
        if weight.values.device.type == "cpu":
            return bool(torch._C._has_mkldnn)
        return weight.values.device.type == "cuda" and not any(
            size % _CUDA_MULTIPLE for size in weight.values.shape
        )

    def product(self, rows: Tensor) -> Tensor:
        if self._is_cpu or len(rows) <= _CUDA_ROWS_AT_ONCE:
            return self._product(rows)
        out = rows.new_empty(len(rows), self.num_outputs, dtype=torch.float32)
        parts = (torch.split(tensor, _CUDA_ROWS_AT_ONCE) for tensor in (rows, out))
        for some, place in zip(*parts, strict=True):
            place.copy_(self._product(some))
        return out

    def _product(self, rows: Tensor) -> Tensor:
        halves, top = split_rows(rows, self._offset)
        sums = self._sums(halves)
        return torch.add(sums[0], sums[1], alpha=256).mul_(top)

    def _sums(self, halves: Tensor) -> Tensor:
        """Return fp32 `[2, M, O]`: whole sums for bytes `[2, M, I]`, times the outputs' scales."""
        if self._is_cpu:
            return self._multiply(
                halves, 1.0, _BYTE_ZERO, self._values, self._scales, self._zeros, None,
                1.0, 0, torch.float32, "none", [], "",
            )  # fmt: skip
        signed = (halves.flatten(0, 1) ^ _BYTE_ZERO).view(torch.int8)
        padded = F.pad(signed, (0, 0, 0, -len(signed) % _CUDA_ROWS))
        sums = torch._int_mm(padded, self._values)[: len(signed)] * self._scales
        return sums.view(2, -1, self.num_outputs)


class PackedInt8Kernel(Kernel):
    """torch's own, for processors without int8 products."""

    def __init__(self, weight: QuantizedWeight) -> None:
        super().__init__(weight)
        self._values, self._scales = weight.values, weight.scales
        # The operator's own scales are bfloat16, which is too coarse.
        self._ones = torch.ones_like(self._scales, dtype=torch.bfloat16)

    @classmethod
    def suits(cls, weight: QuantizedWeight) -> bool:
        return weight.scheme == "int8" and weight.values.device.type == "cpu"

    def product(self, rows: Tensor) -> Tensor:
        out = torch._weight_int8pack_mm(rows.bfloat16(), self._values, self._ones)
        return out.float().mul_(self._scales)


class PackedInt4Kernel(Kernel):
    """torch's own, on CPUs and on CUDA."""

    def __init__(self, weight: QuantizedWeight) -> None:
        super().__init__(weight)
        self._is_cpu = weight.values.device.type == "cpu"
        self._scales = weight.scales.transpose(0, 1).contiguous()
        if not self._is_cpu:
            swapped = (weight.values << 4) | (weight.values >> 4)
            self._values = torch.ops.aten._convert_weight_to_int4pack(swapped, _CUDA_MULTIPLE)
            return
        # The operator wants four bytes for each number: a few rows at a time.
        self._values = torch.empty_like(weight.values)
        for start in range(0, self.num_outputs, _ROWS_PACKED):
            rows = slice(start, start + _ROWS_PACKED)
            numbers = unpack_int4(weight.values[rows]).to(torch.int32)
            self._values[rows] = torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers, 1)

    @classmethod
    def suits(cls, weight: QuantizedWeight) -> bool:
        if weight.scheme != "int4" or weight.num_outputs % 16:
            return False
        device = weight.values.device.type
        return device == "cpu" or (device == "cuda" and weight.num_inputs % 128 == 0)

    def product(self, rows: Tensor) -> Tensor:
        multiply = (
            torch.ops.aten._weight_int4pack_mm_for_cpu
            if self._is_cpu
            else torch.ops.aten._weight_int4pack_mm
        )
        return multiply(rows.bfloat16(), self._values, GROUP_SIZE, self._scales)


FASTEST_FIRST = (StreamedKernel, IntegerKernel, PackedInt8Kernel, PackedInt4Kernel)


def choose_kernel(weight: QuantizedWeight) -> Kernel:
    """Put a matrix into the form of the fastest kernel that works here."""
    for kernel in _fastest_first(weight.scheme, weight.values.device):
        if kernel.suits(weight) and keeps_its_promise(kernel, weight.scheme, weight.values.device):
            return kernel(weight)
    return DequantizingKernel(weight)


def _fastest_first(scheme: Scheme, device: torch.device) -> Iterable[type[Kernel]]:
    if device.type != "cuda":
        return FASTEST_FIRST
    from sightline.models.gpu.quantized_choice import fastest_first

    return fastest_first(scheme, device)


def split_rows(rows: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Round rows `[M, I]` to 16 bits: lower and upper bytes `[2, M, I]`, and tops `[M, 1]`.

    A row is about ((lower - 128) + 256 * (upper - 128)) * top / _HIGHEST. Rows with numbers that
    are not finite have tops that are not finite; a row of zeros has bytes without a meaning and a
    top of zero. `offset` holds `_OFFSET` on the rows' device.

    Beside weights that stream through the caches every operator costs more than its arithmetic,
    so there are few of them.
    """
    wide = rows if rows.dtype == torch.float32 else rows.float()
    top = torch.linalg.vector_norm(wide, torch.inf, dim=-1, keepdim=True)
    # An fp32 number from 2^23 on is whole, and its lower bits are that number: adding rounds, and
    # there is nothing to convert.
    shifted = torch.addcdiv(offset, wide, top, value=_HIGHEST)
    number, width = shifted.shape
    in_bytes = shifted.view(torch.uint8)
    return torch.as_strided_copy(in_bytes, (2, number, width), (1, 4 * width, 4)), top


@lru_cache
@torch.inference_mode()
def keeps_its_promise(kernel: type[Kernel], scheme: Scheme, device: torch.device) -> bool:
    """Whether the kernel exists here, computes what its plain twin does, and knows no company."""
    try:
        works = _agrees(kernel, scheme, device)
    except Exception:  # whatever torch, a compiler or a driver may raise
        works = False
    if not works:
        logger.info("%s is not usable on %s", kernel.__name__, device)
    return works


def _agrees(kernel: type[Kernel], scheme: Scheme, device: torch.device) -> bool:
    random = torch.Generator().manual_seed(0)
    num_outputs, num_inputs = _SHAPE_CHECKED
    matrix = torch.randn(num_outputs, num_inputs, generator=random)
    rows = torch.randn(max(_ROWS_CHECKED), num_inputs, generator=random)
    # Extremes next to each other overflow where products are added up in 16 bits.
    matrix[:2], rows[:2] = 1.0, 1.0
    matrix[2:4], rows[2:4] = -1.0, -1.0
    weight = quantize(matrix.to(device), scheme)
    rows = rows.to(device, dtype_of_rows(device))
    made = kernel(weight)
    expected = F.linear(rows.float(), weight.dequantized(torch.float32))
    is_close = kernel in (StreamedKernel, IntegerKernel) and rows.dtype == torch.float32
    found = [made(rows[:count], None).float() for count in _ROWS_CHECKED]
    for some in found:
        right = expected[: len(some)]
        error = (some - right).norm(dim=1) / right.norm(dim=1)
        if not (error < (1e-3 if is_close else 2e-2)).all():
            return False
    # On other devices rows are not promised the same bits in any company, see ADR 19.
    return device.type != "cpu" or all(torch.equal(some, found[-1][: len(some)]) for some in found)


def dtype_of_rows(device: torch.device) -> torch.dtype:
    """Return what models' rows are, as far as the device has a say in it."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if has_bfloat16(device) else torch.float16

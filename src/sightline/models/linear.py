"""Linear layers that give a row the same bits alone and in any company, and stream weights fast.

On a CPU the library behind `F.linear` picks its kernel by the number of rows, and kernels add up
in different orders: a row's last bits depend on how many others stand beside it. `packing`
hands every weight to a kernel that keeps one order (see `packed_weight`), instead of the original.
Where there is none, fp32 is computed in tiles of a fixed number of rows. `F.linear` stays as the
twin that training, GPUs and other processors use.

Shapes: I inputs, O outputs.
"""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.models.activations import gelu, quick_gelu, silu
from sightline.models.cpu.compiled import Matrix
from sightline.models.cpu.streamed_weight import LARGEST_HALF, Streamed
from sightline.models.packed_weight import (
    GatedWeight,
    PackedWeight,
    pack_gated,
    pack_weight,
)
from sightline.models.quantized import QuantizedWeight
from sightline.models.quantized_kernels import (
    DequantizingKernel,
    Kernel,
    StreamedKernel,
    choose_kernel,
)

TILE = 16
_STEPS = ((4, 2), (8, 4), (64, 8), (256, 16))  # (up to so many rows, in steps of)
_LAST_STEP = 32


class Norm(nn.Module):
    """A root-mean-square norm; the weight is applied in fp32 and the result rounded once.

    `kernel` does the same faster, where there is one.
    """

    kernel: Callable[[Tensor, Tensor, float], Tensor] | None = None

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel is not None:
            return self.kernel(x, self.weight, self.eps)
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class RoundingNorm(Norm):
    """The same, rounded before the weight is applied too, as Qwen's originals do.

    `rounding_kernel` does that; `kernel` rounds once, which in float32 is no rounding.
    """

    rounding_kernel: Callable[[Tensor, Tensor, float], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel if x.dtype == torch.float32 else self.rounding_kernel
        if kernel is not None:
            return kernel(x, self.weight, self.eps)
        return F.rms_norm(x.float(), self.weight.shape, None, self.eps).to(x.dtype) * self.weight


class LayerNorm(nn.LayerNorm):
    """A layer norm with a bias; `kernel` does the same faster, where there is one."""

    kernel: Callable[[Tensor, Tensor, Tensor, float, Tensor | None], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel is not None:
            return self.kernel(x, self.weight, self.bias, self.eps, None)
        return super().forward(x)

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return the sum of the norm and `residual`, which has the shape of `x`."""
        if self.kernel is not None:
            return saturated(self.kernel(x, self.weight, self.bias, self.eps, residual))
        return saturated(residual + super().forward(x))


class FewRowsKernel(Protocol):
    """What a GPU may have for products with few rows: see `gpu.fast_linears`."""

    def takes(self, x: Tensor) -> bool: ...

    def __call__(
        self, x: Tensor, *, norm: Norm | None = None, residual: Tensor | None = None
    ) -> Tensor: ...


class Linear(nn.Linear):
    """`x W^T + b` for `[..., I]`, alone or with what stands before and behind it.

    `has_many_rows` says that it never meets only a few, `rounds_rows` that rows may be rounded to
    bfloat16 before they are multiplied.
    """

    has_many_rows = False
    rounds_rows = False
    few: FewRowsKernel | None = None
    _packed: PackedWeight | None = None
    _kernel: Kernel | None = None
    _is_tiled = False

    def forward(self, x: Tensor) -> Tensor:
        if self.few is not None and self.few.takes(x):
            return self.few(x)
        if self._packed is None:
            return self._plain(x)
        return self._packed.apply(x, self.bias)

    def normed(self, x: Tensor, norm: Norm) -> Tensor:
        """Return the outputs for the rows that `norm` makes of `x`."""
        if self.few is not None and self.few.takes(x):
            return self.few(x, norm=norm)
        rows: Tensor = self(norm(x))
        return rows

    def silu(self, x: Tensor) -> Tensor:
        if self._packed is None:
            return silu(self(x))
        return self._packed.apply(x, self.bias, "swish")

    def gelu(self, x: Tensor) -> Tensor:
        if self._packed is None:
            return gelu(self(x))
        return self._packed.apply(x, self.bias, "gelu")

    def quick_gelu(self, x: Tensor) -> Tensor:
        if isinstance(self._packed, Streamed):
            return self._packed.apply(x, self.bias, "quick_gelu")
        return quick_gelu(self(x))

    def times(self, x: Tensor, factor: Tensor) -> Tensor:
        """Return the product of the outputs with `factor` `[..., O]`."""
        if self._packed is None:
            return saturated(self(x) * factor)
        return self._packed.times(x, self.bias, factor)

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return the sum of the outputs and `residual` `[..., O]`, which may be overwritten."""
        if self.few is not None and self.few.takes(x):
            return self.few(x, residual=residual)
        is_plain = self.bias is None and self._kernel is None and not torch.is_grad_enabled()
        if is_plain and x.dim() == 2 and x.device.type != "cpu":
            # In place: libraries add to what lies there, so else it would be copied before.
            return saturated(residual.addmm_(x, self.weight.t()))
        if self._packed is None:
            return saturated(residual + self._plain(x))
        return self._packed.plus(x, self.bias, residual)

    def quantize(
        self, weight: QuantizedWeight, kernel: type[DequantizingKernel] = DequantizingKernel
    ) -> None:
        """Compute with a quantised matrix; the layer's `weight` is gone afterwards."""
        self._kernel = kernel(weight)
        self.register_parameter("weight", None)

    @property
    def stored(self) -> DequantizingKernel | None:
        """The kernel of a quantised matrix that leaves it as it is stored, if it has such a one."""
        return self._kernel if isinstance(self._kernel, DequantizingKernel) else None

    @property
    def quantized(self) -> QuantizedWeight | None:
        """The quantised matrix, where no kernel holds it in a form of its own."""
        return None if self.stored is None else self.stored.weight

    def choose_kernel(self) -> None:
        """Put a quantised matrix into the form of the fastest kernel."""
        if self.quantized is not None:
            self._kernel = choose_kernel(self.quantized)
            self._take_whole()

    def _take_whole(self) -> None:
        """Let our own kernel do more than the product."""
        if isinstance(self._kernel, StreamedKernel):
            self._packed, self._kernel = self._kernel.packed, None

    @property
    def kernel_bytes(self) -> int:
        """The bytes of the weight where a kernel holds it; 0 where it is a parameter."""
        holder = self._packed or self._kernel
        return 0 if holder is None else holder.size_bytes

    @property
    def is_fast_for_any_rows(self) -> bool:
        """Whether its kernel is ready for every number of rows, one included."""
        return self._packed is not None and self._packed.takes_any_rows

    @property
    def is_streamed(self) -> bool:
        """Whether its kernel is our own for processors."""
        return isinstance(self._packed, Streamed)

    def streamed(self) -> Matrix | None:
        """Return what our own kernel is told of the layer; None where it is not for it."""
        return _told(self._packed, self.bias)

    def pack(self, dtype: torch.dtype) -> bool:
        """Give the weight to a kernel that keeps a row's bits, if there is one, and drop it.

        `dtype` is that of the rows.
        """
        self._packed = self._pack(self.weight.flatten(1), dtype)
        if self._packed is None:
            return False
        self.register_parameter("weight", None)
        return True

    def convert(self, dtype: torch.dtype) -> None:
        """Keep the weight in `dtype`."""
        if self.weight.dtype != dtype:
            self.weight = nn.Parameter(self.weight.to(dtype), requires_grad=False)

    def tile(self) -> None:
        """Compute in tiles of `TILE` rows from now on."""
        self._is_tiled = True

    def _pack(self, weight: Tensor, dtype: torch.dtype) -> PackedWeight | None:
        return pack_weight(
            weight, dtype, has_many_rows=self.has_many_rows, rounds_rows=self.rounds_rows
        )

    def _plain(self, x: Tensor) -> Tensor:
        if self._kernel is not None:
            return saturated(self._kernel(x, self.bias))
        if not self._is_tiled:
            return saturated(F.linear(x, self.weight.flatten(1), self.bias))
        rows = x.reshape(-1, self.in_features)
        tiles = torch.split(F.pad(rows, (0, 0, 0, -len(rows) % TILE)), TILE)
        out = torch.cat([F.linear(tile, self.weight.flatten(1), self.bias) for tile in tiles])
        return out[: len(rows)].view(*x.shape[:-1], self.out_features)


class PatchLinear(Linear):
    """A convolution over patches that touch but do not overlap, with a convolution's weight."""

    def __init__(self, num_channels: int, out_features: int, patch_size: int) -> None:
        super().__init__(num_channels * patch_size**2, out_features)
        self.patch_size = patch_size
        shape = (out_features, num_channels, patch_size, patch_size)
        self.weight = nn.Parameter(self.weight.detach().view(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Turn `[N, C, h * patch_size, w * patch_size]` into `[N, h * w, O]`."""
        size = self.patch_size
        num_images, num_channels, height, width = x.shape
        patches = x.reshape(
            num_images, num_channels, height // size, size, width // size, size
        ).permute(0, 2, 4, 1, 3, 5)
        return super().forward(patches.flatten(3).flatten(1, 2))


class GatedLinear(Linear):
    """Two layers in one weight: silu of the first half of the outputs times the second half.

    Kernels for CPUs have none with a bias.
    """

    kernel: Callable[[Tensor], Tensor] | None = None
    _packed_up: PackedWeight | None = None
    _gated: GatedWeight | None = None

    def __init__(self, in_features: int, inner_features: int, *, bias: bool = False) -> None:
        super().__init__(in_features, 2 * inner_features, bias=bias)

    @staticmethod
    def activate(rows: Tensor) -> Tensor:
        gate, up = rows.chunk(2, dim=-1)
        return silu(gate) * up

    def forward(self, x: Tensor) -> Tensor:
        if self.few is not None and self.few.takes(x):
            return self.few(x)
        if self._gated is not None:
            return self._gated.gated(x)
        if self._packed is None or self._packed_up is None:
            return saturated((self.kernel or self.activate)(self._plain(x)))
        return self._packed_up.times(x, None, self._packed.apply(x, None, "swish"))

    @property
    def is_fast_for_any_rows(self) -> bool:
        return self._gated is not None

    @property
    def is_streamed(self) -> bool:
        if self._gated is not None:
            return isinstance(self._gated, Streamed)
        # Each half is judged by itself: bfloat16 may hold only one of them.
        return isinstance(self._packed, Streamed) and isinstance(self._packed_up, Streamed)

    def streamed(self) -> Matrix | None:
        return _told(self._gated, None)

    @property
    def kernel_bytes(self) -> int:
        both = (self._gated, self._packed_up)
        return super().kernel_bytes + sum(part.size_bytes for part in both if part is not None)

    def pack(self, dtype: torch.dtype) -> bool:
        if self.bias is not None:
            return False
        self._gated = pack_gated(self.weight, dtype, rounds_rows=self.rounds_rows)
        if self._gated is None:
            gate, up = (self._pack(half, dtype) for half in self.weight.chunk(2))
            if gate is None or up is None:
                return False
            self._packed, self._packed_up = gate, up
        self.register_parameter("weight", None)
        return True

    def _take_whole(self) -> None:
        kernel = self._kernel
        if self.bias is None and isinstance(kernel, StreamedKernel) and kernel.packed.can_gate:
            self._gated, self._kernel = kernel.packed, None


class TiedLinear(Linear):
    """Scores by a table of embeddings, whose weight it shares and has no parameter for.

    The table cannot be packed, it is looked up in: `pack` makes a copy in oneDNN's layout.
    """

    def __init__(self, table: nn.Embedding) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = table.embedding_dim, table.num_embeddings
        self.register_parameter("bias", None)
        self._tables = (table,)  # no child: its weight is its own

    @property
    def weight(self) -> Tensor | None:  # type: ignore[override]
        return None if self._packed is not None else self._tables[0].weight

    def pack(self, dtype: torch.dtype) -> bool:
        self._packed = self._pack(self._tables[0].weight, dtype)
        return self._packed is not None

    def convert(self, dtype: torch.dtype) -> None:
        (table,) = self._tables
        if table.weight.dtype != dtype:
            table.weight = nn.Parameter(table.weight.to(dtype), requires_grad=False)


def saturated(x: Tensor) -> Tensor:
    """Bound float16 numbers, in place; leave other formats alone.

    Models are trained in bfloat16, whose largest number float16 cannot hold. A sum or product
    that grows beyond becomes infinite, and infinite rows become NaN in the next norm. A bounded
    one is off in a place where the model only cares that it is large. NaN stays NaN.
    """
    return x.clamp_(-LARGEST_HALF, LARGEST_HALF) if x.dtype == torch.float16 else x


def _told(weight: PackedWeight | GatedWeight | None, bias: Tensor | None) -> Matrix | None:
    matrix = weight.matrix() if isinstance(weight, Streamed) else None
    if matrix is None or bias is None:
        return matrix
    if bias.dtype != torch.float32 or not bias.is_contiguous():
        return None
    matrix.bias = bias.data_ptr()
    return matrix


def pad_rows(rows: Tensor) -> Tensor:
    """Add rows of zeros behind `[T, ...]` until T is one of a small set of numbers.

    oneDNN builds a kernel for every number of rows that it meets, which costs as much as a small
    step; and a lone row needs company.
    """
    num_missing = round_up_rows(len(rows)) - len(rows)
    if num_missing == 0 or rows.device.type != "cpu":
        return rows
    return F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, num_missing))


def round_up_rows(num_rows: int) -> int:
    for limit, step in _STEPS:
        if num_rows <= limit:
            return -(-num_rows // step) * step
    return -(-num_rows // _LAST_STEP) * _LAST_STEP

"""Linear layers for few rows on a GPU, by our own kernel.

Importing this module needs Triton.
"""

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from sightline.models.gpu import dependent_launch
from sightline.models.gpu import linear_kernels as kernels
from sightline.models.linear import GatedLinear, Linear, Norm
from sightline.models.quantization import GROUP_SIZE
from sightline.models.quantized import QuantizedWeight

MAX_ROWS = 16


@dataclass(frozen=True, slots=True)
class Tiles:
    outputs: int
    inputs: int
    num_warps: int
    num_stages: int


@dataclass(frozen=True, slots=True)
class StoredWeight:
    """A weight `[O, I]` row after row, as it stands in a file; quantised if there are scales."""

    values: Tensor
    scales: Tensor | None = None

    @staticmethod
    def of(layer: Linear) -> "StoredWeight | None":
        """Return that of a layer; None where a kernel holds it in a layout of its own."""
        if isinstance(layer.weight, Tensor):
            return StoredWeight(layer.weight)
        quantized = layer.quantized
        return None if quantized is None else StoredWeight.quantized(quantized)

    @staticmethod
    def quantized(weight: QuantizedWeight) -> "StoredWeight":
        return StoredWeight(weight.values, weight.scales)

    @property
    def bits(self) -> int:
        """Bits of a number; 16 stands for every float."""
        return 16 if self.scales is None else 8 if self.values.dtype == torch.int8 else 4

    def scales_or_bits(self) -> Tensor:
        """Return the scales as kernels read them; anything where there are none."""
        if self.scales is None:
            return self.values
        return self.scales if self.bits == 8 else self.scales.view(torch.int16)


def multiply(
    x: Tensor,
    weight: StoredWeight,
    num_outputs: int,
    tiles: Tiles,
    *,
    bias: Tensor | None = None,
    norm: Norm | None = None,
    residual: Tensor | None = None,
    is_gated: bool = False,
    is_dependent: bool = False,
) -> Tensor:
    """Return `[T, O]` of a few rows `[T, I]`; see `linear_kernels.few_rows`."""
    x = x.contiguous()
    out = x.new_empty(len(x), num_outputs)
    kernels.few_rows[triton.cdiv(num_outputs, tiles.outputs),](
        x, weight.values, weight.scales_or_bits(),
        x if bias is None else bias, x if norm is None else norm.weight,
        x if residual is None else residual.contiguous(),
        out, len(x), 0.0 if norm is None else norm.eps,
        NUM_INPUTS=x.shape[1], NUM_OUTPUTS=num_outputs,
        HAS_BIAS=bias is not None, HAS_NORM=norm is not None, HAS_RESIDUAL=residual is not None,
        IS_GATED=is_gated, BITS=weight.bits, GROUP=GROUP_SIZE,
        BLOCK_T=max(MAX_ROWS, triton.next_power_of_2(len(x))),
        BLOCK_O=tiles.outputs, BLOCK_I=tiles.inputs,
        num_warps=tiles.num_warps, num_stages=tiles.num_stages,
        **dependent_launch.options(is_dependent=is_dependent),
    )  # fmt: skip
    return out


class FewRows:
    """A linear layer for at most `MAX_ROWS` rows.

    `is_dependent` says how it is launched: see `dependent_launch`.
    """

    is_dependent = False

    def __init__(self, layer: Linear, tiles: Tiles) -> None:
        weight = StoredWeight.of(layer)
        if weight is None:
            raise ValueError("a kernel holds the weight in a layout of its own")
        self._weight = weight
        self._bias = layer.bias
        self._tiles = tiles
        self._is_gated = isinstance(layer, GatedLinear)
        self._num_outputs = layer.out_features // (2 if self._is_gated else 1)

    @property
    def can_depend(self) -> bool:
        """Whether its weight can be called for, which is done 16 bytes at a time."""
        return self._weight.values.data_ptr() % 16 == 0

    def takes(self, x: Tensor) -> bool:
        return x.dim() == 2 and len(x) <= MAX_ROWS

    def __call__(
        self, x: Tensor, *, norm: Norm | None = None, residual: Tensor | None = None
    ) -> Tensor:
        """Return `[T, O]` of rows `[T, I]`."""
        return multiply(
            x, self._weight, self._num_outputs, self._tiles,
            bias=self._bias, norm=norm, residual=residual, is_gated=self._is_gated,
            is_dependent=self.is_dependent,
        )  # fmt: skip

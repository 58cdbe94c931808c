"""Products with quantised weights on a GPU that stay as they are stored.

Few rows are multiplied while the weight comes in: it is read once, in its 4 or 8 bits. Many rows
are arithmetic, so the library multiplies them with floats that are made anew, a piece at a time.

Importing this module needs Triton. Shapes: M rows, O outputs, I inputs.
"""

import torch
import triton
from torch import Tensor

from sightline.models.gpu import linear_kernels as kernels
from sightline.models.gpu.few_rows import StoredWeight, Tiles, multiply
from sightline.models.quantization import GROUP_SIZE
from sightline.models.quantized import QuantizedWeight
from sightline.models.quantized_kernels import DequantizingKernel

# Up to here the kernel reads less than making floats would write, and computes no more than them.
FEW_ROWS = 64
# What is best for a shape is chosen later, see `fast_linears.install`.
_TILES = Tiles(32, 128, 4, 3)
_BLOCK_OUTPUTS, _BLOCK_INPUTS = 16, 256
_PIECE_ELEMENTS = 32 * 2**20


class StoredKernel(DequantizingKernel):
    """Our own, for both schemes."""

    @classmethod
    def suits(cls, weight: QuantizedWeight) -> bool:
        return weight.values.device.type == "cuda"

    def product(self, rows: Tensor) -> Tensor:
        if len(rows) <= FEW_ROWS:
            return multiply(rows, StoredWeight.quantized(self.weight), self.num_outputs, _TILES)
        out = rows.new_empty(len(rows), self.num_outputs)
        step = max(1, _PIECE_ELEMENTS // self.weight.num_inputs)
        for start in range(0, self.num_outputs, step):
            outputs = slice(start, start + step)
            torch.mm(rows, self._floats(outputs, rows.dtype).t(), out=out[:, outputs])
        return out

    def _floats(self, outputs: slice, dtype: torch.dtype) -> Tensor:
        """Return some outputs' weights `[O, I]`."""
        part = StoredWeight(self.weight.values[outputs], self.weight.scales[outputs])
        num_outputs, num_inputs = len(part.values), self.weight.num_inputs
        made = part.values.new_empty(num_outputs, num_inputs, dtype=dtype)
        blocks = triton.cdiv(num_outputs, _BLOCK_OUTPUTS), triton.cdiv(num_inputs, _BLOCK_INPUTS)
        kernels.dequantize[blocks](
            part.values, part.scales_or_bits(), made, num_outputs, NUM_INPUTS=num_inputs,
            BITS=part.bits, GROUP=GROUP_SIZE,
            BLOCK_O=_BLOCK_OUTPUTS, BLOCK_I=_BLOCK_INPUTS, num_warps=4,
        )  # fmt: skip
        return made

"""Matrices in 8 or 4 bits: made from floats, turned back into floats.

int8: `w ~ q * scale`, q from -127 to 127, a scale per output. int4: `w ~ (q - 8) * scale + zero`,
q from 0 to 15, scale and zero per group of inputs, both bfloat16. A group's range may be cut
where that brings the sum of its squared errors down: a lone large weight costs the others less so.

Shapes: O outputs, I inputs, R groups of `GROUP_SIZE` inputs.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.models.cores import on_each_core
from sightline.models.quantization import GROUP_SIZE, SCALES_SUFFIX, Scheme

INT8_MAX = 127
INT4_MAX, INT4_MIDDLE = 15, 8
_CUTS = (1.0, 0.93, 0.86)
# Rows are worked on in pieces, so that a large matrix needs little memory beside itself. On other
# devices than a CPU each operator is a launch, and a small piece takes less time than its launches.
_PIECE_ELEMENTS, _LAUNCHED_ELEMENTS = 256 * 1024, 4 * 2**20
_SMALLEST = 1e-30


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Type and shape of a tensor as it stands in a file."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """int8 `[O, I]` with fp32 scales `[O]`, or uint8 `[O, I / 2]` with bf16 scales `[O, R, 2]`.

    A byte of the latter holds two neighbouring inputs, the first in its lower half; the last axis
    of its scales is (scale, zero).
    """

    values: Tensor
    scales: Tensor

    @property
    def scheme(self) -> Scheme:
        return "int8" if self.values.dtype == torch.int8 else "int4"

    @property
    def num_outputs(self) -> int:
        return self.values.shape[0]

    @property
    def num_inputs(self) -> int:
        return self.values.shape[1] * (1 if self.scheme == "int8" else 2)

    @property
    def size_bytes(self) -> int:
        return self.values.nbytes + self.scales.nbytes

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """Return the matrix `[O, I]`."""
        if self.scheme == "int8":
            return (self.values * self.scales[:, None]).to(dtype)
        scale, zero = self.scales.float().unsqueeze(2).unbind(-1)
        groups = unpack_int4(self.values).view(self.num_outputs, -1, GROUP_SIZE)
        return torch.addcmul(zero, groups.float() - INT4_MIDDLE, scale).flatten(1).to(dtype)


def quantize(weight: Tensor, scheme: Scheme) -> QuantizedWeight:
    """Quantise a matrix `[O, I]` where it lies. For int4 I is a multiple of `GROUP_SIZE`.

    Numbers that are not finite give scales that are not finite.
    """
    is_cpu = weight.device.type == "cpu"
    num_rows = max(1, (_PIECE_ELEMENTS if is_cpu else _LAUNCHED_ELEMENTS) // weight.shape[1])
    by_scheme = _quantize_int8 if scheme == "int8" else _quantize_int4
    layout = stored_tensors("", weight.shape, scheme)
    values, scales = (
        torch.empty(stored.shape, dtype=stored.dtype, device=weight.device)
        for stored in layout.values()
    )
    is_inference = torch.is_inference_mode_enabled()

    def quantize_from(start: int) -> None:
        rows = slice(start, start + num_rows)
        with torch.inference_mode(is_inference), torch.no_grad():
            values[rows], scales[rows] = by_scheme(weight[rows].float())

    starts = range(0, len(weight), num_rows)
    if is_cpu:
        on_each_core(quantize_from, starts)
    else:
        for start in starts:
            quantize_from(start)
    return QuantizedWeight(values, scales)


def stored_tensors(name: str, shape: Iterable[int], scheme: Scheme) -> dict[str, StoredTensor]:
    """Return the two tensors that stand for the matrix `name` of `shape` in files."""
    num_outputs, num_inputs = shape
    if scheme == "int8":
        return {
            name: StoredTensor(torch.int8, (num_outputs, num_inputs)),
            name + SCALES_SUFFIX: StoredTensor(torch.float32, (num_outputs,)),
        }
    groups = (num_outputs, num_inputs // GROUP_SIZE, 2)
    return {
        name: StoredTensor(torch.uint8, (num_outputs, num_inputs // 2)),
        name + SCALES_SUFFIX: StoredTensor(torch.bfloat16, groups),
    }


def unpack_int4(values: Tensor) -> Tensor:
    """Return numbers from 0 to 15, uint8 `[O, I]`, of `[O, I / 2]`."""
    return torch.stack((values & INT4_MAX, values >> 4), dim=-1).flatten(1)


def _quantize_int8(rows: Tensor) -> tuple[Tensor, Tensor]:
    scales = rows.abs().amax(1).div_(INT8_MAX).clamp_min_(_SMALLEST)
    return rows.div(scales[:, None]).round_().to(torch.int8), scales


def _quantize_int4(rows: Tensor) -> tuple[Tensor, Tensor]:
    groups = rows.view(len(rows), -1, GROUP_SIZE)
    low, high = groups.amin(2, keepdim=True), groups.amax(2, keepdim=True)
    least_error = torch.full_like(low, math.inf)
    best = torch.full_like(low, math.nan), torch.full_like(low, math.nan)
    for cut in _CUTS:
        step = ((high - low) * (cut / INT4_MAX)).clamp_min_(_SMALLEST).bfloat16().float()
        # Of 0 to 15, the number 8 that the zero stands for lies half a step above the middle.
        zero = torch.add((high + low) / 2, step, alpha=0.5).bfloat16().float()
        exact = _in_steps(groups, step, zero)
        off = exact.round().clamp_(0, INT4_MAX).sub_(exact)
        error = torch.linalg.vector_norm(off, dim=2, keepdim=True).mul_(step)
        is_better = error < least_error
        least_error = torch.where(is_better, error, least_error)
        best = torch.where(is_better, step, best[0]), torch.where(is_better, zero, best[1])
    numbers = _in_steps(groups, *best).round_().clamp_(0, INT4_MAX).to(torch.uint8)
    pairs = numbers.view(len(rows), -1, 2)
    return pairs[..., 0] | (pairs[..., 1] << 4), torch.cat(best, dim=2).bfloat16()


def _in_steps(groups: Tensor, step: Tensor, zero: Tensor) -> Tensor:
    """Return the numbers, not yet whole, that stand for weights."""
    return torch.addcmul(INT4_MIDDLE - zero / step, groups, 1 / step)

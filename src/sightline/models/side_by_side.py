"""Layers that read the same rows: apart, as checkpoints have them, or joined into one product.

A GPU reads one large matrix faster than several small ones, and launches one kernel for it, so
there the layers are joined once they are loaded. They keep their names and their weights, which
are parts of the joined one from then on.

Shapes: T rows, I inputs, O outputs of all layers together.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from sightline.models.linear import GatedLinear, Linear, Norm
from sightline.models.quantized import QuantizedWeight
from sightline.models.quantized_kernels import DequantizingKernel


class SideBySide:
    """Layers whose outputs stand side by side. `joined` is the one that computes for all."""

    joined: Linear | None = None

    def __init__(self, *layers: Linear) -> None:
        self._layers = layers

    def __call__(self, rows: Tensor) -> Tensor:
        """Return `[..., O]` for rows `[..., I]`."""
        if self.joined is not None:
            return cast(Tensor, self.joined(rows))
        return self._apart(rows)

    def normed(self, x: Tensor, norm: Norm) -> Tensor:
        """Return the outputs for the rows that `norm` makes of `x` `[..., I]`."""
        if self.joined is not None:
            return self.joined.normed(x, norm)
        return self._apart(norm(x))

    @property
    def apart(self) -> tuple[Linear, ...]:
        return self._layers

    @property
    def products(self) -> tuple[Linear, ...]:
        """The layers that compute."""
        return self._layers if self.joined is None else (self.joined,)

    @property
    def num_outputs(self) -> int:
        return sum(self._sizes())

    @torch.no_grad()
    def join(self) -> bool:
        """Compute as one from now on; False where the weights are not kept as they are stored.

        Needs memory for the weights once more while it works.
        """
        if len({self._form(layer) for layer in self._layers}) > 1:
            return False
        kernels = [layer.stored for layer in self._layers if layer.stored is not None]
        if kernels:
            self.joined = self._join_quantized(kernels)
        elif self._layers[0].weight is not None:
            self.joined = self._join_plain()
        return self.joined is not None

    @staticmethod
    def _form(layer: Linear) -> tuple[object, ...]:
        """What layers must have in common."""
        weight = layer.weight if layer.quantized is None else layer.quantized.values
        dtype = None if weight is None else weight.dtype
        return type(layer.stored), dtype, layer.bias is None

    def _apart(self, rows: Tensor) -> Tensor:
        return torch.cat([layer(rows) for layer in self._layers], dim=-1)

    def _join_plain(self) -> Linear:
        joined = self._empty()
        weights = [layer.weight for layer in self._layers]
        _set(joined, "weight", torch.cat(weights))
        for layer, part in zip(self._layers, self._parts(joined.weight), strict=True):
            _set(layer, "weight", part)
        return joined

    def _join_quantized(self, kernels: Sequence[DequantizingKernel]) -> Linear:
        joined, kind = self._empty(), type(kernels[0])
        values = torch.cat([kernel.weight.values for kernel in kernels])
        scales = torch.cat([kernel.weight.scales for kernel in kernels])
        joined.quantize(QuantizedWeight(values, scales), kind)
        parts = zip(self._parts(values), self._parts(scales), strict=True)
        for layer, part in zip(self._layers, parts, strict=True):
            layer.quantize(QuantizedWeight(*part), kind)
        return joined

    def _empty(self) -> Linear:
        """Return a layer with the biases of all, and no memory for their weights yet."""
        first = self._layers[0]
        with torch.device("meta"):
            joined = self._make(first.in_features, self.num_outputs)
        biases = [layer.bias for layer in self._layers]
        if first.bias is None:
            joined.register_parameter("bias", None)
        else:
            _set(joined, "bias", torch.cat(cast(list[Tensor], biases)))
        return joined.eval()

    def _make(self, num_inputs: int, num_outputs: int) -> Linear:
        return Linear(num_inputs, num_outputs)

    def _parts(self, whole: Tensor) -> tuple[Tensor, ...]:
        return torch.split(whole, self._sizes())

    def _sizes(self) -> list[int]:
        return [layer.out_features for layer in self._layers]


class GateAndUp(SideBySide):
    """Two layers of one shape: silu of what the first makes, times what the second makes."""

    def __init__(self, gate: Linear, up: Linear) -> None:
        super().__init__(gate, up)

    def _apart(self, rows: Tensor) -> Tensor:
        gate, up = self._layers
        return up.times(rows, gate.silu(rows))

    def _make(self, num_inputs: int, num_outputs: int) -> Linear:
        return GatedLinear(num_inputs, num_outputs // 2)


def _set(layer: Linear, name: str, values: Tensor) -> None:
    layer.register_parameter(name, nn.Parameter(values, requires_grad=False))

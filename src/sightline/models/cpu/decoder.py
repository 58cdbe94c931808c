"""A decoder's layers by our own kernels, many in one call; see `decoder.c`.

With few rows the Python between kernels takes as long as some of them, and most of the time where
a model is small.

Shapes: T new tokens, D model width, H query heads, G KV groups, Dh head width.
"""

import ctypes
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.models.attention import Attention, HasTurns
from sightline.models.cpu.between import rms_norm
from sightline.models.cpu.compiled import MOST_HEADS, Decoder, Layer, Matrix
from sightline.models.cpu.paged_attention import StreamedAttention
from sightline.models.linear import Linear, Norm
from sightline.models.side_by_side import SideBySide

# Multiplications of one call, a second or two of a small machine: an engine that shows no sign of
# life for longer is taken for hung.
MOST_AT_ONCE = 2**36


class DecoderParts(NamedTuple):
    """What a layer consists of; both of its halves stand behind a norm and are added to its rows.

    `heads` make queries, keys and values, in one layer or three; `mixed` takes what attention makes
    of them. `gate_up` is one layer for both, or the gate and what is gated.
    """

    attention_norm: Norm
    heads: SideBySide
    mixed: Linear
    mlp_norm: Norm
    gate_up: SideBySide
    down: Linear


class StreamedDecoder:
    """`H` query heads and `G` groups of `Dh` numbers, in all layers.

    `on_progress` is called after every call of the kernel.
    """

    on_progress: Callable[[], object] = staticmethod(lambda: None)

    def __init__(self, layers: list[DecoderParts], told: list[Layer], shape: tuple[int, ...]):
        """`told` is what the kernel reads of `layers`, which hold that memory."""
        self._layers = layers
        self._told = (Layer * len(told))(*told)
        self._num_heads, self._num_groups, self._head_dim = shape
        parts = layers[0]
        self._width, eps = len(parts.attention_norm.weight), parts.attention_norm.eps
        products = (*parts.heads.apart, parts.mixed, *parts.gate_up.apart, parts.down)
        self._cost = sum(each.in_features * each.out_features for each in products)
        self._decoder = Decoder(ctypes.addressof(self._told), len(told), self._width, eps)

    @classmethod
    def fit(
        cls, layers: Iterable[DecoderParts], num_heads: int, num_groups: int, head_dim: int
    ) -> "StreamedDecoder | None":
        """Take packed layers; None where a kernel of one of them is not our own."""
        layers = list(layers)
        width = num_heads * head_dim
        for parts in layers:
            # The kernel would read and write whatever lies behind memory that is too small.
            if (
                parts.heads.num_outputs != width + 2 * num_groups * head_dim
                or parts.mixed.in_features != width
                or parts.gate_up.num_outputs != 2 * parts.down.in_features
            ):
                return None
        told = [layer for parts in layers if (layer := _told(parts)) is not None]
        norms = [norm for parts in layers for norm in (parts.attention_norm, parts.mlp_norm)]
        is_alike = len({(norm.eps, len(norm.weight)) for norm in norms}) == 1
        if len(told) < len(layers) or not is_alike:
            return None
        return cls(layers, told, (num_heads, num_groups, head_dim))

    def takes(self, x: Tensor, attend: Attention) -> bool:
        """Whether rows `[..., T, D]` and their attention are what the kernel is made for."""
        return (
            isinstance(attend, StreamedAttention)
            and x.dtype == torch.float32
            and x.dim() == 2
            and x.shape[1] == self._width
            and attend.suits(len(x), self._num_heads, self._num_groups, self._head_dim)
        )

    def __call__(self, x: Tensor, rotate: HasTurns, attend: Attention) -> Tensor:
        """Return what the layers make of rows `[T, D]`, which are left as they are."""
        assert isinstance(attend, StreamedAttention), "ask takes first"
        rows = x.clone(memory_format=torch.contiguous_format)
        for layers in self.runs(len(rows)):
            attend.through(self._decoder, layers, rows, self._num_heads, rotate)
            self.on_progress()
        return rows

    def runs(self, num_rows: int) -> Iterator[range]:
        """Yield which layers are computed in one call, then in the next."""
        num_layers = len(self._told)
        at_once = max(1, MOST_AT_ONCE // max(1, num_rows * self._cost))
        for first in range(0, num_layers, at_once):
            yield range(first, min(first + at_once, num_layers))


def _told(parts: DecoderParts) -> Layer | None:
    norms = (parts.attention_norm, parts.mlp_norm)
    if any(norm.kernel is not rms_norm for norm in norms):
        return None
    heads, mixed, gate_up, down = (
        [matrix for product in products if (matrix := product.streamed()) is not None]
        for products in (parts.heads.apart, (parts.mixed,), parts.gate_up.apart, (parts.down,))
    )
    wanted = len(parts.heads.apart), len(parts.gate_up.apart)
    if (len(heads), len(gate_up)) != wanted or not (mixed and down):
        return None
    if mixed[0].bias or down[0].bias:
        return None
    addresses = (norm.weight.data_ptr() for norm in norms)
    return Layer(
        *addresses, (Matrix * MOST_HEADS)(*heads), mixed[0], (Matrix * 2)(*gate_up), down[0]
    )

"""What the engine may expect of a model: one protocol, plain facts about it, and its KV cache.

Shapes: T tokens, D model width, V vocabulary, L layers, G KV groups (heads of keys and values),
Dh head width, N images, S image side in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sightline.core.engine import SquareImagePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """Facts about a loaded model, from its own files, that the front needs.

    `prompt_format` names a file of `service/formats/`. `max_model_len` counts KV slots; it equals
    the longest position the model was trained for, so no prompt can reach beyond that.
    `vocab_size` is the number of rows of the logits; ids that the tokenizer does not have are
    among them. The sampling defaults are the model's own, or 1.0 where it has none.
    """

    prompt_format: str
    max_model_len: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    image_policy: SquareImagePolicy | None = None
    default_temperature: float = 1.0
    default_top_p: float = 1.0


class KVCache:
    """Keys and values of one sequence, each `[L, max_len, G, Dh]`, allocated once.

    `length` slots are filled. A forward writes its rows behind them, layer by layer, with
    `extend`, and then calls `advance` once. Not safe to share between threads.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys = keys
        self.values = values
        self.length = 0

    @classmethod
    def allocate(
        cls,
        *,
        num_layers: int,
        max_len: int,
        num_groups: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> "KVCache":
        shape = (num_layers, max_len, num_groups, head_dim)
        return cls(
            torch.empty(shape, dtype=dtype, device=device),
            torch.empty(shape, dtype=dtype, device=device),
        )

    @property
    def max_len(self) -> int:
        return self.keys.shape[1]

    @property
    def size_bytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write `[T, G, Dh]` rows of one layer behind the filled slots.

        Returns views of all the layer's rows, `[length + T, G, Dh]`, valid until the next call.
        Raises ValueError when they do not fit; the cache is then unchanged.
        """
        end = self.length + keys.shape[0]
        if end > self.max_len:
            raise ValueError(f"{end} slots do not fit a KV cache of {self.max_len}")
        self.keys[layer, self.length : end] = keys
        self.values[layer, self.length : end] = values
        return self.keys[layer, :end], self.values[layer, :end]

    def advance(self, num_tokens: int) -> None:
        """Count `num_tokens` slots as filled, after every layer has written them."""
        self.length += num_tokens

    def truncate(self, length: int) -> None:
        """Forget all slots from `length` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate {self.length} slots to {length}")
        self.length = length


class VisionLanguageModel(Protocol):
    """A model as the engine uses it. Positions are not slots: ask the model for them.

    Nothing here turns gradients off; whoever runs inference wraps the calls in
    `torch.inference_mode`.
    """

    @property
    def description(self) -> ModelDescription: ...

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Turn uint8 RGB `[N, S, S, 3]` into embedding rows `[N, num_image_tokens, D]`."""
        ...

    def embed(self, token_ids: Tensor) -> Tensor:
        """Turn ids `[..., T]` into embeddings `[..., T, D]`."""
        ...

    def positions(self, num_slots: int, image_spans: Sequence[tuple[int, int]]) -> Tensor:
        """Return the positions of slots [0, num_slots), int64, on the CPU.

        `image_spans` are (start, length) in slots, in order, begin and end rows included.
        """
        ...

    def next_position(self, num_slots: int, image_spans: Sequence[tuple[int, int]]) -> int:
        """Return the position of slot `num_slots`, the first after the images and text so far."""
        ...

    def forward(self, embeds: Tensor, positions: Tensor, cache: KVCache | None = None) -> Tensor:
        """Return hidden states after the final norm, in the shape of `embeds`.

        Without a cache: embeds `[..., T, D]`, positions `[..., T]` (leading dimensions
        broadcast), causal among the T. With one: embeds `[T, D]`, positions `[T]`, appended to
        the cache and attending to everything in it.
        """
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Turn hidden states `[..., D]` into scores `[..., V]`."""
        ...

    def allocate_cache(self, max_len: int) -> KVCache: ...

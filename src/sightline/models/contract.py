"""What the engine may expect of a model: one protocol, and plain facts about it.

Shapes: T tokens, D model width, V vocabulary, N images, S image side in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sightline.core.chat import BoxUnits
from sightline.core.image_policy import ImagePolicy
from sightline.models.kv_pool import KVCache, KVPool, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """Facts about a loaded model, from its own files, that the front needs.

    `prompt_format` names a file of `service/formats/`. `max_model_len` counts KV slots; it equals
    the longest position the model was trained for, so no prompt can reach beyond that.
    `vocab_size` is the number of rows of the logits; ids that the tokenizer does not have are
    among them. In `box_units` the model says where something is in a picture. The sampling
    defaults are the model's own, or what changes nothing where it has none.
    """

    prompt_format: str
    max_model_len: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    image_policy: ImagePolicy | None = None
    box_units: BoxUnits = "thousandths"
    default_temperature: float = 1.0
    default_top_p: float = 1.0
    default_top_k: int = 0
    default_repetition_penalty: float = 1.0


class VisionLanguageModel(Protocol):
    """A model as the engine uses it. Positions are not slots: ask the model for them.

    Nothing here turns gradients off; whoever runs inference wraps the calls in
    `torch.inference_mode`.
    """

    @property
    def description(self) -> ModelDescription: ...

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Turn pictures of one size, uint8 RGB `[N, H, W, 3]`, into embeddings `[N, rows, D]`.

        The size is one that `description.image_policy` asks for, and says how many rows it is.
        """
        ...

    def embed(self, token_ids: Tensor) -> Tensor:
        """Turn ids `[..., T]` into embeddings `[..., T, D]`."""
        ...

    def positions(
        self,
        num_slots: int,
        image_spans: Sequence[tuple[int, int]],
        *,
        num_prompt: int | None = None,
        image_sizes: Sequence[tuple[int, int]] = (),
    ) -> Tensor:
        """Return what the model wants to know of slots [0, num_slots): int64, on the CPU.

        `[num_slots]`, or `[axes, num_slots]` where one number does not say it; `forward` takes
        any stretch of the last dimension. `image_spans` are (start, length) in slots, in order,
        begin and end rows included; `image_sizes` are the same pictures' (height, width) in
        pixels, which models that resize every picture to one square do not look at. The first
        `num_prompt` slots were the prompt when the answer began; None means all.
        """
        ...

    def kv_variant(self, num_prompt: int) -> int:
        """Return which keys a prompt of this length makes of its tokens.

        Two prompts with a common beginning may share its keys and values only if this number is
        the same for both.
        """
        ...

    def forward(self, embeds: Tensor, positions: Tensor, cache: KVCache | None = None) -> Tensor:
        """Return hidden states after the final norm, in the shape of `embeds`.

        Without a cache: embeds `[..., T, D]`, positions `[T]` or `[axes, T]`, causal among the
        T. With one: a `forward_batch` of one sequence, whose T new rows the cache then counts.
        """
        ...

    def forward_batch(
        self, embeds: Tensor, positions: Tensor, pool: KVPool, segments: Sequence[Segment],
        *, wanted: Sequence[int] | None = None,
    ) -> Tensor:  # fmt: skip
        """Return hidden states after the final norm `[T, D]` of the new rows of many sequences.

        `embeds` `[T, D]` and `positions` `[T]` or `[axes, T]` hold the segments' rows one after
        another. Each row's keys and values are written into its sequence's blocks, and it attends
        to the slots of its own sequence up to its own. Nothing is counted: who owns the blocks
        does that. With `wanted`, ascending, the hidden states of other rows may be those before
        the last layer, finite if all before them were.
        Raises ValueError, before anything is written, for segments that do not fit T or the pool.
        """
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Turn hidden states `[..., D]` into scores `[..., V]`."""
        ...

    def allocate_cache(self, max_len: int) -> KVCache: ...

    def allocate_pool(self, num_blocks: int, block_size: int) -> KVPool: ...

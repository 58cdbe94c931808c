"""What every family's model does alike: batches over paged keys and values, and their memory.

A family brings its modules, says how many heads of keys and values it has, and computes hidden
states in `run`. For the methods see `contract.VisionLanguageModel`.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sightline.models.attention import Attention, CausalAttention, HasTurns, PagedAttention
from sightline.models.clip_pixels import normalise_pixels
from sightline.models.contract import ModelDescription
from sightline.models.cpu.decoder import DecoderParts, StreamedDecoder
from sightline.models.cpu.paged_attention import StreamedAttention, takes
from sightline.models.cpu.team import as_team
from sightline.models.gpu.backend import AttentionBackend
from sightline.models.gpu.picture_attention import PictureAttention, TowerShape
from sightline.models.kv_pool import KVCache, KVPool, Segment
from sightline.models.linear import Linear, Norm, pad_rows
from sightline.models.outline import KVShape
from sightline.models.paged_batch import PagedBatch
from sightline.models.side_by_side import SideBySide


class DecodeProduct(NamedTuple):
    """A linear layer as decode steps call it: behind a norm, with a residual added, or neither."""

    layer: Linear
    norm: Norm | None = None
    has_residual: bool = False


class PagedModel(nn.Module):
    """Holds no weights of its own.

    `row_dtype` is that of the rows where the table of tokens is kept in another, which it holds;
    `kv_dtype` is that of keys and values, if it is not that of the rows. With `pads_rows` linear
    layers get numbers of rows for which they are prepared.
    `attention` is how a GPU attends to paged keys; without one it is the CPU's way, which gives a
    row the same bits in any company. `picture_attention` is the only kernel that the tower may
    use there. `streamed` runs all layers, where our own kernels are for them; with
    `encodes_as_team` they do nearly all of the tower's work.
    """

    row_dtype: torch.dtype | None = None
    kv_dtype: torch.dtype | None = None
    attention: AttentionBackend | None = None
    picture_attention: PictureAttention | None = None
    pads_rows = True
    streamed: StreamedDecoder | None = None
    encodes_as_team = False

    @property
    @abstractmethod
    def description(self) -> ModelDescription: ...

    @property
    @abstractmethod
    def token_table(self) -> nn.Embedding: ...

    @property
    @abstractmethod
    def head(self) -> Linear:
        """The layer that scores tokens."""

    @property
    @abstractmethod
    def kv_shape(self) -> KVShape: ...

    @property
    @abstractmethod
    def num_heads(self) -> int:
        """Heads of queries."""

    @property
    @abstractmethod
    def tower(self) -> nn.Module | None:
        """All that pictures go through, if there is such a part."""

    @property
    @abstractmethod
    def tower_shape(self) -> TowerShape | None:
        """The attention of the vision tower, if there is one."""

    @abstractmethod
    def positions(
        self,
        num_slots: int,
        image_spans: Sequence[tuple[int, int]],
        *,
        num_prompt: int | None = None,
        image_sizes: Sequence[tuple[int, int]] = (),
    ) -> Tensor: ...

    @abstractmethod
    def run(self, embeds: Tensor, positions: Tensor, attend: Attention) -> Tensor:
        """Return hidden states after the final norm, in the shape of `embeds` `[..., T, D]`."""

    @abstractmethod
    def encode_pixel_values(self, values: Tensor) -> Tensor:
        """Encode pictures that are normalised already: float `[N, 3, H, W]`."""

    def decoder_parts(self) -> Iterator[DecoderParts]:
        """Yield the layers of the decoder, as far as kernels fit them."""
        yield from ()

    def can_join(self) -> Iterator[SideBySide]:
        """Yield layers that read the same rows, and may be joined."""
        for parts in self.decoder_parts():
            for layers in (parts.heads, parts.gate_up):
                if len(layers.apart) > 1:
                    yield layers

    def stream_decoder(self) -> None:
        shape = self.num_heads, self.kv_shape.num_groups, self.kv_shape.head_dim
        self.streamed = StreamedDecoder.fit(self.decoder_parts(), *shape)

    def run_streamed(self, rows: Tensor, rotate: HasTurns, attend: Attention) -> Tensor | None:
        """Return what all layers make of `rows` `[T, D]`; None where there is no kernel for it."""
        if self.streamed is None or not self.streamed.takes(rows, attend):
            return None
        return self.streamed(rows, rotate, attend)

    @property
    def dtype(self) -> torch.dtype:
        return self.row_dtype or self.token_table.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.token_table.weight.device

    @torch.no_grad()
    def widen_rows(self) -> None:
        """Compute in float32 from now on; matrices, keys and values stay as they are."""
        self.kv_dtype = self.kv_dtype or self.dtype
        self.row_dtype = torch.float32
        matrices = {id(self.token_table.weight)}
        matrices |= {id(module.weight) for module in self.modules() if isinstance(module, Linear)}
        for parameter in self.parameters():
            if id(parameter) not in matrices:
                parameter.data = parameter.data.float()

    def encode_images(self, pixels: Tensor) -> Tensor:
        if self.encodes_as_team:
            return as_team(lambda: self.encode_pixel_values(normalise_pixels(pixels)))
        if self.picture_attention is None:
            return self.encode_pixel_values(normalise_pixels(pixels))
        with self.picture_attention.allowed():
            return self.encode_pixel_values(normalise_pixels(pixels))

    def embed(self, token_ids: Tensor) -> Tensor:
        rows: Tensor = self.token_table(token_ids)
        return rows.to(self.dtype)

    def own(self, embeds: Tensor) -> Tensor:
        """Return rows that layers may write over. On a GPU they add to them where they lie."""
        return embeds if embeds.device.type == "cpu" else embeds.clone()

    def logits(self, hidden: Tensor) -> Tensor:
        rows = hidden.reshape(-1, hidden.shape[-1])
        padded = pad_rows(rows) if self.pads_rows else rows
        return self.head(padded)[: len(rows)].view(*hidden.shape[:-1], -1)

    def decode_products(self) -> Iterator[DecodeProduct]:
        """Yield the layers whose weights a decode step reads, as far as kernels fit them."""
        for parts in self.decoder_parts():
            yield from _behind(parts.attention_norm, parts.heads)
            yield DecodeProduct(parts.mixed, has_residual=True)
            yield from _behind(parts.mlp_norm, parts.gate_up)
            yield DecodeProduct(parts.down, has_residual=True)
        yield DecodeProduct(self.head)

    def kv_variant(self, num_prompt: int) -> int:
        return 0

    def forward(self, embeds: Tensor, positions: Tensor, cache: KVCache | None = None) -> Tensor:
        if cache is None:
            return self.run(embeds, positions, CausalAttention())
        num_new = len(embeds)
        hidden = self.forward_batch(embeds, positions, cache.pool, [cache.segment(num_new)])
        cache.advance(num_new)
        return hidden

    def forward_batch(
        self, embeds: Tensor, positions: Tensor, pool: KVPool, segments: Sequence[Segment],
        *, wanted: Sequence[int] | None = None,
    ) -> Tensor:  # fmt: skip
        num_rows = len(embeds)
        if self.attention is not None:
            batch = PagedBatch.of(pool, segments, num_rows)
            return self.forward_paged(embeds, positions, pool, batch)
        attend: Attention
        if takes(pool, embeds.dtype):
            attend = StreamedAttention(pool, segments, num_rows, wanted=wanted)
        else:
            attend = PagedAttention(pool, segments, num_rows, embeds.dtype)
        if not self.pads_rows:
            return self.run(embeds, positions, attend)
        by_row = pad_rows(positions.movedim(-1, 0))
        return self.run(pad_rows(embeds), by_row.movedim(0, -1), attend)[:num_rows]

    def forward_paged(
        self, embeds: Tensor, positions: Tensor, pool: KVPool, batch: PagedBatch
    ) -> Tensor:
        """Do what `forward_batch` does, for a batch whose tables are on the device already."""
        assert self.attention is not None, "only a model with a backend runs from tables"
        return self.run(embeds, positions, self.attention.over(pool, batch))

    def allocate_cache(self, max_len: int) -> KVCache:
        return KVCache(self.allocate_pool(1, max_len))

    def allocate_pool(self, num_blocks: int, block_size: int) -> KVPool:
        return KVPool.allocate(
            num_blocks=num_blocks,
            block_size=block_size,
            dtype=self.kv_dtype or self.dtype,
            device=self.device,
            **self.kv_shape._asdict(),
        )


def _behind(norm: Norm, layers: SideBySide) -> Iterator[DecodeProduct]:
    # Only one that computes for all takes the norm along: several would do it several times.
    products = layers.products
    for layer in products:
        yield DecodeProduct(layer, norm=norm if len(products) == 1 else None)

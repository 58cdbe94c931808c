"""Qwen2-VL and Qwen2.5-VL: Qwen2's language model, reading pictures of any size.

What sets the family apart: every token has three positions, of time, row and column (m-rope), and
each turns a part of every head. Words have the same number three times; a picture's rows stand
still in time and count rows and columns, and the words after it go on behind the larger of both.
Modules carry the names of the published checkpoints.

Shapes: T tokens, D model width, H query heads, G KV groups, Dh head width.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn

from sightline.models.attention import Attention, Turns
from sightline.models.contract import ModelDescription
from sightline.models.cpu.decoder import DecoderParts
from sightline.models.gpu.picture_attention import TowerShape
from sightline.models.linear import Linear, Norm, RoundingNorm, TiedLinear
from sightline.models.outline import KVShape
from sightline.models.paged_model import PagedModel
from sightline.models.positions import grid_positions
from sightline.models.qwen2_vision import GatedMlp, Qwen2VisionTower
from sightline.models.qwen2_vl_blueprint import Qwen2VLConfig
from sightline.models.side_by_side import SideBySide

# Pictures have any size; kernels are compared at one of about a megapixel.
PATCHES_MEASURED = 5120


class Rotation:
    """Rotary embedding for positions `[3, ..., T]`; built once per pass, used by every layer.

    Dimension i is turned together with dimension i + Dh / 2; which axis says by how much depends
    on i.
    """

    def __init__(self, positions: Tensor, config: Qwen2VLConfig) -> None:
        device, head_dim = positions.device, config.head_dim
        self._numbers = [config.num_heads, config.num_groups, config.num_groups]
        halves = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim
        # Counted on the device: numbers of the host cannot be sent while a graph is recorded.
        pair = torch.arange(head_dim // 2, device=device)
        axis = torch.zeros_like(pair)
        for end in list(accumulate(config.sections))[:-1]:
            axis += pair >= end
        where = positions.movedim(0, -1)[..., axis].float()  # [..., T, Dh / 2]
        angles = where * (1.0 / config.rope_base**halves)
        angles = torch.cat((angles, angles), dim=-1).unsqueeze(-2)
        self._cosines, self._sines = angles.cos(), angles.sin()

    def __call__(self, heads: Tensor) -> Tensor:
        """Rotate `[..., T, heads, Dh]`."""
        if self._cosines.dtype != heads.dtype:
            self._cosines = self._cosines.to(heads.dtype)
            self._sines = self._sines.to(heads.dtype)
        first, second = heads.chunk(2, dim=-1)
        return heads * self._cosines + torch.cat((-second, first), dim=-1) * self._sines

    def apart(self, heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = torch.split(heads, self._numbers, dim=-2)
        return self(query), self(key), value

    def turns(self, dtype: torch.dtype) -> Turns:
        cosines, sines = (table.squeeze(-2).to(dtype) for table in (self._cosines, self._sines))
        first, second = sines.chunk(2, dim=-1)
        return Turns(cosines, torch.cat((-first, second), dim=-1), are_neighbours=False)


class SelfAttention(nn.Module):
    def __init__(self, config: Qwen2VLConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.num_groups = config.num_groups
        self.head_dim = config.head_dim
        group_width = config.num_groups * config.head_dim
        self.q_proj = Linear(config.hidden_size, config.hidden_size)
        self.k_proj = Linear(config.hidden_size, group_width)
        self.v_proj = Linear(config.hidden_size, group_width)
        self.o_proj = Linear(config.hidden_size, config.hidden_size, bias=False)
        # Side by side: a GPU's kernel turns them as it reads them, which is ten operators less.
        self.heads = SideBySide(self.q_proj, self.k_proj, self.v_proj)

    def plus_normed(self, x: Tensor, norm: Norm, rotate: Rotation, attend: Attention) -> Tensor:
        heads = self.heads.normed(x, norm).view(*x.shape[:-1], -1, self.head_dim)
        mixed = attend.turning(self.layer, heads, self.num_groups, rotate)
        return self.o_proj.plus(mixed, x)


class DecoderLayer(nn.Module):
    def __init__(self, config: Qwen2VLConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RoundingNorm(config.hidden_size, config.norm_eps)
        self.self_attn = SelfAttention(config, layer)
        self.post_attention_layernorm = RoundingNorm(config.hidden_size, config.norm_eps)
        self.mlp = GatedMlp(config.hidden_size, config.mlp_width, bias=False)

    def forward(self, x: Tensor, rotate: Rotation, attend: Attention) -> Tensor:
        x = self.self_attn.plus_normed(x, self.input_layernorm, rotate, attend)
        return self.mlp.plus_normed(x, self.post_attention_layernorm)


class Decoder(nn.Module):
    def __init__(self, config: Qwen2VLConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, i) for i in range(config.num_layers))
        self.norm = RoundingNorm(config.hidden_size, config.norm_eps)

    def forward(self, x: Tensor, rotate: Rotation, attend: Attention) -> Tensor:
        for layer in self.layers:
            x = layer(x, rotate, attend)
        return self.norm(x)


class Qwen2VL(PagedModel):
    """The model behind `contract.VisionLanguageModel`; see there for what the methods promise."""

    lm_head: Linear

    def __init__(self, config: Qwen2VLConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = Qwen2VisionTower(config.vision)
        self.model = Decoder(config)
        self.lm_head = (
            TiedLinear(self.model.embed_tokens)
            if config.ties_embeddings
            else Linear(config.hidden_size, config.vocab_size, bias=False)
        )

    @property
    def description(self) -> ModelDescription:
        return ModelDescription(
            prompt_format="qwen2_vl",
            max_model_len=self.config.max_positions,
            vocab_size=self.config.vocab_size,
            eos_token_ids=self.config.eos_token_ids,
            image_policy=self.config.image_policy,
            # What its makers say of the two: normalised to 1000, and pixels after resizing.
            box_units="pixels" if self.config.vision.has_windows else "thousandths",
        )

    @property
    def token_table(self) -> nn.Embedding:
        return self.model.embed_tokens

    @property
    def head(self) -> Linear:
        return self.lm_head

    @property
    def num_heads(self) -> int:
        return self.config.num_heads

    @property
    def tower(self) -> nn.Module | None:
        return self.visual

    @property
    def tower_shape(self) -> TowerShape | None:
        vision = self.config.vision
        head_dim = vision.width // vision.num_heads
        return TowerShape(vision.num_heads, head_dim, PATCHES_MEASURED, is_fixed=False)

    @property
    def kv_shape(self) -> KVShape:
        return self.config.kv_shape

    def encode_pixel_values(self, values: Tensor) -> Tensor:
        """Encode pictures that are normalised already: float `[N, 3, H, W]`, sides in factors."""
        return self.visual(values.to(self.dtype))

    def positions(
        self,
        num_slots: int,
        image_spans: Sequence[tuple[int, int]],
        *,
        num_prompt: int | None = None,
        image_sizes: Sequence[tuple[int, int]] = (),
    ) -> Tensor:
        """Return `[3, num_slots]`: time, row and column."""
        factor = self.config.vision.factor
        grids = [(height // factor, width // factor) for height, width in image_sizes]
        return grid_positions(num_slots, image_spans, grids)

    def decoder_parts(self) -> Iterator[DecoderParts]:
        for layer in cast(Iterable[DecoderLayer], self.model.layers):
            attention, mlp = layer.self_attn, layer.mlp
            yield DecoderParts(
                layer.input_layernorm, attention.heads, attention.o_proj,
                layer.post_attention_layernorm, mlp.inner, mlp.down_proj,
            )  # fmt: skip

    def can_join(self) -> Iterator[SideBySide]:
        yield from super().can_join()
        for module in self.visual.modules():
            if isinstance(module, GatedMlp):
                yield module.inner

    def run(self, embeds: Tensor, positions: Tensor, attend: Attention) -> Tensor:
        rotate = Rotation(positions, self.config)
        if (rows := self.run_streamed(embeds, rotate, attend)) is not None:
            return self.model.norm(rows)
        return self.model(self.own(embeds), rotate, attend)

"""GLM-4V-9B, and the text-only GLM-4-9B models that share its trunk.

Modules carry the hub's own parameter names, so a hub checkpoint loads name by name. What sets the
family apart: rotary embedding of the first half of every head, in adjacent pairs; a post-norm
vision tower whose rows, learned begin and end rows included, are divided by `scaling_factor`; and
image positions that are compressed (see `positions.py`).

Shapes: T tokens, D model width, V vocabulary, H query heads, G KV groups, Dh head width,
N images, S image side, P patches, W tower width.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.models.activations import gelu
from sightline.models.attention import Attention, Turns
from sightline.models.contract import ModelDescription
from sightline.models.cpu.decoder import DecoderParts
from sightline.models.dense_attention import attend_to_all
from sightline.models.glm_4v_blueprint import DOWNSAMPLING, Glm4vConfig, VisionConfig
from sightline.models.gpu.picture_attention import TowerShape
from sightline.models.linear import GatedLinear, LayerNorm, Linear, Norm, PatchLinear
from sightline.models.outline import KVShape
from sightline.models.paged_model import PagedModel
from sightline.models.positions import compressed_positions, next_position
from sightline.models.side_by_side import SideBySide

ROPE_BASE = 10_000.0
CONNECTOR_NORM_EPS = 1e-5


class Rotation:
    """Rotary embedding for given positions `[..., T]`: built once per pass, used by every layer.

    The first half of a head is rotated in adjacent pairs (0, 1), (2, 3) ...; the angle of pair i
    is position * (10000 * rope_ratio) ** (-2i / (Dh / 2)). The other half passes unchanged.
    Angles are fp32, cosines and sines are rounded to the activations' type before use, as the
    original does.
    """

    def __init__(self, positions: Tensor, config: Glm4vConfig) -> None:
        head_dim, rope_ratio = config.head_dim, config.rope_ratio
        self._num_heads, self._num_groups = config.num_heads, config.num_groups
        rotated = head_dim // 2
        pairs = torch.arange(0, rotated, 2, device=positions.device, dtype=torch.float32)
        # Written as the original writes it: at position 10**6 the last bit of a frequency counts.
        frequencies = 1.0 / ((ROPE_BASE * rope_ratio) ** (pairs / rotated))
        angles = (positions[..., None].float() * frequencies).repeat_interleave(2, dim=-1)
        sines = angles.sin()
        sines[..., ::2].neg_()
        # [..., T, 1, Dh]: the unrotated half is turned by no angle, so one product does all.
        self._cosines = F.pad(angles.cos(), (0, head_dim - rotated), value=1.0).unsqueeze(-2)
        self._sines = F.pad(sines, (0, head_dim - rotated)).unsqueeze(-2)

    def __call__(self, heads: Tensor) -> Tensor:
        """Rotate `[..., T, heads, Dh]`."""
        self._round(heads.dtype)
        swapped = heads.reshape(*heads.shape[:-1], -1, 2).flip(-1).view(heads.shape)
        return heads * self._cosines + swapped * self._sines

    def apart(self, heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        num_turned = self._num_heads + self._num_groups
        turned = self(heads[..., :num_turned, :])
        query, key = turned[..., : self._num_heads, :], turned[..., self._num_heads :, :]
        return query, key, heads[..., num_turned:, :]

    def turns(self, dtype: torch.dtype) -> Turns:
        self._round(dtype)
        return Turns(self._cosines.squeeze(-2), self._sines.squeeze(-2), are_neighbours=True)

    def _round(self, dtype: torch.dtype) -> None:
        if self._cosines.dtype != dtype:
            self._cosines = self._cosines.to(dtype)
            self._sines = self._sines.to(dtype)


class SelfAttention(nn.Module):
    def __init__(self, config: Glm4vConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.num_groups = config.num_groups
        self.head_dim = config.head_dim
        width = config.num_heads * config.head_dim
        self.query_key_value = Linear(
            config.hidden_size,
            width + 2 * config.num_groups * config.head_dim,
            bias=config.has_qkv_bias,
        )
        self.dense = Linear(width, config.hidden_size, bias=False)

    def forward(self, x: Tensor, norm: Norm, rotate: Rotation, attend: Attention) -> Tensor:
        rows = self.query_key_value.normed(x, norm)
        heads = rows.view(*rows.shape[:-1], -1, self.head_dim)
        mixed = attend.turning(self.layer, heads, self.num_groups, rotate)
        return self.dense.plus(mixed, x)


class GatedMlp(nn.Module):
    def __init__(self, width: int, inner_width: int) -> None:
        super().__init__()
        self.dense_h_to_4h = GatedLinear(width, inner_width)
        self.dense_4h_to_h = Linear(inner_width, width, bias=False)

    def forward(self, x: Tensor, norm: Norm) -> Tensor:
        return self.dense_4h_to_h.plus(self.dense_h_to_4h.normed(x, norm), x)


class DecoderLayer(nn.Module):
    def __init__(self, config: Glm4vConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = Norm(config.hidden_size, config.norm_eps)
        self.self_attention = SelfAttention(config, layer)
        self.post_attention_layernorm = Norm(config.hidden_size, config.norm_eps)
        self.mlp = GatedMlp(config.hidden_size, config.ffn_hidden_size)

    def forward(self, x: Tensor, rotate: Rotation, attend: Attention) -> Tensor:
        x = self.self_attention(x, self.input_layernorm, rotate, attend)
        return self.mlp(x, self.post_attention_layernorm)


class Encoder(nn.Module):
    """The hub's name for what is a causal decoder."""

    def __init__(self, config: Glm4vConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(config, layer) for layer in range(config.num_layers)
        )
        self.final_layernorm = Norm(config.hidden_size, config.norm_eps)

    def forward(self, x: Tensor, rotate: Rotation, attend: Attention) -> Tensor:
        for layer in self.layers:
            x = layer(x, rotate, attend)
        return self.final_layernorm(x)


class PatchEmbedding(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.proj = PatchLinear(3, config.hidden_size, config.patch_size)
        self.cls_embedding = nn.Parameter(torch.zeros(1, config.hidden_size))
        self.position_embedding = nn.Embedding(config.num_positions, config.hidden_size)

    def forward(self, values: Tensor) -> Tensor:
        """Turn `[N, 3, S, S]` into `[N, 1 + P, W]`, the class row first."""
        patches = self.proj(values)
        cls = self.cls_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        return torch.cat((cls, patches), dim=1) + self.position_embedding.weight


class VisionAttention(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.query_key_value = Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.query_key_value(x).unflatten(-1, (3, self.num_heads, -1))
        mixed = attend_to_all(*heads.unbind(2), rounds_rows=self.dense.rounds_rows)
        return self.dense(mixed.flatten(2))


class VisionMlp(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1.gelu(x))


class VisionLayer(nn.Module):
    """A post-norm block: both norms act on what a branch returns, whatever their names say."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.input_layernorm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.attention = VisionAttention(config)
        self.mlp = VisionMlp(config)
        self.post_attention_layernorm = LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.input_layernorm.plus(self.attention(x), x)
        return self.post_attention_layernorm.plus(self.mlp(x), x)


class VisionTransformer(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(VisionLayer(config) for _ in range(config.num_layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Connector(nn.Module):
    def __init__(self, width: int, inner_width: int) -> None:
        super().__init__()
        self.linear_proj = Linear(width, width, bias=False)
        self.norm1 = LayerNorm(width, CONNECTOR_NORM_EPS)
        self.gate_proj = Linear(width, inner_width, bias=False)
        self.dense_h_to_4h = Linear(width, inner_width, bias=False)
        self.dense_4h_to_h = Linear(inner_width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = gelu(self.norm1(self.linear_proj(x)))
        return self.dense_4h_to_h(self.dense_h_to_4h.times(x, self.gate_proj.silu(x)))


class VisionTower(nn.Module):
    """EVA2-CLIP, then a 2x2 convolution, then the connector."""

    def __init__(self, config: VisionConfig, model_width: int, inner_width: int) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = PatchEmbedding(config)
        self.transformer = VisionTransformer(config)
        self.conv = PatchLinear(config.hidden_size, model_width, DOWNSAMPLING)
        self.linear_proj = Connector(model_width, inner_width)
        self.boi = nn.Parameter(torch.zeros(1, 1, model_width))
        self.eoi = nn.Parameter(torch.zeros(1, 1, model_width))

    def forward(self, values: Tensor) -> Tensor:
        """Turn normalised `[N, 3, S, S]` into `[N, num_image_tokens, D]`."""
        grid = self.config.grid_size
        patches = self.transformer(self.patch_embedding(values))[:, 1:]
        picture = patches.transpose(1, 2).unflatten(2, (grid, grid))
        rows = self.linear_proj(self.conv(picture))
        boi, eoi = (edge.to(rows.dtype).expand(len(rows), 1, -1) for edge in (self.boi, self.eoi))
        return torch.cat((boi, rows, eoi), dim=1) / self.config.scaling_factor


class Embedding(nn.Module):
    def __init__(self, config: Glm4vConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)


class Transformer(nn.Module):
    """The hub's root of all tensors; it only holds the parts."""

    vision: VisionTower | None

    def __init__(self, config: Glm4vConfig) -> None:
        super().__init__()
        self.embedding = Embedding(config)
        self.encoder = Encoder(config)
        self.output_layer = Linear(config.hidden_size, config.vocab_size, bias=False)
        self.vision = (
            VisionTower(config.vision, config.hidden_size, config.ffn_hidden_size)
            if config.vision is not None
            else None
        )


class Glm4v(PagedModel):
    """The model behind `contract.VisionLanguageModel`; see there for what the methods promise."""

    def __init__(self, config: Glm4vConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)

    @property
    def description(self) -> ModelDescription:
        return ModelDescription(
            prompt_format="glm4",
            max_model_len=self.config.max_positions,
            vocab_size=self.config.vocab_size,
            eos_token_ids=self.config.eos_token_ids,
            image_policy=self.config.image_policy,
        )

    @property
    def token_table(self) -> nn.Embedding:
        return self.transformer.embedding.word_embeddings

    @property
    def head(self) -> Linear:
        return self.transformer.output_layer

    @property
    def num_heads(self) -> int:
        return self.config.num_heads

    @property
    def tower(self) -> nn.Module | None:
        return self.transformer.vision

    @property
    def tower_shape(self) -> TowerShape | None:
        vision = self.config.vision
        if vision is None:
            return None
        head_dim = vision.hidden_size // vision.num_heads
        return TowerShape(vision.num_heads, head_dim, vision.num_positions)

    def decoder_parts(self) -> Iterator[DecoderParts]:
        for layer in cast(Iterable[DecoderLayer], self.transformer.encoder.layers):
            attention, mlp = layer.self_attention, layer.mlp
            yield DecoderParts(
                layer.input_layernorm, SideBySide(attention.query_key_value), attention.dense,
                layer.post_attention_layernorm, SideBySide(mlp.dense_h_to_4h), mlp.dense_4h_to_h,
            )  # fmt: skip

    @property
    def kv_shape(self) -> KVShape:
        return self.config.kv_shape

    def encode_pixel_values(self, values: Tensor) -> Tensor:
        """Encode pictures that are normalised already: float `[N, 3, S, S]`."""
        if self.transformer.vision is None:
            raise ValueError("this checkpoint has no vision tower")
        return self.transformer.vision(values.to(self.dtype))

    def positions(
        self,
        num_slots: int,
        image_spans: Sequence[tuple[int, int]],
        *,
        num_prompt: int | None = None,
        image_sizes: Sequence[tuple[int, int]] = (),
    ) -> Tensor:
        return compressed_positions(num_slots, image_spans)

    def next_position(self, num_slots: int, image_spans: Sequence[tuple[int, int]]) -> int:
        return next_position(num_slots, image_spans)

    def run(self, embeds: Tensor, positions: Tensor, attend: Attention) -> Tensor:
        rotate = Rotation(positions, self.config)
        if (rows := self.run_streamed(embeds, rotate, attend)) is not None:
            return self.transformer.encoder.final_layernorm(rows)
        return self.transformer.encoder(self.own(embeds), rotate, attend)

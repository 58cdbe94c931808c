"""Qwen-VL-Chat, and the text-only Qwen models of the first generation that share its trunk.

Modules carry the hub's own parameter names. What sets the family apart: rotary embedding of whole
heads in two halves, whose base grows with the length of the prompt (dynamic NTK); queries beyond
the trained length scaled by a logarithm (logn); an MLP whose *second* product is the gate; and a
tower that reduces every picture to 256 rows by asking it 256 learned questions.

Shapes: T tokens, D model width, H heads, Dh head width, N images, S image side, P patches,
W tower width, Q questions.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.models.attention import Attention, Turns
from sightline.models.contract import ModelDescription
from sightline.models.cpu.decoder import DecoderParts
from sightline.models.dense_attention import attend_to_all
from sightline.models.gpu.picture_attention import TowerShape
from sightline.models.linear import LayerNorm, Linear, Norm, RoundingNorm
from sightline.models.outline import KVShape
from sightline.models.paged_model import PagedModel
from sightline.models.qwen_vl_blueprint import (
    NUM_QUESTIONS,
    POOL_HEAD_DIM,
    TABLE_SIDE,
    QwenVLConfig,
    VisualConfig,
)
from sightline.models.side_by_side import GateAndUp, SideBySide

TOWER_NORM_EPS = 1e-6


class Rotation:
    """Rotary embedding for positions `[2, ..., T]`: where a row stands, and its NTK stretch.

    Built once per pass. Dimension i is turned together with dimension i + Dh / 2, in fp32. A
    query at the 1-based position p beyond the trained length L is scaled by log(p) / log(L).
    """

    def __init__(self, positions: Tensor, config: QwenVLConfig) -> None:
        # Rows that only fill up a batch have zeros.
        where, alpha = positions[0], positions[1].clamp(min=1)
        head_dim = config.head_dim
        halves = torch.arange(0, head_dim, 2, device=where.device, dtype=torch.float32) / head_dim
        stretch = alpha.double() ** (head_dim / (head_dim - 2))
        bases = (config.rope_base * stretch).float()[..., None]
        angles = where[..., None].float() * (1.0 / bases**halves)
        angles = torch.cat((angles, angles), dim=-1).unsqueeze(-2)  # [..., T, 1, Dh]
        self._cosines, self._sines = angles.cos(), angles.sin()
        self._query_scale: Tensor | None = None
        if config.uses_logn:
            scale = (where + 1).double().log() / math.log(config.trained_length)
            self._query_scale = scale.clamp(min=1.0).float()[..., None, None]

    def turn(self, heads: Tensor) -> Tensor:
        """Rotate `[..., T, H, Dh]`."""
        x = heads.float()
        first, second = x.chunk(2, dim=-1)
        swapped = torch.cat((-second, first), dim=-1)
        return (x * self._cosines + swapped * self._sines).to(heads.dtype)

    def turn_query(self, heads: Tensor) -> Tensor:
        turned = self.turn(heads)
        if self._query_scale is None:
            return turned
        return turned * self._query_scale.to(turned.dtype)

    def apart(self, heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = heads.chunk(3, dim=-2)
        return self.turn_query(query), self.turn(key), value

    def turns(self, dtype: torch.dtype) -> Turns:
        """Return fp32 tables, whatever the dtype: this family turns in fp32."""
        sines = self._sines.squeeze(-2).clone()
        sines[..., : sines.shape[-1] // 2].neg_()
        scales = self._query_scale
        return Turns(
            self._cosines.squeeze(-2),
            sines,
            are_neighbours=False,
            query_scales=None if scales is None else scales.flatten(-3),
        )


class SelfAttention(nn.Module):
    def __init__(self, config: QwenVLConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.num_heads = config.num_heads
        self.c_attn = Linear(config.hidden_size, 3 * config.hidden_size)
        self.c_proj = Linear(config.hidden_size, config.hidden_size, bias=False)

    def plus_normed(self, x: Tensor, norm: Norm, rotate: Rotation, attend: Attention) -> Tensor:
        rows = self.c_attn.normed(x, norm)
        heads = rows.view(*rows.shape[:-1], 3 * self.num_heads, -1)
        return self.c_proj.plus(attend.turning(self.layer, heads, self.num_heads, rotate), x)


class GatedMlp(nn.Module):
    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__()
        self.w1 = Linear(config.hidden_size, config.mlp_width, bias=False)
        self.w2 = Linear(config.hidden_size, config.mlp_width, bias=False)
        self.c_proj = Linear(config.mlp_width, config.hidden_size, bias=False)
        self.inner = GateAndUp(self.w2, self.w1)

    def plus_normed(self, x: Tensor, norm: Norm) -> Tensor:
        return self.c_proj.plus(self.inner.normed(x, norm), x)


class DecoderLayer(nn.Module):
    def __init__(self, config: QwenVLConfig, layer: int) -> None:
        super().__init__()
        self.ln_1 = RoundingNorm(config.hidden_size, config.norm_eps)
        self.attn = SelfAttention(config, layer)
        self.ln_2 = RoundingNorm(config.hidden_size, config.norm_eps)
        self.mlp = GatedMlp(config)

    def forward(self, x: Tensor, rotate: Rotation, attend: Attention) -> Tensor:
        x = self.attn.plus_normed(x, self.ln_1, rotate, attend)
        return self.mlp.plus_normed(x, self.ln_2)


class TowerAttention(nn.Module):
    def __init__(self, config: VisualConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.in_proj = Linear(config.width, 3 * config.width)
        self.out_proj = Linear(config.width, config.width)

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        # The rows of in_proj are query, key and value of the first head, then of the second ...
        heads = self.in_proj(x).unflatten(-1, (self.num_heads, 3, -1))
        mixed = attend_to_all(*heads.unbind(3), rounds_rows=self.out_proj.rounds_rows)
        return self.out_proj.plus(mixed.flatten(2), residual)


class TowerMlp(nn.Module):
    def __init__(self, config: VisualConfig) -> None:
        super().__init__()
        self.c_fc = Linear(config.width, config.mlp_width)
        self.c_proj = Linear(config.mlp_width, config.width)

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.c_proj.plus(self.c_fc.gelu(x), residual)


class TowerBlock(nn.Module):
    def __init__(self, config: VisualConfig) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(config.width, TOWER_NORM_EPS)
        self.attn = TowerAttention(config)
        self.ln_2 = LayerNorm(config.width, TOWER_NORM_EPS)
        self.mlp = TowerMlp(config)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attn.plus(self.ln_1(x), x)
        return self.mlp.plus(self.ln_2(x), x)


class TowerBlocks(nn.Module):
    def __init__(self, config: VisualConfig) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(TowerBlock(config) for _ in range(config.num_layers))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resblocks:
            x = block(x)
        return x


class CrossAttention(nn.Module):
    """Names and layout of torch's MultiheadAttention: all queries, all keys, all values."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = Linear(width, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        query, key, value = (
            F.linear(x, w, b).view(*x.shape[:2], -1, POOL_HEAD_DIM).transpose(1, 2)
            for x, w, b in zip((query, key, value), weights, biases, strict=True)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Resampler(nn.Module):
    """Asks a picture Q learned questions; the answers are its rows, however many patches it has."""

    def __init__(self, config: VisualConfig) -> None:
        super().__init__()
        width = config.output_dim
        self.pos_embed = nn.Parameter(torch.zeros(NUM_QUESTIONS, width))
        self.query = nn.Parameter(torch.zeros(NUM_QUESTIONS, width))
        self.kv_proj = Linear(config.width, width, bias=False)
        self.attn = CrossAttention(width)
        self.ln_q = LayerNorm(width, TOWER_NORM_EPS)
        self.ln_kv = LayerNorm(width, TOWER_NORM_EPS)

    def forward(self, patches: Tensor, grid_size: int) -> Tensor:
        """Turn `[N, P, W]` into `[N, Q, D]`."""
        value = self.ln_kv(self.kv_proj(patches))
        question = (self.ln_q(self.query) + self.pos_embed).expand(len(patches), -1, -1)
        return self.attn(question, value + resized_table(self.pos_embed, grid_size), value)


class VisionTower(nn.Module):
    """OpenCLIP's ViT-bigG without its class row, then the resampler, then a projection."""

    def __init__(self, config: VisualConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv2d(3, config.width, config.patch_size, config.patch_size, bias=False)
        self.positional_embedding = nn.Parameter(torch.zeros(NUM_QUESTIONS, config.width))
        self.ln_pre = LayerNorm(config.width, TOWER_NORM_EPS)
        self.transformer = TowerBlocks(config)
        self.attn_pool = Resampler(config)
        self.ln_post = LayerNorm(config.output_dim, TOWER_NORM_EPS)
        self.proj = nn.Parameter(torch.zeros(config.output_dim, config.output_dim))

    def forward(self, values: Tensor) -> Tensor:
        """Turn normalised `[N, 3, S, S]` into `[N, Q, D]`."""
        grid_size = self.config.grid_size
        patches = self.conv1(values).flatten(2).transpose(1, 2)
        patches = patches + resized_table(self.positional_embedding, grid_size)
        patches = self.transformer(self.ln_pre(patches))
        # One picture at a time: these products are not packed (see `linear`), so their last bits
        # depend on the number of rows.
        rows = [
            self.ln_post(self.attn_pool(one, grid_size)) @ self.proj for one in patches.split(1)
        ]
        return torch.cat(rows)


def resized_table(table: Tensor, side: int) -> Tensor:
    """Stretch a table `[16 * 16, D]` to `[side * side, D]`, bicubic and in fp32."""
    if side == TABLE_SIDE:
        return table
    picture = table.float().view(1, TABLE_SIDE, TABLE_SIDE, -1).permute(0, 3, 1, 2)
    picture = F.interpolate(picture, size=(side, side), mode="bicubic", align_corners=False)
    return picture.permute(0, 2, 3, 1).flatten(0, 2).to(table.dtype)


class Transformer(nn.Module):
    """The hub's root of nearly all tensors."""

    visual: VisionTower | None

    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.h = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.num_layers))
        self.ln_f = RoundingNorm(config.hidden_size, config.norm_eps)
        self.visual = None if config.visual is None else VisionTower(config.visual)

    def forward(self, x: Tensor, rotate: Rotation, attend: Attention) -> Tensor:
        for layer in self.h:
            x = layer(x, rotate, attend)
        return self.ln_f(x)


class QwenVL(PagedModel):
    """The model behind `contract.VisionLanguageModel`; see there for what the methods promise."""

    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)

    @property
    def description(self) -> ModelDescription:
        config = self.config
        return ModelDescription(
            prompt_format="qwen_vl",
            max_model_len=config.max_positions,
            vocab_size=config.vocab_size,
            eos_token_ids=config.eos_token_ids,
            image_policy=config.image_policy,
        )

    @property
    def token_table(self) -> nn.Embedding:
        return self.transformer.wte

    @property
    def head(self) -> Linear:
        return self.lm_head

    @property
    def num_heads(self) -> int:
        return self.config.num_heads

    @property
    def tower(self) -> nn.Module | None:
        return self.transformer.visual

    @property
    def tower_shape(self) -> TowerShape | None:
        visual = self.config.visual
        if visual is None:
            return None
        return TowerShape(visual.num_heads, visual.width // visual.num_heads, visual.grid_size**2)

    @property
    def kv_shape(self) -> KVShape:
        return self.config.kv_shape

    def encode_pixel_values(self, values: Tensor) -> Tensor:
        """Encode pictures that are normalised already: float `[N, 3, S, S]`."""
        if self.transformer.visual is None:
            raise ValueError("this checkpoint has no vision tower")
        return self.transformer.visual(values.to(self.dtype))

    def positions(
        self,
        num_slots: int,
        image_spans: Sequence[tuple[int, int]],
        *,
        num_prompt: int | None = None,
        image_sizes: Sequence[tuple[int, int]] = (),
    ) -> Tensor:
        """Return `[2, num_slots]`: consecutive positions, and the prompt's NTK stretch."""
        alpha = self.kv_variant(num_slots if num_prompt is None else num_prompt)
        return torch.stack((torch.arange(num_slots), torch.full((num_slots,), alpha)))

    def kv_variant(self, num_prompt: int) -> int:
        return self.config.ntk_alpha(num_prompt)

    def decoder_parts(self) -> Iterator[DecoderParts]:
        for layer in cast(Iterable[DecoderLayer], self.transformer.h):
            attention, mlp = layer.attn, layer.mlp
            yield DecoderParts(
                layer.ln_1, SideBySide(attention.c_attn), attention.c_proj,
                layer.ln_2, mlp.inner, mlp.c_proj,
            )  # fmt: skip

    def run(self, embeds: Tensor, positions: Tensor, attend: Attention) -> Tensor:
        rotate = Rotation(positions, self.config)
        if (rows := self.run_streamed(embeds, rotate, attend)) is not None:
            return self.transformer.ln_f(rows)
        return self.transformer(self.own(embeds), rotate, attend)

"""What a checkpoint of Qwen-VL-Chat, or of the Qwen text models, is: told from its config.json.

No torch: the modules in `qwen_vl.py` are built from the same configuration, and a test compares
their tensors with the outline.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sightline.core.image_policy import SquareImagePolicy
from sightline.models.hub_config import ConfigReader
from sightline.models.outline import (
    KVShape,
    Outline,
    Patches,
    Shape,
    convolution,
    group,
    layer_norm,
    linear,
    rms_norm,
    stack,
    table,
)
from sightline.models.quantization import refuse_foreign

POOL_HEAD_DIM = 128
TABLE_SIDE = 16
NUM_QUESTIONS = TABLE_SIDE**2
# The begin and end of a picture are text tokens; they count for how many pictures have room.
SLOTS_PER_IMAGE = NUM_QUESTIONS + 2


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualConfig:
    image_size: int
    patch_size: int
    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    output_dim: int

    @property
    def grid_size(self) -> int:
        """Patches along one side of the picture."""
        return self.image_size // self.patch_size

    @classmethod
    def from_hub(cls, reader: ConfigReader, model_width: int) -> "VisualConfig":
        width = reader.integer("width", high=65_536)
        mlp_ratio = reader.number("mlp_ratio", low=0.1, high=64.0)
        config = cls(
            image_size=reader.integer("image_size", high=8192),
            patch_size=reader.integer("patch_size", high=1024),
            width=width,
            num_layers=reader.integer("layers", high=1024),
            num_heads=reader.integer("heads", high=1024),
            mlp_width=int(width * mlp_ratio),
            output_dim=reader.integer("output_dim", high=65_536),
        )
        if config.image_size % config.patch_size:
            raise reader.refusal("image_size", f"a multiple of patch_size {config.patch_size}")
        if width % config.num_heads:
            raise reader.refusal("heads", f"a divisor of width {width}")
        if config.output_dim != model_width or config.output_dim % POOL_HEAD_DIM:
            raise reader.refusal(
                "output_dim", f"hidden_size {model_width}, a multiple of {POOL_HEAD_DIM}"
            )
        if reader.integer("n_queries", high=65_536, default=NUM_QUESTIONS) != NUM_QUESTIONS:
            raise reader.refusal("n_queries", str(NUM_QUESTIONS))
        return config


@dataclass(frozen=True, slots=True, kw_only=True)
class QwenVLConfig:
    """Sizes and constants of one checkpoint. `visual` is None for the text-only models.

    `trained_length` (the hub's seq_length) is where NTK and logn begin to work; `max_positions`
    is how far they carry.
    """

    hidden_size: int
    num_layers: int
    num_heads: int
    head_dim: int
    mlp_width: int
    vocab_size: int
    norm_eps: float
    rope_base: float
    uses_dynamic_ntk: bool
    uses_logn: bool
    trained_length: int
    max_positions: int
    eos_token_ids: tuple[int, ...]
    visual: VisualConfig | None = None

    @classmethod
    def from_hub(cls, values: Mapping[str, Any]) -> "QwenVLConfig":
        """Check a hub config.json; raises StartupError for what this code would not compute."""
        reader = ConfigReader(values, "config.json")
        for key, expected, default in (
            ("no_bias", True, True),
            ("tie_word_embeddings", False, False),
            ("scale_attn_weights", True, True),
        ):
            reader.require(key, expected, default=default)
        refuse_foreign(reader)
        reader.require("softmax_in_fp32", False, default=False)
        if reader.number("rotary_pct", low=0, high=1, default=1.0) != 1.0:
            raise reader.refusal("rotary_pct", "1")
        hidden_size = reader.integer("hidden_size", high=65_536)
        vocab_size = reader.integer("vocab_size", high=4_194_304)
        visual = reader.section("visual")
        config = cls(
            hidden_size=hidden_size,
            num_layers=reader.integer("num_hidden_layers", high=1024),
            num_heads=reader.integer("num_attention_heads", high=1024),
            head_dim=reader.integer("kv_channels", high=4096),
            mlp_width=reader.integer("intermediate_size", low=2, high=1_048_576) // 2,
            vocab_size=vocab_size,
            norm_eps=reader.number("layer_norm_epsilon", low=0.0, high=0.1),
            rope_base=reader.number("rotary_emb_base", low=1.0, high=1e12),
            uses_dynamic_ntk=reader.flag("use_dynamic_ntk", default=False),
            uses_logn=reader.flag("use_logn_attn", default=False),
            trained_length=reader.integer("seq_length", low=2, high=16_777_216),
            max_positions=reader.integer("max_position_embeddings", high=16_777_216),
            eos_token_ids=reader.token_ids("eos_token_id", vocab_size=vocab_size)
            if values.get("eos_token_id") is not None
            else (),
            visual=None if visual is None else VisualConfig.from_hub(visual, hidden_size),
        )
        if config.num_heads * config.head_dim != hidden_size:
            raise reader.refusal("kv_channels", "hidden_size / num_attention_heads")
        if config.head_dim % 2 or config.head_dim < 4:
            raise reader.refusal("kv_channels", "an even number from 4 on")
        return config

    def ntk_alpha(self, num_prompt: int) -> int:
        """Return the stretch that a prompt of this many tokens fixes for its whole answer."""
        if not self.uses_dynamic_ntk or num_prompt <= self.trained_length:
            return 1
        return 2 ** math.ceil(math.log2(num_prompt / self.trained_length) + 1) - 1

    @property
    def kv_shape(self) -> KVShape:
        return KVShape(self.num_layers, self.num_heads, self.head_dim)

    @property
    def image_policy(self) -> SquareImagePolicy | None:
        if self.visual is None:
            return None
        return SquareImagePolicy(
            size=self.visual.image_size,
            num_tokens=NUM_QUESTIONS,
            max_images=max(1, self.max_positions // SLOTS_PER_IMAGE),
        )

    @property
    def patches(self) -> Patches | None:
        visual = self.visual
        if visual is None:
            return None
        return Patches(visual.patch_size, 1, visual.width, visual.mlp_width, "rows")

    @property
    def outline(self) -> Outline:
        parts = {
            "wte": table(self.vocab_size, self.hidden_size).of("embeddings"),
            "h": stack(self.num_layers, _block(self)),
            "ln_f": rms_norm(self.hidden_size),
        }
        if self.visual is not None:
            parts["visual"] = _tower(self.visual)
        return group(
            "QWenLMHeadModel",
            transformer=group("QWenModel", **parts),
            lm_head=linear(self.hidden_size, self.vocab_size, bias=False).of("head"),
        )


def _block(config: QwenVLConfig) -> Outline:
    width, inner = config.hidden_size, config.mlp_width
    return group(
        "QWenBlock",
        ln_1=rms_norm(width),
        attn=group(
            "QWenAttention",
            c_attn=linear(width, 3 * width),
            c_proj=linear(width, width, bias=False),
        ),
        ln_2=rms_norm(width),
        mlp=group(
            "QWenMLP",
            w1=linear(width, inner, bias=False),
            w2=linear(width, inner, bias=False),
            c_proj=linear(inner, width, bias=False),
        ),
    )


def _tower(config: VisualConfig) -> Outline:
    """The tower, and in it what makes its patches rows of the language model."""
    width, out = config.width, config.output_dim
    layer = group(
        "VisualAttentionBlock",
        ln_1=layer_norm(width),
        ln_2=layer_norm(width),
        attn=group(
            "VisualAttention",
            in_proj=linear(width, 3 * width),
            out_proj=linear(width, width),
        ),
        mlp=group(
            "Sequential",
            c_fc=linear(width, config.mlp_width),
            c_proj=linear(config.mlp_width, width),
        ),
    )
    tables: dict[str, Shape] = {"pos_embed": (NUM_QUESTIONS, out), "query": (NUM_QUESTIONS, out)}
    resampler = Outline(
        kind="Resampler",
        tensors=tables,
        part="connector",
        children={
            "kv_proj": linear(width, out, bias=False),
            "attn": Outline(
                kind="MultiheadAttention",
                tensors={"in_proj_weight": (3 * out, out), "in_proj_bias": (3 * out,)},
                children={"out_proj": linear(out, out)},
            ),
            "ln_q": layer_norm(out),
            "ln_kv": layer_norm(out),
        },
    )
    return Outline(
        kind="VisionTransformer",
        tensors={"positional_embedding": (NUM_QUESTIONS, width)},
        part="vision",
        children={
            "conv1": convolution(3, width, config.patch_size, config.patch_size, bias=False),
            "ln_pre": layer_norm(width),
            "transformer": group("TransformerBlock", resblocks=stack(config.num_layers, layer)),
            "attn_pool": resampler,
            "ln_post": layer_norm(out).of("connector"),
            "": Outline(kind="Projection", tensors={"proj": (out, out)}, part="connector"),
        },
    )

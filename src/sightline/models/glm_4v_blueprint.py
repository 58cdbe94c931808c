"""What a checkpoint of GLM-4V-9B, or of the GLM-4 text models, is: told from its config.json.

No torch: the modules in `glm_4v_9b.py` are built from the same configuration, and a test compares
their tensors with the outline.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sightline.core.image_policy import SquareImagePolicy
from sightline.models.hub_config import ConfigReader
from sightline.models.outline import (
    KVShape,
    Outline,
    Patches,
    convolution,
    group,
    layer_norm,
    linear,
    rms_norm,
    stack,
    table,
)
from sightline.models.quantization import refuse_foreign

DOWNSAMPLING = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionConfig:
    image_size: int
    patch_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    layer_norm_eps: float
    scaling_factor: float

    @property
    def grid_size(self) -> int:
        """Patches along one side of the picture."""
        return self.image_size // self.patch_size

    @property
    def num_positions(self) -> int:
        """Rows of the position table: the class row, then one per patch."""
        return self.grid_size**2 + 1

    @property
    def num_image_tokens(self) -> int:
        """Rows that one image gives the language model, begin and end rows included."""
        return (self.grid_size // DOWNSAMPLING) ** 2 + 2

    @classmethod
    def from_hub(cls, reader: ConfigReader) -> "VisionConfig":
        reader.require("hidden_act", "gelu", default="gelu")
        if reader.integer("in_channels", low=1, high=4096, default=3) != 3:
            raise reader.refusal("in_channels", "3")
        config = cls(
            image_size=reader.integer("image_size", high=8192),
            patch_size=reader.integer("patch_size", high=1024),
            hidden_size=reader.integer("hidden_size", high=65_536),
            num_layers=reader.integer("num_hidden_layers", high=1024),
            num_heads=reader.integer("num_heads", high=1024),
            intermediate_size=reader.integer("intermediate_size", high=1_048_576),
            layer_norm_eps=reader.number("layer_norm_eps", low=0.0, high=0.1, default=1e-6),
            scaling_factor=reader.number("scaling_factor", low=1e-3, high=1e6),
        )
        if config.image_size % (config.patch_size * DOWNSAMPLING):
            raise reader.refusal(
                "image_size", f"a multiple of {DOWNSAMPLING} patches of {config.patch_size} pixels"
            )
        if config.hidden_size % config.num_heads:
            raise reader.refusal("num_heads", f"a divisor of hidden_size {config.hidden_size}")
        num_positions = reader.integer(
            "num_positions", high=1_048_576, default=config.num_positions
        )
        if num_positions != config.num_positions:
            raise reader.refusal("num_positions", f"{config.num_positions}, as image_size asks for")
        return config


@dataclass(frozen=True, slots=True, kw_only=True)
class Glm4vConfig:
    """Sizes and constants of one checkpoint. `vision` is None for the text-only models."""

    hidden_size: int
    num_layers: int
    num_heads: int
    num_groups: int
    head_dim: int
    ffn_hidden_size: int
    vocab_size: int
    norm_eps: float
    has_qkv_bias: bool
    rope_ratio: float
    max_positions: int
    eos_token_ids: tuple[int, ...]
    vision: VisionConfig | None = None

    @classmethod
    def from_hub(cls, values: Mapping[str, Any]) -> "Glm4vConfig":
        """Check a hub config.json and take what the model needs from it.

        Raises StartupError, naming key, value and what is supported, for everything that this
        code would compute differently from what the file asks for. Keys without effect on
        inference, `auto_map` among them, are not looked at.
        """
        reader = ConfigReader(values, "config.json")
        _refuse_what_is_not_built(reader)
        vocab_size = reader.integer(
            "padded_vocab_size" if "padded_vocab_size" in values else "vocab_size",
            high=4_194_304,
        )
        vision = reader.section("vision_config")
        config = cls(
            hidden_size=reader.integer("hidden_size", high=65_536),
            num_layers=reader.integer(
                "num_layers" if "num_layers" in values else "num_hidden_layers", high=1024
            ),
            num_heads=reader.integer("num_attention_heads", high=1024),
            num_groups=reader.integer("multi_query_group_num", high=1024),
            head_dim=reader.integer("kv_channels", high=4096),
            ffn_hidden_size=reader.integer("ffn_hidden_size", high=1_048_576),
            vocab_size=vocab_size,
            norm_eps=reader.number("layernorm_epsilon", low=0.0, high=0.1),
            has_qkv_bias=reader.flag("add_qkv_bias", default=False),
            rope_ratio=reader.number("rope_ratio", low=1e-3, high=1e9, default=1),
            max_positions=reader.integer("seq_length", high=16_777_216),
            eos_token_ids=reader.token_ids("eos_token_id", vocab_size=vocab_size),
            vision=None if vision is None else VisionConfig.from_hub(vision),
        )
        if config.num_heads % config.num_groups:
            raise reader.refusal(
                "multi_query_group_num", f"a divisor of num_attention_heads {config.num_heads}"
            )
        if config.head_dim % 4:
            raise reader.refusal("kv_channels", "a multiple of 4: half of it is rotated, in pairs")
        return config

    @property
    def kv_shape(self) -> KVShape:
        return KVShape(self.num_layers, self.num_groups, self.head_dim)

    @property
    def mlp_width(self) -> int:
        return self.ffn_hidden_size

    @property
    def image_policy(self) -> SquareImagePolicy | None:
        vision = self.vision
        if vision is None:
            return None
        return SquareImagePolicy(size=vision.image_size, num_tokens=vision.num_image_tokens)

    @property
    def patches(self) -> Patches | None:
        vision = self.vision
        if vision is None:
            return None
        return Patches(
            vision.patch_size,
            DOWNSAMPLING,
            vision.hidden_size,
            vision.intermediate_size,
            "three",
        )

    @property
    def outline(self) -> Outline:
        width = self.hidden_size
        parts = {
            "embedding": group("Embedding", word_embeddings=table(self.vocab_size, width)).of(
                "embeddings"
            ),
            "encoder": group(
                "GLMTransformer",
                layers=stack(self.num_layers, _block(self)),
                final_layernorm=rms_norm(width),
            ),
            "output_layer": linear(width, self.vocab_size, bias=False).of("head"),
        }
        if self.vision is not None:
            parts["vision"] = _tower(self.vision, width, self.ffn_hidden_size)
        return group("ChatGLMForConditionalGeneration", transformer=group("ChatGLMModel", **parts))


def _block(config: Glm4vConfig) -> Outline:
    width = config.hidden_size
    rows = config.num_heads * config.head_dim
    return group(
        "GLMBlock",
        input_layernorm=rms_norm(width),
        self_attention=group(
            "SelfAttention",
            query_key_value=linear(
                width, rows + 2 * config.num_groups * config.head_dim, bias=config.has_qkv_bias
            ),
            dense=linear(rows, width, bias=False),
        ),
        post_attention_layernorm=rms_norm(width),
        mlp=group(
            "MLP",
            dense_h_to_4h=linear(width, 2 * config.ffn_hidden_size, bias=False),
            dense_4h_to_h=linear(config.ffn_hidden_size, width, bias=False),
        ),
    )


def _tower(vision: VisionConfig, width: int, inner_width: int) -> Outline:
    """The tower, and in it what makes its patches rows of the language model."""
    tower = vision.hidden_size
    layer = group(
        "TransformerLayer",
        input_layernorm=layer_norm(tower),
        attention=group(
            "Attention", query_key_value=linear(tower, 3 * tower), dense=linear(tower, tower)
        ),
        mlp=group(
            "MLP",
            fc1=linear(tower, vision.intermediate_size),
            fc2=linear(vision.intermediate_size, tower),
        ),
        post_attention_layernorm=layer_norm(tower),
    )
    side = vision.patch_size
    return Outline(
        kind="EVA2CLIPModel",
        tensors={"boi": (1, 1, width), "eoi": (1, 1, width)},
        part="connector",
        children={
            "patch_embedding": Outline(
                kind="PatchEmbedding",
                tensors={"cls_embedding": (1, tower)},
                part="vision",
                children={
                    "proj": convolution(3, tower, side, side),
                    "position_embedding": table(vision.num_positions, tower),
                },
            ),
            "transformer": group("Transformer", layers=stack(vision.num_layers, layer)).of(
                "vision"
            ),
            "linear_proj": group(
                "GLU",
                linear_proj=linear(width, width, bias=False),
                norm1=layer_norm(width),
                dense_h_to_4h=linear(width, inner_width, bias=False),
                gate_proj=linear(width, inner_width, bias=False),
                dense_4h_to_h=linear(inner_width, width, bias=False),
            ),
            "conv": convolution(tower, width, DOWNSAMPLING, DOWNSAMPLING),
        },
    )


def _refuse_what_is_not_built(reader: ConfigReader) -> None:
    for key, expected, default in (
        ("multi_query_attention", True, False),
        ("rmsnorm", True, True),
        ("post_layer_norm", True, True),
        ("original_rope", True, True),
        ("add_bias_linear", False, False),
        ("apply_residual_connection_post_layernorm", False, False),
        ("fp32_residual_connection", False, False),
        ("tie_word_embeddings", False, False),
    ):
        reader.require(key, expected, default=default)
    refuse_foreign(reader)
    for key in ("trust_remote_code", "_attn_implementation_internal"):
        if reader.values.get(key) not in (None, False):
            raise reader.refusal(key, "a folder without it")
    for key, twin in (("num_layers", "num_hidden_layers"), ("padded_vocab_size", "vocab_size")):
        if (
            key in reader.values
            and reader.values.get(twin, reader.values[key]) != reader.values[key]
        ):
            raise reader.refusal(twin, f"the value of {key}")

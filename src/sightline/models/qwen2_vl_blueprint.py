"""What a checkpoint of Qwen2-VL or Qwen2.5-VL is: told from its config.json.

No torch: the modules in `qwen2_vl.py` and `qwen2_vision.py` are built from the same configuration,
and a test compares their tensors with the outline.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sightline.core.image_policy import PatchGridImagePolicy
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

NUM_FRAMES = 2
NUM_AXES = 3
MAX_IMAGES = 16


# What a tower has of which its config.json says nothing: transformers leaves out of an inner object
# what its classes say by themselves, and models that it has saved are published like that.
TOWER_DEPTH, TOWER_HEADS = 32, 16
TOWER_WIDTH, TOWER_OUT_WIDTH = 1280, 3584
WINDOWED_WIDTH, WINDOWED_MLP_WIDTH = 3584, 3420
WINDOW_SIZE, FULL_LAYERS = 112, (7, 15, 23, 31)


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen2VisionConfig:
    """Sizes of one tower. `window_patches` is 0 where every block sees the whole picture."""

    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    patch_size: int
    merge_size: int
    out_width: int
    window_patches: int = 0
    full_layers: frozenset[int] = frozenset()

    @property
    def has_windows(self) -> bool:
        """The tower is Qwen2.5-VL's: windows, RMS norms and gated MLPs."""
        return self.window_patches > 0

    @property
    def factor(self) -> int:
        """Pixels along one side of what becomes one row: both sides are multiples of it."""
        return self.patch_size * self.merge_size

    @classmethod
    def from_hub(
        cls, reader: ConfigReader, *, model_width: int, windows: bool
    ) -> "Qwen2VisionConfig":
        for key, expected in (("in_channels", 3), ("in_chans", 3), ("temporal_patch_size", 2)):
            if reader.integer(key, high=4096, default=expected) != expected:
                raise reader.refusal(key, str(expected))
        patch_size = reader.integer("patch_size", high=1024, default=14)
        merge_size = reader.integer("spatial_merge_size", high=16, default=2)
        num_layers = reader.integer("depth", high=1024, default=TOWER_DEPTH)
        num_heads = reader.integer("num_heads", high=1024, default=TOWER_HEADS)
        if windows:
            reader.require("hidden_act", "silu", default="silu")
            window = reader.integer("window_size", high=65_536, default=WINDOW_SIZE)
            if window % (patch_size * merge_size):
                raise reader.refusal("window_size", f"a multiple of {patch_size * merge_size}")
            config = cls(
                width=reader.integer("hidden_size", high=65_536, default=WINDOWED_WIDTH),
                num_layers=num_layers,
                num_heads=num_heads,
                mlp_width=reader.integer(
                    "intermediate_size", high=1_048_576, default=WINDOWED_MLP_WIDTH
                ),
                patch_size=patch_size,
                merge_size=merge_size,
                out_width=reader.integer("out_hidden_size", high=65_536, default=TOWER_OUT_WIDTH),
                window_patches=window // patch_size,
                full_layers=_layers(reader, "fullatt_block_indexes", num_layers),
            )
        else:
            reader.require("hidden_act", "quick_gelu", default="quick_gelu")
            width = reader.integer("embed_dim", high=65_536, default=TOWER_WIDTH)
            config = cls(
                width=width,
                num_layers=num_layers,
                num_heads=num_heads,
                mlp_width=int(width * reader.number("mlp_ratio", low=0.1, high=64, default=4)),
                patch_size=patch_size,
                merge_size=merge_size,
                out_width=reader.integer("hidden_size", high=65_536, default=TOWER_OUT_WIDTH),
            )
        if config.out_width != model_width:
            key = "out_hidden_size" if windows else "hidden_size"
            raise reader.refusal(key, f"the language model's hidden_size {model_width}")
        if config.width % (4 * config.num_heads):
            raise reader.refusal("num_heads", "heads of a width that 4 divides")
        return config


def _layers(reader: ConfigReader, key: str, num_layers: int) -> frozenset[int]:
    value = reader.values.get(key)
    if value is None:
        value = [layer for layer in FULL_LAYERS if layer < num_layers]
    if not isinstance(value, list) or not all(
        type(layer) is int and 0 <= layer < num_layers for layer in value
    ):
        raise reader.refusal(key, f"a list of layers below {num_layers}")
    return frozenset(value)


def vision_section(values: Mapping[str, Any]) -> ConfigReader:
    """Return the tower's part of a config.json. Raises StartupError if there is none."""
    reader = ConfigReader(values, "config.json")
    section = reader.section("vision_config")
    if section is None:
        raise reader.refusal("vision_config", "an object")
    return section


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen2VLConfig:
    """Sizes and constants of one checkpoint. `sections`: how many frequencies each axis turns."""

    hidden_size: int
    num_layers: int
    num_heads: int
    num_groups: int
    mlp_width: int
    vocab_size: int
    norm_eps: float
    rope_base: float
    sections: tuple[int, int, int]
    max_positions: int
    ties_embeddings: bool
    eos_token_ids: tuple[int, ...]
    vision: Qwen2VisionConfig

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @classmethod
    def from_hub(cls, values: Mapping[str, Any]) -> "Qwen2VLConfig":
        """Check a hub config.json; raises StartupError for what this code would not compute.

        The language model's keys may stand at the top, as published, or in `text_config`, as
        newer tools write them.
        """
        top = ConfigReader(values, "config.json")
        reader = top.section("text_config") or top
        reader.require("hidden_act", "silu", default="silu")
        reader.require("use_sliding_window", False, default=False)
        refuse_foreign(top)
        hidden_size = reader.integer("hidden_size", high=65_536)
        num_heads = reader.integer("num_attention_heads", high=1024)
        vocab_size = reader.integer("vocab_size", high=4_194_304)
        config = cls(
            hidden_size=hidden_size,
            num_layers=reader.integer("num_hidden_layers", high=1024),
            num_heads=num_heads,
            num_groups=reader.integer("num_key_value_heads", high=1024, default=num_heads),
            mlp_width=reader.integer("intermediate_size", high=1_048_576),
            vocab_size=vocab_size,
            norm_eps=reader.number("rms_norm_eps", low=0.0, high=0.1),
            rope_base=_rope(reader).number("rope_theta", low=1.0, high=1e12),
            sections=_sections(_rope(reader)),
            max_positions=reader.integer("max_position_embeddings", high=16_777_216),
            # Some releases of transformers write it beside the language model's other keys.
            ties_embeddings=any(
                part.flag("tie_word_embeddings", default=False) for part in (top, reader)
            ),
            eos_token_ids=(
                reader if reader.values.get("eos_token_id") is not None else top
            ).token_ids("eos_token_id", vocab_size=vocab_size),
            vision=Qwen2VisionConfig.from_hub(
                vision_section(values),
                model_width=hidden_size,
                windows=values.get("model_type") == "qwen2_5_vl",
            ),
        )
        if hidden_size % num_heads or config.head_dim % 2:
            raise reader.refusal("num_attention_heads", f"a divisor of hidden_size {hidden_size}")
        if num_heads % config.num_groups:
            raise reader.refusal("num_key_value_heads", f"a divisor of {num_heads}")
        if 2 * sum(config.sections) != config.head_dim:
            raise reader.refusal("rope_scaling", f"an mrope_section of sum {config.head_dim // 2}")
        return config

    @property
    def kv_shape(self) -> KVShape:
        return KVShape(self.num_layers, self.num_groups, self.head_dim)

    @property
    def image_policy(self) -> PatchGridImagePolicy:
        return PatchGridImagePolicy(factor=self.vision.factor, max_images=MAX_IMAGES)

    @property
    def patches(self) -> Patches:
        vision = self.vision
        return Patches(
            vision.patch_size, vision.merge_size, vision.width, vision.mlp_width, "longer side"
        )

    @property
    def outline(self) -> Outline:
        prefix = "Qwen2_5_" if self.vision.has_windows else "Qwen2"
        parts = {
            "visual": _tower(self.vision, prefix),
            "model": group(
                f"{prefix}VLModel",
                embed_tokens=table(self.vocab_size, self.hidden_size).of("embeddings"),
                layers=stack(self.num_layers, _layer(self, prefix)),
                norm=rms_norm(self.hidden_size, "Qwen2RMSNorm"),
            ),
        }
        if not self.ties_embeddings:
            parts["lm_head"] = linear(self.hidden_size, self.vocab_size, bias=False).of("head")
        return group(f"{prefix}VLForConditionalGeneration", **parts)


def _layer(config: Qwen2VLConfig, prefix: str) -> Outline:
    width, groups = config.hidden_size, config.num_groups * config.head_dim
    return group(
        f"{prefix}VLDecoderLayer",
        self_attn=group(
            f"{prefix}VLAttention",
            q_proj=linear(width, width),
            k_proj=linear(width, groups),
            v_proj=linear(width, groups),
            o_proj=linear(width, width, bias=False),
        ),
        mlp=_gated_mlp("Qwen2MLP", width, config.mlp_width, bias=False),
        input_layernorm=rms_norm(width, "Qwen2RMSNorm"),
        post_attention_layernorm=rms_norm(width, "Qwen2RMSNorm"),
    )


def _tower(vision: Qwen2VisionConfig, prefix: str) -> Outline:
    """The tower, and in it the merger, which makes its patches rows of the language model."""
    width = vision.width
    merged = width * vision.merge_size**2
    norm = rms_norm(width, "Qwen2RMSNorm") if vision.has_windows else layer_norm(width)
    block = group(
        f"{prefix}VLVisionBlock",
        norm1=norm,
        norm2=norm,
        attn=group(
            f"{prefix}VLVisionAttention" if vision.has_windows else "VisionAttention",
            qkv=linear(width, 3 * width),
            proj=linear(width, width),
        ),
        mlp=_gated_mlp(f"{prefix}VLMLP", width, vision.mlp_width, bias=True)
        if vision.has_windows
        else group(
            "VisionMlp", fc1=linear(width, vision.mlp_width), fc2=linear(vision.mlp_width, width)
        ),
    )
    side = vision.patch_size
    layers = {"0": linear(merged, merged), "2": linear(merged, vision.out_width)}
    return group(
        f"{prefix}VisionTransformerPretrainedModel",
        patch_embed=group(
            f"{prefix}VisionPatchEmbed" if vision.has_windows else "PatchEmbed",
            proj=convolution(3, width, NUM_FRAMES, side, side, bias=False),
        ),
        blocks=stack(vision.num_layers, block),
        merger=group(
            f"{prefix}VLPatchMerger" if vision.has_windows else "PatchMerger",
            ln_q=norm,
            mlp=Outline(kind="Sequential", children=layers),
        ).of("connector"),
    ).of("vision")


def _gated_mlp(kind: str, width: int, inner: int, *, bias: bool) -> Outline:
    return group(
        kind,
        gate_proj=linear(width, inner, bias=bias),
        up_proj=linear(width, inner, bias=bias),
        down_proj=linear(inner, width, bias=bias),
    )


def _rope(reader: ConfigReader) -> ConfigReader:
    """Return where the rotary embedding is described: one object, or a key beside another."""
    newer = reader.section("rope_parameters")
    older = reader.section("rope_scaling")
    if newer is not None:
        return newer
    merged = {**(older.values if older else {}), "rope_theta": reader.values.get("rope_theta")}
    return ConfigReader(merged, f"{reader.where}, rope_scaling")


def _sections(reader: ConfigReader) -> tuple[int, int, int]:
    kinds = (reader.values.get("type"), reader.values.get("rope_type"))
    if any(kind not in (None, "mrope", "default") for kind in kinds):
        key = "type" if kinds[0] is not None else "rope_type"
        raise reader.refusal(key, "mrope or default")
    value = reader.values.get("mrope_section")
    if (
        not isinstance(value, list)
        or len(value) != NUM_AXES
        or not all(type(size) is int and 0 < size < 4096 for size in value)
    ):
        raise reader.refusal("mrope_section", "three numbers")
    return value[0], value[1], value[2]

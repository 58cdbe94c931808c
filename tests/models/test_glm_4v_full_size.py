"""The real models' sizes, on the meta device: no memory, every name and shape."""

from typing import Any

import pytest
import torch

from sightline.models.glm_4v_9b import Glm4v, Glm4vConfig
from sightline.models.quantization import choose_quantization, weight_bytes

pytestmark = pytest.mark.engine

TRUNK: dict[str, Any] = {
    "model_type": "chatglm",
    "multi_query_attention": True,
    "add_qkv_bias": True,
    "hidden_size": 4096,
    "num_layers": 40,
    "num_attention_heads": 32,
    "kv_channels": 128,
    "multi_query_group_num": 2,
    "ffn_hidden_size": 13696,
    "padded_vocab_size": 151552,
    "layernorm_epsilon": 1.5625e-07,
    "seq_length": 8192,
    "eos_token_id": [151329, 151336, 151338],
}
VISION = {
    "image_size": 1120,
    "patch_size": 14,
    "hidden_size": 1792,
    "num_hidden_layers": 63,
    "num_heads": 16,
    "intermediate_size": 15360,
    "num_positions": 6401,
    "scaling_factor": 8,
}


def shapes(**changes: Any) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = Glm4v(Glm4vConfig.from_hub(TRUNK | changes))
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def count(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(torch.Size(shape).numel() for shape in shapes.values())


def expected_text(num_groups: int) -> dict[str, tuple[int, ...]]:
    rows = 4096 + 2 * num_groups * 128
    expected: dict[str, tuple[int, ...]] = {
        "transformer.embedding.word_embeddings.weight": (151552, 4096),
        "transformer.output_layer.weight": (151552, 4096),
        "transformer.encoder.final_layernorm.weight": (4096,),
    }
    for i in range(40):
        layer = f"transformer.encoder.layers.{i}"
        expected |= {
            f"{layer}.input_layernorm.weight": (4096,),
            f"{layer}.post_attention_layernorm.weight": (4096,),
            f"{layer}.self_attention.query_key_value.weight": (rows, 4096),
            f"{layer}.self_attention.query_key_value.bias": (rows,),
            f"{layer}.self_attention.dense.weight": (4096, 4096),
            f"{layer}.mlp.dense_h_to_4h.weight": (27392, 4096),
            f"{layer}.mlp.dense_4h_to_h.weight": (4096, 13696),
        }
    return expected


def expected_vision() -> dict[str, tuple[int, ...]]:
    v = "transformer.vision"
    expected: dict[str, tuple[int, ...]] = {
        f"{v}.patch_embedding.proj.weight": (1792, 3, 14, 14),
        f"{v}.patch_embedding.proj.bias": (1792,),
        f"{v}.patch_embedding.cls_embedding": (1, 1792),
        f"{v}.patch_embedding.position_embedding.weight": (6401, 1792),
        f"{v}.conv.weight": (4096, 1792, 2, 2),
        f"{v}.conv.bias": (4096,),
        f"{v}.linear_proj.linear_proj.weight": (4096, 4096),
        f"{v}.linear_proj.norm1.weight": (4096,),
        f"{v}.linear_proj.norm1.bias": (4096,),
        f"{v}.linear_proj.dense_h_to_4h.weight": (13696, 4096),
        f"{v}.linear_proj.gate_proj.weight": (13696, 4096),
        f"{v}.linear_proj.dense_4h_to_h.weight": (4096, 13696),
        f"{v}.boi": (1, 1, 4096),
        f"{v}.eoi": (1, 1, 4096),
    }
    for i in range(63):
        layer = f"{v}.transformer.layers.{i}"
        for name, rows, columns in (
            ("attention.query_key_value", 5376, 1792),
            ("attention.dense", 1792, 1792),
            ("mlp.fc1", 15360, 1792),
            ("mlp.fc2", 1792, 15360),
        ):
            expected |= {f"{layer}.{name}.weight": (rows, columns), f"{layer}.{name}.bias": (rows,)}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            expected |= {f"{layer}.{norm}.weight": (1792,), f"{layer}.{norm}.bias": (1792,)}
    return expected


def test_glm_4v_9b_has_every_tensor_of_the_hub() -> None:
    assert shapes(vision_config=VISION) == expected_text(2) | expected_vision()


def test_glm_4v_9b_has_13906320896_parameters() -> None:
    assert count(shapes(vision_config=VISION)) == 13_906_320_896


def test_glm_4_9b_chat_has_9399951360_parameters() -> None:
    found = shapes(rope_ratio=500, seq_length=131072)
    assert found == expected_text(2)
    assert count(found) == 9_399_951_360


def test_glm_4_9b_chat_1m_has_9483857920_parameters() -> None:
    found = shapes(rope_ratio=10000, seq_length=1048576, multi_query_group_num=4)
    assert found == expected_text(4)
    assert count(found) == 9_483_857_920


def test_glm_4v_9b_describes_itself() -> None:
    with torch.device("meta"):
        description = Glm4v(Glm4vConfig.from_hub(TRUNK | {"vision_config": VISION})).description
    assert description.image_policy is not None
    assert (description.image_policy.size, description.image_policy.num_tokens) == (1120, 1602)
    assert description.max_model_len == 8192
    assert description.vocab_size == 151552
    assert description.eos_token_ids == (151329, 151336, 151338)


def test_a_slot_of_the_full_size_cache_takes_40_kib() -> None:
    with torch.device("meta"):
        model = Glm4v(Glm4vConfig.from_hub(TRUNK)).to(torch.bfloat16)
    assert model.allocate_cache(8192).size_bytes == 8192 * 40 * 1024


@pytest.mark.parametrize(
    ("language", "vision", "most_gb"),
    [("int8", None, 20.5), ("int4", None, 12.0), ("int8", "int8", 15.2), (None, None, 27.82)],
)
def test_glm_4v_9b_takes_so_much_memory(
    language: str | None, vision: str | None, most_gb: float
) -> None:
    chosen = choose_quantization(language, vision)
    found = shapes(vision_config=VISION)
    total = sum(weight_bytes(name, shape, chosen) for name, shape in found.items())
    assert 0.92 * most_gb < total / 1e9 <= most_gb

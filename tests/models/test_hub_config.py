"""What a hub config.json may say, and what is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.core.errors import StartupError
from sightline.models.glm_4v_9b import Glm4vConfig
from sightline.models.registry import find_family


@pytest.fixture
def config(golden: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((golden / "glm4v-a" / "config.json").read_text())
    return values


def refusal(config: dict[str, Any]) -> str:
    with pytest.raises(StartupError) as caught:
        Glm4vConfig.from_hub(config)
    assert len(caught.value.message) <= 300
    return caught.value.message


def test_rope_ratio_and_original_rope_have_defaults(config: dict[str, Any]) -> None:
    del config["rope_ratio"], config["original_rope"]
    assert Glm4vConfig.from_hub(config).rope_ratio == 1.0


def test_null_counts_as_missing(config: dict[str, Any]) -> None:
    assert Glm4vConfig.from_hub(config | {"rope_ratio": None}).rope_ratio == 1.0


def test_a_config_without_vision_is_text_only(config: dict[str, Any]) -> None:
    del config["vision_config"]
    assert Glm4vConfig.from_hub(config).vision is None


def test_one_end_of_text_id_may_stand_alone(config: dict[str, Any]) -> None:
    assert Glm4vConfig.from_hub(config | {"eos_token_id": 7}).eos_token_ids == (7,)


@pytest.mark.parametrize("key", ["auto_map", "transformers_version", "attention_dropout"])
def test_keys_without_effect_are_not_looked_at(config: dict[str, Any], key: str) -> None:
    Glm4vConfig.from_hub(config | {key: {"AutoModel": "modeling_chatglm.Evil"}})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("original_rope", False),
        ("rmsnorm", False),
        ("post_layer_norm", False),
        ("multi_query_attention", False),
        ("multi_query_attention", None),
        ("add_bias_linear", True),
        ("apply_residual_connection_post_layernorm", True),
        ("fp32_residual_connection", True),
        ("tie_word_embeddings", True),
        ("trust_remote_code", True),
        ("_attn_implementation_internal", "evil/kernel"),
        ("quantization_config", {"bits": 4}),
        ("hidden_size", 10**9),
        ("hidden_size", 10**60),
        ("hidden_size", -1),
        ("hidden_size", 0),
        ("hidden_size", "64"),
        ("hidden_size", 64.0),
        ("hidden_size", True),
        ("hidden_size", None),
        ("num_attention_heads", 0),
        ("num_attention_heads", [4]),
        ("multi_query_group_num", 3),
        ("kv_channels", 6),
        ("ffn_hidden_size", None),
        ("layernorm_epsilon", "small"),
        ("layernorm_epsilon", -1e-5),
        ("layernorm_epsilon", float("nan")),
        ("rope_ratio", 0),
        ("rope_ratio", float("inf")),
        ("seq_length", None),
        ("seq_length", 0),
        ("padded_vocab_size", -5),
        ("eos_token_id", [0, 200]),
        ("eos_token_id", []),
        ("eos_token_id", None),
        ("eos_token_id", "<|endoftext|>"),
        ("num_hidden_layers", 7),
        ("add_qkv_bias", "yes"),
        ("vision_config", []),
    ],
)
def test_what_is_not_built_is_refused_by_name(config: dict[str, Any], key: str, value: Any) -> None:
    message = refusal(config | {key: value})
    assert message.startswith(f"config.json: {key!r}")
    assert "supported: " in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scaling_factor", None),
        ("scaling_factor", 0),
        ("hidden_act", "quick_gelu"),
        ("in_channels", 4),
        ("image_size", 100),
        ("image_size", 10**7),
        ("patch_size", -14),
        ("num_heads", 5),
        ("num_positions", 64),
        ("num_hidden_layers", "63"),
        ("layer_norm_eps", 1.0),
    ],
)
def test_vision_values_are_refused_by_name(config: dict[str, Any], key: str, value: Any) -> None:
    message = refusal(config | {"vision_config": config["vision_config"] | {key: value}})
    assert message.startswith(f"config.json, vision_config: {key!r}")


def test_a_message_says_what_was_found_and_what_would_do(config: dict[str, Any]) -> None:
    assert refusal(config | {"hidden_size": 10**9}) == (
        "config.json: 'hidden_size' is 1000000000; supported: an integer from 1 to 65536."
    )


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"model_type": "llama"}, "model_type 'llama' is not supported yet"),
        ({"model_type": None}, "'model_type' is missing"),
        ({"model_type": {"a": 1}}, "is not supported yet"),
        ({"architectures": ["ChatGLMForSequenceClassification"]}, "SequenceClassification"),
        ({"architectures": "Evil" * 100}, "architectures EvilEvil"),
    ],
)
def test_an_unknown_family_is_refused(
    config: dict[str, Any], change: dict[str, Any], found: str
) -> None:
    with pytest.raises(StartupError, match=r"supported: [Cc]hat") as caught:
        find_family(config | change)
    assert found in caught.value.message
    assert len(caught.value.message) <= 300


def test_architectures_may_be_absent(config: dict[str, Any]) -> None:
    del config["architectures"]
    assert find_family(config).model_type == "chatglm"


def test_a_converted_checkpoint_is_refused_with_the_name_of_the_original() -> None:
    with pytest.raises(StartupError, match=r"\(-hf\) take the original, for example glm-4-9b-chat"):
        find_family({"model_type": "glm", "architectures": ["GlmForCausalLM"]})

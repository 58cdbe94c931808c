"""The bundled model's config.json: GLM-4V's own keys, small numbers."""

from typing import Any

from training.pictures import IMAGE_SIZE
from training.tokenizer import VOCAB_SIZE, special_ids

PATCH_SIZE = 20
SEQ_LENGTH = 2048


def hub_config() -> dict[str, Any]:
    """Return the configuration with the key names of the model hub's GLM-4V."""
    ids = special_ids()
    ends = [ids["<|endoftext|>"], ids["<|user|>"], ids["<|observation|>"]]
    padded_vocab_size = -(-VOCAB_SIZE // 64) * 64
    return {
        "model_type": "chatglm",
        "architectures": ["ChatGLMModel"],
        "torch_dtype": "bfloat16",
        "add_bias_linear": False,
        "add_qkv_bias": True,
        "apply_query_key_layer_scaling": True,
        "apply_residual_connection_post_layernorm": False,
        "attention_dropout": 0.0,
        "attention_softmax_in_fp32": True,
        "bias_dropout_fusion": True,
        "ffn_hidden_size": 512,
        "fp32_residual_connection": False,
        "hidden_dropout": 0.0,
        "hidden_size": 256,
        "kv_channels": 64,
        "layernorm_epsilon": 1.5625e-07,
        "multi_query_attention": True,
        "multi_query_group_num": 2,
        "num_attention_heads": 4,
        "num_hidden_layers": 4,
        "num_layers": 4,
        "original_rope": True,
        "padded_vocab_size": padded_vocab_size,
        "post_layer_norm": True,
        "rmsnorm": True,
        "rope_ratio": 1,
        "seq_length": SEQ_LENGTH,
        "tie_word_embeddings": False,
        "use_cache": True,
        "vocab_size": padded_vocab_size,
        "eos_token_id": ends,
        "pad_token_id": ids["<|endoftext|>"],
        "boi_token_id": ids["<|begin_of_image|>"],
        "eoi_token_id": ids["<|end_of_image|>"],
        "vision_config": {
            "dropout_prob": 0.0,
            "hidden_act": "gelu",
            "hidden_size": 192,
            "image_size": IMAGE_SIZE,
            "in_channels": 3,
            "intermediate_size": 512,
            "layer_norm_eps": 1e-06,
            "num_heads": 3,
            "num_hidden_layers": 6,
            "num_positions": (IMAGE_SIZE // PATCH_SIZE) ** 2 + 1,
            "patch_size": PATCH_SIZE,
            "scaling_factor": 8,
        },
    }

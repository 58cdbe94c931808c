"""Tiny random checkpoints of the families beside GLM-4V, with the files that hubs publish."""

import base64
import io
import json
from collections.abc import Callable
from typing import Any

BYTES = [bytes([byte]) for byte in range(256)]
QWEN2_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
)
QWEN_VL: dict[str, Any] = {
    "model_type": "qwen",
    "architectures": ["QWenLMHeadModel"],
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "kv_channels": 64,
    "intermediate_size": 128,
    "layer_norm_epsilon": 1e-6,
    "vocab_size": 480,
    "max_position_embeddings": 2048,
    "seq_length": 512,
    "rotary_emb_base": 10000,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
    "torch_dtype": "float32",
    "visual": {
        "width": 32,
        "layers": 1,
        "heads": 2,
        "patch_size": 14,
        "image_size": 112,
        "mlp_ratio": 2,
        "output_dim": 128,
        "image_start_id": 470,
    },
}
QWEN2: dict[str, Any] = {
    "model_type": "qwen2_vl",
    "architectures": ["Qwen2VLForConditionalGeneration"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 264,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    "eos_token_id": 258,
    "torch_dtype": "float32",
    "vision_config": {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2},
}
QWEN25: dict[str, Any] = QWEN2 | {
    "model_type": "qwen2_5_vl",
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "vision_config": {
        "depth": 2,
        "hidden_size": 32,
        "out_hidden_size": 64,
        "intermediate_size": 48,
        "num_heads": 2,
        "window_size": 112,
        "fullatt_block_indexes": [1],
    },
}


def qwen_vl_files() -> dict[str, bytes]:
    """Pickled shards with an index, as Qwen-VL-Chat is published."""
    import torch

    weights = list(_weights(QWEN_VL).items())
    halves = [dict(weights[::2]), dict(weights[1::2])]
    names = [f"pytorch_model-0000{part}-of-00002.bin" for part in (1, 2)]
    weight_map = {k: name for name, half in zip(names, halves, strict=True) for k in half}
    ranks = b"".join(base64.b64encode(piece) + b" %d\n" % i for i, piece in enumerate(BYTES))
    return {
        "config.json": json.dumps(QWEN_VL).encode(),
        "qwen.tiktoken": ranks,
        "pytorch_model.bin.index.json": json.dumps({"weight_map": weight_map}).encode(),
        "modeling_qwen.py": b"raise SystemExit('remote code')",
        **{
            name: _written(lambda file, half=half: torch.save(half, file))
            for name, half in zip(names, halves, strict=True)
        },
    }


def qwen2_files(config: dict[str, Any]) -> dict[str, bytes]:
    """One safetensors file, and a vocabulary of single bytes in Qwen2's format."""
    from safetensors.torch import save

    from sightline.models.tokenizer_files import _byte_letters

    letters = {byte: letter for letter, byte in _byte_letters().items()}
    tokenizer = {
        "model": {"type": "BPE", "vocab": {letters[b]: b for b in range(256)}, "merges": []},
        "added_tokens": [
            {"id": 256 + i, "content": name, "special": True} for i, name in enumerate(QWEN2_TOKENS)
        ],
    }
    return {
        "config.json": json.dumps(config).encode(),
        "preprocessor_config.json": b'{"min_pixels": 3136, "max_pixels": 78400}',
        "tokenizer.json": json.dumps(tokenizer).encode(),
        "model.safetensors": save(_weights(config)),
    }


def _weights(config: dict[str, Any]) -> dict[str, Any]:
    import torch
    from torch import nn

    from sightline.models.registry import build_model

    model = build_model(config)
    assert isinstance(model, nn.Module)
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(parameter.shape, generator=generator) * 0.1
        for name, parameter in model.state_dict().items()
    }


def _written(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()

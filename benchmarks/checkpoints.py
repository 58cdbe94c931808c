"""Random checkpoints of 0.5 B parameters in the layouts of the hubs, for measuring speed.

    python benchmarks/checkpoints.py FOLDER glm-4v|qwen2-vl

Real shapes of a small model, 448x448 pictures of 256 rows, bfloat16; the weights mean nothing.
Every word of the benchmark is one token, greedy answers never end early and every token is
visible: the output rows of all other tokens are zero.

glm-4v holds a second folder, `fast_tokenizer`, for servers that run no remote code.
"""

import argparse
import base64
import itertools
import json
import math
import string
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sightline.client.bench import WORDS
from sightline.models.registry import build_model

NUM_IDS = 32768
NUM_PIECES = 32600
TRUNK = {"hidden_size": 896, "num_attention_heads": 14, "torch_dtype": "bfloat16"}
GLM_SPECIAL = """
    <|endoftext|> [MASK] [gMASK] [sMASK] <sop> <eop> <|system|> <|user|> <|assistant|>
    <|observation|> <|begin_of_image|> <|end_of_image|> <|begin_of_video|> <|end_of_video|>
""".split()  # noqa: SIM905
QWEN_SPECIAL = """
    <|endoftext|> <|im_start|> <|im_end|> <|vision_start|> <|vision_end|> <|vision_pad|>
    <|image_pad|> <|video_pad|>
""".split()  # noqa: SIM905
WORD_PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"
GLM_TEMPLATE = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{% if m.content is string %}{{ m.content"
    " }}{% else %}{% for part in m.content %}{% if part.type in ('image', 'image_url') %}"
    "<|begin_of_image|><|endoftext|><|end_of_image|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}<|assistant|>\n"
)
QWEN_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for part in m.content %}{% if part.type in ('image', 'image_url') %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


def make(folder: Path, family: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    {"glm-4v": _make_glm, "qwen2-vl": _make_qwen}[family](folder)


def _make_glm(folder: Path) -> None:
    ids = _ids(GLM_SPECIAL)
    ends = [ids["<|endoftext|>"], ids["<|user|>"], ids["<|observation|>"]]
    config = TRUNK | {
        "model_type": "chatglm",
        "architectures": ["ChatGLMModel"],
        "num_layers": 24,
        "num_hidden_layers": 24,
        "kv_channels": 64,
        "multi_query_attention": True,
        "multi_query_group_num": 2,
        "ffn_hidden_size": 4864,
        "seq_length": 8192,
        "padded_vocab_size": NUM_IDS,
        "vocab_size": NUM_IDS,
        "layernorm_epsilon": 1.5625e-07,
        "rope_ratio": 1,
        "rmsnorm": True,
        "post_layer_norm": True,
        "original_rope": True,
        "add_bias_linear": False,
        "add_qkv_bias": True,
        "apply_residual_connection_post_layernorm": False,
        "apply_query_key_layer_scaling": True,
        "attention_softmax_in_fp32": True,
        "fp32_residual_connection": False,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "bias_dropout_fusion": True,
        "tie_word_embeddings": False,
        "use_cache": True,
        "eos_token_id": ends,
        "pad_token_id": ends[0],
        "boi_token_id": ids["<|begin_of_image|>"],
        "eoi_token_id": ids["<|end_of_image|>"],
        "vision_config": {
            "hidden_size": 512,
            "num_hidden_layers": 12,
            "num_heads": 8,
            "intermediate_size": 2048,
            "image_size": 448,
            "patch_size": 14,
            "num_positions": 32 * 32 + 1,
            "in_channels": 3,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "dropout_prob": 0.0,
            "scaling_factor": 8,
        },
    }
    _write(folder / "config.json", config)
    _write(folder / "generation_config.json", {"eos_token_id": ends, "pad_token_id": ends[0]})
    ranks = (f"{base64.b64encode(piece).decode()} {i}\n" for i, piece in enumerate(_pieces()))
    (folder / "tokenizer.model").write_text("".join(ranks), "ascii")
    stock = folder / "fast_tokenizer"
    stock.mkdir(exist_ok=True)
    named = _tokenizer_config(GLM_SPECIAL, GLM_TEMPLATE, "<|endoftext|>")
    hub = {"tokenizer_class": "ChatGLM4Tokenizer"}
    for place, kind in ((folder, hub), (stock, {"tokenizer_class": "PreTrainedTokenizerFast"})):
        _write(place / "tokenizer.json", _tokenizer(GLM_SPECIAL))
        _write(place / "tokenizer_config.json", named | kind)
    _write(stock / "config.json", config)
    _write_weights(folder, config)


def _make_qwen(folder: Path) -> None:
    ids = _ids(QWEN_SPECIAL)
    end, pad = ids["<|im_end|>"], ids["<|endoftext|>"]
    config = TRUNK | {
        "model_type": "qwen2_vl",
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "num_hidden_layers": 24,
        "num_key_value_heads": 2,
        "intermediate_size": 4864,
        "hidden_act": "silu",
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]},
        "vocab_size": NUM_IDS,
        "tie_word_embeddings": False,
        "bos_token_id": pad,
        "eos_token_id": end,
        "pad_token_id": pad,
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_config": {
            "depth": 12,
            "embed_dim": 640,
            "hidden_size": 896,
            "num_heads": 10,
            "mlp_ratio": 4,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "in_channels": 3,
            "in_chans": 3,
        },
    }
    _write(folder / "config.json", config)
    generation = {"bos_token_id": pad, "eos_token_id": end, "pad_token_id": pad}
    _write(folder / "generation_config.json", generation | {"do_sample": False})
    _write(folder / "tokenizer.json", _tokenizer(QWEN_SPECIAL))
    (folder / "chat_template.jinja").write_text(QWEN_TEMPLATE, "utf-8")
    named = _tokenizer_config(QWEN_SPECIAL, QWEN_TEMPLATE, "<|im_end|>")
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "processor_class": "Qwen2VLProcessor"}
    _write(folder / "tokenizer_config.json", named | kind)
    least, most = 56 * 56, 1280 * 28 * 28
    pixels = {
        "min_pixels": least,
        "max_pixels": most,
        "size": {"shortest_edge": least, "longest_edge": most},
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2VLProcessor",
    }
    _write(folder / "preprocessor_config.json", pixels)
    _write_weights(folder, config)


def _pieces() -> list[bytes]:
    """Single bytes, then words with the space before them and all of their beginnings."""
    made_up = map("".join, itertools.product(string.ascii_lowercase, repeat=4))
    pieces = dict.fromkeys(bytes([byte]) for byte in range(256))
    for word in itertools.chain(WORDS, made_up):
        spaced = f" {word}".encode()
        pieces |= dict.fromkeys(spaced[:end] for end in range(2, len(spaced) + 1))
        if len(pieces) >= NUM_PIECES:
            break
    return list(pieces)[:NUM_PIECES]


def _ids(special: list[str]) -> dict[str, int]:
    return {name: NUM_PIECES + i for i, name in enumerate(special)}


def _tokenizer(special: list[str]) -> dict[str, Any]:
    letters = _letters()
    texts = ["".join(letters[byte] for byte in piece) for piece in _pieces()]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    split = {"type": "Split", "pattern": {"Regex": WORD_PATTERN}, "behavior": "Isolated"}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": name, "special": True} | flags for name, i in _ids(special).items()
        ],
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [split | {"invert": False}, byte_level | {"trim_offsets": True}],
        },
        "decoder": byte_level | {"trim_offsets": True},
        "model": {
            "type": "BPE",
            "vocab": {text: i for i, text in enumerate(texts)},
            "merges": [[text[:-1], text[-1]] for text in texts if len(text) > 1],
            "ignore_merges": True,
        },
    }


def _letters() -> dict[int, str]:
    """Return the printable letter that byte-level vocabularies write for each byte."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = (byte for byte in range(256) if byte not in plain)
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}


def _tokenizer_config(special: list[str], template: str, end: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "added_tokens_decoder": {
            str(i): {"content": name, "special": True} | flags for name, i in _ids(special).items()
        },
        "additional_special_tokens": special,
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
        "eos_token": end,
        "pad_token": "<|endoftext|>",
        "model_max_length": 8192,
    }


def _write_weights(folder: Path, config: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = build_model(config)
    assert isinstance(model, nn.Module)
    weights = {name: _draw(name, values.shape) for name, values in model.state_dict().items()}
    scores = next(
        name for name in weights if name.endswith(("output_layer.weight", "lm_head.weight"))
    )
    weights[scores][:256] = 0
    weights[scores][NUM_PIECES:] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _draw(name: str, shape: torch.Size) -> Tensor:
    """Draw values whose products stay near one; the same for the same name and shape."""
    if "norm" in name or "ln_q" in name:
        return torch.full(shape, float(name.endswith("weight")), dtype=torch.bfloat16)
    random = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    spread = 1.0 if len(shape) == 1 else 1.0 / math.sqrt(math.prod(shape[1:]))
    return (torch.randn(shape, generator=random) * spread).to(torch.bfloat16)


def _write(path: Path, values: object) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("family", choices=["glm-4v", "qwen2-vl"])
    arguments = parser.parse_args()
    make(arguments.folder, arguments.family)

"""What people run today: transformers' trunk of the same shapes, one request at a time, greedy."""

import importlib.util
import logging
import statistics
import time
from typing import Any

import torch
from gpu_model import fill, wait_for

from sightline.models.glm_4v_blueprint import Glm4vConfig


def is_there() -> bool:
    if importlib.util.find_spec("transformers") is not None:
        return True
    logging.warning("transformers is not installed, so there is no baseline")
    return False


@torch.inference_mode()
def measure(
    config: Glm4vConfig,
    device: torch.device,
    dtype: torch.dtype,
    *,
    rows: int,
    context: int,
    max_tokens: int,
    rounds: int,
) -> dict[str, Any]:
    """Return the first token's time for `rows` embeddings, and tokens per second behind them."""
    import transformers
    from transformers import GlmConfig, GlmForCausalLM

    hub = GlmConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.ffn_hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_groups,
        head_dim=config.head_dim,
        attention_bias=config.has_qkv_bias,
        rms_norm_eps=config.norm_eps,
        max_position_embeddings=config.max_positions,
        pad_token_id=0,
        eos_token_id=list(config.eos_token_ids),
    )
    with torch.device("meta"):
        model = GlmForCausalLM(hub).to(dtype)
    rotary = model.model.rotary_emb
    model.to_empty(device=device)
    # Buffers are computed, not drawn.
    model.model.rotary_emb = type(rotary)(config=hub).to(device)
    fill(model)

    def first_token(number: int) -> tuple[float, Any, torch.Tensor]:
        embeds = torch.randn(1, number, config.hidden_size, device=device).to(dtype)
        wait_for(device)
        began = time.perf_counter()
        out = model(inputs_embeds=embeds, use_cache=True, logits_to_keep=1)
        token = out.logits[:, -1].argmax(-1)
        token.tolist()
        return time.perf_counter() - began, out.past_key_values, token

    first_token(rows)
    first = statistics.median(first_token(rows)[0] for _ in range(rounds))
    _, cache, token = first_token(context)
    began = time.perf_counter()
    for _ in range(max_tokens):
        out = model(input_ids=token[:, None], past_key_values=cache, use_cache=True)
        token = out.logits[:, -1].argmax(-1)
        token.tolist()
    taken = time.perf_counter() - began
    return {
        "what": f"transformers {transformers.__version__} GlmForCausalLM, one request at a time",
        "first_token_ms": 1e3 * first,
        "tokens_s": max_tokens / taken,
    }

"""The text trunk against transformers' own GLM, on random weights."""

import pytest
import torch
from torch import Tensor

from sightline.models.glm_4v_9b import Glm4v, Glm4vConfig

pytestmark = pytest.mark.engine

WIDTH, LAYERS, HEADS, HEAD_DIM, INNER, VOCAB = 64, 3, 8, 16, 96, 100


def reference(rope_ratio: float, num_groups: int) -> torch.nn.Module:
    from transformers import GlmConfig, GlmForCausalLM

    torch.manual_seed(7)
    config = GlmConfig(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=num_groups,
        head_dim=HEAD_DIM,
        rms_norm_eps=1.5625e-07,
        attention_bias=True,
        pad_token_id=0,
        eos_token_id=1,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0 * rope_ratio,
            "partial_rotary_factor": 0.5,
        },
    )
    model = GlmForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def hub_names(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name transformers' tensors as the hub does, fusing what the hub fuses."""
    ours = {
        "transformer.embedding.word_embeddings.weight": theirs["model.embed_tokens.weight"],
        "transformer.encoder.final_layernorm.weight": theirs["model.norm.weight"],
        "transformer.output_layer.weight": theirs["lm_head.weight"],
    }
    for i in range(LAYERS):
        from_, to = f"model.layers.{i}", f"transformer.encoder.layers.{i}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            ours[f"{to}.{norm}.weight"] = theirs[f"{from_}.{norm}.weight"]
        for kind in ("weight", "bias"):
            ours[f"{to}.self_attention.query_key_value.{kind}"] = torch.cat(
                [theirs[f"{from_}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            )
        ours[f"{to}.self_attention.dense.weight"] = theirs[f"{from_}.self_attn.o_proj.weight"]
        ours[f"{to}.mlp.dense_h_to_4h.weight"] = theirs[f"{from_}.mlp.gate_up_proj.weight"]
        ours[f"{to}.mlp.dense_4h_to_h.weight"] = theirs[f"{from_}.mlp.down_proj.weight"]
    return ours


@pytest.mark.parametrize(
    ("rope_ratio", "num_groups", "first_position"),
    [(1, 2, 0), (500, 2, 0), (500, 4, 0), (1, 4, 8000), (10_000, 4, 1_000_000)],
)
def test_transformers_agrees_at_any_positions(
    rope_ratio: int, num_groups: int, first_position: int
) -> None:
    theirs = reference(rope_ratio, num_groups)
    config = Glm4vConfig(
        hidden_size=WIDTH,
        num_layers=LAYERS,
        num_heads=HEADS,
        num_groups=num_groups,
        head_dim=HEAD_DIM,
        ffn_hidden_size=INNER,
        vocab_size=VOCAB,
        norm_eps=1.5625e-07,
        has_qkv_bias=True,
        rope_ratio=rope_ratio,
        max_positions=512,
        eos_token_ids=(1,),
    )
    ours = Glm4v(config)
    ours.load_state_dict(hub_names(theirs.state_dict()))
    ids = torch.randint(0, VOCAB, (40,), generator=torch.Generator().manual_seed(3))
    positions = first_position + ours.positions(40, [(4, 20)])
    with torch.inference_mode():
        # Without a mask, transformers takes repeated positions for several packed sequences.
        expected = theirs(
            ids[None],
            position_ids=positions[None],
            attention_mask=torch.ones(1, 40, dtype=torch.int64),
            use_cache=False,
        ).logits[0]
        logits = ours.logits(ours.forward(ours.embed(ids), positions))
    assert float(expected.abs().max()) > 1
    assert float((logits - expected).abs().max()) <= 1e-4

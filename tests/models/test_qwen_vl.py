"""What the golden numbers do not say about the Qwen-VL port: sizes, stretches, refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sightline.core.errors import StartupError
from sightline.models.kv_pool import Segment
from sightline.models.loading import load_model
from sightline.models.qwen_vl import QwenVL, QwenVLConfig

pytestmark = pytest.mark.engine

PUBLISHED: dict[str, Any] = {
    "model_type": "qwen",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "kv_channels": 128,
    "intermediate_size": 22016,
    "layer_norm_epsilon": 1e-6,
    "vocab_size": 151936,
    "max_position_embeddings": 8192,
    "seq_length": 2048,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "no_bias": True,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
    "tie_word_embeddings": False,
    "visual": {
        "width": 1664,
        "layers": 48,
        "heads": 16,
        "patch_size": 14,
        "image_size": 448,
        "mlp_ratio": 4.9231,
        "output_dim": 4096,
        "image_start_id": 151857,
    },
}


def test_the_published_sizes_give_the_published_checkpoint() -> None:
    with torch.device("meta"):
        model = QwenVL(QwenVLConfig.from_hub(PUBLISHED))
    parameters = dict(model.named_parameters())
    assert len(parameters) == 853
    assert sum(p.numel() for p in parameters.values()) == 9_656_935_168
    vision = sum(p.numel() for name, p in parameters.items() if ".visual." in name)
    assert vision == 1_935_610_624
    policy = model.description.image_policy
    assert policy is not None
    assert (policy.size, policy.num_tokens, policy.max_images) == (448, 256, 31)


@pytest.mark.parametrize(
    ("num_prompt", "alpha"),
    [(1, 1), (2048, 1), (2049, 3), (4096, 3), (4097, 7), (8192, 7)],
)
def test_the_prompt_fixes_the_stretch(num_prompt: int, alpha: int) -> None:
    config = QwenVLConfig.from_hub(PUBLISHED)
    assert config.ntk_alpha(num_prompt) == alpha
    without = QwenVLConfig.from_hub(PUBLISHED | {"use_dynamic_ntk": False})
    assert without.ntk_alpha(num_prompt) == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"no_bias": False}, "'no_bias'"),
        ({"rotary_pct": 0.5}, "'rotary_pct'"),
        ({"quantization_config": {"bits": 4}}, "'quantization_config'"),
        ({"kv_channels": 64}, "'kv_channels'"),
        ({"visual": PUBLISHED["visual"] | {"output_dim": 2048}}, "'output_dim'"),
        ({"visual": PUBLISHED["visual"] | {"image_size": 450}}, "'image_size'"),
    ],
)
def test_what_would_be_computed_differently_is_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(StartupError, match=named):
        QwenVLConfig.from_hub(PUBLISHED | change)


@torch.inference_mode()
def test_sequences_of_different_stretch_share_a_batch(golden: Path) -> None:
    """Chunks of a long and of a short prompt in one flattened batch, each as if alone."""
    folder = golden / "qwenvl-b-two-images-ntk"
    model = load_model(folder, dtype="float32", device="cpu").model
    ids = load_file(folder / "inputs.safetensors")["input_ids"][0]
    long, short = model.embed(ids[:300]), model.embed(ids[:20])
    positions = [model.positions(300, []), model.positions(20, [])]
    assert [int(p[1, 0]) for p in positions] == [model.kv_variant(n) for n in (300, 20)] == [3, 1]
    pool = model.allocate_pool(11, 32)
    halves = [Segment(150, 0, range(10)), Segment(11, 0, (10,))]
    rests = [Segment(150, 150, range(10)), Segment(9, 11, (10,))]
    found = [
        model.forward_batch(
            torch.cat([long[a], short[b]]),
            torch.cat([positions[0][:, a], positions[1][:, b]], dim=-1),
            pool,
            segments,
        )
        for a, b, segments in [
            (slice(0, 150), slice(0, 11), halves),
            (slice(150, 300), slice(11, 20), rests),
        ]
    ]
    alone = model.forward(long, positions[0]), model.forward(short, positions[1])
    torch.testing.assert_close(
        torch.cat([found[0][:150], found[1][:150]]), alone[0], atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        torch.cat([found[0][150:], found[1][150:]]), alone[1], atol=1e-4, rtol=0
    )


def test_gradients_reach_every_parameter(golden: Path) -> None:
    values = json.loads((golden / "qwenvl-a-one-image" / "config.json").read_text())
    model = QwenVL(QwenVLConfig.from_hub(values))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)
    rows = model.encode_images(torch.zeros(1, 112, 112, 3, dtype=torch.uint8))[0]
    embeds = torch.cat((model.embed(torch.arange(5)), rows))
    model.logits(model.forward(embeds, model.positions(261, []))).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []

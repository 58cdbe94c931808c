"""The port against numbers that the models' original code produced."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sightline.models.clip_pixels import PIXEL_MEAN, PIXEL_STD
from sightline.models.glm_4v_9b import Glm4v, Glm4vConfig
from sightline.models.loading import load_model

pytestmark = pytest.mark.engine

CASES = ["glm4v-a", "glm4v-b-rope500-kv4", "glm4v-c-text"]
TOLERANCE = 1e-4
BOI = 190


class Case:
    """A golden folder: the model, its input as embeddings, and what must come out."""

    def __init__(self, folder: Path, dtype: str = "float32") -> None:
        model = load_model(folder, dtype=dtype, device="cpu").model
        assert isinstance(model, Glm4v)
        self.model = model
        inputs = load_file(folder / "inputs.safetensors")
        self.expected = load_file(folder / "expected.safetensors")
        self.features = model.encode_pixel_values(inputs["pixel_values"])
        ids = inputs["input_ids"][0]
        self.embeds = model.embed(ids)
        self.spans: list[tuple[int, int]] = []
        if BOI in ids:
            begin = ids.tolist().index(BOI)
            self.spans = [(begin, self.features.shape[1])]
            self.embeds = torch.cat(
                (self.embeds[:begin], self.features[0], self.embeds[begin + 3 :])
            )
        self.positions = model.positions(len(self.embeds), self.spans)

    def cached(self, *chunks: int) -> Tensor:
        """Logits of every slot when it is fed in chunks of these sizes, then one by one."""
        model = self.model
        cache = model.allocate_cache(len(self.embeds))
        rest = len(self.embeds) - sum(chunks)
        hidden = [
            model.forward(embeds, positions, cache)
            for embeds, positions in zip(
                self.embeds.split([*chunks, *[1] * rest]),
                self.positions.split([*chunks, *[1] * rest]),
                strict=True,
            )
        ]
        assert cache.length == len(self.embeds)
        return model.logits(torch.cat(hidden))


@pytest.fixture(autouse=True)
def without_gradients() -> object:
    with torch.inference_mode():
        yield


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, golden: Path) -> Case:
    return Case(golden / request.param)


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max())


def test_image_features_equal_the_original(case: Case) -> None:
    assert difference(case.features, case.expected["image_features"]) <= TOLERANCE


def test_positions_equal_the_original(case: Case) -> None:
    assert torch.equal(case.positions, case.expected["position_ids"][0])


def test_one_forward_equals_the_original(case: Case) -> None:
    hidden = case.model.forward(case.embeds, case.positions)
    assert difference(hidden, case.expected["last_hidden_state"][0]) <= TOLERANCE
    assert difference(case.model.logits(hidden), case.expected["logits"][0]) <= TOLERANCE


@pytest.mark.parametrize(
    "chunks", [(), (1,), (5,), (7, 7, 7), (2, 20), (31,)], ids=lambda chunks: f"chunks{chunks}"
)
def test_prefill_and_cached_decode_equal_the_original(case: Case, chunks: tuple[int, ...]) -> None:
    assert difference(case.cached(*chunks), case.expected["logits"][0]) <= TOLERANCE


def test_every_sequence_of_a_batch_equals_the_original(case: Case) -> None:
    batch = case.embeds.expand(2, 3, -1, -1)
    logits = case.model.logits(case.model.forward(batch, case.positions))
    assert difference(logits, case.expected["logits"][0]) <= TOLERANCE


def test_decoding_goes_on_at_the_position_after_three_per_image(case: Case) -> None:
    for slot in range(sum(case.spans[0]) if case.spans else 0, len(case.embeds)):
        expected = int(case.expected["position_ids"][0, slot])
        assert case.model.next_position(slot, case.spans) == expected


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_near_fp32(golden: Path, dtype: str) -> None:
    case = Case(golden / "glm4v-a", dtype)
    expected = case.expected["logits"][0]
    hidden = case.model.forward(case.embeds, case.positions)
    logits = case.model.logits(hidden)
    assert logits.dtype == case.features.dtype == hidden.dtype == getattr(torch, dtype)
    assert difference(logits.float(), expected) < 0.05 * float(expected.abs().max())
    assert difference(case.cached(9).float(), expected) < 0.05 * float(expected.abs().max())


def test_pixels_are_normalised_as_the_original_does(golden: Path) -> None:
    model = Case(golden / "glm4v-a").model
    pixels = torch.randint(0, 256, (2, 112, 112, 3), generator=torch.Generator().manual_seed(1))
    values = (pixels.float() / 255 - torch.tensor(PIXEL_MEAN)) / torch.tensor(PIXEL_STD)
    rows = model.encode_images(pixels.to(torch.uint8))
    assert rows.shape == (2, 18, 64)
    assert difference(rows, model.encode_pixel_values(values.permute(0, 3, 1, 2))) <= 1e-6


def test_gradients_reach_every_parameter(golden: Path) -> None:
    config = json.loads((golden / "glm4v-a" / "config.json").read_text())
    with torch.inference_mode(False), torch.enable_grad():
        model = Glm4v(Glm4vConfig.from_hub(config))
        rows = model.encode_images(torch.zeros(1, 112, 112, 3, dtype=torch.uint8))
        embeds = torch.cat((model.embed(torch.arange(5).view(1, 5)), rows), dim=1)
        hidden = model.forward(embeds, model.positions(23, [(5, 18)]))
        model.logits(hidden).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_the_published_vectors_of_the_real_trunk_are_reproduced(golden: Path) -> None:
    """glm4_model.data: weights and outputs of the hub's own class, prefill and two decodes."""
    data = golden / "glm4_model.data"
    config = Glm4vConfig(
        hidden_size=32,
        num_layers=1,
        num_heads=8,
        num_groups=2,
        head_dim=4,
        ffn_hidden_size=48,
        vocab_size=5,
        norm_eps=1.5625e-07,
        has_qkv_bias=True,
        rope_ratio=1.0,
        max_positions=16,
        eos_token_ids=(0,),
    )
    model = Glm4v(config)
    layer = "transformer.encoder.layers.0"
    names = [
        "transformer.embedding.word_embeddings.weight",
        f"{layer}.input_layernorm.weight",
        f"{layer}.self_attention.query_key_value.weight",
        f"{layer}.self_attention.query_key_value.bias",
        f"{layer}.self_attention.dense.weight",
        f"{layer}.post_attention_layernorm.weight",
        f"{layer}.mlp.dense_h_to_4h.weight",
        f"{layer}.mlp.dense_4h_to_h.weight",
        "transformer.encoder.final_layernorm.weight",
    ]
    parameters = dict(model.named_parameters())
    with data.open("rb") as file:
        for name in names:
            values = np.fromfile(file, "<f4", math.prod(parameters[name].shape))
            parameters[name].copy_(torch.from_numpy(values).view(parameters[name].shape))
        cache = model.allocate_cache(5)
        for length in (3, 1, 1):
            ids = torch.from_numpy(np.fromfile(file, "<i4", length)).long()
            expected = torch.from_numpy(np.fromfile(file, "<f4", length * 32)).view(length, 32)
            positions = torch.arange(cache.length, cache.length + length)
            assert difference(model.forward(model.embed(ids), positions, cache), expected) <= 1e-6
        assert file.read() == b""

"""Qwen2-VL and Qwen2.5-VL against transformers, with random weights and pictures of many sizes."""

import random
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from sightline.core.image_policy import PatchGridImagePolicy
from sightline.models import qwen2_vl
from sightline.models.kv_pool import Segment
from sightline.models.qwen2_vl import Qwen2VL

pytestmark = pytest.mark.engine

TOLERANCE = 1e-4
IMAGE, BEGIN, END = 90, 91, 92
TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000.0,
    "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "use_sliding_window": False,
}
TOKENS = {
    "image_token_id": IMAGE,
    "vision_start_token_id": BEGIN,
    "vision_end_token_id": END,
    "video_token_id": 93,
}
OLD_VISION = {"depth": 3, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 4}
NEW_VISION = {
    "depth": 4,
    "hidden_size": 32,
    "out_hidden_size": 64,
    "intermediate_size": 48,
    "num_heads": 2,
    "window_size": 112,
    "fullatt_block_indexes": [1, 3],
}
# Height and width in rows of the language model; 9 x 5 has ragged windows on two sides.
SIZES = {
    "text": [],
    "smallest": [(2, 2)],
    "one": [(4, 4)],
    "wide and tall": [(2, 7), (9, 5)],
    "three": [(3, 3), (1, 5), (6, 2)],
}


@dataclass
class Pair:
    """One random model twice: theirs, and ours with the same weights."""

    theirs: Any
    ours: Qwen2VL

    def ask(self, sizes: list[tuple[int, int]]) -> "Question":
        generator = torch.Generator().manual_seed(len(sizes))
        ids: list[int] = [5, 6, 7]
        spans, pixels = [], []
        for rows, columns in sizes:
            ids.append(BEGIN)
            spans.append((len(ids), rows * columns))
            ids += [IMAGE] * (rows * columns)
            ids += [END, 11, 12]
            pixels.append(torch.randn(1, 3, rows * 28, columns * 28, generator=generator))
        ids += [13, 14, 15, 16, 17]
        return Question(self, torch.tensor(ids), spans, sizes, pixels)


@dataclass
class Question:
    pair: Pair
    ids: Tensor
    spans: list[tuple[int, int]]
    sizes: list[tuple[int, int]]
    pixels: list[Tensor]

    def expected(self) -> Tensor:
        """Logits of transformers, which takes patches in its own order."""
        images: dict[str, Tensor] = {}
        if self.pixels:
            flat, grids = zip(*(patches_of(values) for values in self.pixels), strict=True)
            images = {"pixel_values": torch.cat(flat), "image_grid_thw": torch.tensor(grids)}
            images["mm_token_type_ids"] = (self.ids == IMAGE).int()[None]
        return self.pair.theirs(input_ids=self.ids[None], **images).logits[0]

    def embeds(self) -> Tensor:
        model = self.pair.ours
        embeds = model.embed(self.ids)
        for (start, length), values in zip(self.spans, self.pixels, strict=True):
            embeds[start : start + length] = model.encode_pixel_values(values)[0]
        return embeds

    def positions(self) -> Tensor:
        sizes = [(rows * 28, columns * 28) for rows, columns in self.sizes]
        return self.pair.ours.positions(len(self.ids), self.spans, image_sizes=sizes)


def patches_of(values: Tensor) -> tuple[Tensor, list[int]]:
    """Cut a picture into patches as transformers' image processor does: frames, then 2 x 2."""
    _, channels, height, width = values.shape
    rows, columns = height // 14, width // 14
    film = values.expand(2, -1, -1, -1)
    cut = film.reshape(1, 2, channels, rows // 2, 2, 14, columns // 2, 2, 14)
    cut = cut.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return cut.reshape(rows * columns, channels * 2 * 14 * 14), [1, rows, columns]


def hub_name(name: str) -> str:
    """Return the name in published checkpoints of a tensor as transformers calls it today."""
    name = name.replace("model.visual.", "visual.")
    return name.replace("model.language_model.", "model.")


def make(generation: str) -> Pair:
    torch.manual_seed(7)
    vision = NEW_VISION if generation == "2.5" else OLD_VISION
    kind = "qwen2_5_vl" if generation == "2.5" else "qwen2_vl"
    values = {"model_type": kind, "vision_config": vision, **TEXT, **TOKENS}
    config_class = Qwen2_5_VLConfig if generation == "2.5" else Qwen2VLConfig
    theirs_class: Any = (
        Qwen2_5_VLForConditionalGeneration
        if generation == "2.5"
        else Qwen2VLForConditionalGeneration
    )
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    text = {k: v for k, v in TEXT.items() if k not in ("rope_scaling", "rope_theta")}
    config = config_class(
        text_config={**text, "rope_parameters": rope}, vision_config=vision, **TOKENS
    )
    theirs = theirs_class(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    ours = Qwen2VL(qwen2_vl.Qwen2VLConfig.from_hub(values))
    ours.load_state_dict({hub_name(k): v for k, v in theirs.state_dict().items()})
    return Pair(theirs, ours.eval())


@pytest.fixture(scope="module", params=["2", "2.5"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return make(request.param)


@pytest.fixture(autouse=True)
def without_gradients() -> object:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_prefill_and_decode_equal_transformers(pair: Pair, sizes: list[tuple[int, int]]) -> None:
    question = pair.ask(sizes)
    embeds, positions = question.embeds(), question.positions()
    model, expected = pair.ours, question.expected()
    assert (
        float((model.logits(model.forward(embeds, positions)) - expected).abs().max()) < TOLERANCE
    )

    pool = model.allocate_pool(16, 16)
    blocks = tuple(range(15, -1, -1))
    edges = [0, 3, max(4, len(embeds) - 6), *range(max(4, len(embeds) - 6) + 1, len(embeds) + 1)]
    parts = [
        model.forward_batch(embeds[a:b], positions[:, a:b], pool, [Segment(b - a, a, blocks)])
        for a, b in pairwise(edges)
    ]
    assert float((model.logits(torch.cat(parts)) - expected).abs().max()) < TOLERANCE


def test_pictures_of_one_size_are_encoded_together_as_alone(pair: Pair) -> None:
    values = torch.randn(3, 3, 5 * 28, 6 * 28)
    together = pair.ours.encode_pixel_values(values)
    alone = torch.cat([pair.ours.encode_pixel_values(one[None]) for one in values])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_the_resize_rule_is_the_published_one() -> None:
    policy = PatchGridImagePolicy(min_pixels=56 * 56, max_pixels=100 * 784)
    for height in [*range(1, 60, 3), 97, 112, 449, 1000, 1999]:
        for width in [*range(1, 60, 5), 98, 126, 640, 3000]:
            if max(height, width) / min(height, width) > 200:
                continue
            bounds = {"min_pixels": policy.min_pixels, "max_pixels": policy.max_pixels}
            expected = smart_resize(height, width, 28, **bounds)
            size = policy.target_size(width, height)
            assert size == (expected[1], expected[0]), (width, height)
            assert policy.count_tokens(*size) == expected[0] * expected[1] // 784


def test_the_resize_rule_is_the_published_one_for_the_longest_pictures_and_tightest_bounds() -> (
    None
):
    dice = random.Random(0)
    published = PatchGridImagePolicy(max_pixels=16384 * 784)
    for _ in range(20_000):
        short = dice.choice((1, 2, 13, 14, 27, 28, 29, dice.randrange(1, 300)))
        long = min(
            16_384, dice.choice((200 * short, 199 * short, dice.randint(short, 200 * short)))
        )
        width, height = dice.choice(((short, long), (long, short)))
        least, most = sorted(
            dice.choice((3136, 3137, 12544, 784 * dice.randint(4, 16384))) for _ in "ab"
        )
        policy = published.within(least, most)
        expected = smart_resize(height, width, 28, min_pixels=least, max_pixels=most)
        size = policy.target_size(width, height)
        assert size == (expected[1], expected[0]), (width, height, least, most)
        # What is priced by a sender's bounds is known to the engine, which has the model's own.
        assert policy.count_tokens(*size) == published.count_tokens(*size) is not None, (size, most)

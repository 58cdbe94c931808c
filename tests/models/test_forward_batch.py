"""The flattened batch over a paged pool, against one forward of each sequence alone."""

from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sightline.models.glm_4v_9b import Glm4v
from sightline.models.kv_pool import KVPool, Segment
from sightline.models.loading import load_model

pytestmark = pytest.mark.engine

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
VOCAB = 190  # ids that mean text
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def model() -> Glm4v:
    model = load_model(GOLDEN / "glm4v-a", dtype="float32", device="cpu").model
    assert isinstance(model, Glm4v)
    return model


@pytest.fixture(autouse=True)
def without_gradients() -> object:
    with torch.inference_mode():
        yield


@dataclass
class Prompt:
    """A sequence's rows and positions, and the hidden states that one plain forward gives."""

    embeds: Tensor
    positions: Tensor
    expected: Tensor


def prompt(model: Glm4v, seed: int, num_tokens: int, image_at: int | None) -> Prompt:
    generator = torch.Generator().manual_seed(seed)
    embeds = model.embed(torch.randint(0, VOCAB, (num_tokens,), generator=generator))
    spans: list[tuple[int, int]] = []
    if image_at is not None:
        pixels = torch.randint(0, 256, (1, 112, 112, 3), generator=generator, dtype=torch.uint8)
        rows = model.encode_images(pixels)[0]
        start = min(image_at, num_tokens)
        embeds = torch.cat((embeds[:start], rows, embeds[start:]))
        spans = [(start, len(rows))]
    positions = model.positions(len(embeds), spans)
    return Prompt(embeds, positions, model.forward(embeds, positions))


def run(model: Glm4v, prompts: list[Prompt], block_size: int, random: Random) -> list[Tensor]:
    """Push all prompts through in random pieces, several in each batch, in random blocks."""
    sizes = [-(-len(p.embeds) // block_size) for p in prompts]
    pool: KVPool = model.allocate_pool(sum(sizes) + 2, block_size)
    pool.keys.fill_(torch.nan)
    pool.values.fill_(torch.nan)
    free = random.sample(range(pool.num_blocks), pool.num_blocks)
    blocks = [[free.pop() for _ in range(size)] for size in sizes]
    done = [0] * len(prompts)
    found: list[list[Tensor]] = [[] for _ in prompts]
    while waiting := [i for i, p in enumerate(prompts) if done[i] < len(p.embeds)]:
        batch = random.sample(waiting, random.randint(1, len(waiting)))
        lengths = [random.choice((1, 1, 3, 7, 16, 99)) for _ in batch]
        pieces = [
            slice(done[i], min(done[i] + n, len(prompts[i].embeds)))
            for i, n in zip(batch, lengths, strict=True)
        ]
        hidden = model.forward_batch(
            torch.cat([prompts[i].embeds[p] for i, p in zip(batch, pieces, strict=True)]),
            torch.cat([prompts[i].positions[p] for i, p in zip(batch, pieces, strict=True)]),
            pool,
            [
                Segment(p.stop - p.start, p.start, blocks[i])
                for i, p in zip(batch, pieces, strict=True)
            ],
        )
        rows = hidden.split([p.stop - p.start for p in pieces])
        for i, p, part in zip(batch, pieces, rows, strict=True):
            done[i] = p.stop
            found[i].append(part)
    return [torch.cat(parts) for parts in found]


@given(
    lengths=st.lists(
        st.tuples(st.integers(1, 40), st.none() | st.integers(0, 20)), min_size=1, max_size=5
    ),
    block_size=st.sampled_from([1, 3, 8, 16, 32]),
    random=st.randoms(use_true_random=False),
)
@settings(max_examples=25, deadline=None)
def test_a_ragged_batch_in_any_pieces_and_blocks_equals_each_sequence_alone(
    model: Glm4v, lengths: list[tuple[int, int | None]], block_size: int, random: Random
) -> None:
    prompts = [prompt(model, seed, n, image) for seed, (n, image) in enumerate(lengths)]
    for found, wanted in zip(run(model, prompts, block_size, random), prompts, strict=True):
        torch.testing.assert_close(found, wanted.expected, atol=TOLERANCE, rtol=0)


def test_sequences_may_share_the_blocks_of_a_common_beginning(model: Glm4v) -> None:
    first, second = prompt(model, 1, 20, None), prompt(model, 2, 20, None)
    mixed = torch.cat((first.embeds[:16], second.embeds[16:]))
    expected = model.forward(mixed, first.positions)
    pool = model.allocate_pool(4, 8)
    model.forward_batch(first.embeds, first.positions, pool, [Segment(20, 0, (3, 1, 0))])
    hidden = model.forward_batch(
        torch.cat((mixed[16:19], first.embeds[19:])),
        torch.cat((first.positions[16:19], first.positions[19:])),
        pool,
        [Segment(3, 16, (3, 1, 2)), Segment(1, 19, (3, 1, 0))],
    )
    torch.testing.assert_close(hidden[:3], expected[16:19], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(hidden[3:], first.expected[19:], atol=TOLERANCE, rtol=0)


def test_a_batch_that_does_not_fit_writes_nothing(model: Glm4v) -> None:
    good = prompt(model, 1, 8, None)
    pool = model.allocate_pool(2, 8)
    before = pool.keys.clone()
    for segments in ([Segment(8, 8, (0,))], [Segment(4, 0, (0,))], [Segment(8, 0, (2,))]):
        with pytest.raises(ValueError, match=r"block|rows"):
            model.forward_batch(good.embeds, good.positions, pool, segments)
    assert torch.equal(pool.keys, before)

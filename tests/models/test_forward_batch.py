"""The flattened batch over a paged pool, against one forward of each sequence alone."""

from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules import Prompt, make_prompt, run_in_company

from sightline.models.glm_4v_9b import Glm4v
from sightline.models.kv_pool import Segment
from sightline.models.loading import load_model

pytestmark = pytest.mark.engine

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
NUM_IDS = 190  # ids that mean text
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


@given(
    lengths=st.lists(
        st.tuples(st.integers(1, 40), st.none() | st.integers(0, 20)), min_size=1, max_size=5
    ),
    block_size=st.sampled_from([1, 3, 16, 32, 48]),
    random=st.randoms(use_true_random=False),
)
@settings(max_examples=10, deadline=None)
def test_a_ragged_batch_in_any_pieces_and_blocks_equals_each_sequence_alone(
    model: Glm4v, lengths: list[tuple[int, int | None]], block_size: int, random: Random
) -> None:
    prompts = [
        make_prompt(model, seed, n, image, num_ids=NUM_IDS)
        for seed, (n, image) in enumerate(lengths)
    ]
    company = run_in_company(model, prompts, block_size, random)
    for found, prompt in zip(company, prompts, strict=True):
        expected = model.forward(prompt.embeds, prompt.positions)
        torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def text(model: Glm4v, seed: int, num_tokens: int) -> Prompt:
    return make_prompt(model, seed, num_tokens, None, num_ids=NUM_IDS)


def test_sequences_may_share_the_blocks_of_a_common_beginning(model: Glm4v) -> None:
    first, second = text(model, 1, 20), text(model, 2, 20)
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
    torch.testing.assert_close(
        hidden[3:], model.forward(first.embeds, first.positions)[19:], atol=TOLERANCE, rtol=0
    )


def test_a_batch_that_does_not_fit_writes_nothing(model: Glm4v) -> None:
    good = text(model, 1, 8)
    pool = model.allocate_pool(2, 8)
    pool.keys.fill_(7)
    before = pool.keys.clone()
    for segments in ([Segment(8, 8, (0,))], [Segment(4, 0, (0,))], [Segment(8, 0, (2,))]):
        with pytest.raises(ValueError, match=r"block|rows"):
            model.forward_batch(good.embeds, good.positions, pool, segments)
    assert torch.equal(pool.keys, before)

"""The attention entry point and the pool of keys and values, against a plain double loop."""

import math
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sightline.models.attention import CausalAttention, PagedAttention
from sightline.models.kv_pool import KVCache, KVPool, Segment
from sightline.models.loading import load_model

pytestmark = pytest.mark.engine

HEAD_DIM = 8


def rows(seed: int, num_tokens: int, heads: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_tokens, heads, HEAD_DIM, generator=generator)


def by_the_book(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """One head and one query at a time."""
    num_tokens, num_heads, head_dim = query.shape
    heads_per_group = num_heads // key.shape[1]
    out = torch.zeros(num_tokens, num_heads, head_dim)
    for t in range(num_tokens):
        for h in range(num_heads):
            group = h // heads_per_group
            seen_keys, seen_values = key[: t + 1, group], value[: t + 1, group]
            weights = (seen_keys @ query[t, h] / math.sqrt(head_dim)).softmax(0)
            out[t, h] = weights @ seen_values
    return out.flatten(1)


def pool_of(num_groups: int, num_blocks: int, block_size: int) -> KVPool:
    """A pool full of NaN: whoever looks at a slot that nobody wrote will show it."""
    pool = KVPool.allocate(
        num_layers=1,
        num_blocks=num_blocks,
        block_size=block_size,
        num_groups=num_groups,
        head_dim=HEAD_DIM,
        dtype=torch.float32,
        device="cpu",
    )
    pool.keys.fill_(torch.nan)
    pool.values.fill_(torch.nan)
    return pool


@given(
    num_groups=st.integers(1, 4),
    heads_per_group=st.integers(1, 4),
    chunks=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    block_size=st.integers(1, 20),
    random=st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None)
def test_any_cut_into_chunks_and_blocks_attends_as_one_pass(
    num_groups: int, heads_per_group: int, chunks: list[int], block_size: int, random: Random
) -> None:
    num_tokens, num_heads = sum(chunks), num_groups * heads_per_group
    query, key, value = (
        rows(1, num_tokens, num_heads),
        rows(2, num_tokens, num_groups),
        rows(3, num_tokens, num_groups),
    )
    expected = by_the_book(query, key, value)
    whole = CausalAttention()(0, query, key, value)
    torch.testing.assert_close(whole, expected, atol=1e-5, rtol=0)

    num_blocks = -(-num_tokens // block_size)
    pool = pool_of(num_groups, num_blocks + 3, block_size)
    blocks = random.sample(range(pool.num_blocks), num_blocks)
    parts, done = [], 0
    for q, k, v in zip(query.split(chunks), key.split(chunks), value.split(chunks), strict=True):
        parts.append(PagedAttention(pool, [Segment(len(q), done, blocks)], len(q))(0, q, k, v))
        done += len(q)
    torch.testing.assert_close(torch.cat(parts), expected, atol=1e-5, rtol=0)


def test_a_single_token_of_a_batch_attends_to_itself_alone() -> None:
    query, value = torch.randn(2, 3, 1, 4, HEAD_DIM), torch.randn(2, 3, 1, 2, HEAD_DIM)
    out = CausalAttention()(0, query, value, value)
    assert torch.allclose(out, value.repeat_interleave(2, dim=-2).flatten(-2))


def test_a_pass_made_again_overwrites_the_first() -> None:
    """The engine retries a failed step from the same slots."""

    def attend(pool: KVPool, num_cached: int, num_new: int, seed: int, scale: float = 1) -> Tensor:
        query, key, value = (rows(seed + i, num_new, heads) for i, heads in enumerate((4, 2, 2)))
        segment = Segment(num_new, num_cached, (2, 0))
        return PagedAttention(pool, [segment], num_new)(0, query, scale * key, value)

    pool, fresh = pool_of(2, 3, 4), pool_of(2, 3, 4)
    attend(pool, 0, 3, seed=1)
    attend(pool, 3, 1, seed=4, scale=100)
    again = attend(pool, 3, 1, seed=4)
    attend(fresh, 0, 3, seed=1)
    assert torch.equal(again, attend(fresh, 3, 1, seed=4))


@pytest.mark.parametrize(
    ("segments", "num_tokens", "complaint"),
    [
        ([Segment(2, 3, (0,))], 2, "5 slots do not fit 1 blocks of 4"),
        ([Segment(1, 0, (3,))], 1, "the pool has no block"),
        ([Segment(1, 0, (-1,))], 1, "the pool has no block"),
        ([Segment(0, 1, (0,))], 0, "at least one new row"),
        ([Segment(1, -1, (0,))], 1, "at least one new row"),
        ([Segment(1, 0, (0,)), Segment(1, 0, (1,))], 3, "do not add up to the batch's 3 rows"),
    ],
)
def test_segments_that_do_not_fit_are_refused(
    segments: list[Segment], num_tokens: int, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        PagedAttention(pool_of(2, 3, 4), segments, num_tokens)


def test_a_full_cache_refuses_more() -> None:
    cache = KVCache(pool_of(2, 1, 4))
    cache.advance(3)
    with pytest.raises(ValueError, match="5 slots do not fit a KV cache of 4"):
        cache.segment(2)


def test_no_attention_falls_to_the_math_path(golden: Path) -> None:
    """It would keep a square of scores in memory, 1.3 GB for one full-size image and layer."""
    model = load_model(golden / "glm4v-a", dtype="bfloat16").model
    with torch.inference_mode(), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        embeds = model.encode_images(torch.zeros(1, 112, 112, 3, dtype=torch.uint8))[0]
        positions = model.positions(18, [(0, 18)])
        cache = model.allocate_cache(18)
        for part in (slice(0, 8), slice(8, 17), slice(17, 18)):
            assert model.forward(embeds[part], positions[part], cache).isfinite().all()

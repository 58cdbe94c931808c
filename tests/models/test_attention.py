"""The attention entry point and the cache, against a plain double loop."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sightline.models.attention import CausalAttention
from sightline.models.contract import KVCache
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


def cache_of(max_len: int, num_groups: int) -> KVCache:
    return KVCache.allocate(
        num_layers=1,
        max_len=max_len,
        num_groups=num_groups,
        head_dim=HEAD_DIM,
        dtype=torch.float32,
        device="cpu",
    )


@given(
    num_groups=st.integers(1, 4),
    heads_per_group=st.integers(1, 4),
    chunks=st.lists(st.integers(1, 6), min_size=1, max_size=5),
)
@settings(max_examples=25, deadline=None)
def test_any_cut_into_chunks_attends_as_one_pass(
    num_groups: int, heads_per_group: int, chunks: list[int]
) -> None:
    num_tokens, num_heads = sum(chunks), num_groups * heads_per_group
    query, key, value = (
        rows(1, num_tokens, num_heads),
        rows(2, num_tokens, num_groups),
        rows(3, num_tokens, num_groups),
    )
    expected = by_the_book(query, key, value)
    whole = CausalAttention(num_tokens, None, query.device)(0, query, key, value)
    torch.testing.assert_close(whole, expected, atol=1e-5, rtol=0)

    cache = cache_of(num_tokens, num_groups)
    parts = []
    for q, k, v in zip(query.split(chunks), key.split(chunks), value.split(chunks), strict=True):
        attend = CausalAttention(len(q), cache, q.device)
        parts.append(attend(0, q, k, v))
        attend.finish()
    torch.testing.assert_close(torch.cat(parts), expected, atol=1e-5, rtol=0)


def test_a_single_token_of_a_batch_attends_to_itself_alone() -> None:
    query, value = torch.randn(2, 3, 1, 4, HEAD_DIM), torch.randn(2, 3, 1, 2, HEAD_DIM)
    out = CausalAttention(1, None, query.device)(0, query, value, value)
    assert torch.allclose(out, value.repeat_interleave(2, dim=-2).flatten(-2))


def test_a_pass_that_did_not_finish_leaves_no_trace() -> None:
    """The engine retries a failed step from the same cache."""
    cache = cache_of(8, 2)
    cache.extend(0, rows(1, 3, 2), rows(2, 3, 2))
    cache.advance(3)
    once = CausalAttention(1, cache, torch.device("cpu"))
    query, key, value = rows(4, 1, 4), rows(5, 1, 2), rows(6, 1, 2)
    once(0, query, 100 * key, value)
    again = CausalAttention(1, cache, torch.device("cpu"))(0, query, key, value)
    assert cache.length == 3
    fresh = cache_of(8, 2)
    fresh.extend(0, rows(1, 3, 2), rows(2, 3, 2))
    fresh.advance(3)
    assert torch.equal(again, CausalAttention(1, fresh, query.device)(0, query, key, value))


def test_a_full_cache_refuses_more_and_stays_as_it_was() -> None:
    cache = cache_of(4, 2)
    cache.extend(0, rows(1, 3, 2), rows(2, 3, 2))
    cache.advance(3)
    with pytest.raises(ValueError, match="5 slots do not fit a KV cache of 4"):
        cache.extend(0, rows(3, 2, 2), rows(4, 2, 2))
    assert cache.length == 3
    assert torch.equal(cache.keys[0, :3], rows(1, 3, 2))


@pytest.mark.parametrize("length", [-1, 4])
def test_only_filled_slots_can_be_forgotten(length: int) -> None:
    cache = cache_of(4, 1)
    cache.advance(3)
    with pytest.raises(ValueError, match="cannot truncate 3 slots"):
        cache.truncate(length)


def test_forgotten_slots_are_written_again() -> None:
    cache = cache_of(4, 1)
    cache.extend(0, rows(1, 3, 1), rows(1, 3, 1))
    cache.advance(3)
    cache.truncate(1)
    keys, _ = cache.extend(0, rows(2, 1, 1), rows(2, 1, 1))
    assert torch.equal(keys, torch.cat((rows(1, 3, 1)[:1], rows(2, 1, 1))))


def test_no_attention_falls_to_the_math_path(golden: Path) -> None:
    """It would keep a square of scores in memory, 1.3 GB for one full-size image and layer."""
    model = load_model(golden / "glm4v-a", dtype="bfloat16").model
    with torch.inference_mode(), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        embeds = model.encode_images(torch.zeros(1, 112, 112, 3, dtype=torch.uint8))[0]
        positions = model.positions(18, [(0, 18)])
        cache = model.allocate_cache(18)
        for part in (slice(0, 8), slice(8, 17), slice(17, 18)):
            assert model.forward(embeds[part], positions[part], cache).isfinite().all()

"""Our own attention: right for any batch, the same bits in any cut, company, threads and blocks."""

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_threads import torch_threads

from sightline.models.attention import PagedAttention, Turns
from sightline.models.cpu.between import can_norm, rms_norm
from sightline.models.cpu.compiled import kernels
from sightline.models.cpu.paged_attention import StreamedAttention, can_attend, takes
from sightline.models.kv_pool import KVPool, Segment
from sightline.models.linear import Norm, RoundingNorm

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(kernels() is None, reason="our own kernel was not compiled"),
]


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


class Shape(NamedTuple):
    num_heads: int
    num_groups: int
    head_dim: int


SHAPES = st.sampled_from(
    [Shape(1, 1, 16), Shape(4, 4, 32), Shape(6, 2, 48), Shape(14, 2, 64), Shape(16, 1, 128),
     Shape(70, 1, 16), Shape(5, 5, 112)]
)  # fmt: skip
# (rows that are cached, new rows) of each sequence
LENGTHS = st.lists(
    st.tuples(st.integers(0, 70), st.integers(1, 30))
    | st.tuples(st.integers(0, 700), st.just(1))
    | st.tuples(st.sampled_from([0, 100]), st.sampled_from([100, 200])),
    min_size=1,
    max_size=4,
)


class Rows(NamedTuple):
    """Heads of rows, and how each is turned."""

    heads: Tensor
    turns: Turns

    def apart(self, heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raise AssertionError("the kernel turns heads itself")

    def of(self, rows: slice) -> "Rows":
        scales = self.turns.query_scales
        part = self.turns._replace(
            cosines=self.turns.cosines[rows], sines=self.turns.sines[rows],
            query_scales=None if scales is None else scales[rows],
        )  # fmt: skip
        return Rows(self.heads[rows], part)


class Turning:
    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def apart(self, heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raise AssertionError("the kernel turns heads itself")

    def turns(self, dtype: torch.dtype) -> Turns:
        return self._turns


def draw_rows(
    count: int, shape: Shape, seed: int, *, are_neighbours: bool, has_scales: bool
) -> Rows:
    random = torch.Generator().manual_seed(seed)
    num_all = shape.num_heads + 2 * shape.num_groups
    angles = torch.randn(count, shape.head_dim, generator=random)
    turns = Turns(
        angles.cos(), angles.sin(), are_neighbours,
        torch.rand(count, generator=random) + 0.5 if has_scales else None,
    )  # fmt: skip
    return Rows(torch.randn(count, num_all, shape.head_dim, generator=random), turns)


def turned(rows: Rows, shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """What `Turns` says, written down as it is said."""
    turning, value = rows.heads[:, : -shape.num_groups], rows.heads[:, -shape.num_groups :]
    half = shape.head_dim // 2
    if rows.turns.are_neighbours:
        partners = turning.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    else:
        partners = turning.roll(half, -1)
    done = turning * rows.turns.cosines[:, None] + partners * rows.turns.sines[:, None]
    query, key = done[:, : shape.num_heads], done[:, shape.num_heads :]
    if rows.turns.query_scales is not None:
        query = query * rows.turns.query_scales[:, None, None]
    return query, key, value


def make_pool(
    lengths: list[tuple[int, int]], shape: Shape, block_size: int, dtype: torch.dtype, seed: int
) -> tuple[KVPool, list[Segment]]:
    """A pool with what is cached of each sequence, in blocks anywhere; NaN where nobody wrote."""
    shuffled = Random(seed)
    counts = [-(-(cached + new) // block_size) for cached, new in lengths]
    blocks = list(range(sum(counts) + 2))
    shuffled.shuffle(blocks)
    sizes = (2, len(blocks), block_size, shape.num_groups, shape.head_dim)
    pool = KVPool(
        torch.full(sizes, torch.nan, dtype=dtype), torch.full(sizes, torch.nan, dtype=dtype)
    )
    segments = []
    for number, ((cached, new), count) in enumerate(zip(lengths, counts, strict=True)):
        own, blocks = blocks[:count], blocks[count:]
        segment = Segment(new, cached, own)
        random = torch.Generator().manual_seed(seed + number)
        for slots in (pool.keys, pool.values):
            before = torch.randn(cached, shape.num_groups, shape.head_dim, generator=random)
            where = pool.slots(Segment(cached, 0, own)) if cached else []
            slots[1].flatten(0, 1)[where] = before.to(dtype)
        segments.append(segment)
    return pool, segments


@given(
    shape=SHAPES,
    lengths=LENGTHS,
    block_size=st.sampled_from([1, 5, 16, 48]),
    is_narrow=st.booleans(),
    are_neighbours=st.booleans(),
    has_scales=st.booleans(),
    threads=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_attention_is_right_and_writes_what_it_should(
    shape: Shape, lengths: list[tuple[int, int]], block_size: int, is_narrow: bool,
    are_neighbours: bool, has_scales: bool, threads: int, seed: int,
) -> None:  # fmt: skip
    dtype = torch.bfloat16 if is_narrow else torch.float32
    num_rows = sum(new for _, new in lengths)
    rows = draw_rows(num_rows, shape, seed, are_neighbours=are_neighbours, has_scales=has_scales)
    pool, segments = make_pool(lengths, shape, block_size, dtype, seed)
    query, key, value = turned(rows, shape)
    with torch_threads(threads):
        attend = StreamedAttention(pool, segments, num_rows)
        found = attend.turning(1, rows.heads, shape.num_groups, Turning(rows.turns))
    first = 0
    for segment in segments:
        own = slice(first, first + segment.num_new)
        slots = pool.slots(segment)
        keys, values = (kv[1].flatten(0, 1)[slots].float() for kv in (pool.keys, pool.values))
        for kept, new in ((keys, key), (values, value)):
            torch.testing.assert_close(
                kept[segment.num_cached :], new[own].to(dtype).float(), atol=1e-5, rtol=1e-2
            )
        expected = plain_attention(query[own], keys, values, segment.num_cached)
        torch.testing.assert_close(found[own].double(), expected, atol=2e-5, rtol=2e-5)
        first += segment.num_new
    assert pool.keys[0].isnan().all()
    assert pool.values[0].isnan().all()


def plain_attention(query: Tensor, keys: Tensor, values: Tensor, num_cached: int) -> Tensor:
    """`[T, H, Dh]` over `[S, G, Dh]` in float64, written down as the formula is."""
    repeats = query.shape[1] // keys.shape[1]
    keys, values = (kv.double().repeat_interleave(repeats, dim=1) for kv in (keys, values))
    scores = torch.einsum("thd,shd->hts", query.double(), keys) / query.shape[-1] ** 0.5
    is_later = torch.arange(len(keys)) > num_cached + torch.arange(len(query))[:, None]
    weights = scores.masked_fill(is_later, -torch.inf).softmax(-1)
    return torch.einsum("hts,shd->thd", weights, values).flatten(1)


@given(
    shape=SHAPES,
    length=st.integers(2, 300),
    cuts=st.lists(st.integers(1, 299), max_size=4),
    block_sizes=st.tuples(*2 * [st.sampled_from([1, 7, 16, 64])]),
    is_narrow=st.booleans(),
    threads=st.tuples(*2 * [st.integers(1, 3)]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_a_row_has_the_same_bits_in_any_cut_company_blocks_and_threads(
    shape: Shape, length: int, cuts: list[int], block_sizes: tuple[int, int], is_narrow: bool,
    threads: tuple[int, int], seed: int,
) -> None:  # fmt: skip
    dtype = torch.bfloat16 if is_narrow else torch.float32
    rows = draw_rows(length, shape, seed, are_neighbours=True, has_scales=True)
    beside = draw_rows(9, shape, seed + 1, are_neighbours=True, has_scales=True)
    with torch_threads(threads[0]):
        pool, (whole,) = make_pool([(0, length)], shape, block_sizes[0], dtype, seed)
        expected = StreamedAttention(pool, [whole], length).turning(
            1, rows.heads, shape.num_groups, Turning(rows.turns)
        )
    with torch_threads(threads[1]):
        pool, (whole, other) = make_pool(
            [(0, length), (0, 9 * length)], shape, block_sizes[1], dtype, seed + 2
        )
        edges = sorted({0, length, *(cut for cut in cuts if cut < length)})
        parts = []
        for number, (start, end) in enumerate(pairwise(edges)):
            part = rows.of(slice(start, end))
            segments = [
                Segment(9, 9 * number, other.blocks),
                Segment(end - start, start, whole.blocks),
            ]
            turns = Turns(
                *(torch.cat((a, b)) for a, b in zip(beside.turns[:2], part.turns[:2], strict=True)),
                are_neighbours=True,
                query_scales=torch.cat((beside.turns[3], part.turns[3])),  # type: ignore[arg-type]
            )
            heads = torch.cat((beside.heads, part.heads))
            found = StreamedAttention(pool, segments, len(heads)).turning(
                1, heads, shape.num_groups, Turning(turns)
            )
            parts.append(found[9:])
    assert torch.equal(torch.cat(parts), expected)


def test_heads_that_are_turned_already_and_rows_behind_the_batch_are_taken() -> None:
    shape = Shape(6, 2, 32)
    rows = draw_rows(13, shape, 3, are_neighbours=False, has_scales=False)
    pools = [make_pool([(40, 1), (3, 10)], shape, 16, torch.bfloat16, 5) for _ in range(2)]
    attend = StreamedAttention(*pools[0], 11)
    found = attend(1, *turned(rows, shape))
    turning = StreamedAttention(*pools[1], 11)
    also = turning.turning(1, rows.heads, shape.num_groups, Turning(rows.turns))
    torch.testing.assert_close(found, also, atol=1e-2, rtol=1e-2)
    assert not found[11:].any()
    assert not also[11:].any()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_stay_within_their_sequence(bad: float) -> None:
    shape = Shape(4, 2, 32)
    rows = draw_rows(7, shape, 3, are_neighbours=True, has_scales=False)
    results = []
    for is_bad in (False, True):
        pool, segments = make_pool([(20, 1), (0, 5), (33, 1)], shape, 16, torch.bfloat16, 5)
        heads = rows.heads.clone()
        if is_bad:
            heads[3, :, 4] = bad
        results.append(
            StreamedAttention(pool, segments, 7).turning(1, heads, 2, Turning(rows.turns))
        )
    healthy, found = results
    assert not found[3].isfinite().all()
    for row in (0, 1, 2, 6):
        assert torch.equal(found[row], healthy[row])


def test_the_kernel_is_for_fp32_rows_whole_vectors_and_no_gradients() -> None:
    pool, _ = make_pool([(3, 1)], Shape(4, 2, 32), 16, torch.bfloat16, 1)
    odd, _ = make_pool([(3, 1)], Shape(4, 2, 20), 16, torch.bfloat16, 1)
    half, _ = make_pool([(3, 1)], Shape(4, 2, 32), 16, torch.float16, 1)
    assert can_attend(torch.float32)
    assert takes(pool, torch.float32)
    assert not takes(pool, torch.bfloat16)
    assert not takes(odd, torch.float32)
    assert not takes(half, torch.float32)
    with torch.inference_mode(mode=False):
        assert not takes(pool, torch.float32)
        with torch.no_grad():
            assert takes(pool, torch.float32)


def test_more_heads_in_a_group_than_are_taken_at_once_are_cut_for_threads() -> None:
    shape = Shape(150, 1, 16)
    rows = draw_rows(1, shape, 3, are_neighbours=True, has_scales=False)
    found = []
    for threads in (1, 2):
        pool, segments = make_pool([(3000, 1)], shape, 16, torch.bfloat16, 5)
        with torch_threads(threads):
            attend = StreamedAttention(pool, segments, 1)
            found.append(attend.turning(1, rows.heads, 1, Turning(rows.turns)))
    assert torch.equal(*found)


def test_a_layer_without_turning_changes_nothing_for_those_with_it() -> None:
    shape = Shape(4, 2, 32)
    rows = draw_rows(3, shape, 3, are_neighbours=True, has_scales=True)
    pool, segments = make_pool([(20, 3)], shape, 16, torch.float32, 5)
    attend, rotate = StreamedAttention(pool, segments, 3), Turning(rows.turns)
    expected = attend.turning(1, rows.heads, 2, rotate)
    attend(1, *turned(rows, shape))
    assert torch.equal(attend.turning(1, rows.heads, 2, rotate), expected)


@pytest.mark.parametrize("make", [StreamedAttention, PagedAttention])
def test_no_sequence_at_all_is_taken_by_both_kinds(make: type) -> None:
    pool, _ = make_pool([(3, 1)], Shape(4, 2, 32), 16, torch.float32, 1)
    heads = [torch.randn(3, count, 32) for count in (4, 2, 2)]
    assert not make(pool, [], 0)(1, *heads).any()


def test_heads_that_do_not_fit_the_pool_are_refused() -> None:
    pool, segments = make_pool([(3, 2)], Shape(4, 2, 32), 16, torch.float32, 1)
    attend = StreamedAttention(pool, segments, 2)
    for rows, heads, groups, width in ((1, 4, 2, 32), (2, 5, 2, 32), (2, 4, 1, 32), (2, 4, 2, 16)):
        with pytest.raises(ValueError, match="do not fit the pool"):
            attend(1, *(torch.randn(rows, count, width) for count in (heads, groups, groups)))
    with pytest.raises(ValueError, match="do not fit the pool"):
        attend(1, *(torch.randn(2, count, 32).bfloat16() for count in (4, 2, 2)))


@pytest.mark.parametrize("make", [StreamedAttention, PagedAttention])
def test_segments_that_do_not_fit_are_refused_by_both_kinds(make: type) -> None:
    pool, _ = make_pool([(3, 1)], Shape(4, 2, 32), 16, torch.float32, 1)
    with pytest.raises(ValueError, match="do not add up"):
        make(pool, [Segment(1, 3, (0,))], 2)
    with pytest.raises(ValueError, match="no block"):
        make(pool, [Segment(1, 3, (99,))], 1)


@pytest.mark.parametrize("kind", [Norm, RoundingNorm])
def test_a_norm_is_right_and_gives_a_row_the_same_bits_in_any_company(kind: type[Norm]) -> None:
    assert can_norm(torch.ones(96))
    assert not can_norm(torch.ones(97))
    assert not can_norm(torch.ones(96).bfloat16())
    assert not can_norm(torch.ones(1).expand(96))
    torch.manual_seed(0)
    norm = kind(96, 1e-5)
    norm.weight.copy_(torch.randn(96))
    x = torch.randn(3, 400, 96) * torch.logspace(-4, 3, 400)[:, None]
    expected = norm(x)
    norm.kernel = rms_norm
    found = norm(x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for row in (0, 17, 399):
        assert torch.equal(norm(x[:1, row]), found[:1, row])
    x[0, 5, 3] = torch.nan
    assert norm(x)[0, 5].isnan().all()

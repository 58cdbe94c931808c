"""Triton kernels for attention over paged keys and values.

Importing this module needs Triton. Scores, sums and results are kept in fp32 and rounded once.

Legend: T rows, N sequences, H query heads, G KV groups, R = H / G heads per group, D head width,
B slots per block. Keys and values of one layer are `[blocks, B, G, D]`, contiguous. Heads of
widths that are no power of two are worked on in the next one, masked.
"""

import triton
import triton.language as tl

from sightline.models.gpu.dependent_launch import begin

LOG2_E = tl.constexpr(1.4426950408889634)
# How a head's numbers are paired for turning.
NOT_TURNED = tl.constexpr(0)
NEIGHBOURS = tl.constexpr(1)  # (0, 1), (2, 3) ...
HALVES = tl.constexpr(2)  # (0, D / 2), (1, D / 2 + 1) ...


@triton.jit
def _partner(d, HEAD_DIM: tl.constexpr, PAIRS: tl.constexpr):
    """Return the other number of each number's pair; signs are in the table of sines."""
    if PAIRS == NEIGHBOURS:
        return d ^ 1
    return (d + HEAD_DIM // 2) % HEAD_DIM


@triton.jit(do_not_specialize=["first_row"])
def turn_and_store(
    query, key, value, cosines, sines, scales, out, keys, values, slots,
    query_stride, key_stride, value_stride, first_row,
    NUM_HEADS: tl.constexpr, NUM_GROUPS: tl.constexpr, HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr, PAIRS: tl.constexpr, IS_SCALED: tl.constexpr,
):  # fmt: skip
    """Turn queries into `out` `[T, H, D]`; put turned keys, and values, into their slots.

    Programs: (rows from `first_row` on, H + G). Strides are those of rows; heads stand one after
    another.
    """
    row = first_row + tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    d = tl.arange(0, BLOCK_D)
    inside = d < HEAD_DIM
    is_query = head < NUM_HEADS
    if is_query:
        source = query + row * query_stride + head * HEAD_DIM
    else:
        source = key + row * key_stride + (head - NUM_HEADS) * HEAD_DIM
    x = tl.load(source + d, mask=inside, other=0.0)
    if PAIRS != NOT_TURNED:
        cosine = tl.load(cosines + row * HEAD_DIM + d, mask=inside, other=0.0).to(tl.float32)
        sine = tl.load(sines + row * HEAD_DIM + d, mask=inside, other=0.0).to(tl.float32)
        other = tl.load(source + _partner(d, HEAD_DIM, PAIRS), mask=inside, other=0.0)
        turned = x.to(tl.float32) * cosine + other.to(tl.float32) * sine
        if IS_SCALED and is_query:
            turned *= tl.load(scales + row)
        x = turned.to(x.dtype)
    if is_query:
        tl.store(out + (row * NUM_HEADS + head) * HEAD_DIM + d, x, mask=inside)
    else:
        group = head - NUM_HEADS
        place = (tl.load(slots + row).to(tl.int64) * NUM_GROUPS + group) * HEAD_DIM
        tl.store(keys + place + d, x, mask=inside)
        v = tl.load(value + row * value_stride + group * HEAD_DIM + d, mask=inside, other=0.0)
        tl.store(values + place + d, v, mask=inside)


@triton.jit
def attend_decodes(
    query, key, value, cosines, sines, scales, keys, values, tables, lengths, partial, weights,
    query_stride, key_stride, value_stride, table_stride, scale,
    NUM_HEADS: tl.constexpr, NUM_GROUPS: tl.constexpr, HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    NUM_SPLITS: tl.constexpr, PAIRS: tl.constexpr, IS_SCALED: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
):  # fmt: skip
    """One new row of each of N sequences: turn it, put its key and value away, attend in splits.

    Programs: (N, G, splits). A split sees a stretch of the sequence's slots; the one with the
    last slot takes the new key from the row itself and writes it into the pool. `partial`
    `[N, H, splits, D]` gets each split's mean of values, `weights` `[N, H, splits]` the logarithm
    (base 2) of what it weighs.
    """
    if IS_DEPENDENT:
        begin()
    HEADS: tl.constexpr = NUM_HEADS // NUM_GROUPS
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1)
    split = tl.program_id(2)
    length = tl.load(lengths + row)
    # Whole steps of BLOCK_S, so that every split but the last is full.
    per_split = tl.cdiv(tl.cdiv(length, NUM_SPLITS), BLOCK_S) * BLOCK_S
    first = split * per_split
    end = tl.minimum(first + per_split, length)

    r = tl.arange(0, BLOCK_R)
    d = tl.arange(0, BLOCK_D)
    inside = d < HEAD_DIM
    heads = group * HEADS + r
    square = (r < HEADS)[:, None] & inside[None, :]
    rows = query + row * query_stride + heads[:, None] * HEAD_DIM
    q = tl.load(rows + d[None, :], mask=square, other=0.0)
    dtype = q.dtype
    new_key = tl.load(key + row * key_stride + group * HEAD_DIM + d, mask=inside, other=0.0)
    new_value = tl.load(value + row * value_stride + group * HEAD_DIM + d, mask=inside, other=0.0)
    if PAIRS != NOT_TURNED:
        cosine = tl.load(cosines + row * HEAD_DIM + d, mask=inside, other=0.0).to(tl.float32)
        sine = tl.load(sines + row * HEAD_DIM + d, mask=inside, other=0.0).to(tl.float32)
        partner = _partner(d, HEAD_DIM, PAIRS)
        other = tl.load(rows + partner[None, :], mask=square, other=0.0).to(tl.float32)
        turned = q.to(tl.float32) * cosine[None, :] + other * sine[None, :]
        if IS_SCALED:
            turned *= tl.load(scales + row)
        q = turned.to(dtype)
        other_key = tl.load(key + row * key_stride + group * HEAD_DIM + partner, mask=inside,
                            other=0.0)  # fmt: skip
        new_key = (new_key.to(tl.float32) * cosine + other_key.to(tl.float32) * sine).to(dtype)

    best = tl.full((BLOCK_R,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_R,), tl.float32)
    mixed = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
    s = tl.arange(0, BLOCK_S)
    # The newest slot is not in the pool yet.
    for start in range(first, tl.minimum(end, length - 1), BLOCK_S):
        slot = start + s
        is_seen = slot < length - 1
        block = tl.load(tables + row * table_stride + slot // BLOCK_SIZE, mask=is_seen, other=0)
        place = (block.to(tl.int64) * BLOCK_SIZE + slot % BLOCK_SIZE) * NUM_GROUPS + group
        place = place[:, None] * HEAD_DIM + d[None, :]
        written = is_seen[:, None] & inside[None, :]
        k = tl.load(keys + place, mask=written, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * (scale * LOG2_E)
        scores = tl.where(is_seen[None, :], scores, float("-inf"))
        higher = tl.maximum(best, tl.max(scores, 1))
        shrunk = tl.exp2(best - higher)
        p = tl.exp2(scores - higher[:, None])
        v = tl.load(values + place, mask=written, other=0.0)
        mixed = mixed * shrunk[:, None] + tl.dot(p.to(dtype), v, input_precision="ieee")
        total = total * shrunk + tl.sum(p, 1)
        best = higher
    if (first < length) & (end == length):
        slot = length - 1
        block = tl.load(tables + row * table_stride + slot // BLOCK_SIZE).to(tl.int64)
        place = ((block * BLOCK_SIZE + slot % BLOCK_SIZE) * NUM_GROUPS + group) * HEAD_DIM
        tl.store(keys + place + d, new_key, mask=inside)
        tl.store(values + place + d, new_value, mask=inside)
        score = tl.sum(q.to(tl.float32) * new_key.to(tl.float32)[None, :], 1) * (scale * LOG2_E)
        higher = tl.maximum(best, score)
        shrunk = tl.exp2(best - higher)
        p = tl.exp2(score - higher)
        mixed = mixed * shrunk[:, None] + p[:, None] * new_value.to(tl.float32)[None, :]
        total = total * shrunk + p
        best = higher
    # A split behind the end has seen nothing and weighs nothing.
    is_empty = total == 0.0
    mixed = mixed / tl.where(is_empty, 1.0, total)[:, None]
    weight = tl.where(is_empty, float("-inf"), best + tl.log2(tl.where(is_empty, 1.0, total)))
    index = (row * NUM_HEADS + heads) * NUM_SPLITS + split
    tl.store(partial + index[:, None] * HEAD_DIM + d[None, :], mixed, mask=square)
    tl.store(weights + index, weight, mask=r < HEADS)


@triton.jit
def merge_splits(
    partial, weights, out,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, NUM_SPLITS: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
):  # fmt: skip
    """Put the splits of each row and head together in `out` `[N, H, D]`. Programs: (N * H,)."""
    if IS_DEPENDENT:
        begin()
    index = tl.program_id(0).to(tl.int64)
    splits = tl.arange(0, NUM_SPLITS)
    d = tl.arange(0, BLOCK_D)
    inside = d < HEAD_DIM
    weight = tl.load(weights + index * NUM_SPLITS + splits)
    share = tl.exp2(weight - tl.max(weight, 0))
    share = share / tl.sum(share, 0)
    place = (index * NUM_SPLITS + splits)[:, None] * HEAD_DIM + d[None, :]
    parts = tl.load(partial + place, mask=inside[None, :], other=0.0)
    mixed = tl.sum(parts * share[:, None], 0)
    tl.store(out + index * HEAD_DIM + d, mixed.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["first_sequence"])
def attend_chunks(
    query, keys, values, tables, lengths, first_rows, out, table_stride, first_sequence, scale,
    NUM_HEADS: tl.constexpr, NUM_GROUPS: tl.constexpr, HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """Several new rows of sequences from `first_sequence` on, whose keys are in the pool already.

    Programs: (tiles of the longest chunk, H, sequences). The rows of sequence n are
    `first_rows[n]` to `first_rows[n + 1]` of `query` and `out` `[T, H, D]`; they fill the last of
    its `lengths[n]` slots.
    """
    HEADS: tl.constexpr = NUM_HEADS // NUM_GROUPS
    tile = tl.program_id(0)
    head = tl.program_id(1)
    sequence = first_sequence + tl.program_id(2)
    group = head // HEADS
    first = tl.load(first_rows + sequence)
    num_new = tl.load(first_rows + sequence + 1) - first
    if tile * BLOCK_T < num_new:
        length = tl.load(lengths + sequence)
        t = tile * BLOCK_T + tl.arange(0, BLOCK_T)
        d = tl.arange(0, BLOCK_D)
        inside = d < HEAD_DIM
        square = (t < num_new)[:, None] & inside[None, :]
        rows = ((first + t).to(tl.int64) * NUM_HEADS + head)[:, None] * HEAD_DIM + d[None, :]
        q = tl.load(query + rows, mask=square, other=0.0)
        dtype = q.dtype
        at = length - num_new + t
        best = tl.full((BLOCK_T,), float("-inf"), tl.float32)
        total = tl.zeros((BLOCK_T,), tl.float32)
        mixed = tl.zeros((BLOCK_T, BLOCK_D), tl.float32)
        s = tl.arange(0, BLOCK_S)
        end = tl.minimum(length, length - num_new + (tile + 1) * BLOCK_T)
        for start in range(0, end, BLOCK_S):
            slot = start + s
            is_there = slot < length
            block = tl.load(tables + sequence.to(tl.int64) * table_stride + slot // BLOCK_SIZE,
                            mask=is_there, other=0)  # fmt: skip
            place = (block.to(tl.int64) * BLOCK_SIZE + slot % BLOCK_SIZE) * NUM_GROUPS + group
            place = place[:, None] * HEAD_DIM + d[None, :]
            written = is_there[:, None] & inside[None, :]
            k = tl.load(keys + place, mask=written, other=0.0)
            scores = tl.dot(q, tl.trans(k), input_precision="ieee") * (scale * LOG2_E)
            scores = tl.where(slot[None, :] <= at[:, None], scores, float("-inf"))
            higher = tl.maximum(best, tl.max(scores, 1))
            shrunk = tl.exp2(best - higher)
            p = tl.exp2(scores - higher[:, None])
            v = tl.load(values + place, mask=written, other=0.0)
            mixed = mixed * shrunk[:, None] + tl.dot(p.to(dtype), v, input_precision="ieee")
            total = total * shrunk + tl.sum(p, 1)
            best = higher
        mixed = mixed / total[:, None]
        tl.store(out + rows, mixed.to(dtype), mask=square)

"""Paged attention by our own kernel: turning, storing and attending in one call for each layer.

It reads keys and values where they lie, however blocks are scattered, and nothing that was not
written; see `attention.c` for why a row's bits are the same in any company.

Shapes: T new tokens, H query heads, G KV groups, Dh head width.
"""

import ctypes
import logging
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from sightline.models.attention import HasTurns, PagedAttention, Rotary, Turns, new_slots_of
from sightline.models.cpu.compiled import Attention, Decoder, Kernels, Segment, kernels
from sightline.models.kv_pool import KVPool
from sightline.models.kv_pool import Segment as PoolSegment
from sightline.models.scratch import Scratch

logger = logging.getLogger(__name__)

POOL_DTYPES = (torch.float32, torch.bfloat16)
_scratch = Scratch()


class StreamedAttention:
    """See `PagedAttention`, whose arguments and errors it has.

    `wanted` are the rows of which `through` gives more than keys and values in the last layer,
    ascending; None means all.
    """

    def __init__(
        self, pool: KVPool, segments: Sequence[PoolSegment], num_rows: int,
        *, wanted: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        library = kernels()
        assert library is not None, "ask can_attend first"
        self._library: Kernels = library
        self._new_slots = new_slots_of(pool, segments, num_rows)
        self._pool, self._num_rows = pool, num_rows
        self._wanted: ctypes.Array[ctypes.c_int64] | None = None
        if wanted is not None and len(wanted) < num_rows:
            if any(not 0 <= row < num_rows for row in wanted) or sorted(set(wanted)) != [*wanted]:
                raise ValueError(f"ascending rows below {num_rows} are wanted, not {wanted}")
            self._wanted = (ctypes.c_int64 * len(wanted))(*wanted)
        tables = [segment.blocks[: pool.count_blocks(segment)] for segment in segments]
        self._tables = [(ctypes.c_int32 * len(table))(*table) for table in tables]
        self._segments = (Segment * len(segments))()
        first_row = longest = 0
        for told, segment, table in zip(self._segments, segments, self._tables, strict=True):
            told.first_row, told.num_new = first_row, segment.num_new
            told.num_cached, told.table = segment.num_cached, ctypes.addressof(table)
            first_row += segment.num_new
            longest = max(longest, segment.num_slots)
        groups, head_dim = pool.keys.shape[-2:]
        self._num_threads = torch.get_num_threads()
        room = library.attention_room(head_dim, longest)
        self._room = _scratch.take(room * self._num_threads)
        self._call = Attention(
            is_bfloat16=pool.keys.dtype == torch.bfloat16,
            segments=ctypes.addressof(self._segments), new_slots=self._new_slots.data_ptr(),
            room=self._room.data_ptr(), room_per_thread=room,
            num_rows=num_rows, num_segments=len(segments), num_groups=groups, head_dim=head_dim,
            block_size=pool.block_size, scale=head_dim**-0.5,
        )  # fmt: skip
        self._turns: tuple[HasTurns, Turns] | None = None

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Leading dimensions are not allowed here."""
        self._turns = self._call.cosines = self._call.sines = self._call.query_scales = None
        query, key, value = (heads.contiguous() for heads in (query, key, value))
        if key.shape != value.shape or (len(key), key.shape[2]) != (len(query), query.shape[2]):
            raise ValueError(f"heads do not fit: {query.shape}, {key.shape}, {value.shape}")
        if not key.dtype == value.dtype == query.dtype:
            raise ValueError("queries, keys and values of one number format are wanted")
        self._check(query, query.shape[1], key.shape[1])
        call = self._call
        call.query, call.query_stride = query.data_ptr(), query.stride(0)
        call.key, call.key_stride = key.data_ptr(), key.stride(0)
        call.value, call.value_stride = value.data_ptr(), value.stride(0)
        return self._attend(layer, query, query.shape[1])

    def turning(self, layer: int, heads: Tensor, num_groups: int, rotate: Rotary) -> Tensor:
        call = self._call
        self._turn_by(rotate)
        heads = heads if heads.is_contiguous() else heads.contiguous()
        num_heads = heads.shape[1] - 2 * num_groups
        self._check(heads, num_heads, num_groups)
        # Queries, keys and values of a row stand side by side.
        head_bytes = heads.shape[2] * heads.itemsize
        call.query = query = heads.data_ptr()
        call.key = query + num_heads * head_bytes
        call.value = query + (num_heads + num_groups) * head_bytes
        call.query_stride = call.key_stride = call.value_stride = heads.stride(0)
        return self._attend(layer, heads, num_heads)

    def suits(self, num_rows: int, num_heads: int, num_groups: int, head_dim: int) -> bool:
        """Whether `through` may be called with so many rows and heads."""
        call = self._call
        return (
            num_rows == self._num_rows
            and (num_groups, head_dim) == (call.num_groups, call.head_dim)
            and num_heads % num_groups == 0
        )

    def through(
        self, decoder: Decoder, layers: range, rows: Tensor, num_heads: int, rotate: HasTurns
    ) -> None:
        """Take rows `[T, D]`, fp32 and contiguous, through layers of a decoder, in place."""
        call, library, num_threads = self._call, self._library, self._num_threads
        self._turn_by(rotate)
        call.num_heads = num_heads
        keys, values = self._pool.keys, self._pool.values
        told = ctypes.byref(decoder)
        room = rows.new_empty(library.decoder_room(told, self._num_rows, num_threads))
        library.decode(
            told, layers.start, layers.stop, ctypes.byref(call), keys.data_ptr(), values.data_ptr(),
            keys.stride(0) * keys.itemsize, rows.data_ptr(), self._wanted,
            0 if self._wanted is None else len(self._wanted), room.data_ptr(), num_threads,
        )  # fmt: skip

    def _turn_by(self, rotate: HasTurns) -> None:
        if self._turns is not None and self._turns[0] is rotate:
            return
        call, turns = self._call, _contiguous(rotate.turns(torch.float32))
        self._turns = rotate, turns
        call.cosines, call.sines = turns.cosines.data_ptr(), turns.sines.data_ptr()
        call.partners_are_neighbours = turns.are_neighbours
        scales = turns.query_scales
        call.query_scales = None if scales is None else scales.data_ptr()

    def _check(self, heads: Tensor, num_heads: int, num_groups: int) -> None:
        """Raise ValueError where the kernel would read what lies behind memory that is too small.

        `heads` are those of all rows, or the queries.
        """
        call = self._call
        if (
            heads.dtype != torch.float32
            or not heads.is_cpu
            or heads.shape[0] < self._num_rows
            or (num_groups, heads.shape[2]) != (call.num_groups, call.head_dim)
            or num_heads % num_groups
        ):
            raise ValueError(f"heads that do not fit the pool: {heads.shape}, {num_groups} groups")

    def _attend(self, layer: int, heads: Tensor, num_heads: int) -> Tensor:
        call, pool = self._call, self._pool
        num_rows, head_dim = heads.shape[0], heads.shape[2]
        out = heads.new_empty(num_rows, num_heads * head_dim)
        if num_rows > self._num_rows:
            out[self._num_rows :] = 0.0
        call.num_heads = num_heads
        call.keys, call.values = pool.keys[layer].data_ptr(), pool.values[layer].data_ptr()
        call.out = out.data_ptr()
        self._library.attend(ctypes.byref(call), self._num_threads)
        return out


def _contiguous(turns: Turns) -> Turns:
    scales = turns.query_scales
    return turns._replace(
        cosines=turns.cosines.float().contiguous(),
        sines=turns.sines.float().contiguous(),
        query_scales=None if scales is None else scales.float().contiguous(),
    )


def takes(pool: KVPool, dtype: torch.dtype) -> bool:
    """Whether rows of `dtype` can attend to a pool with our own kernel on this machine."""
    return (
        dtype == torch.float32
        and not torch.is_grad_enabled()
        and pool.device.type == "cpu"
        and pool.keys.dtype in POOL_DTYPES
        and can_attend(pool.keys.dtype)
        and pool.keys.shape[-1] % kernels().head_multiple == 0  # type: ignore[union-attr]
    )


@lru_cache
@torch.inference_mode()
def can_attend(dtype: torch.dtype) -> bool:
    """Whether the kernel exists here and computes what torch's attention does.

    `dtype` is that of keys and values.
    """
    if kernels() is None:
        return False
    random = torch.Generator().manual_seed(0)
    num_heads, num_groups, head_dim = 6, 2, 32
    # Whole blocks: torch's way zeroes the rest of one, ours has no need to.
    segments = [PoolSegment(1, 47, (4, 1, 2)), PoolSegment(21, 11, (3, 0))]
    heads = [
        torch.randn(22, count, head_dim, generator=random)
        for count in (num_heads, num_groups, num_groups)
    ]
    slots = torch.randn(2, 1, 6, 16, num_groups, head_dim, generator=random).to(dtype)
    pools = [KVPool(slots[0].clone(), slots[1].clone()) for _ in range(2)]
    found = StreamedAttention(pools[0], segments, 22)(0, *heads)
    expected = PagedAttention(pools[1], segments, 22, torch.float32)(0, *heads)
    works = torch.allclose(found, expected, atol=1e-5, rtol=1e-5) and all(
        torch.equal(one, other)
        for one, other in ((pools[0].keys, pools[1].keys), (pools[0].values, pools[1].values))
    )
    if not works:
        logger.warning("the compiled attention is not usable here; steps will be slower")
    return works

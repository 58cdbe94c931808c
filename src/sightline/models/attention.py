"""The one place where queries meet keys.

A token's result has the same bits whatever stands beside it, however its prompt was cut, and
whether it was prefilled or decoded: keys are shown in lengths that leave no trace, the unwritten
ones masked (see `slot_reader`), and query rows stand in whole tiles, because kernels for a few
rows add up in another order.

Shapes: T new tokens, S slots attended to, H query heads, G KV groups, R = H / G query heads per
group, Dh head width, N sequences. Query head h reads KV group h // R; a group's query heads are
handled together and its keys are never repeated in memory.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.models.kv_pool import KVPool, Segment
from sightline.models.slot_reader import SlotReader

ROW_TILE = 8
# A sequence of up to so many slots is read as if it were as long as the longest beside it.
SHORT = 512


class Turns(NamedTuple):
    """A rotary embedding as a kernel reads it: x * cosines + partner(x) * sines.

    `cosines` and `sines` `[T, Dh]` have all signs in them; the partner of a number is its
    neighbour (0, 1), (2, 3) ... or the one half a head away. Queries are then multiplied by
    `query_scales` `[T]`, if there are any.
    """

    cosines: Tensor
    sines: Tensor
    are_neighbours: bool
    query_scales: Tensor | None = None


class HasTurns(Protocol):
    """A family's rotary embedding for the rows of one pass, as kernels read it."""

    def turns(self, dtype: torch.dtype) -> Turns: ...


class Rotary(HasTurns, Protocol):
    """One that turns heads by itself too."""

    def apart(self, heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn heads `[..., T, H + 2 G, Dh]` into query, key (both turned) and value."""
        ...


class Attention(Protocol):
    """Attention of one forward pass: built once, called by every layer in turn."""

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Turn query `[..., T, H, Dh]`, key and value `[..., T, G, Dh]` into `[..., T, H * Dh]`."""
        ...

    def turning(self, layer: int, heads: Tensor, num_groups: int, rotate: Rotary) -> Tensor:
        """Do the same for heads `[..., T, H + 2 G, Dh]` of which nothing has been turned yet."""
        ...


class TurnsFirst:
    """For an `Attention` that has nothing better to do than to turn the heads by themselves."""

    def turning(self, layer: int, heads: Tensor, num_groups: int, rotate: Rotary) -> Tensor:
        mixed: Tensor = self(layer, *rotate.apart(heads))  # type: ignore[operator]
        return mixed


class CausalAttention(TurnsFirst):
    """Among the T tokens themselves, with nothing remembered. Any leading dimensions."""

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        *batch, num_tokens, num_heads, head_dim = query.shape
        num_groups = key.shape[-2]
        # [..., G, R, T, Dh] against [..., G, 1, T, Dh]
        query = query.reshape(*query.shape[:-2], num_groups, -1, head_dim).movedim(-4, -2)
        rows = query.flatten(0, -4)
        key, value = (
            kv.transpose(-3, -2).unsqueeze(-3).flatten(0, -4).expand_as(rows) for kv in (key, value)
        )
        mixed = F.scaled_dot_product_attention(rows, key, value, is_causal=True)
        mixed = mixed.view(*query.shape)
        return mixed.movedim(-2, -4).reshape(*batch, num_tokens, num_heads * head_dim)


class PagedAttention(TurnsFirst):
    """Among the sequences of a flattened batch, each with its own slots of a pool; see `Segment`.

    `dtype` is that of the queries, if it is not the pool's: what is read is widened to it.
    The batch may have further rows behind those of the segments; their results are zeros. Raises
    ValueError, with nothing written, if the segments do not fit the pool or have not `num_rows`.
    """

    def __init__(
        self,
        pool: KVPool,
        segments: Sequence[Segment],
        num_rows: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._new_slots = new_slots_of(pool, segments, num_rows)
        self._pool = pool
        self._num_rows = num_rows
        dtype = dtype or pool.keys.dtype
        self._bodies: list[_Decodes | _Chunk] = []
        decodes: list[tuple[int, Segment]] = []
        row = 0
        for segment in segments:
            pool.clean_tail(segment)
            if segment.num_new == 1:
                decodes.append((row, segment))
            else:
                self._bodies.append(_Chunk(pool, row, segment, dtype))
            row += segment.num_new
        self._bodies += [_Decodes(pool, group, dtype) for group in _groups(decodes)]

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Leading dimensions are not allowed here."""
        keys, values = self._pool.keys[layer], self._pool.values[layer]
        for slots, new in ((keys, key), (values, value)):
            rows = new if len(new) == self._num_rows else new[: self._num_rows]
            slots.flatten(0, 1).index_copy_(0, self._new_slots, rows.to(slots.dtype))
        if len(self._bodies) == 1 and len(query) == self._num_rows:
            return self._bodies[0].attend(query, keys, values)
        mixed = query.new_zeros(len(query), query.shape[1] * query.shape[2])
        for body in self._bodies:
            mixed[body.rows] = body.attend(query[body.rows], keys, values)
        return mixed


def new_slots_of(pool: KVPool, segments: Sequence[Segment], num_rows: int) -> Tensor:
    """Return where the rows' keys and values belong among all slots of the pool `[num_rows]`.

    Raises ValueError if the segments do not fit the pool or have not so many rows.
    """
    for segment in segments:
        pool.check(segment)
    if sum(segment.num_new for segment in segments) != num_rows:
        raise ValueError(f"the segments do not add up to the batch's {num_rows} rows")
    slots = [slot for segment in segments for slot in pool.slots(segment, segment.num_cached)]
    return torch.tensor(slots, dtype=torch.int64, device=pool.device)


class _Chunk:
    """Several new rows of one sequence."""

    def __init__(self, pool: KVPool, row: int, segment: Segment, dtype: torch.dtype) -> None:
        self.rows = slice(row, row + segment.num_new)
        self._reader = SlotReader(pool, [segment], dtype)
        self._padding = -segment.num_new % ROW_TILE
        # Rows that begin at slot 0 have a kernel of their own; a later chunk needs its mask.
        self._mask = (
            torch.full(
                (segment.num_new + self._padding, self._reader.num_slots),
                -torch.inf,
                dtype=dtype,
                device=pool.device,
            ).triu(segment.num_cached + 1)
            if segment.num_cached > 0
            else None
        )

    def attend(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return `[T, H * Dh]` for query `[T, H, Dh]` and all blocks of a layer."""
        num_groups, head_dim = keys.shape[-2:]
        # [G, R, T, Dh] against [G, 1, S, Dh]
        rows = query.reshape(len(query), num_groups, -1, head_dim).permute(1, 2, 0, 3)
        if self._padding:
            rows = F.pad(rows, (0, 0, 0, self._padding))
        key, value = (
            slots.permute(2, 0, 1, 3).expand(-1, rows.shape[1], -1, -1)
            for slots in self._reader.read(keys, values)
        )
        mixed = F.scaled_dot_product_attention(
            rows, key, value, attn_mask=self._mask, is_causal=self._mask is None
        )
        return mixed.permute(2, 0, 1, 3)[: len(query)].flatten(1)


class _Decodes:
    """One new row each of several sequences, of about the same length."""

    def __init__(
        self, pool: KVPool, group: Sequence[tuple[int, Segment]], dtype: torch.dtype
    ) -> None:
        rows, segments = [row for row, _ in group], [segment for _, segment in group]
        is_run = rows == list(range(rows[0], rows[0] + len(rows)))
        self.rows: slice | list[int] = slice(rows[0], rows[0] + len(rows)) if is_run else rows
        self._reader = SlotReader(pool, segments, dtype)
        lengths = torch.tensor([segment.num_slots for segment in segments])
        is_unwritten = torch.arange(self._reader.num_slots) >= lengths[:, None]
        mask = torch.zeros(is_unwritten.shape, dtype=dtype)
        self._mask = mask.masked_fill_(is_unwritten, -torch.inf)[:, None, None].to(pool.device)

    def attend(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return `[N, H * Dh]` for query `[N, H, Dh]` and all blocks of a layer."""
        # A group's heads stand as rows of one product: [N, G, R, Dh] against [N, G, S, Dh].
        num_groups, head_dim = keys.shape[-2:]
        heads = query.reshape(len(query), num_groups, -1, head_dim)
        num_heads = heads.shape[2]
        if num_heads % ROW_TILE:
            heads = F.pad(heads, (0, 0, 0, -num_heads % ROW_TILE))
        key, value = self._reader.read(keys, values)
        mixed = F.scaled_dot_product_attention(
            heads, key.transpose(1, 2), value.transpose(1, 2), attn_mask=self._mask
        )
        return mixed[:, :, :num_heads].flatten(1)


def _groups(decodes: list[tuple[int, Segment]]) -> list[list[tuple[int, Segment]]]:
    """Put sequences together whose lengths differ by less than half."""
    groups: list[list[tuple[int, Segment]]] = []
    longest = 0
    for decode in sorted(decodes, key=lambda decode: decode[1].num_slots, reverse=True):
        if not groups or max(2 * decode[1].num_slots, SHORT) < longest:
            groups.append([])
            longest = decode[1].num_slots
        groups[-1].append(decode)
    return [sorted(group, key=lambda decode: decode[0]) for group in groups]

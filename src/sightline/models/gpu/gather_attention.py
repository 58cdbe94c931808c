"""Paged attention with nothing but torch's own attention: what always works.

Keys and values are copied out of their blocks, and `scaled_dot_product_attention` does the rest.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.models.attention import TurnsFirst
from sightline.models.kv_pool import KVPool
from sightline.models.paged_batch import PagedBatch

STEP = 64
FIRST_GRAPH = 512


class GatherBackend:
    name = "sdpa"

    def over(self, pool: KVPool, batch: PagedBatch) -> "GatherAttention":
        return GatherAttention(pool, batch)

    def withdraw(self) -> None:
        pass

    def graph_slots(self, num_slots: int) -> int:
        """Everything up to it is copied, so lengths are told apart by powers of two."""
        bound = FIRST_GRAPH
        while bound < num_slots:
            bound *= 2
        return bound


class GatherAttention(TurnsFirst):
    def __init__(self, pool: KVPool, batch: PagedBatch) -> None:
        self._pool = pool
        self._new_slots = batch.new_slots.long()
        num_decodes = batch.num_decodes
        self._parts: list[tuple[slice, _Slots]] = []
        if num_decodes:
            slots = _Slots(
                pool, batch.tables[:num_decodes], batch.lengths[:num_decodes], batch.max_slots, 1
            )
            self._parts.append((slice(0, num_decodes), slots))
        for index, (first, num_new, num_slots) in enumerate(batch.chunks, num_decodes):
            own = slice(index, index + 1)
            slots = _Slots(pool, batch.tables[own], batch.lengths[own], num_slots, num_new)
            self._parts.append((slice(first, first + num_new), slots))

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        keys, values = self._pool.keys[layer], self._pool.values[layer]
        keys.flatten(0, 1).index_copy_(0, self._new_slots, key)
        values.flatten(0, 1).index_copy_(0, self._new_slots, value)
        mixed = [slots.attend(query[rows], keys, values) for rows, slots in self._parts]
        return mixed[0] if len(mixed) == 1 else torch.cat(mixed)


class _Slots:
    """The slots of N sequences with equally many new rows each, T of them."""

    def __init__(
        self, pool: KVPool, tables: Tensor, lengths: Tensor, max_slots: int, num_new: int
    ) -> None:
        size = pool.block_size
        step = max(STEP, size)
        num_slots = min(-(-max_slots // step) * step, tables.shape[1] * size)
        num_blocks = -(-num_slots // size)
        self._num_new = num_new
        self._shape = (len(lengths), num_blocks * size)
        self._blocks = tables[:, :num_blocks].long().flatten()
        slot = torch.arange(num_blocks * size, device=pool.device)
        newest = lengths[:, None] - num_new + torch.arange(num_new, device=pool.device)
        is_seen = slot <= newest[..., None]  # [N, T, S]
        mask = torch.zeros(is_seen.shape, dtype=pool.keys.dtype, device=pool.device)
        self._mask = mask.masked_fill_(~is_seen, -torch.inf)[:, None]
        # What nobody wrote may be NaN, which would get through any mask.
        self._unwritten = (slot >= lengths[:, None])[..., None, None]

    def attend(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return `[N * T, H * D]` for query `[N * T, H, D]` and all blocks of a layer."""
        num_groups, head_dim = keys.shape[-2:]
        key, value = (
            source.index_select(0, self._blocks)
            .view(*self._shape, num_groups, head_dim)
            .masked_fill(self._unwritten, 0)
            .transpose(1, 2)
            for source in (keys, values)
        )  # [N, G, S, D]
        num_sequences, num_new = self._shape[0], self._num_new
        if num_new == 1:  # a group's heads stand as rows of one product
            rows = query.view(num_sequences, num_groups, -1, head_dim)
            mixed = F.scaled_dot_product_attention(rows, key, value, attn_mask=self._mask)
            return mixed.reshape(len(query), -1)
        rows = query.view(num_sequences, num_new, -1, head_dim).transpose(1, 2)
        key, value = (kv.repeat_interleave(rows.shape[1] // num_groups, 1) for kv in (key, value))
        mixed = F.scaled_dot_product_attention(rows, key, value, attn_mask=self._mask)
        return mixed.transpose(1, 2).reshape(len(query), -1)

"""The one place where queries meet keys.

Shapes: T new tokens, S slots attended to, H query heads, G KV groups, R = H / G query heads per
group, Dh head width. Query head h reads KV group h // R. A group's query heads are handled
together and the group's keys are never repeated in memory.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.models.kv_pool import KVPool, Segment


class Attention(Protocol):
    """Attention of one forward pass: built once, called by every layer in turn."""

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Turn query `[..., T, H, Dh]`, key and value `[..., T, G, Dh]` into `[..., T, H * Dh]`."""
        ...


class CausalAttention:
    """Among the T tokens themselves, with nothing remembered. Any leading dimensions."""

    def __init__(self, num_tokens: int) -> None:
        self._is_causal = num_tokens > 1

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return _attend(query, key, value, mask=None, is_causal=self._is_causal)


class PagedAttention:
    """Among the sequences of a flattened batch, each with its own slots of a pool; see `Segment`.

    Raises ValueError, with nothing written, if the segments do not fit the batch or the pool.
    """

    def __init__(self, pool: KVPool, segments: Sequence[Segment], num_tokens: int) -> None:
        self._pool = pool
        self._plans = [_Plan(segment, pool) for segment in segments]
        if sum(plan.num_new for plan in self._plans) != num_tokens:
            raise ValueError(f"the segments do not add up to the batch's {num_tokens} rows")
        self._new_slots = torch.cat(
            [plan.slots[-plan.num_new :] for plan in self._plans]
            or [torch.empty(0, dtype=torch.int64, device=pool.keys.device)]
        )

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Leading dimensions are not allowed here."""
        keys = self._pool.keys[layer].flatten(0, 1)
        values = self._pool.values[layer].flatten(0, 1)
        keys.index_copy_(0, self._new_slots, key)
        values.index_copy_(0, self._new_slots, value)
        parts = torch.split(query, [plan.num_new for plan in self._plans])
        mixed = [
            plan.attend(rows, keys, values) for plan, rows in zip(self._plans, parts, strict=True)
        ]
        return mixed[0] if len(mixed) == 1 else torch.cat(mixed)


class _Plan:
    """How one segment attends, the same in every layer."""

    def __init__(self, segment: Segment, pool: KVPool) -> None:
        self.num_new, num_slots = segment.num_new, segment.num_slots
        block_size = pool.block_size
        num_blocks = -(-num_slots // block_size)
        blocks = torch.tensor(segment.blocks[:num_blocks], dtype=torch.int64)
        if segment.num_new < 1 or segment.num_cached < 0:
            raise ValueError(f"a segment needs at least one new row: {segment}")
        if len(blocks) < num_blocks:
            raise ValueError(f"{num_slots} slots do not fit {len(blocks)} blocks of {block_size}")
        if not 0 <= int(blocks.min()) <= int(blocks.max()) < pool.num_blocks:
            raise ValueError(f"the pool has no block {segment.blocks}, only {pool.num_blocks}")
        slots = (blocks[:, None] * block_size + torch.arange(block_size)).flatten()[:num_slots]
        # A run of neighbouring blocks is read where it lies.
        in_one_piece = num_blocks == 1 or bool((blocks.diff() == 1).all())
        first = int(slots[0])
        self._run = slice(first, first + num_slots) if in_one_piece else None
        device = pool.keys.device
        self.slots = slots.to(device)
        # One query sees everything, and queries that begin at slot 0 have a kernel of their own;
        # only a later chunk needs a mask in memory.
        self._is_causal = self.num_new > 1 and segment.num_cached == 0
        self._mask = (
            torch.ones(self.num_new, num_slots, dtype=torch.bool, device=device).tril(
                segment.num_cached
            )
            if self.num_new > 1 and segment.num_cached > 0
            else None
        )

    def attend(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return `[T, H * Dh]` for query `[T, H, Dh]` and a layer's slots `[N * B, G, Dh]`."""
        if self._run is not None:
            key, value = keys[self._run], values[self._run]
        else:
            key, value = keys.index_select(0, self.slots), values.index_select(0, self.slots)
        return _attend(query, key, value, mask=self._mask, is_causal=self._is_causal)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None, is_causal: bool
) -> Tensor:
    """Return `[..., T, H * Dh]` for query `[..., T, H, Dh]`, key and value `[..., S, G, Dh]`."""
    *batch, num_tokens, num_heads, head_dim = query.shape
    num_slots, num_groups = key.shape[-3], key.shape[-2]
    queries_per_group = num_heads // num_groups
    # [..., G, R, T, Dh] against [..., G, 1, S, Dh]
    query = query.reshape(*batch, num_tokens, num_groups, queries_per_group, head_dim)
    query = query.movedim(-4, -2)
    key = key.transpose(-3, -2)
    value = value.transpose(-3, -2)
    if num_tokens == 1:
        # A single query needs no mask, so the group's heads can stand as rows of one product.
        mixed = F.scaled_dot_product_attention(
            query.squeeze(-2).reshape(-1, num_groups, queries_per_group, head_dim),
            key.reshape(-1, num_groups, num_slots, head_dim),
            value.reshape(-1, num_groups, num_slots, head_dim),
        )
        return mixed.reshape(*batch, 1, num_heads * head_dim)
    mixed = F.scaled_dot_product_attention(
        query.reshape(-1, queries_per_group, num_tokens, head_dim),
        _share(key.reshape(-1, 1, num_slots, head_dim), queries_per_group),
        _share(value.reshape(-1, 1, num_slots, head_dim), queries_per_group),
        attn_mask=mask,
        is_causal=is_causal,
    )
    mixed = mixed.reshape(*batch, num_groups, queries_per_group, num_tokens, head_dim)
    return mixed.movedim(-2, -4).reshape(*batch, num_tokens, num_heads * head_dim)


def _share(rows: Tensor, num_heads: int) -> Tensor:
    """Show `[B, 1, S, Dh]` as `[B, num_heads, S, Dh]` without copying it."""
    return rows.expand(-1, num_heads, -1, -1)

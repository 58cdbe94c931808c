"""The one place where queries meet keys.

Shapes: T new tokens, S slots attended to, H query heads, G KV groups, R = H / G query heads per
group, Dh head width. Query head h reads KV group h // R. A group's query heads are handled
together and the group's keys are never repeated in memory.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.models.contract import KVCache


class CausalAttention:
    """Attention of one forward pass: built once, called by every layer in turn.

    With a cache, the new tokens also attend to everything already in it; the pass appends its
    keys and values, and `finish` makes them count.
    """

    def __init__(self, num_tokens: int, cache: KVCache | None, device: torch.device) -> None:
        self._cache = cache
        self._num_tokens = num_tokens
        num_cached = 0 if cache is None else cache.length
        # One query sees everything, and queries that begin at slot 0 have a kernel of their own;
        # only a later chunk needs a mask in memory.
        self._is_causal = num_tokens > 1 and num_cached == 0
        self._mask = (
            torch.ones(num_tokens, num_cached + num_tokens, dtype=torch.bool, device=device).tril(
                num_cached
            )
            if num_tokens > 1 and num_cached > 0
            else None
        )

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return `[..., T, H * Dh]` for query `[..., T, H, Dh]`, key and value `[..., T, G, Dh]`.

        Leading dimensions are allowed only without a cache.
        """
        if self._cache is not None:
            key, value = self._cache.extend(layer, key, value)
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
            attn_mask=self._mask,
            is_causal=self._is_causal,
        )
        mixed = mixed.reshape(*batch, num_groups, queries_per_group, num_tokens, head_dim)
        return mixed.movedim(-2, -4).reshape(*batch, num_tokens, num_heads * head_dim)

    def finish(self) -> None:
        """Count this pass's slots as filled; call it after the last layer."""
        if self._cache is not None:
            self._cache.advance(self._num_tokens)


def _share(rows: Tensor, num_heads: int) -> Tensor:
    """Show `[B, 1, S, Dh]` as `[B, num_heads, S, Dh]` without copying it."""
    return rows.expand(-1, num_heads, -1, -1)

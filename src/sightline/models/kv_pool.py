"""Keys and values of many sequences in one allocation, cut into blocks.

A sequence's slot s lies in the block `blocks[s // block_size]`, at `s % block_size`. Blocks may be
anywhere and in any order, and sequences with a common beginning may share them; who owns a block
is the engine's business, not the pool's.

Shapes: L layers, N blocks, B slots per block, G KV groups, Dh head width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Segment:
    """One sequence's rows in a flattened batch.

    The `num_new` rows fill the slots behind the `num_cached` ones that earlier passes filled, and
    attend to all of those and, causally, to each other. `blocks` cover at least
    `num_cached + num_new` slots; further ones are not looked at.
    """

    num_new: int
    num_cached: int
    blocks: Sequence[int]

    @property
    def num_slots(self) -> int:
        """Slots that are filled after the pass."""
        return self.num_cached + self.num_new


class KVPool:
    """`keys` and `values`, each `[L, N, B, G, Dh]`, allocated once. Not safe between threads."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys = keys
        self.values = values
        self._copies = keys.new_empty(0), values.new_empty(0)

    @classmethod
    def allocate(
        cls,
        *,
        num_layers: int,
        num_blocks: int,
        block_size: int,
        num_groups: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> "KVPool":
        shape = (num_layers, num_blocks, block_size, num_groups, head_dim)
        # Not zeroed: pages that no sequence has entered cost no memory yet.
        return cls(
            torch.empty(shape, dtype=dtype, device=device),
            torch.empty(shape, dtype=dtype, device=device),
        )

    @property
    def num_blocks(self) -> int:
        return self.keys.shape[1]

    @property
    def block_size(self) -> int:
        return self.keys.shape[2]

    @property
    def device(self) -> torch.device:
        return self.keys.device

    @property
    def size_bytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes

    @property
    def block_bytes(self) -> int:
        """Memory of one block, all layers together."""
        return self.size_bytes // self.num_blocks

    def copies(self, count: int) -> tuple[Tensor, Tensor]:
        """Return room for copies of `count` numbers of keys and of values: always the same.

        It is kept, since the system takes longer to give and clear it than to copy into it.
        """
        if len(self._copies[0]) < count:
            with torch.inference_mode(mode=False):  # inside and outside of it can be written to
                self._copies = self.keys.new_empty(count), self.values.new_empty(count)
        keys, values = self._copies
        return keys[:count], values[:count]

    def count_blocks(self, segment: Segment) -> int:
        """Return how many of its blocks a segment needs."""
        return -(-segment.num_slots // self.block_size)

    def check(self, segment: Segment) -> None:
        """Raise ValueError for a segment that does not fit its blocks or the pool."""
        if segment.num_new < 1 or segment.num_cached < 0:
            raise ValueError(f"a segment needs at least one new row: {segment}")
        blocks = segment.blocks[: self.count_blocks(segment)]
        if len(blocks) < self.count_blocks(segment):
            raise ValueError(
                f"{segment.num_slots} slots do not fit {len(blocks)} blocks of {self.block_size}"
            )
        if not 0 <= min(blocks) <= max(blocks) < self.num_blocks:
            raise ValueError(f"the pool has no block of {blocks}, only {self.num_blocks}")

    def slots(self, segment: Segment, first: int = 0) -> list[int]:
        """Return where a segment's slots from `first` on lie among all slots of the pool."""
        size = self.block_size
        return [
            segment.blocks[slot // size] * size + slot % size
            for slot in range(first, segment.num_slots)
        ]

    def clean_tail(self, segment: Segment) -> None:
        """Zero what follows a segment in its last block, if the segment is the first to enter it.

        Attention reads whole tiles of slots and masks the unwritten ones, but NaN from an earlier
        owner would get through any mask.
        """
        length = segment.num_slots % self.block_size
        if length and segment.num_slots - length >= segment.num_cached:
            block = segment.blocks[segment.num_slots // self.block_size]
            self.keys[:, block, length:] = 0
            self.values[:, block, length:] = 0

    def copy_beginning(self, source: int, target: int, num_slots: int) -> None:
        """Fill the first slots of block `target` from block `source`, and zero the others.

        They are zeroed because `clean_tail` takes it that who enters a block first has done so.
        """
        for cache in (self.keys, self.values):
            cache[:, target, :num_slots] = cache[:, source, :num_slots]
            cache[:, target, num_slots:] = 0

    def clear(self, blocks: Sequence[int], first: int, end: int) -> None:
        """Zero slots [first, end) of a sequence."""
        for slot in range(first, end):
            block, place = blocks[slot // self.block_size], slot % self.block_size
            self.keys[:, block, place] = 0
            self.values[:, block, place] = 0


class KVCache:
    """A pool for one sequence alone: one block of `max_len` slots, `length` of them filled."""

    def __init__(self, pool: KVPool) -> None:
        self.pool = pool
        self.length = 0

    @property
    def max_len(self) -> int:
        return self.pool.block_size

    @property
    def size_bytes(self) -> int:
        return self.pool.size_bytes

    def segment(self, num_new: int) -> Segment:
        """Return the segment of a pass that appends `num_new` rows.

        Raises ValueError when they do not fit.
        """
        if self.length + num_new > self.max_len:
            raise ValueError(
                f"{self.length + num_new} slots do not fit a KV cache of {self.max_len}"
            )
        return Segment(num_new, self.length, (0,))

    def advance(self, num_tokens: int) -> None:
        """Count `num_tokens` slots as filled, after a pass has written them."""
        self.length += num_tokens

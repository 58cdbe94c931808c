"""Reading the slots of sequences out of the pool, in lengths that leave no trace in the result.

torch's CPU attention works through 512 keys at a time. Within such a block it adds up in vectors,
with an incomplete last vector apart, and in one, two or more pieces, depending on how many keys
the block has. Masked keys have weights of exactly zero, so they change nothing as long as vectors
stay whole and pieces stay where they are. Measured for the library that torch's x86 builds bring:
blocks of up to 256 keys are one piece, a full block is two of 256, and what lies between is cut
elsewhere. `round_up_slots` therefore fills vectors up to 256, and the whole block beyond.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.models.kv_pool import KVPool, Segment

VECTOR = 16
PIECE = 256
BLOCK = 512


class SlotReader:
    """Shows the keys and values of N sequences as `[N, S, G, Dh]`: built once, used by every layer.

    They are widened to `dtype`. S covers the longest sequence. What a sequence has not written of
    its S slots is some finite number of its own, never another sequence's. A single sequence in
    neighbouring blocks is shown where it lies; everything else is copied, into memory that the
    next read of any reader overwrites.
    """

    def __init__(self, pool: KVPool, segments: Sequence[Segment], dtype: torch.dtype) -> None:
        longest = max(segment.num_slots for segment in segments)
        # Blocks that do not fill pieces evenly are read slot by slot.
        fits = pool.block_size % VECTOR == 0 and PIECE % pool.block_size == 0
        self._unit = pool.block_size if fits else 1
        self.num_slots = round_up_slots(longest, dtype, step=max(self._unit, VECTOR))
        self._shape = (len(segments), self.num_slots, *pool.keys.shape[-2:])
        self._run: slice | None = None
        self._pool = pool
        self._dtype = dtype
        if fits:
            tables = [list(segment.blocks[: pool.count_blocks(segment)]) for segment in segments]
        else:
            tables = [pool.slots(segment) for segment in segments]
        per_sequence = self.num_slots // self._unit
        first = tables[0][0]
        if len(segments) == 1 and tables[0] == list(range(first, first + per_sequence)):
            self._run = slice(first * self._unit, first * self._unit + self.num_slots)
            return
        units = [
            unit for table in tables for unit in (*table, *table[:1] * (per_sequence - len(table)))
        ]
        self._units = torch.tensor(units, dtype=torch.int64, device=pool.device)

    def read(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values `[N, S, G, Dh]` for all blocks of one layer."""
        if self._run is not None:
            key, value = keys.flatten(0, 1)[self._run], values.flatten(0, 1)[self._run]
            return key.unsqueeze(0).to(self._dtype), value.unsqueeze(0).to(self._dtype)
        width = self._unit * keys.shape[-2] * keys.shape[-1]
        copies = self._pool.copies(len(self._units) * width)
        key, value = (
            torch.index_select(source.view(-1, width), 0, self._units, out=copy.view(-1, width))
            for source, copy in zip((keys, values), copies, strict=True)
        )
        return (
            key.view(self._shape).to(self._dtype),
            value.view(self._shape).to(self._dtype),
        )


def round_up_slots(num_slots: int, dtype: torch.dtype, *, step: int = VECTOR) -> int:
    """Return how many slots to show so that the masked ones leave no trace; a multiple of `step`.

    `step` divides `PIECE` and is a multiple of `VECTOR`.
    """
    rest = num_slots % BLOCK
    if rest == 0:
        return num_slots
    if rest > PIECE or not masked_keys_leave_no_trace(dtype):
        return num_slots - rest + BLOCK
    return num_slots + -rest % step


@lru_cache
@torch.inference_mode()
def masked_keys_leave_no_trace(dtype: torch.dtype) -> bool:
    """Whether on this processor blocks of up to `PIECE` keys are added up as one piece."""
    random = torch.Generator().manual_seed(0)
    query = torch.randn(1, 1, 8, 64, generator=random).to(dtype)
    slots = torch.randn(1, 1, BLOCK, 64, generator=random).to(dtype)
    for num_seen in (90, 170, 250):
        mask = torch.zeros(BLOCK, dtype=dtype)
        mask[num_seen:] = -torch.inf
        results = [
            F.scaled_dot_product_attention(
                query,
                slots[:, :, :shown],
                slots[:, :, :shown],
                attn_mask=mask[:shown].expand(8, -1),
            )
            for shown in (*range(num_seen + -num_seen % VECTOR, PIECE + 1, VECTOR), BLOCK)
        ]
        if not all(torch.equal(result, results[0]) for result in results):
            return False
    return True

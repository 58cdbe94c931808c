"""What attention on a GPU has to know of a flattened batch: a few small tensors, sent at once.

The tables are what a kernel can read; `Segment` is what the engine thinks in. One batch is made
for a step and serves every layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from sightline.models.kv_pool import KVPool, Segment
from sightline.models.transfer import send

# Kernels are compiled anew for strides that 16 does not divide, and for addresses.
TABLE_STEP = 16
ADDRESS_STEP = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PagedBatch:
    """T rows of N sequences; the first `num_decodes` sequences have one new row each.

    All tensors are int32 on the device: `new_slots` [T], the pool's slots that the rows fill;
    `tables` [N, blocks], each sequence's blocks in order (behind its last one stands any number of
    a block); `lengths` [N], slots after the pass; `first_rows` [N + 1], where each one's rows
    begin, and T. `max_new` and `max_slots` bound rows and slots of a sequence. `chunks` say of
    the sequences behind the decodes what the host knows: first row, new rows, slots.
    """

    new_slots: Tensor
    tables: Tensor
    lengths: Tensor
    first_rows: Tensor
    num_decodes: int
    max_new: int
    max_slots: int
    chunks: tuple[tuple[int, int, int], ...] = ()

    @property
    def num_rows(self) -> int:
        return len(self.new_slots)

    @property
    def num_sequences(self) -> int:
        return len(self.lengths)

    @classmethod
    def of(cls, pool: KVPool, segments: Sequence[Segment], num_rows: int) -> "PagedBatch":
        """Raise ValueError, with nothing sent, for segments that do not fit pool or rows."""
        for segment in segments:
            pool.check(segment)
        if sum(segment.num_new for segment in segments) != num_rows:
            raise ValueError(f"the segments do not add up to the batch's {num_rows} rows")
        number, size = len(segments), pool.block_size
        width = max(pool.count_blocks(segment) for segment in segments)
        width += -width % TABLE_STEP
        sizes = (num_rows, number * width, number, number + 1)
        edges = list(accumulate((n + -n % ADDRESS_STEP for n in sizes), initial=0))
        numbers = np.zeros(edges[-1], dtype=np.int32)
        new_slots, tables, lengths, first_rows = (
            numbers[edge : edge + n] for edge, n in zip(edges, sizes, strict=False)
        )
        tables = tables.reshape(number, width)
        row, chunks = 0, list[tuple[int, int, int]]()
        for index, segment in enumerate(segments):
            count = pool.count_blocks(segment)
            tables[index, :count] = segment.blocks[:count]
            slots = np.arange(segment.num_cached, segment.num_slots)
            new_slots[row : row + segment.num_new] = (
                tables[index, slots // size] * size + slots % size
            )
            if chunks or segment.num_new > 1:
                chunks.append((row, segment.num_new, segment.num_slots))
            row += segment.num_new
            lengths[index] = segment.num_slots
            first_rows[index + 1] = row
        sent = send(torch.from_numpy(numbers), pool.device)
        parts = [sent[edge : edge + n] for edge, n in zip(edges, sizes, strict=False)]
        return cls(
            new_slots=parts[0],
            tables=parts[1].view(number, width),
            lengths=parts[2],
            first_rows=parts[3],
            num_decodes=number - len(chunks),
            max_new=max(segment.num_new for segment in segments),
            max_slots=max(segment.num_slots for segment in segments),
            chunks=tuple(chunks),
        )

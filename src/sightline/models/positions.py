"""Rotary positions of slots: where a token stands for the model, as opposed to for the KV cache.

GLM-4V squeezes an image into three positions. With the begin row at position p, every patch row
shares p + 1, the end row takes p + 2 and text goes on at p + 3, although the image fills as many
slots as it has rows. An image of 1602 rows whose begin row stands in slot 4:

    slot      0 1 2 3  4    5 6 ... 1604  1605  1606
    position  0 1 2 3  4    5 5 ... 5     6     7
"""

from collections.abc import Sequence

import torch
from torch import Tensor

POSITIONS_PER_IMAGE = 3


def compressed_positions(num_slots: int, image_spans: Sequence[tuple[int, int]]) -> Tensor:
    """Return the positions of slots [0, num_slots), int64, on the CPU.

    `image_spans` are (start, length) in slots, begin and end rows included, in order and apart
    from each other. Raises ValueError for spans that are not.
    """
    _check_spans(num_slots, image_spans)
    steps = torch.ones(num_slots, dtype=torch.int64)
    for start, length in image_spans:
        # The first patch and the end row each move on by one; the patches between stand still.
        steps[start + 2 : start + length - 1] = 0
    return steps.cumsum(0) - 1


def grid_positions(
    num_slots: int, image_spans: Sequence[tuple[int, int]], grids: Sequence[tuple[int, int]]
) -> Tensor:
    """Return Qwen2-VL's positions of slots [0, num_slots): time, row, column `[3, num_slots]`.

    `grids` are the images' (rows, columns), as many slots as an image's span is long. A word has
    the same position three times. An image that begins at p stands at time p, its row r at p + r
    and its column c at p + c; what follows goes on at p + max(rows, columns). Raises ValueError
    when spans and grids do not belong together.
    """
    parts: list[Tensor] = []
    slot = position = 0
    for (start, length), (rows, columns) in zip(image_spans, grids, strict=True):
        if start < slot or rows * columns != length or start + length > num_slots:
            raise ValueError(f"an image of {rows} x {columns} rows at {start} does not fit")
        parts.append((torch.arange(start - slot) + position).expand(3, -1))
        position += start - slot
        time = torch.zeros(length, dtype=torch.int64)
        row = torch.arange(rows).repeat_interleave(columns)
        parts.append(torch.stack((time, row, torch.arange(columns).repeat(rows))) + position)
        position += max(rows, columns)
        slot = start + length
    parts.append((torch.arange(num_slots - slot) + position).expand(3, -1))
    return torch.cat(parts, dim=1)


def next_position(num_slots: int, image_spans: Sequence[tuple[int, int]]) -> int:
    """Return the position of the token that fills slot `num_slots`, after all the images."""
    _check_spans(num_slots, image_spans)
    return num_slots - sum(length - POSITIONS_PER_IMAGE for _, length in image_spans)


def _check_spans(num_slots: int, image_spans: Sequence[tuple[int, int]]) -> None:
    end = 0
    for start, length in image_spans:
        if length < POSITIONS_PER_IMAGE:
            raise ValueError(f"an image of {length} rows has no room for begin, patch and end")
        if start < end:
            raise ValueError(f"image spans overlap or are out of order at slot {start}")
        end = start + length
        if end > num_slots:
            raise ValueError(f"an image span ends at slot {end}, after the last of {num_slots}")

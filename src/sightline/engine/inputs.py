"""From a plan to the tensors of one flattened batch.

Legend: T rows of the batch, D model width, N sequences, S slots of a sequence.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sightline.engine.plan import Chunk
from sightline.models.kv_pool import Segment
from sightline.models.transfer import send, to_device


@dataclass(frozen=True, slots=True)
class BatchInputs:
    """`ids` [T] and `positions` [T] (or [axes, T]) of all rows; a segment for each sequence.

    A sequence with guesses has a segment for each of its rows.

    `sampled_rows` are the rows behind which a token is wanted.
    """

    ids: Tensor
    positions: Tensor
    segments: list[Segment]
    sampled_rows: list[int]


def flatten(
    chunks: tuple[Chunk, ...], positions: list[np.ndarray], device: torch.device
) -> BatchInputs:
    """Put the rows of all chunks one after another; `positions` [..., S] are each sequence's."""
    ids: list[int] = []
    segments: list[Segment] = []
    sampled_rows: list[int] = []
    for chunk in chunks:
        if chunk.end - chunk.start == 1:
            ids.append(chunk.sequence.token(chunk.start))
        else:
            ids += chunk.token_ids
        if chunk.guessed:
            # Each row as the decode that it stands for: the same kernels, the same bits.
            segments += [Segment(1, slot, chunk.blocks) for slot in range(chunk.start, chunk.end)]
        else:
            segments.append(Segment(chunk.end - chunk.start, chunk.start, chunk.blocks))
        if chunk.samples:
            sampled_rows += range(len(ids) - 1 - len(chunk.guessed), len(ids))
    rows = [own[..., chunk.start : chunk.end] for chunk, own in zip(chunks, positions, strict=True)]
    return BatchInputs(
        ids=to_device(ids, torch.int64, device),
        positions=send(torch.from_numpy(np.concatenate(rows, axis=-1)), device),
        segments=segments,
        sampled_rows=sampled_rows,
    )


def overlay_images(embeds: Tensor, chunks: tuple[Chunk, ...], rows: dict[bytes, Tensor]) -> None:
    """Write the embeddings of pictures over those of their placeholders, in `embeds` [T, D].

    `rows` has the embeddings of every needed image by its key.
    """
    base = 0
    for chunk in chunks:
        for needed in chunk.images:
            span = needed.span
            first = max(chunk.start, span.start)
            last = min(chunk.end, span.start + span.length)
            place = base - chunk.start
            embeds[place + first : place + last] = rows[needed.key][
                first - span.start : last - span.start
            ]
        base += chunk.end - chunk.start

"""The model's calls, for one sequence at a time: encode its images, prefill, decode.

Legend: V vocabulary, D model width, S slots.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sightline.core.prompt import Image, ImageSpan
from sightline.engine.contract import DeviceLost
from sightline.engine.embedding_cache import EmbeddingCache
from sightline.engine.sequence import Sequence
from sightline.models.contract import VisionLanguageModel
from sightline.models.kv_pool import KVCache


class BadEmbeddings(Exception):
    """The vision tower produced NaN or infinity."""


@dataclass(slots=True)
class _Tensors:
    """What one running sequence holds on the device.

    `positions` are those of all its slots, the answer's too. `rows` are the embeddings of the
    images that the prefill has not passed yet, by digest.
    """

    cache: KVCache
    positions: Tensor  # [S] int64
    rows: dict[bytes, Tensor] = field(default_factory=dict)  # each [num_tokens, D]


class ModelRunner:
    """Implements `contract.Runner` for any `VisionLanguageModel`, on the model's own device."""

    def __init__(
        self, model: VisionLanguageModel, embeddings: EmbeddingCache[Tensor], device: torch.device
    ) -> None:
        self._model = model
        self._embeddings = embeddings
        self._device = device
        self._tensors: dict[str, _Tensors] = {}

    @torch.inference_mode()
    def start(self, sequence: Sequence) -> None:
        spans = [(span.start, span.length) for span in sequence.images]
        self._tensors[sequence.request_id] = _Tensors(
            cache=self._model.allocate_cache(sequence.slots),
            positions=self._model.positions(sequence.slots, spans).to(self._device),
        )

    @torch.inference_mode()
    def encode(self, sequence: Sequence, start: int, end: int) -> None:
        rows = self._tensors[sequence.request_id].rows
        for span in _overlapping(sequence.images, start, end):
            if span.image.digest not in rows:
                rows[span.image.digest] = self._encoded(span.image, sequence.cache_salt)

    @torch.inference_mode()
    def prefill(self, sequence: Sequence, start: int, end: int) -> Tensor | None:
        tensors = self._tensors[sequence.request_id]
        embeds = self._model.embed(self._ids(sequence.prompt[start:end]))
        for span in _overlapping(sequence.images, start, end):
            first, last = max(start, span.start), min(end, span.start + span.length)
            rows = tensors.rows[span.image.digest]
            embeds[first - start : last - start] = rows[first - span.start : last - span.start]
        hidden = self._model.forward(embeds, tensors.positions[start:end], tensors.cache)
        for span in _overlapping(sequence.images, start, end):
            if not any(later.start + later.length > end for later in _same(sequence, span)):
                tensors.rows.pop(span.image.digest, None)
        return self._model.logits(hidden[-1]) if end == len(sequence.prompt) else None

    @torch.inference_mode()
    def decode(self, sequence: Sequence) -> Tensor:
        tensors = self._tensors[sequence.request_id]
        slot = len(sequence.prompt) + len(sequence.answer) - 1
        embeds = self._model.embed(self._ids(sequence.answer[-1:]))
        hidden = self._model.forward(embeds, tensors.positions[slot : slot + 1], tensors.cache)
        return self._model.logits(hidden[-1])

    def release(self, sequence: Sequence) -> None:
        self._tensors.pop(sequence.request_id, None)

    def check_device(self) -> None:
        try:
            torch.ones(1, device=self._device).add_(1).item()
        except RuntimeError as error:
            raise DeviceLost from error

    def _encoded(self, image: Image, cache_salt: bytes) -> Tensor:
        key = cache_salt + image.digest
        rows = self._embeddings.get(key)
        if rows is None:
            pixels = torch.frombuffer(bytearray(image.pixels), dtype=torch.uint8)
            square = pixels.view(1, image.height, image.width, 3).to(self._device)
            rows = self._model.encode_images(square)[0]
            if not torch.isfinite(rows.float().sum()):
                raise BadEmbeddings
            self._embeddings.put(key, rows, rows.numel() * rows.element_size())
        return rows

    def _ids(self, token_ids: tuple[int, ...] | list[int]) -> Tensor:
        return torch.tensor(token_ids, dtype=torch.int64, device=self._device)


def _overlapping(spans: tuple[ImageSpan, ...], start: int, end: int) -> list[ImageSpan]:
    return [s for s in spans if s.start < end and start < s.start + s.length]


def _same(sequence: Sequence, span: ImageSpan) -> list[ImageSpan]:
    return [s for s in sequence.images if s.image.digest == span.image.digest]

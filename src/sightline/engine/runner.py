"""The model's calls for one flattened batch: encode images, compute the rows, sample.

Legend: T rows of the batch, V vocabulary, D model width, S slots of a sequence.
"""

import time
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.core.prompt import Image
from sightline.engine.contract import DeviceLost, StepResult
from sightline.engine.inputs import BatchInputs, flatten, overlay_images
from sightline.engine.plan import Plan
from sightline.engine.sampler import BadLogits, Sampled, SamplingRow, sample_rows
from sightline.engine.sequence import Sequence
from sightline.models.contract import VisionLanguageModel
from sightline.models.kv_pool import KVPool


class BadEmbeddings(Exception):
    """The vision tower produced NaN or infinity."""


@dataclass(slots=True)
class _Kept:
    """What is kept of one sequence from step to step: the positions [..., S] of all its slots."""

    positions: Tensor
    sampling: SamplingRow


class ModelRunner:
    """Implements `contract.Runner` for any `VisionLanguageModel`, on the model's own device.

    `num_tokens` is how many ids the tokenizer knows; others are never said.
    """

    def __init__(
        self, model: VisionLanguageModel, pool: KVPool, device: torch.device, *, num_tokens: int
    ) -> None:
        self._model = model
        self._pool = pool
        self._device = device
        self._num_tokens = num_tokens
        self._kept: dict[Sequence, _Kept] = {}
        self._rows: dict[bytes, Tensor] = {}  # each [rows, D]

    @torch.inference_mode()
    def compute(self, plan: Plan) -> StepResult:
        for key in plan.evicted:
            self._rows.pop(key, None)
        for chunk in plan.chunks:
            if chunk.samples and chunk.sequence.grammar is not None:
                chunk.sequence.grammar.prepare(chunk.sequence.answer)
        result = StepResult()
        self._encode(plan, result)
        kept = [self._keep(chunk.sequence) for chunk in plan.chunks]
        inputs = flatten(plan.chunks, [own.positions for own in kept], self._device)
        embeds = self._model.embed(inputs.ids)
        overlay_images(embeds, plan.chunks, self._rows)
        hidden = self._model.forward_batch(embeds, inputs.positions, self._pool, inputs.segments)
        rows = [own.sampling for own, chunk in zip(kept, plan.chunks, strict=True) if chunk.samples]
        sampled = iter(self._sample(hidden, inputs, rows))
        for chunk, is_good in zip(plan.chunks, _are_finite(hidden, inputs), strict=True):
            outcome = next(sampled) if chunk.samples else None
            result.outcomes[chunk.sequence] = outcome if is_good else BadLogits()
        return result

    def release(self, sequence: Sequence) -> None:
        self._kept.pop(sequence, None)

    def check_device(self) -> None:
        try:
            torch.ones(1, device=self._device).add_(1).item()
        except RuntimeError as error:
            raise DeviceLost from error

    def _keep(self, sequence: Sequence) -> _Kept:
        kept = self._kept.get(sequence)
        if kept is None:
            spans = [(span.start, span.length) for span in sequence.images]
            kept = self._kept[sequence] = _Kept(
                positions=self._model.positions(
                    sequence.max_slots,
                    spans,
                    num_prompt=len(sequence.prompt),
                    image_sizes=[(s.image.height, s.image.width) for s in sequence.images],
                ),
                sampling=SamplingRow(
                    params=sequence.params,
                    seed=sequence.seed,
                    prompt=sequence.prompt,
                    answer=sequence.answer,
                    grammar=sequence.grammar,
                ),
            )
        return kept

    def _sample(
        self, hidden: Tensor, inputs: BatchInputs, rows: list[SamplingRow]
    ) -> list[Sampled | Exception]:
        if not rows:
            return []
        logits = self._model.logits(hidden[inputs.sampled_rows])
        return sample_rows(logits, rows, num_tokens=self._num_tokens)

    def _encode(self, plan: Plan, result: StepResult) -> None:
        """Compute the embeddings that are not there yet, pictures of one size together."""
        missing: dict[bytes, Image] = {}
        for chunk in plan.chunks:
            for needed in chunk.images:
                if needed.key not in self._rows:
                    missing[needed.key] = needed.span.image
        if not missing:
            return
        began = time.monotonic()
        by_size: dict[tuple[int, int], list[bytes]] = defaultdict(list)
        for key, image in missing.items():
            by_size[image.height, image.width].append(key)
        for (height, width), keys in by_size.items():
            pixels = [_pixels(missing[key]).view(height, width, 3) for key in keys]
            encoded = self._model.encode_images(torch.stack(pixels).to(self._device))
            for key, rows in zip(keys, encoded, strict=True):
                if not torch.isfinite(rows.float().sum()):
                    raise BadEmbeddings
                self._rows[key] = rows.clone()  # no view: the others of the batch may go first
        result.num_encoded = len(missing)
        result.encode_s = time.monotonic() - began


def _pixels(image: Image) -> Tensor:
    return torch.frombuffer(bytearray(image.pixels), dtype=torch.uint8)


def _are_finite(hidden: Tensor, inputs: BatchInputs) -> list[bool]:
    """Say for each segment whether all its rows are free of NaN and infinity.

    Keys and values that are not finite show here, in the row that they belong to.
    """
    sums = hidden.sum(-1, dtype=torch.float32)
    if bool(torch.isfinite(sums.sum())):
        return [True] * len(inputs.segments)
    parts = torch.split(torch.isfinite(sums), [segment.num_new for segment in inputs.segments])
    return [bool(part.all()) for part in parts]

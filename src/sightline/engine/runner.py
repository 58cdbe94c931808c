"""The model's calls for one flattened batch: encode images, compute the rows, sample.

On a GPU everything is queued, and the host waits once, when the step's results are on their way.

Legend: T rows of the batch, V vocabulary, D model width, S slots of a sequence.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sightline.engine.contract import DeviceLost, Step, StepResult
from sightline.engine.decode_graphs import DecodeGraphs, finite_rows
from sightline.engine.inputs import flatten, overlay_images
from sightline.engine.pictures import BadEmbeddings, PictureEncoder
from sightline.engine.plan import Chunk, Plan
from sightline.engine.queued_step import Drawn, QueuedStep
from sightline.engine.sampler import Draws, Sampled, SamplingRow
from sightline.engine.sequence import Sequence
from sightline.models.contract import VisionLanguageModel
from sightline.models.device import is_lost
from sightline.models.kv_pool import KVPool
from sightline.models.transfer import DeviceClock, Fetch, device_clock, to_device

__all__ = ["BadEmbeddings", "ModelRunner"]


@dataclass(slots=True)
class _Kept:
    """What is kept of one sequence from step to step: the positions [..., S] of all its slots."""

    positions: np.ndarray
    sampling: SamplingRow


class ModelRunner:
    """Implements `contract.Runner` for any `VisionLanguageModel`, on the model's own device.

    `num_tokens` is how many ids the tokenizer knows; others are never said. Steps of decodes
    alone are replayed from `graphs`, if there are any.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        pool: KVPool,
        device: torch.device,
        *,
        num_tokens: int,
        graphs: DecodeGraphs | None = None,
    ) -> None:
        self._model = model
        self._pool = pool
        self._device = device
        self._num_tokens = num_tokens
        self._graphs = graphs
        self._kept: dict[Sequence, _Kept] = {}
        self._pictures = PictureEncoder(model, device)
        self._last_clock: DeviceClock | None = None
        self.when_queued: Callable[[], None] | None = None

    def compute(self, plan: Plan) -> StepResult:
        return self.begin(plan).result()

    def begin(self, plan: Plan) -> QueuedStep:
        return self._queue(plan)

    def begin_behind(self, plan: Plan, step: Step) -> QueuedStep | None:
        is_ready = self._graphs is not None and self._graphs.is_ready_for(plan)
        if not is_ready or not isinstance(step, QueuedStep) or not step.leads_to(plan):
            return None
        if not all(self._keep(chunk.sequence).sampling.can_be_ahead for chunk in plan.chunks):
            return None
        return self._queue(plan, step)

    @torch.inference_mode()
    def _queue(self, plan: Plan, behind: QueuedStep | None = None) -> QueuedStep:
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)  # a thread's own setting, and kernels go by it
        elif self.when_queued is not None:
            self.when_queued()  # here the device is the host, and torch lets others run beside it
        self._pictures.drop(plan.evicted)
        # A grammar has to read the newest token before it says which may come next.
        waits = behind is not None and any(c.sequence.grammar is not None for c in plan.chunks)
        if not waits:
            _prepare_masks(plan)
        kept = [self._keep(chunk.sequence) for chunk in plan.chunks]
        self._copy_beginnings(plan)
        fetch = Fetch(self._device)
        clock = device_clock(self._device)
        encoding = self._pictures.encode(plan, fetch)
        newest = None if behind is None else behind.newest(plan)
        outputs = self._forward(plan, kept, newest)

        @torch.inference_mode()
        def choose() -> Drawn:
            if waits:
                _prepare_masks(plan)
            samplings = [own.sampling for own in kept]
            known = None if waits else newest
            try:
                return self._choose(plan, samplings, outputs, known, fetch)
            finally:  # where that fails, the next step is timed from here all the same
                if clock is not None:
                    clock.stop()

        queued = QueuedStep(plan, choose, encoding, fetch, clock, self._last_clock, repair=self)
        self._last_clock = clock
        if not waits:
            queued.draw()
        elif clock is not None:
            clock.stop()  # for now: it may never draw
        if self._device.type == "cuda" and self.when_queued is not None:
            self.when_queued()
        return queued

    def _choose(
        self,
        plan: Plan,
        samplings: list[SamplingRow],
        outputs: tuple[Tensor, Tensor],
        newest: Tensor | None,
        fetch: Fetch,
    ) -> Drawn:
        logits, is_finite = outputs
        rows = [
            # What ended with the step before says nothing more, and its grammar may know no more.
            replace(row, grammar=None) if chunk.sequence.is_ended else row
            for own, chunk in zip(samplings, plan.chunks, strict=True)
            if chunk.samples
            for row in own.with_guesses(chunk.guessed)
        ]
        draws = None
        if rows:
            draws = Draws(logits, rows, fetch, num_tokens=self._num_tokens, newest=newest)
        drawn = Drawn(draws, fetch.add(is_finite))
        fetch.close()
        return drawn

    def drop_pictures(self, keys: Iterable[bytes]) -> None:
        self._pictures.drop(keys)

    def release(self, sequence: Sequence) -> None:
        self._kept.pop(sequence, None)

    def check_device(self) -> None:
        if is_lost(self._device):
            raise DeviceLost

    def _forward(
        self, plan: Plan, kept: list[_Kept], newest: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the scores of the rows that sample, and for each row [T] whether it is finite.

        Only recorded steps may have tokens that nobody knows, `newest`.
        """
        if self._graphs is not None and self._graphs.can_run(plan):
            return self._graphs.run(plan.chunks, [own.positions for own in kept], newest)
        inputs = flatten(plan.chunks, [own.positions for own in kept], self._device)
        embeds = self._model.embed(inputs.ids)
        overlay_images(embeds, plan.chunks, self._pictures.rows)
        hidden = self._model.forward_batch(
            embeds, inputs.positions, self._pool, inputs.segments, wanted=inputs.sampled_rows
        )
        is_finite = finite_rows(hidden)
        if not inputs.sampled_rows:
            return hidden, is_finite
        if len(inputs.sampled_rows) < len(hidden):
            index = to_device(inputs.sampled_rows, torch.int64, self._device)
            hidden = hidden.index_select(0, index)
        return self._model.logits(hidden), is_finite

    def _copy_beginnings(self, plan: Plan) -> None:
        size = self._pool.block_size
        for chunk in plan.chunks:
            if chunk.copied_from is not None:
                target = chunk.blocks[chunk.start // size]
                self._pool.copy_beginning(chunk.copied_from, target, chunk.start % size)

    def compute_unguessed(self, chunk: Chunk) -> list[Sampled] | Exception:
        """Return what `chunk` says without its guesses, of which one may not be finite.

        What they left in their slots is wiped out: a mask hides numbers, but not NaN.
        """
        self._pool.clear(chunk.blocks, chunk.start, chunk.end)
        known = replace(chunk, end=chunk.start + 1, guessed=())
        return self.compute(Plan(chunks=(known,))).outcomes[chunk.sequence]

    def _keep(self, sequence: Sequence) -> _Kept:
        kept = self._kept.get(sequence)
        if kept is None:
            spans = [(span.start, span.length) for span in sequence.images]
            positions = self._model.positions(
                sequence.max_slots,
                spans,
                num_prompt=len(sequence.prompt),
                image_sizes=[(s.image.height, s.image.width) for s in sequence.images],
            )
            kept = self._kept[sequence] = _Kept(
                positions=positions.numpy(),
                sampling=SamplingRow(
                    params=sequence.params,
                    seed=sequence.seed,
                    prompt=sequence.prompt,
                    answer=sequence.answer,
                    grammar=sequence.grammar,
                ),
            )
        return kept


def _prepare_masks(plan: Plan) -> None:
    """Let grammars begin to say which tokens may come next."""
    for chunk in plan.chunks:
        sequence = chunk.sequence
        if chunk.samples and sequence.grammar is not None and not sequence.is_ended:
            sequence.grammar.prepare(sequence.answer, chunk.guessed)

"""Steps of decodes alone, recorded once for each of a few batch sizes and replayed.

A decode step of one sequence is some hundred small kernels; a GPU would wait for the host to
launch them. A recorded step is launched whole. It reads its inputs from tensors that stay where
they are: token ids, positions, lengths and block tables, one row for each sequence. Rows that no
sequence fills work on a block that belongs to nobody.

Legend: N sequences, V vocabulary.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sightline.engine.graph_memory import sizes_up_to
from sightline.engine.plan import Chunk, Plan
from sightline.models.gpu.backend import AttentionBackend
from sightline.models.kv_pool import KVPool
from sightline.models.paged_batch import ADDRESS_STEP, TABLE_STEP, PagedBatch
from sightline.models.paged_model import PagedModel
from sightline.models.transfer import pinned, record_graph

logger = logging.getLogger(__name__)

# What is not recorded by then is recorded when it is first needed.
START_BUDGET_S = 30.0
# A replay runs the same kernels; libraries may choose others while they are recorded.
REPLAY_TOLERANCE = 0.02
# Rows of the numbers that a step needs; positions follow.
_ID, _LENGTH, _SLOT, _POSITION = range(4)

Outputs = tuple[Tensor, Tensor]
"""Scores `[N, V]`, and for each row `[N]` whether its hidden state is finite."""


class Recorder(Protocol):
    """Turns work on fixed tensors into a recording."""

    def record(self, work: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        """Return how to do the work again, and the tensors that then hold what came of it."""
        ...


class CudaRecorder:
    """Records CUDA graphs. They share their memory: only the newest outputs are valid."""

    def __init__(self, device: torch.device, aside: torch.cuda.Stream | None = None) -> None:
        self._device = device
        self._memory: Any = None
        # One for all: libraries set memory aside for every stream that they meet.
        self._aside = aside or torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def apart(self) -> "CudaRecorder":
        """Return one that shares no memory with this one."""
        return CudaRecorder(self._device, self._aside)

    def record(self, work: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        current = torch.cuda.current_stream(self._device)
        aside = self._aside
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            work()  # libraries set themselves up, kernels are compiled
            work()
        current.wait_stream(aside)
        graph, outputs = record_graph(work, memory=self._memory, stream=aside)
        if self._memory is None:
            self._memory = graph.pool()
        return graph.replay, outputs


@dataclass(slots=True)
class _Row:
    """What stands in a row of the tables: `count` blocks of the sequence with these positions."""

    positions: np.ndarray
    generation: int
    count: int


class DecodeGraphs:
    """Records and replays. `nobodys_block` is one that no sequence ever gets.

    `max_slots` bounds a sequence's slots. A size that cannot be recorded is computed the ordinary
    way from then on.
    """

    def __init__(
        self,
        model: PagedModel,
        pool: KVPool,
        attention: AttentionBackend,
        recorder: Recorder,
        *,
        max_seqs: int,
        max_slots: int,
        nobodys_block: int,
    ) -> None:
        self._model = model
        self._pool = pool
        self._attention = attention
        self._recorder = recorder
        self._max_slots = max_slots
        self._nobodys_block = nobodys_block
        self.sizes = sizes_up_to(max_seqs)
        most = self.sizes[-1]
        most += -most % ADDRESS_STEP
        width = -(-max_slots // pool.block_size)
        width += -width % TABLE_STEP
        self._num_axes = model.positions(1, [])[..., 0].numel()
        device = pool.device
        rows = _POSITION + self._num_axes
        # In turn: one is filled while the device may still read those of the step under way, and
        # of one that was queued in vain.
        self._hosts = [pinned(torch.zeros(rows, most, dtype=torch.int32), device) for _ in range(3)]
        self._numbers = torch.zeros(rows, most, dtype=torch.int32, device=device)
        self._tables = torch.full((most, width), nobodys_block, dtype=torch.int32, device=device)
        self._first_rows = torch.arange(most + 1, dtype=torch.int32, device=device)
        # One place for the scores of every size: recordings then share all the rest.
        shape = (self.sizes[-1], model.description.vocab_size)
        self._scores = torch.empty(shape, dtype=model.dtype, device=device)
        self._rows: list[_Row | None] = [None] * most
        self._num_used = 0
        self._recordings: dict[tuple[int, int], tuple[Callable[[], None], Outputs] | None] = {}

    @torch.inference_mode()
    def record_all(self) -> None:
        """Record the sizes, the small ones first, until the time for it is used up."""
        began = time.monotonic()
        bound = self._bound(1)
        for size in self.sizes:
            if time.monotonic() - began > START_BUDGET_S:
                logger.info("batches from %d on are recorded when they are first met", size)
                break
            if self._recording(size, bound) is None:
                break
        logger.info(
            "%d sizes of decode steps recorded in %.1f s",
            sum(recording is not None for recording in self._recordings.values()),
            time.monotonic() - began,
        )

    @torch.inference_mode()
    def is_right(self) -> bool:
        """Whether a replay gives what the same step gives without one, for any token."""
        size, bound = self.sizes[0], self._bound(1)
        recording = self._recording(size, bound)
        if recording is None:
            return True  # there is nothing to be wrong
        replay, (logits, _) = recording
        # It was recorded with the first one: another shows whether inputs are read at all.
        for token_id in (0, self._model.description.vocab_size // 2):
            self._vacate(token_id)
            expected = self._work(size, bound)()[0].clone()
            replay()
            if not is_same(logits, expected):
                return False
        return True

    @torch.inference_mode()
    def trial(self, recorder: Recorder) -> tuple[Callable[[], None], Tensor]:
        """Record the smallest size aside; return how to replay it, and where its scores are."""
        self._vacate()
        replay, (scores, _) = recorder.record(self._work(self.sizes[0], self._bound(1)))
        return replay, scores

    def can_run(self, plan: Plan) -> bool:
        """Whether `plan` is one new token each of a number of sequences that is recorded."""
        chunks = plan.chunks
        if len(chunks) > self.sizes[-1] or not all(
            chunk.end - chunk.start == 1 and chunk.samples and not chunk.images for chunk in chunks
        ):
            return False
        return self._recording(*self._key(chunks)) is not None

    def is_ready_for(self, plan: Plan) -> bool:
        """The same, if nothing had to be recorded first."""
        if len(plan.chunks) > self.sizes[-1] or self._key(plan.chunks) not in self._recordings:
            return False
        return self.can_run(plan)

    def run(
        self,
        chunks: Sequence[Chunk],
        positions: Sequence[np.ndarray],
        newest: Tensor | None = None,
    ) -> Outputs:
        """Queue the step; return scores and flags of the chunks' rows.

        Scores are valid until the next step, unless they are float32: others are widened anyway.
        `positions` `[..., S]` are those of all slots of each chunk's sequence, the same array in
        every step. `newest` `[S]` are the chunks' tokens, where only the device knows them. At most
        one step that was queued before may not have ended.
        """
        size, bound = self._key(chunks)
        recording = self._recording(size, bound)
        assert recording is not None, "only what can be run is run"
        number, block_size = len(chunks), self._pool.block_size
        slots = [chunk.start for chunk in chunks]
        host = self._hosts.pop()
        self._hosts.insert(0, host)
        numbers = host.numpy()
        if newest is None:
            numbers[_ID, :number] = [chunk.sequence.token(chunk.start) for chunk in chunks]
        numbers[_LENGTH, :number] = [slot + 1 for slot in slots]
        numbers[_SLOT, :number] = [
            chunk.blocks[slot // block_size] * block_size + slot % block_size
            for chunk, slot in zip(chunks, slots, strict=True)
        ]
        places = [own[..., slot] for own, slot in zip(positions, slots, strict=True)]
        numbers[_POSITION:, :number] = np.stack(places, axis=-1)
        self._fill_up(host, number, size)
        self._numbers.copy_(host, non_blocking=True)
        if newest is not None:
            self._numbers[_ID, :number].copy_(newest)
        self._follow(chunks, positions)
        replay, (logits, is_finite) = recording
        replay()
        scores = logits[:number]
        if scores.dtype == torch.float32:
            scores = scores.clone()
        return scores, is_finite[:number].clone()

    def _key(self, chunks: Sequence[Chunk]) -> tuple[int, int]:
        size = next(size for size in self.sizes if size >= len(chunks))
        return size, self._bound(max(chunk.end for chunk in chunks))

    def _bound(self, num_slots: int) -> int:
        return min(self._attention.graph_slots(num_slots), self._max_slots)

    def _vacate(self, token_id: int = 0) -> None:
        """Let all rows be nobody's, of that token."""
        host = self._hosts[0]
        self._fill_up(host, 0, host.shape[1])
        host[_ID] = token_id
        self._numbers.copy_(host)  # the host writes there again at once
        self._tables.fill_(self._nobodys_block)
        self._rows = [None] * len(self._rows)
        self._num_used = 0

    def _fill_up(self, host: Tensor, first: int, size: int) -> None:
        """Give the rows from `first` on the first slot of nobody's block."""
        numbers = host.numpy()
        numbers[:, first:size] = 0
        numbers[_LENGTH, first:size] = 1
        numbers[_SLOT, first:size] = self._nobodys_block * self._pool.block_size

    def _follow(self, chunks: Sequence[Chunk], positions: Sequence[np.ndarray]) -> None:
        """Bring the tables up to date, sending nothing but what has changed."""
        width = self._tables.shape[1]
        places: list[np.ndarray] = []
        blocks: list[int] = []
        for index, (chunk, own) in enumerate(zip(chunks, positions, strict=True)):
            row = self._rows[index]
            count = -(-chunk.end // self._pool.block_size)
            known = 0
            if row is not None and row.positions is own and row.generation == chunk.generation:
                known = min(row.count, count)
                if known == count:
                    continue
            self._rows[index] = _Row(own, chunk.generation, count)
            places.append(np.arange(index * width + known, index * width + count))
            blocks += chunk.blocks[known:count]
        if blocks:
            self._set(np.concatenate(places), blocks)
        for index in range(len(chunks), self._num_used):
            self._rows[index] = None
        if len(chunks) < self._num_used:
            # Rows that nobody fills any more must not point at blocks that others get.
            self._tables[len(chunks) : self._num_used].fill_(self._nobodys_block)
        self._num_used = len(chunks)

    def _set(self, places: np.ndarray, blocks: list[int]) -> None:
        device = self._tables.device
        where = pinned(torch.from_numpy(places), device).to(device, non_blocking=True)
        what = pinned(torch.tensor(blocks, dtype=torch.int32), device)
        self._tables.view(-1).index_copy_(0, where, what.to(device, non_blocking=True))

    def _recording(self, size: int, bound: int) -> tuple[Callable[[], None], Outputs] | None:
        key = (size, bound)
        if key not in self._recordings:
            self._vacate()  # recording computes steps, which must not touch anybody's keys
            try:
                self._recordings[key] = self._recorder.record(self._work(size, bound))
            except Exception as error:  # whatever a driver or a library may raise
                logger.warning(
                    "decode steps of %d are not recorded (%s: %s)",
                    size,
                    type(error).__name__,
                    error,
                )
                self._recordings[key] = None
        return self._recordings[key]

    def _work(self, size: int, bound: int) -> Callable[[], Outputs]:
        """Return one step of `size` rows, of at most `bound` slots each if that matters."""
        batch = PagedBatch(
            new_slots=self._numbers[_SLOT, :size],
            tables=self._tables[:size],
            lengths=self._numbers[_LENGTH, :size],
            first_rows=self._first_rows[: size + 1],
            num_decodes=size,
            max_new=1,
            max_slots=bound or self._max_slots,
        )
        axes = slice(_POSITION, None) if self._num_axes > 1 else _POSITION

        def work() -> Outputs:
            embeds = self._model.embed(self._numbers[_ID, :size].long())
            positions = self._numbers[axes][..., :size].long()
            hidden = self._model.forward_paged(embeds, positions, self._pool, batch)
            scores = self._scores[:size].copy_(self._model.logits(hidden))
            return scores, finite_rows(hidden)

        return work


def is_same(scores: Tensor, expected: Tensor) -> bool:
    """Whether two steps gave the same, libraries' choice of kernels aside."""
    scale = float(expected.abs().max()) + 1e-6
    return bool(((scores - expected).abs().max() <= REPLAY_TOLERANCE * scale).item())


def finite_rows(hidden: Tensor) -> Tensor:
    """Say for each row of `hidden` [T, D] whether it is free of NaN and infinity.

    Keys and values that are not finite show here, in the row that they belong to.
    """
    # NaN is no less either; `isfinite` would be four kernels.
    return hidden.sum(-1, dtype=torch.float32).abs() < math.inf

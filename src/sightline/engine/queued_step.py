"""A step that the device works on: what to wait for, and what then to make of it."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sightline.engine.contract import StepResult
from sightline.engine.pictures import BadEmbeddings, Encoding
from sightline.engine.plan import Chunk, Plan
from sightline.engine.sampler import BadLogits, Draws, Sampled, said
from sightline.models.transfer import DeviceClock, Fetch, to_device


class Repair(Protocol):
    """What has to be done where something was not finite."""

    def drop_pictures(self, keys: Iterable[bytes]) -> None: ...

    def compute_unguessed(self, chunk: Chunk) -> list[Sampled] | Exception: ...


class Drawn(NamedTuple):
    """What a step ends with: tokens, if any row samples, and of each row [T] whether it is finite.

    Both are on their way to the host.
    """

    draws: Draws | None
    is_finite: Tensor


class QueuedStep:
    """Implements `contract.Step`. `choose` queues its end; `clock` times the step."""

    def __init__(
        self,
        plan: Plan,
        choose: Callable[[], Drawn],
        encoding: Encoding | None,
        fetch: Fetch,
        clock: DeviceClock | None,
        clock_before: DeviceClock | None,
        *,
        repair: Repair,
    ) -> None:
        self._plan = plan
        self._choose = choose
        self._drawn: Drawn | None = None
        self._encoding = encoding
        self._fetch = fetch
        self._clock, self._clock_before = clock, clock_before
        self._repair = repair
        self.is_as_queued = False

    def draw(self) -> None:
        if self._drawn is None:
            self._drawn = self._choose()

    def leads_to(self, plan: Plan) -> bool:
        """Whether every chunk of `plan` goes on where one of this step samples its token.

        Steps of which a part may have to be repaired lead nowhere.
        """
        if self._drawn is None:
            return False
        if self._encoding is not None or any(chunk.guessed for chunk in self._plan.chunks):
            return False
        if plan.admitted or plan.preempted or plan.encoded or plan.evicted:
            return False
        ends = {c.sequence: (c.end, c.generation) for c in self._plan.chunks if c.samples}
        return all(
            not chunk.guessed
            and not chunk.images
            and chunk.copied_from is None
            and ends.get(chunk.sequence) == (chunk.end - 1, chunk.generation)
            for chunk in plan.chunks
        )

    def newest(self, plan: Plan) -> Tensor:
        """Return the tokens on the device that the chunks of `plan` begin with; see `leads_to`."""
        assert self._drawn is not None
        assert self._drawn.draws is not None
        ids = self._drawn.draws.ids
        sampled = (chunk.sequence for chunk in self._plan.chunks if chunk.samples)
        row_of = {sequence: row for row, sequence in enumerate(sampled)}
        rows = [row_of[chunk.sequence] for chunk in plan.chunks]
        if rows == list(range(len(rows))):
            return ids[: len(rows)]
        return ids.index_select(0, to_device(rows, torch.int64, ids.device))

    def result(self) -> StepResult:
        self.draw()
        assert self._drawn is not None
        draws, is_finite = self._drawn
        self._fetch.wait()
        result = StepResult()
        if self._clock is not None and self._clock_before is not None:
            result.gap_s = self._clock.since(self._clock_before)
        if self._encoding is not None:
            if bad := self._encoding.bad_keys():
                self._repair.drop_pictures(bad)
                raise BadEmbeddings
            result.num_encoded = self._encoding.num_encoded
            result.encode_s = self._encoding.seconds()
        sampled = iter(draws.results() if draws is not None else ())
        rows = iter(is_finite.tolist())
        for chunk in self._plan.chunks:
            are_finite = all(islice(rows, chunk.num_slots))
            outcomes = list(islice(sampled, 1 + len(chunk.guessed))) if chunk.samples else []
            if are_finite:
                result.outcomes[chunk.sequence] = said(chunk.guessed, outcomes)
            elif chunk.guessed:
                result.outcomes[chunk.sequence] = self._repair.compute_unguessed(chunk)
            else:
                result.outcomes[chunk.sequence] = BadLogits()
        self.is_as_queued = draws is None or draws.is_as_queued
        return result

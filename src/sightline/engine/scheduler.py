"""Who is computed next. No torch here: decisions are tested without a model.

Requests wait in order of arrival. One is admitted when a place is free and the slots of its whole
length can be reserved, so what runs cannot run out of memory; nobody overtakes the head of the
line, so a long request is not starved by short ones. Each turn gives every prefilled sequence one
decode step and spends about `prefill_chunk` prompt tokens on the others, oldest first. Chunks are
cut where they would be cut if the request were alone, so company cannot change a rounding.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from sightline.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """Prompt slots [start, end) of one sequence, to be computed now."""

    sequence: Sequence
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Turn:
    """The work of one turn. `admitted` sequences are new on the device."""

    admitted: tuple[Sequence, ...]
    decodes: tuple[Sequence, ...]
    prefills: tuple[PrefillChunk, ...]

    def __bool__(self) -> bool:
        return bool(self.decodes or self.prefills)


class Scheduler:
    """Keeps the waiting line, the running sequences, and the books of reserved slots."""

    def __init__(self, *, max_num_seqs: int, num_slots: int, prefill_chunk: int) -> None:
        self.num_slots = num_slots
        self.num_slots_used = 0
        self._max_num_seqs = max_num_seqs
        self._prefill_chunk = prefill_chunk
        self._waiting: deque[Sequence] = deque()
        self._running: dict[str, Sequence] = {}

    @property
    def running(self) -> tuple[str, ...]:
        """The ids of the running sequences, in order of admission."""
        return tuple(self._running)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    def add(self, sequence: Sequence) -> None:
        """Put `sequence` at the end of the line. It must fit the slots when it is alone."""
        assert sequence.slots <= self.num_slots, "refused before it came here"
        self._waiting.append(sequence)

    def plan(self) -> Turn:
        """Admit whoever fits and say what to compute now."""
        decodes = tuple(s for s in self._running.values() if s.is_prefilled)
        admitted = tuple(self._admit())
        return Turn(admitted=admitted, decodes=decodes, prefills=tuple(self._chunks()))

    def remove(self, request_id: str) -> Sequence | None:
        """Take a finished, failed or aborted sequence out; None if it is not known."""
        if sequence := self._running.pop(request_id, None):
            self.num_slots_used -= sequence.slots
            return sequence
        for sequence in self._waiting:
            if sequence.request_id == request_id:
                self._waiting.remove(sequence)
                return sequence
        return None

    def check_integrity(self) -> None:
        """Raise `AssertionError` if the reserved slots are not those of the running sequences."""
        assert self.num_slots_used == sum(s.slots for s in self._running.values())
        assert 0 <= self.num_slots_used <= self.num_slots
        assert len(self._running) <= self._max_num_seqs

    def _admit(self) -> Iterator[Sequence]:
        while self._waiting and len(self._running) < self._max_num_seqs:
            head = self._waiting[0]
            if self.num_slots_used + head.slots > self.num_slots:
                return
            self._running[head.request_id] = self._waiting.popleft()
            self.num_slots_used += head.slots
            yield head

    def _chunks(self) -> Iterator[PrefillChunk]:
        spent = 0
        for sequence in self._running.values():  # a dict keeps the order of admission
            if sequence.is_prefilled:
                continue
            start = sequence.num_computed
            end = min(len(sequence.prompt), start + self._prefill_chunk)
            if spent and spent + end - start > self._prefill_chunk:
                return
            spent += end - start
            yield PrefillChunk(sequence, start, end)

"""The work of one step, as the scheduler decided it. No torch here."""

from dataclasses import dataclass, replace

from sightline.core.prompt import ImageSpan
from sightline.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class NeededImage:
    """An image that overlaps a chunk; `key` names its embeddings on the device."""

    key: bytes
    span: ImageSpan


@dataclass(slots=True, eq=False)
class Chunk:
    """Slots [start, end) of one sequence, to be computed now: one for a decode, more for a prefill.

    `blocks` hold slots [0, end) and perhaps more. `samples` says that a token follows the last
    slot; `generation` is the sequence's when this was planned. `images` overlap the slots.
    A decode's last slots may stand for `guessed` tokens, which nobody has said yet: a token is
    then sampled behind every slot, and how many of them count is seen afterwards.
    If a block begins in front of `start`, its first slots are those of block `copied_from`, where
    that is not None: somebody else's, held until this has been computed.
    """

    sequence: Sequence
    start: int
    end: int
    blocks: list[int]
    samples: bool
    generation: int
    images: tuple[NeededImage, ...] = ()
    guessed: tuple[int, ...] = ()
    copied_from: int | None = None

    @property
    def num_slots(self) -> int:
        return self.end - self.start

    @property
    def is_decode(self) -> bool:
        num_known = self.num_slots - len(self.guessed)
        return num_known == 1 and self.start >= len(self.sequence.prompt)

    @property
    def token_ids(self) -> list[int]:
        """The ids in the slots, the guessed ones included."""
        known = self.sequence.tokens(self.start, self.end - len(self.guessed))
        return [*known, *self.guessed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One flattened batch: decodes first, then chunks of prefill, each in order of admission.

    `admitted` sequences run from this step on, `preempted` ones gave up their blocks for it.
    `encoded` are the images whose embeddings have to be computed; `evicted` keys of embeddings
    are to be dropped before that. `held_back` says what the head of the waiting line waits for.
    """

    chunks: tuple[Chunk, ...] = ()
    admitted: tuple[Sequence, ...] = ()
    preempted: tuple[Sequence, ...] = ()
    encoded: tuple[bytes, ...] = ()
    evicted: tuple[bytes, ...] = ()
    held_back: str = ""

    def __bool__(self) -> bool:
        return bool(self.chunks)

    @property
    def num_slots(self) -> int:
        return sum(chunk.num_slots for chunk in self.chunks)

    @property
    def num_decodes(self) -> int:
        return sum(chunk.is_decode for chunk in self.chunks)

    @property
    def num_guessed(self) -> int:
        return sum(len(chunk.guessed) for chunk in self.chunks)

    def without_ended(self) -> "Plan":
        """Return the plan without the chunks of sequences that have ended since it was made."""
        if not any(chunk.sequence.is_ended for chunk in self.chunks):
            return self
        return replace(self, chunks=tuple(c for c in self.chunks if not c.sequence.is_ended))

    def behind(self, dropped: "Plan") -> "Plan":
        """Return the plan, to be computed in the place of one of which nothing was left.

        Who was admitted or gave way for that one, and what was evicted, stays so.
        """
        return replace(
            self,
            admitted=dropped.admitted + self.admitted,
            preempted=dropped.preempted + self.preempted,
            evicted=dropped.evicted + self.evicted,
        )

    def halves(self) -> "tuple[Plan, Plan]":
        """Split the work in two. What was evicted has been dropped already."""
        middle = len(self.chunks) // 2
        return Plan(chunks=self.chunks[:middle]), Plan(chunks=self.chunks[middle:])

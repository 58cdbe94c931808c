"""A device that computes nothing but remembers what a real one would have in its memory.

The content of a slot is a chain of hashes over everything it depends on: all tokens up to it and
the pictures among them. Computing a chunk checks that every slot before it holds exactly what it
should, so a block that is shared by mistake, given away too early or read too late is noticed at
once. The next token is a function of the content: right answers mean right memory.
"""

import hashlib
import random
from collections.abc import Iterable
from itertools import count, zip_longest

from sightline.core.prompt import Image, ImageSpan
from sightline.core.sampling import SamplingParams
from sightline.engine.plan import Chunk, Plan
from sightline.engine.scheduler import Scheduler
from sightline.engine.sequence import Sequence

STOP = 0
_numbers = count()


def image(digest: bytes) -> Image:
    return Image(pixels=b"", width=1, height=1, digest=digest, original_width=1, original_height=1)


def sequence(
    prompt: Iterable[int],
    *,
    max_tokens: int = 5,
    images: Iterable[tuple[bytes, int, int]] = (),
    salt: bytes = b"",
    name: str | None = None,
) -> Sequence:
    """`images` are (digest, start, length)."""
    return Sequence(
        request_id=name or f"r{next(_numbers)}",
        prompt=tuple(prompt),
        images=tuple(ImageSpan(image=image(d), start=s, length=n) for d, s, n in images),
        params=SamplingParams(max_tokens=max_tokens, stop_token_ids=(STOP,)),
        seed=0,
        max_model_len=100_000,
        arrived_at=0.0,
        cache_salt=salt,
    )


def contents(asked: Sequence, tokens: Iterable[int]) -> list[bytes]:
    """What slots 0, 1, ... must hold when `tokens` stand in them."""
    held, chain = b"", []
    for slot, token in enumerate(tokens):
        for span in asked.images:
            if span.start <= slot < span.start + span.length:
                held += span.image.digest + bytes([slot - span.start])
        held = hashlib.blake2b(held + token.to_bytes(8, "little"), digest_size=8).digest()
        chain.append(held)
    return chain


def token_after(content: bytes) -> int:
    return content[0] % 37  # 0 is the stop token


def answer_alone(asked: Sequence) -> list[int]:
    """What must come out, by definition."""
    tokens = list(asked.prompt)
    while True:
        tokens.append(token_after(contents(asked, tokens)[-1]))
        if tokens[-1] == STOP or len(tokens) >= asked.max_slots:
            return tokens[len(asked.prompt) :]


class PretendDevice:
    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.num_computed = 0
        self.num_copied = 0
        self.num_encoded = 0
        self.num_guessed = self.num_right = 0
        self._slots: dict[tuple[int, int], bytes] = {}
        self._rows: dict[bytes, int] = {}

    def compute(self, plan: Plan) -> dict[Sequence, list[int]]:
        """Fill the slots of `plan`; return the tokens after each chunk that samples."""
        for key in plan.evicted:
            self._rows.pop(key, None)
        tokens = {}
        for chunk in plan.chunks:
            self._copy(chunk)
        for chunk in plan.chunks:
            self._encode(chunk)
            if said := self._fill(chunk):
                tokens[chunk.sequence] = said
        kept = sum(self._rows.values()) * self.scheduler._row_bytes
        assert kept <= self.scheduler.embeddings.max_bytes
        return tokens

    def _copy(self, chunk: Chunk) -> None:
        if chunk.copied_from is None:
            return
        target, length = divmod(chunk.start, self.scheduler.block_size)
        for place in range(self.scheduler.block_size):
            self._slots.pop((chunk.blocks[target], place), None)
        for place in range(length):
            copied = self._slots[chunk.copied_from, place]
            self._slots[chunk.blocks[target], place] = copied
        self.num_copied += length

    def _encode(self, chunk: Chunk) -> None:
        for needed in chunk.images:
            if needed.key not in self._rows:
                self._rows[needed.key] = needed.span.length
                self.num_encoded += 1
        keys = {needed.key for needed in chunk.images}
        for span in chunk.sequence.images:
            if span.start < chunk.end and chunk.start < span.start + span.length:
                assert chunk.sequence.cache_salt + span.image.digest in keys

    def _fill(self, chunk: Chunk) -> list[int]:
        size = self.scheduler.block_size
        before = chunk.sequence.tokens(0, chunk.start)
        wanted = contents(chunk.sequence, [*before, *chunk.token_ids])
        place = [(chunk.blocks[slot // size], slot % size) for slot in range(chunk.end)]
        for slot in range(chunk.start):
            assert self._slots[place[slot]] == wanted[slot], "a slot holds something else"
        for slot in range(chunk.start, chunk.end):
            self._slots[place[slot]] = wanted[slot]
        self.num_computed += chunk.num_slots
        if not chunk.samples:
            return []
        said = []
        for content, guess in zip_longest(wanted[-1 - len(chunk.guessed) :], chunk.guessed):
            said.append(token_after(content))
            if said[-1] != guess:
                break
        self.num_guessed += len(chunk.guessed)
        self.num_right += len(said) - 1
        return said


class Desk:
    """Drives a scheduler as the engine's loops do: plain, or planning one step ahead."""

    def __init__(self, scheduler: Scheduler, *, ahead: bool = False) -> None:
        self.scheduler = scheduler
        self.device = PretendDevice(scheduler)
        self.answers: dict[Sequence, list[int]] = {}
        self.live: dict[str, Sequence] = {}
        self.num_steps = 0
        self._ahead = ahead
        self._planned = Plan()
        self._admitted: set[Sequence] = set()

    def add(self, asked: Sequence) -> Sequence:
        assert self.scheduler.fits(asked)
        self.scheduler.add(asked)
        self.live[asked.request_id] = asked
        return asked

    def cancel(self, asked: Sequence) -> None:
        self.live.pop(asked.request_id, None)
        assert self.scheduler.remove(asked.request_id) is asked
        asked.is_ended = True

    def step(self) -> Plan:
        plan = self._planned.without_ended()
        if not plan:
            plan = self.scheduler.plan().behind(plan)
        self._planned = self.scheduler.plan() if self._ahead else Plan()
        self._admitted.update(plan.admitted)
        assert all(chunk.sequence in self._admitted for chunk in plan.chunks)
        tokens = self.device.compute(plan)
        for chunk in plan.chunks:
            self._settle(chunk, tokens)
        self.scheduler.check_integrity()
        self.num_steps += 1
        return plan

    def run(self, limit: int = 1_000) -> None:
        """Step until nobody is live."""
        idle = 0
        while self.live:
            idle = 0 if self.step() else idle + 1
            assert idle < 3, "there is work, but none is planned"
            assert self.num_steps < limit
        if self._planned:
            self.step()

    def _settle(self, chunk: Chunk, tokens: dict[Sequence, list[int]]) -> None:
        asked = chunk.sequence
        if asked.is_ended:
            return
        num_said = 0
        if chunk.samples:
            for token in tokens[asked]:
                asked.answer.append(token)
                num_said += 1
                if asked.finish_reason() is not None:
                    break
            asked.num_promised -= 1
        self.scheduler.settle(chunk, num_right=max(0, num_said - 1))
        if chunk.samples and asked.finish_reason() is not None:
            self.answers[asked] = asked.answer
            self.live.pop(asked.request_id)
            self.cancel(asked)
            asked.is_ended = True


def random_sequences(dice: random.Random, number: int, *, longest: int) -> list[Sequence]:
    """Requests that often share beginnings, pictures and tenants."""
    stems = [[dice.randrange(1, 30) for _ in range(longest)] for _ in range(2)]
    made = []
    for _ in range(number):
        stem = dice.choice(stems)[: dice.choice((0, longest // 5, longest // 2))]
        images: list[tuple[bytes, int, int]] = []
        tokens = [*stem]
        for _ in range(dice.choice((0, 0, 1, 1, 2))):
            length = dice.choice((4, 6))
            images.append((bytes([length, dice.randrange(2)]), len(tokens), length))
            tokens += [99] * length + [dice.randrange(1, 5)]
        tokens += [dice.randrange(1, 5) for _ in range(dice.randint(1, longest // 4))]
        made.append(
            sequence(
                tokens,
                max_tokens=dice.randint(1, longest // 2),
                images=images,
                salt=dice.choice((b"", b"", b"other")),
            )
        )
    return made

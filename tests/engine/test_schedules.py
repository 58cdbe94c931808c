"""Whatever is asked in whatever order: right memory, right answers, and books at zero.

`pretend_device` says what "right" means and notices the first slot that is not.
"""

import random
from collections import Counter
from collections.abc import Sequence as Items

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pretend_device import Desk, answer_alone, random_sequences, sequence

from sightline.engine.guesses import Guesses
from sightline.engine.scheduler import Scheduler
from sightline.engine.sequence import Sequence


class HalfRight(Guesses):
    """Guesses an answer that it knows, and is wrong now and then."""

    def __init__(self, dice: random.Random, answer: list[int]) -> None:
        super().__init__((), 8)
        self._dice = dice
        self._known = answer

    def width(self, num_said: int) -> int:
        return 8

    def after(self, answer: Items[int], width: int) -> tuple[int, ...]:
        end = len(answer) + self._dice.randint(0, width)
        return tuple(
            token if self._dice.random() < 0.8 else 36 for token in self._known[len(answer) : end]
        )


def random_scheduler(dice: random.Random, *, num_guesses: int) -> Scheduler:
    block_size = dice.choice((1, 2, 4, 8))
    return Scheduler(
        num_blocks=dice.randint(70, 140) // block_size,
        block_size=block_size,
        max_num_seqs=dice.choice((1, 2, 5, 16)),
        max_num_batched_tokens=dice.choice((1, 3, 8, 64)),
        embedding_cache_bytes=dice.choice((6, 8, 20)) * 3,
        row_bytes=3,
        prefix_caching=dice.random() < 0.8,
        num_guesses=num_guesses,
    )


def play(number: int) -> Counter[str]:
    """One random schedule with cancels; counts who gave way, copied slots, and guesses."""
    dice = random.Random(number)
    ahead = dice.random() < 0.5
    num_guesses = 0 if ahead else dice.choice((0, 3, 8))
    desk = Desk(random_scheduler(dice, num_guesses=num_guesses), ahead=ahead)
    to_come = random_sequences(dice, dice.randint(1, 12), longest=40)
    to_come = [asked for asked in to_come if desk.scheduler.fits(asked)]
    expected = {asked: answer_alone(asked) for asked in to_come}
    for asked, answer in expected.items():
        asked.guesses = HalfRight(dice, answer)
    cancelled = set()
    while to_come or desk.live:
        for _ in range(dice.choice((0, 0, 1, 3))):
            if to_come:
                desk.add(to_come.pop())
        if desk.live and dice.random() < 0.05:
            victim = dice.choice(list(desk.live.values()))
            cancelled.add(victim)
            desk.cancel(victim)
        desk.step()
        assert desk.num_steps < 5_000
    desk.step()
    for asked, answer in expected.items():
        assert asked in cancelled or desk.answers[asked] == answer, f"schedule {number}"
    scheduler = desk.scheduler
    assert (scheduler.num_running, scheduler.num_waiting) == (0, 0)
    assert (scheduler.num_slots_used, scheduler.embeddings.num_leases) == (0, 0)
    assert num_guesses or not desk.device.num_guessed
    return Counter(
        preempted=scheduler.num_preemptions,
        guessed=desk.device.num_guessed,
        right=desk.device.num_right,
        copied=desk.device.num_copied,
    )


def play_all(numbers: range) -> None:
    """That some gave way, some copied, and some guesses were right and some wrong, is the point."""
    seen = sum((play(number) for number in numbers), Counter[str]())
    assert seen["preempted"] > len(numbers) / 40
    assert seen["copied"] > len(numbers) / 4
    assert seen["guessed"] > seen["right"] * 1.2 > len(numbers)


def test_random_schedules_leave_right_answers_and_empty_books() -> None:
    play_all(range(250))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_ten_thousand_random_schedules() -> None:
    play_all(range(10_000))


class AnyOrder(RuleBasedStateMachine):
    """What hypothesis thinks of, in the order it thinks of it; failures are shrunk."""

    def __init__(self) -> None:
        super().__init__()
        self.desk: Desk | None = None
        self.expected: dict[Sequence, list[int]] = {}

    @precondition(lambda self: self.desk is None)
    @rule(
        num_blocks=st.integers(8, 20),
        block_size=st.integers(1, 4),
        max_num_seqs=st.integers(1, 6),
        budget=st.integers(1, 20),
        ahead=st.booleans(),
        num_guesses=st.sampled_from([0, 2, 7]),
    )
    def open(
        self,
        num_blocks: int,
        block_size: int,
        max_num_seqs: int,
        budget: int,
        ahead: bool,
        num_guesses: int,
    ) -> None:
        scheduler = Scheduler(
            num_blocks=num_blocks,
            block_size=block_size,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=budget,
            embedding_cache_bytes=6,
            num_guesses=0 if ahead else num_guesses,
        )
        self.desk = Desk(scheduler, ahead=ahead)

    @precondition(lambda self: self.desk is not None)
    @rule(
        stem=st.integers(0, 6),
        tail=st.lists(st.integers(1, 2), min_size=1, max_size=6),
        pictures=st.lists(st.sampled_from([(b"a", 3), (b"b", 4), (b"c", 3)]), max_size=2),
        max_tokens=st.integers(1, 8),
        salt=st.sampled_from([b"", b"x"]),
    )
    def ask(
        self,
        stem: int,
        tail: list[int],
        pictures: list[tuple[bytes, int]],
        max_tokens: int,
        salt: bytes,
    ) -> None:
        assert self.desk is not None
        tokens, images = [1] * stem, []
        for digest, length in pictures:
            images.append((digest, len(tokens), length))
            tokens += [99] * length
        asked = sequence([*tokens, *tail], max_tokens=max_tokens, images=images, salt=salt)
        if self.desk.scheduler.fits(asked):
            self.expected[asked] = answer_alone(asked)
            asked.guesses = HalfRight(random.Random(0), self.expected[asked])
            self.desk.add(asked)

    @precondition(lambda self: self.desk is not None)
    @rule()
    def step(self) -> None:
        assert self.desk is not None
        self.desk.step()

    @precondition(lambda self: self.desk is not None and self.desk.live)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        assert self.desk is not None
        victim = data.draw(st.sampled_from(list(self.desk.live.values())))
        del self.expected[victim]
        self.desk.cancel(victim)

    @invariant()
    def the_answers_so_far_are_right(self) -> None:
        if self.desk is not None:
            for asked, answer in self.desk.answers.items():
                assert answer == self.expected[asked]

    def teardown(self) -> None:
        if self.desk is not None:
            self.desk.run()
            assert self.desk.answers.keys() == self.expected.keys()
            assert self.desk.scheduler.num_slots_used == 0
            assert self.desk.scheduler.embeddings.num_leases == 0
            assert len(self.desk.scheduler._claims) == 0


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

"""Decisions, tested without a model."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.core.sampling import SamplingParams
from sightline.engine.scheduler import Scheduler, Turn
from sightline.engine.sequence import Sequence


def sequence(name: str, num_prompt: int = 10, max_tokens: int = 5) -> Sequence:
    return Sequence(
        request_id=name,
        prompt=(0,) * num_prompt,
        images=(),
        params=SamplingParams(max_tokens=max_tokens),
        seed=0,
        max_model_len=1000,
        arrived_at=0.0,
    )


def scheduler(*, max_num_seqs: int = 8, num_slots: int = 1000, chunk: int = 16) -> Scheduler:
    return Scheduler(max_num_seqs=max_num_seqs, num_slots=num_slots, prefill_chunk=chunk)


def compute(turn: Turn) -> None:
    for chunk in turn.prefills:
        chunk.sequence.num_computed = chunk.end


def names(sequences: tuple[Sequence, ...]) -> list[str]:
    return [s.request_id for s in sequences]


def test_requests_are_admitted_in_order_of_arrival() -> None:
    book = scheduler(max_num_seqs=2)
    for name in "abc":
        book.add(sequence(name))
    assert names(book.plan().admitted) == ["a", "b"]
    book.remove("a")
    assert names(book.plan().admitted) == ["c"]


def test_a_request_is_admitted_only_when_its_whole_length_fits() -> None:
    book = scheduler(num_slots=40)
    book.add(sequence("a", 10, 20))
    book.add(sequence("b", 10, 1))
    assert names(book.plan().admitted) == ["a"]
    book.remove("a")
    assert names(book.plan().admitted) == ["b"]


def test_nobody_overtakes_the_head_of_the_line() -> None:
    book = scheduler(num_slots=40)
    for arrival in (sequence("a", 20, 10), sequence("long", 30, 10), sequence("short", 1, 1)):
        book.add(arrival)
    assert names(book.plan().admitted) == ["a"]
    assert names(book.plan().admitted) == []


def test_a_long_prompt_is_computed_in_chunks_while_others_decode() -> None:
    book = scheduler(chunk=16)
    book.add(sequence("short", 4))
    compute(book.plan())
    book.add(sequence("long", 40))
    cuts = []
    for _ in range(3):
        turn = book.plan()
        assert names(turn.decodes) == ["short"]
        cuts += [(chunk.start, chunk.end) for chunk in turn.prefills]
        compute(turn)
    assert cuts == [(0, 16), (16, 32), (32, 40)]


def test_a_turn_spends_one_chunk_of_prompt_tokens() -> None:
    book = scheduler(chunk=16)
    for name in "abcd":
        book.add(sequence(name, 6))
    assert [c.sequence.request_id for c in book.plan().prefills] == ["a", "b"]


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=8))
def test_company_does_not_move_the_cuts_of_a_prompt(lengths: list[int]) -> None:
    book = scheduler(chunk=16)
    for number, length in enumerate(lengths):
        book.add(sequence(str(number), length))
    cuts: dict[str, list[tuple[int, int]]] = {}
    while turn := book.plan():
        for chunk in turn.prefills:
            cuts.setdefault(chunk.sequence.request_id, []).append((chunk.start, chunk.end))
        compute(turn)
        if not turn.prefills:
            break
    for number, length in enumerate(lengths):
        alone = [(start, min(start + 16, length)) for start in range(0, length, 16)]
        assert cuts[str(number)] == alone


def test_removing_a_stranger_is_harmless() -> None:
    assert scheduler().remove("nobody") is None


def test_a_waiting_request_can_be_removed() -> None:
    book = scheduler(max_num_seqs=1)
    for name in "abc":
        book.add(sequence(name))
    book.plan()
    assert book.remove("b") is not None
    book.remove("a")
    assert names(book.plan().admitted) == ["c"]


@settings(deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 60), st.integers(1, 40)),
            st.tuples(st.just("remove"), st.integers(0, 30), st.just(0)),
            st.tuples(st.just("plan"), st.just(0), st.just(0)),
        ),
        max_size=60,
    )
)
def test_the_books_add_up_after_anything(steps: list[tuple[str, int, int]]) -> None:
    book = scheduler(max_num_seqs=3, num_slots=100)
    known: list[str] = []
    for step, a, b in steps:
        if step == "add":
            known.append(str(len(known)))
            book.add(sequence(known[-1], a, b))
        elif step == "remove" and known:
            book.remove(known[a % len(known)])
        else:
            compute(book.plan())
        book.check_integrity()
    for name in known:
        book.remove(name)
    book.check_integrity()
    assert (book.num_running, book.num_waiting, book.num_slots_used) == (0, 0, 0)


def test_books_that_do_not_add_up_are_noticed() -> None:
    book = scheduler()
    book.add(sequence("a"))
    book.plan()
    book.num_slots_used += 1
    with pytest.raises(AssertionError):
        book.check_integrity()

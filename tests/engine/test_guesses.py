"""Guessed tokens: found where they were said before, checked by the model, never heard."""

import random
from pathlib import Path

import pytest
import torch
from engine_bench import NUM_TOKENS, Bench, ask, bench
from hypothesis import given
from hypothesis import strategies as st

from sightline.core.engine import TokenLogprobs
from sightline.core.wire import Generate
from sightline.engine import guesses
from sightline.engine.guesses import LEAST_PAUSE, Guesses
from sightline.engine.sampler import BadLogits, Sampled, said
from sightline.models.loading import LoadedModel, load_model

pytestmark = pytest.mark.usefixtures("one_thread")


def test_what_followed_the_last_time_is_guessed() -> None:
    assert Guesses([1, 2, 3, 4, 5, 6, 9, 1, 2, 3], 8).after([], 2) == (4, 5)
    assert Guesses([1, 2, 3, 4], 8).after([9, 1, 2, 3], 3) == (4, 9, 1)
    assert Guesses([1, 2, 3, 7, 1, 2, 3, 8], 8).after([1, 2, 3], 1) == (8,)


def test_what_goes_round_goes_on_going_round() -> None:
    assert Guesses([5], 8).after([5, 5, 5], 3) == (5, 5, 5)
    assert Guesses([], 8).after([1, 2, 1, 2, 1], 3) == (2, 1, 2)


def test_nothing_is_guessed_where_nothing_is_known() -> None:
    assert Guesses([1, 2, 3], 8).after([4, 5], 3) == ()
    assert Guesses([], 8).after([], 3) == ()
    assert Guesses([5] * 9, 8).after([5, 5], 0) == ()


def test_tokens_are_told_apart_from_the_bytes_of_their_neighbours() -> None:
    # 0x01000000 0 0 1 | 0 0 1: three bytes off, the bytes of the last three stand earlier.
    assert Guesses([7, 0x0100_0000, 0, 0, 0x0100_0000], 8).after([0, 0, 0x0001_0000], 3) == ()


def test_good_guesses_grow_longer_and_bad_ones_are_given_up_for_a_while() -> None:
    guess = Guesses([5] * 10, 7)
    widths = [guess.width(3)]
    for num_right in (3, 7, 2, 0):
        guess.learn(widths[-1], num_right, 10)
        widths.append(guess.width(10))
    assert widths == [3, 7, 7, 3, 1]
    guess.learn(1, 0, 11)
    assert guess.width(10 + LEAST_PAUSE) == 0
    assert guess.width(11 + LEAST_PAUSE) == 1


@given(
    prompt=st.lists(st.integers(0, 3), max_size=30),
    answer=st.lists(st.integers(0, 3), max_size=30),
    most=st.integers(0, 9),
)
def test_guesses_are_what_a_plain_search_finds(
    prompt: list[int], answer: list[int], most: int
) -> None:
    """Also when the answer comes token by token."""
    guess = Guesses(prompt, 9)
    for end in range(len(answer) + 1):
        found = guess.after(answer[:end], most)
        everything = prompt + answer[:end]
        newest, length = everything[-3:], len(everything)
        places = [n for n in range(length - 3) if everything[n : n + 3] == newest]
        if not places or most == 0 or length < 3:
            assert found == ()
            continue
        for token in found:
            assert token == everything[places[-1] + 3 + len(everything) - length]
            everything.append(token)
        assert len(found) == most


def test_what_follows_a_wrong_guess_is_not_said() -> None:
    tokens = [Sampled(n) for n in (4, 5, 6)]
    assert said([4, 5], tokens) == tokens
    assert said([4, 9], tokens) == tokens[:2]
    assert said([9, 5], tokens) == tokens[:1]
    assert said([], tokens[:1]) == tokens[:1]
    assert said([], []) == []


def test_a_failure_behind_a_guess_waits_until_it_is_met_without_one() -> None:
    failure = BadLogits()
    assert said([4, 5], [Sampled(4), failure]) == [Sampled(4)]
    assert said([9, 5], [Sampled(4), failure]) == [Sampled(4)]
    assert said([4], [failure, Sampled(4)]) is failure


@pytest.fixture(scope="module")
def loaded(tiny_folder: Path) -> LoadedModel:
    return load_model(tiny_folder, device="cpu", dtype="float32")


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """One equal token is enough for a guess, and no guess is ever too bad."""
    monkeypatch.setattr(guesses, "NUM_EQUAL", 1)
    monkeypatch.setattr(guesses, "LEAST_PAUSE", 0)
    monkeypatch.setattr(guesses, "LONGEST_PAUSE", 0)


def requests() -> list[Generate]:
    """Greedy and drawn, with penalties, biases, stop tokens and likelihoods."""
    dice = random.Random(3)
    kinds: list[dict[str, object]] = [
        {},
        {"logprobs": 3},
        {"temperature": 0.7, "seed": 5, "logprobs": 1},
        {"temperature": 1.0, "seed": 6, "top_p": 0.8, "top_k": 20},
        {"repetition_penalty": 1.2},
        {"presence_penalty": 0.6, "frequency_penalty": 0.4, "logit_bias": ((11, 3.0),)},
        {"stop": (7, 30)},
    ]
    made = []
    for number in range(21):
        ids = [dice.randrange(12) for _ in range(dice.randint(1, 60))]
        made.append(
            ask(f"r{number}", *ids, max_tokens=dice.randint(1, 70), **kinds[number % len(kinds)])  # type: ignore[arg-type]
        )
    return made


def answers(desk: Bench, asked: list[Generate]) -> list[tuple[list[int], list[TokenLogprobs], str]]:
    for message in asked:
        desk.loop.submit(message)
    names = [message.request_id for message in asked]
    desk.wait(*names)
    return [(desk.tokens[name], desk.logprobs[name], desk.reasons[name]) for name in names]


@pytest.fixture(scope="module")
def unguessed(loaded: LoadedModel) -> list[tuple[list[int], list[TokenLogprobs], str]]:
    with bench(loaded, num_speculative_tokens=0, max_num_batched_tokens=512) as desk:
        found = answers(desk, requests())
        assert desk.wait_until_idle().stats.num_guessed == 0
    return found


@pytest.mark.engine
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("together", [1, 2, 5, 21])
def test_guesses_change_nothing_but_the_number_of_steps(
    loaded: LoadedModel,
    unguessed: list[tuple[list[int], list[TokenLogprobs], str]],
    together: int,
) -> None:
    asked = requests()
    with bench(loaded, max_num_batched_tokens=64, max_num_seqs=together) as desk:
        found = answers(desk, asked)
        stats = desk.wait_until_idle().stats
    assert found == unguessed
    assert stats.num_output_tokens == sum(len(tokens) for tokens, _, _ in found)
    assert stats.num_guessed > stats.num_guessed_right > (100 if together < 5 else 10)
    assert stats.kv_slots_used == 0


@pytest.mark.engine
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("block_size", [1, 3, 16])
def test_guesses_and_preemption_and_a_small_cache_change_nothing(
    loaded: LoadedModel,
    unguessed: list[tuple[list[int], list[TokenLogprobs], str]],
    block_size: int,
) -> None:
    block_bytes = loaded.model.allocate_pool(1, block_size).size_bytes
    with bench(
        loaded,
        block_size=block_size,
        kv_cache_memory=-(-200 // block_size) * block_bytes,
        max_num_batched_tokens=32,
        max_num_seqs=5,
    ) as desk:
        assert answers(desk, requests()) == unguessed
        stats = desk.wait_until_idle().stats
    assert stats.num_preemptions > 0
    assert stats.num_guessed_right > 20


@pytest.mark.engine
def test_an_answer_that_goes_round_takes_fewer_steps(loaded: LoadedModel) -> None:
    """A bias makes the model say one thing over and over."""
    loop = ask("loop", 1, 2, 3, max_tokens=60, logit_bias=((40, 100.0),))
    with bench(loaded) as desk:
        assert answers(desk, [loop])[0][0] == [40] * 60
        assert len(desk.steps["loop"]) < 20


@pytest.mark.engine
@pytest.mark.usefixtures("eager")
def test_a_guess_that_the_model_cannot_compute_harms_nobody(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token whose embedding is NaN is guessed now and then."""
    poison = 200
    weight = next(
        parameter
        for name, parameter in loaded.model.named_parameters()  # type: ignore[attr-defined]
        if parameter.shape[0] >= NUM_TOKENS and parameter.dim() == 2
    )
    asked = ask("a", 1, 2, 3, max_tokens=50)
    with bench(loaded, num_speculative_tokens=0) as desk:
        (expected,) = answers(desk, [asked])
    before = weight[poison].clone()
    original = Guesses.after
    with torch.no_grad():
        weight[poison] = torch.nan

    def poisoned(self: Guesses, answer: list[int], most: int) -> tuple[int, ...]:
        guessed = original(self, answer, most)
        return (*guessed[:-1], poison) if len(answer) % 3 == 0 and guessed else guessed

    monkeypatch.setattr(Guesses, "after", poisoned)
    try:
        with bench(loaded) as desk:
            found = answers(desk, [asked])
            stats = desk.wait_until_idle().stats
    finally:
        with torch.no_grad():
            weight[poison] = before
    assert found == [expected]
    assert stats.num_guessed > stats.num_guessed_right > 0

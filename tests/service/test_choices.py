"""Several choices of one prompt, and the likelihoods of what is shown of them."""

import asyncio
from typing import Any

import pytest

from sightline.backends.fake import FakeEngine, Reply
from sightline.core.chat import ChatDelta
from sightline.core.errors import InternalError


def ask(world, *content: Any, **settings: Any) -> list[ChatDelta]:
    async def run() -> list[ChatDelta]:
        deltas: list[ChatDelta] = await world.ask(*content, **settings)
        world.assert_idle()
        return deltas

    return asyncio.run(run())


def texts(deltas: list[ChatDelta]) -> dict[int, str]:
    """Return the text of each choice."""
    result: dict[int, str] = {}
    for delta in deltas:
        result[delta.index] = result.get(delta.index, "") + delta.text
    return result


def test_every_choice_has_its_own_text_and_its_own_end(kit) -> None:
    engine = FakeEngine([Reply(["\none"]), Reply(["\ntwo"]), Reply(["\nthree"])])
    deltas = ask(kit.world(engine), "count", n=3)
    assert sorted(texts(deltas).values()) == ["one", "three", "two"]
    assert sorted(d.index for d in deltas if d.finish_reason) == [0, 1, 2]


def test_the_prompt_counts_once_and_the_answers_together(kit) -> None:
    engine = FakeEngine([Reply(["\na"]), Reply(["\nbb"])])
    deltas = ask(kit.world(engine), "count", n=2)
    usages = [delta.usage for delta in deltas if delta.usage is not None]
    assert deltas[-1].usage is usages[-1]
    assert len(usages) == 1
    assert usages[0].completion_tokens == 3 + 4
    assert usages[0].prompt_tokens == len(engine.requests[0].prompt.token_ids)


def test_choice_i_draws_with_the_seed_and_i(kit) -> None:
    engine = FakeEngine()
    ask(kit.world(engine), "hi", n=3, seed=40)
    assert sorted(r.params.seed for r in engine.requests if r.params.seed) == [40, 41, 42]


def test_without_a_seed_no_choice_has_one(kit) -> None:
    engine = FakeEngine()
    ask(kit.world(engine), "hi", n=3)
    assert [request.params.seed for request in engine.requests] == [None] * 3


def test_the_others_wait_until_the_first_prompt_is_computed(kit) -> None:
    async def run() -> None:
        gate = asyncio.Event()
        engine = FakeEngine([Reply([gate, "\none"]), Reply(["\ntwo"])])
        world = kit.world(engine)
        asking = asyncio.ensure_future(world.ask("hi", n=2))
        await world.service.vocabulary()  # loaded in a thread, which no number of turns awaits
        await kit.settle(60)
        assert len(engine.requests) == 1
        gate.set()
        await asking
        assert len(engine.requests) == 2

    asyncio.run(run())


def test_one_choice_that_fails_ends_all_and_leaves_nothing(kit) -> None:
    async def run() -> None:
        forever = asyncio.Event()
        engine = FakeEngine([Reply(["\none", forever]), Reply(error=InternalError())])
        world = kit.world(engine)
        with pytest.raises(InternalError):
            await world.ask("hi", n=2)
        await kit.settle()
        world.assert_idle()

    asyncio.run(run())


def test_a_reader_who_leaves_ends_all_choices(kit) -> None:
    async def run() -> None:
        forever = asyncio.Event()
        engine = FakeEngine([Reply(["\none", forever]), Reply(["\ntwo", forever])])
        world = kit.world(engine)
        answer = await world.service.start(kit.request("hi", n=2))
        await anext(answer)
        await answer.aclose()
        await kit.settle()
        world.assert_idle()
        assert {request.outcome for request in engine.requests} <= {"aborted"}

    asyncio.run(run())


def shown(deltas: list[ChatDelta]) -> bytes:
    return b"".join(token.raw for delta in deltas for token in delta.logprobs)


def test_likelihoods_are_told_of_what_is_shown(kit) -> None:
    deltas = ask(kit.world(FakeEngine([Reply(["\n中a"])])), "hi", logprobs=2)
    assert shown(deltas) == "中a".encode()
    token = next(token for delta in deltas for token in delta.logprobs)
    assert token.logprob == -0.5
    assert [other.logprob for other in token.top] == [-0.5, -1.5]


def test_control_tokens_have_a_name_and_no_bytes(kit) -> None:
    deltas = ask(kit.world(FakeEngine([Reply([[10, 255, 254, 97]])])), "hi", logprobs=9)
    names = {other.text for d in deltas for token in d.logprobs for other in token.top}
    assert "<|user|>" in names


@pytest.mark.parametrize("pieces", [["\nab END cd"], list("\nab END cd")])
def test_likelihoods_of_text_cut_off_by_a_stop_string_are_not_told(kit, pieces) -> None:
    deltas = ask(kit.world(FakeEngine([Reply(pieces)])), "hi", logprobs=0, stop=("END",))
    assert shown(deltas) == b"ab "


def test_nobody_asked_nobody_is_told(kit) -> None:
    assert all(not delta.logprobs for delta in ask(kit.world(), "hi"))

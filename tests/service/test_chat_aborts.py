"""Whoever leaves, whenever they leave, nothing stays behind."""

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.backends.fake import FakeEngine, Reply


async def leave_at(kit, world, stage: str) -> None:
    """Start a request, get it to `stage`, and cancel it there."""
    task = asyncio.create_task(world.ask("what?", kit.image()))
    await kit.settle()
    assert not task.done(), stage
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    world.assert_idle()
    assert kit.joined(await world.ask("next")) == "next"


def test_while_the_tokenizer_loads(kit) -> None:
    async def scenario() -> None:
        loop, loading = asyncio.get_running_loop(), asyncio.Event()
        may_load = threading.Event()

        def load(path):
            loop.call_soon_threadsafe(loading.set)
            may_load.wait(10)
            return kit.ByteTokenizer(path)

        world = kit.world()
        world.service._load_tokenizer = load
        task = asyncio.create_task(world.ask("what?"))
        await loading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        world.assert_idle()
        may_load.set()
        assert kit.joined(await world.ask("next")) == "next"

    asyncio.run(scenario())


def test_while_images_are_loaded(kit) -> None:
    async def scenario() -> None:
        world = kit.world(pictures=kit.Pictures(before=asyncio.Event().wait))
        await world.service.prepare()
        await leave_at(kit, world, "images")

    asyncio.run(scenario())


def test_while_waiting_for_the_first_text(kit) -> None:
    async def scenario() -> None:
        world = kit.world(FakeEngine([Reply(["\n", asyncio.Event()])]))
        await world.service.prepare()
        await leave_at(kit, world, "prefill")
        assert world.engine.requests[0].outcome == "aborted"

    asyncio.run(scenario())


def test_in_the_middle_of_the_answer(kit) -> None:
    async def scenario() -> None:
        world = kit.world(FakeEngine([Reply(["half ", asyncio.Event()])]))
        await world.service.prepare()
        await leave_at(kit, world, "decode")
        assert world.engine.requests[0].outcome == "aborted"

    asyncio.run(scenario())


def test_while_waiting_for_a_permit(kit) -> None:
    async def scenario() -> None:
        gate = asyncio.Event()
        world = kit.world(FakeEngine([Reply(["first", gate])]), max_running=1)
        await world.service.prepare()
        first = asyncio.create_task(world.ask("first"))
        await kit.settle()
        second = asyncio.create_task(world.ask("second"))
        await kit.settle()
        assert world.service.admission.num_waiting == 1
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert world.service.admission.num_waiting == 0
        gate.set()
        await first
        world.assert_idle()

    asyncio.run(scenario())


def test_closing_an_answer_before_reading_it(kit) -> None:
    async def scenario() -> None:
        world = kit.world(FakeEngine([Reply(["half ", asyncio.Event()])]))
        answer = await world.service.start(kit.request("hi"))
        assert world.service.admission.num_running == 1
        await answer.aclose()
        world.assert_idle()
        assert world.engine.requests[0].outcome == "aborted"
        await answer.aclose()
        assert [delta async for delta in answer] == []

    asyncio.run(scenario())


def test_closing_an_answer_that_was_over_at_once(kit) -> None:
    async def scenario() -> None:
        world = kit.world(FakeEngine([Reply([])]))
        answer = await world.service.start(kit.request("hi"))
        await answer.aclose()
        world.assert_idle()

    asyncio.run(scenario())


def test_the_permit_is_back_when_the_last_delta_is_read(kit) -> None:
    async def scenario() -> None:
        world = kit.world()
        answer = await world.service.start(kit.request("hi"))
        async for delta in answer:
            assert (world.service.admission.num_running == 0) == (delta.finish_reason is not None)

    asyncio.run(scenario())


class Stubborn(FakeEngine):
    """An engine that fails while it is being closed."""

    async def generate(self, prompt, params, request_id):
        try:
            async for delta in super().generate(prompt, params, request_id):
                yield delta
        finally:
            raise OSError("socket gone")


def test_an_engine_that_fails_to_abort_keeps_no_permit(kit) -> None:
    async def scenario() -> None:
        world = kit.world(Stubborn([Reply(["half ", asyncio.Event()])]))
        answer = await world.service.start(kit.request("hi"))
        with pytest.raises(OSError, match="socket gone"):
            await answer.aclose()
        assert world.service.admission.num_running == 0

    asyncio.run(scenario())


@settings(max_examples=50, deadline=None)
@given(
    plans=st.lists(
        st.tuples(st.integers(0, 30), st.booleans(), st.booleans()), min_size=1, max_size=12
    ),
    max_running=st.integers(1, 3),
)
def test_random_cancels_leave_exactly_nothing(kit, plans, max_running) -> None:
    """Each request is cancelled after some turns of the loop, if it still runs by then."""

    async def scenario() -> None:
        pictures = kit.Pictures(before=lambda: kit.settle(3))
        world = kit.world(pictures=pictures, max_running=max_running)
        await world.service.prepare()

        async def visit(turns: int, has_image: bool, stops: bool) -> None:
            content = ["hello", *([kit.image()] if has_image else [])]
            task = asyncio.create_task(world.ask(*content, stop=("ll",) if stops else ()))
            await kit.settle(turns)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        await asyncio.gather(*(visit(*plan) for plan in plans))
        world.assert_idle()
        assert kit.joined(await world.ask("canary")) == "canary"

    asyncio.run(scenario())

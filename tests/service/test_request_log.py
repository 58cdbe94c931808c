"""What is noted of a request: numbers and names, never content."""

import asyncio
import re
from typing import Any

import pytest

from sightline.backends.fake import FakeEngine, Reply
from sightline.core.errors import InternalError, RequestError
from sightline.service.request_log import Facts


async def ask(world: Any, request: Any, facts: Facts) -> None:
    async for _ in await world.service.start(request, facts=facts):
        pass


def test_a_finished_request_leaves_numbers_and_no_content(kit) -> None:
    world = kit.world(FakeEngine([Reply(["\nsecret answer"])]))
    facts: Facts = {}
    asyncio.run(ask(world, kit.request("secret question", kit.image("secret.png")), facts))
    assert facts["finish_reason"] == "stop"
    assert facts["model"] == "sightline-fake"
    assert facts["text_tokens"] == len("\nsecret question") + 4
    assert facts["image_tokens"] == 18
    assert facts["completion_tokens"] == len("\nsecret answer") + 1
    assert facts["images"] == 1
    assert re.fullmatch("[0-9a-f]{8}", str(facts["digests"]))
    for name in ("queue_s", "layout_s", "media_s", "ttft_s", "engine_prefill_s"):
        assert float(facts[name]) >= 0
    assert "secret" not in str(facts)


def test_a_refused_request_leaves_no_finish_reason(kit) -> None:
    facts: Facts = {}
    with pytest.raises(RequestError):
        asyncio.run(ask(kit.world(), kit.request("hi", model="nope"), facts))
    assert facts == {"model": "sightline-fake"}


def test_an_answer_that_failed_was_not_abandoned(kit) -> None:
    world = kit.world(FakeEngine([Reply(["half"], error=InternalError())]))
    facts: Facts = {}
    with pytest.raises(InternalError):
        asyncio.run(ask(world, kit.request("hi"), facts))
    assert not {"finish_reason", "abandoned"} & facts.keys()


def test_a_client_that_left_is_noted(kit) -> None:
    closed: Facts = {}
    cancelled: Facts = {}

    async def scenario() -> None:
        world = kit.world(FakeEngine([Reply(["half", asyncio.Event()])] * 2))
        answer = await world.service.start(kit.request("hi"), facts=closed)
        await answer.aclose()
        task = asyncio.create_task(ask(world, kit.request("hi"), cancelled))
        await kit.settle()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    assert closed["abandoned"] is True
    assert cancelled["abandoned"] is True

"""One line per request: numbers and names, never content."""

import asyncio
import logging
import re

import pytest

from sightline.backends.fake import FakeEngine, Reply
from sightline.core.errors import InternalError, RequestError


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.DEBUG, logger="sightline")
    return lambda: [record.getMessage() for record in caplog.records]


def facts(line: str) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S+)", line))


def test_a_finished_request_is_one_line_of_numbers(kit, lines) -> None:
    world = kit.world(FakeEngine([Reply(["\nsecret answer"])]))
    asyncio.run(world.ask("secret question", kit.image("secret.png")))
    (line,) = lines()
    fact = facts(line)
    assert fact["id"] == "r-1"
    assert fact["outcome"] == "stop"
    assert fact["model"] == "sightline-fake"
    assert fact["text_tokens"] == str(len("\nsecret question") + 4)
    assert fact["image_tokens"] == "18"
    assert fact["completion_tokens"] == str(len("\nsecret answer") + 1)
    assert fact["images"] == "1"
    assert re.fullmatch("[0-9a-f]{8}", fact["digests"])
    for name in ("queue_s", "layout_s", "media_s", "ttft_s", "total_s", "engine_prefill_s"):
        assert float(fact[name]) >= 0
    assert "secret" not in line


def test_a_refused_request_says_why(kit, lines) -> None:
    with pytest.raises(RequestError):
        asyncio.run(kit.world().ask("hi", model="nope"))
    (line,) = lines()
    assert facts(line)["outcome"] == "model_not_found"
    assert "nope" not in line


def test_a_failed_answer_says_so_once(kit, lines) -> None:
    world = kit.world(FakeEngine([Reply(["half"], error=InternalError())]))
    with pytest.raises(InternalError):
        asyncio.run(world.ask("hi"))
    assert [facts(line)["outcome"] for line in lines()] == ["internal_error"]


def test_a_client_that_left_is_noted(kit, lines) -> None:
    async def scenario() -> None:
        world = kit.world(FakeEngine([Reply(["half", asyncio.Event()])] * 2))
        answer = await world.service.start(kit.request("hi"))
        await answer.aclose()
        task = asyncio.create_task(world.ask("hi"))
        await kit.settle()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    assert [facts(line)["outcome"] for line in lines()] == ["abandoned", "abandoned"]


def test_a_request_id_cannot_forge_a_line(kit, lines) -> None:
    asyncio.run(kit.world().ask("hi", request_id="a\nchat id=b outcome=stop" + "x" * 100))
    (line,) = lines()
    assert "\n" not in line
    assert len(facts(line)["id"]) <= 64

"""A few long prompts fill the queue as many short ones do."""

import asyncio

import pytest

from sightline.core.errors import Overloaded
from sightline.service.admission import Admission


@pytest.fixture
def gate() -> Admission:
    return Admission(
        max_running=8, max_waiting=8, queue_timeout_s=60.0, uniform=lambda low, high: 1.0
    )


def test_prompts_stand_in_line_up_to_the_limit(gate: Admission) -> None:
    with gate.line(60, max_tokens=100), gate.line(40, max_tokens=100):
        with pytest.raises(Overloaded, match="100 tokens waiting, limit 100") as refused:
            gate.line(1, max_tokens=100).__enter__()
        assert refused.value.code == "queue_full"
        assert gate.num_tokens_in_line == 100
    assert gate.num_tokens_in_line == 0


def test_the_first_token_frees_the_place_and_the_end_frees_it_only_once(gate: Admission) -> None:
    with gate.line(60, max_tokens=100) as place:
        place.leave()
        assert gate.num_tokens_in_line == 0
        with gate.line(100, max_tokens=100):
            place.leave()
            assert gate.num_tokens_in_line == 100
    assert gate.num_tokens_in_line == 0


def test_one_that_stands_alone_is_never_refused(gate: Admission) -> None:
    with gate.line(1000, max_tokens=100):
        assert gate.num_tokens_in_line == 1000


def test_a_cancelled_request_gives_its_place_back(gate: Admission) -> None:
    async def scenario() -> None:
        async def wait() -> None:
            with gate.line(5, max_tokens=10):
                await asyncio.Event().wait()

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        assert gate.num_tokens_in_line == 5
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert gate.num_tokens_in_line == 0

    asyncio.run(scenario())

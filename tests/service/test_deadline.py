"""One clock for a whole answer: it ends what waits, and nobody else's cancellation is its own."""

import asyncio

import pytest

from sightline.core.errors import GenerationTimeout
from sightline.service.deadline import Deadline


def test_a_block_that_waits_too_long_is_ended():
    async def scenario() -> None:
        deadline = Deadline(0.01)
        with pytest.raises(GenerationTimeout, match=r"after 0\.01 s"):
            async with deadline.enforce():
                await asyncio.Event().wait()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    asyncio.run(scenario())


def test_the_time_runs_between_blocks_too():
    async def scenario() -> None:
        deadline = Deadline(0.01)
        async with deadline.enforce():
            pass
        await asyncio.sleep(0.05)
        with pytest.raises(GenerationTimeout):
            async with deadline.enforce():
                raise AssertionError("nothing may begin any more")

    asyncio.run(scenario())


def test_a_cancellation_by_somebody_else_stays_one():
    async def scenario() -> None:
        deadline = Deadline(60)

        async def wait() -> None:
            async with deadline.enforce():
                await asyncio.Event().wait()

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        deadline.close()

    asyncio.run(scenario())


def test_an_error_of_the_block_passes():
    async def scenario() -> None:
        deadline = Deadline(60)
        with pytest.raises(KeyError):
            async with deadline.enforce():
                raise KeyError
        deadline.close()

    asyncio.run(scenario())


def test_after_close_nothing_is_cancelled():
    async def scenario() -> None:
        deadline = Deadline(0.005)
        deadline.close()
        async with deadline.enforce():
            await asyncio.sleep(0.02)

    asyncio.run(scenario())

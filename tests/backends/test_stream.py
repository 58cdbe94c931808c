import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.backends.stream import TokenStream
from sightline.core.engine import TokenDelta
from sightline.core.errors import InternalError


def delta(*token_ids: int, last: bool = False, queue_s: float | None = None) -> TokenDelta:
    return TokenDelta(token_ids=token_ids, finish_reason="stop" if last else None, queue_s=queue_s)


@settings(deadline=None)
@given(read_after=st.lists(st.booleans(), min_size=1, max_size=30))
def test_nothing_is_lost_however_slow_the_reader(read_after: list[bool]) -> None:
    async def main() -> list[int]:
        stream, seen = TokenStream(), list[int]()
        for number, read in enumerate(read_after):
            stream.push(delta(number, last=number == len(read_after) - 1))
            if read and number < len(read_after) - 1:
                seen += (await stream.next()).token_ids
        last = await stream.next()
        assert last.finish_reason == "stop"
        return [*seen, *last.token_ids]

    assert asyncio.run(main()) == list(range(len(read_after)))


def test_the_timings_of_the_first_delta_survive_a_merge() -> None:
    stream = TokenStream()
    stream.push(delta(1, queue_s=0.5))
    stream.push(delta(2))
    assert asyncio.run(stream.next()) == delta(1, 2, queue_s=0.5)


def test_an_error_comes_after_what_arrived_before_it() -> None:
    async def main() -> None:
        stream = TokenStream()
        stream.push(delta(1))
        stream.fail(InternalError())
        assert (await stream.next()).token_ids == (1,)
        with pytest.raises(InternalError):
            await stream.next()

    asyncio.run(main())


def test_a_finished_stream_cannot_fail_any_more() -> None:
    stream = TokenStream()
    stream.push(delta(1, last=True))
    stream.fail(InternalError())
    stream.push(delta(2))
    assert asyncio.run(stream.next()) == delta(1, last=True)


def test_a_reader_waits_for_what_is_to_come() -> None:
    async def main() -> None:
        stream = TokenStream()
        reader = asyncio.ensure_future(stream.next())
        await asyncio.sleep(0)
        assert not reader.done()
        stream.push(delta(7))
        assert (await reader).token_ids == (7,)

    asyncio.run(main())

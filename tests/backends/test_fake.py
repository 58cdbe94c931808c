"""The scripted engine keeps an engine's promises, so that tests built on it mean something."""

import asyncio
import base64

import pytest

from sightline.backends.fake import (
    ASSISTANT,
    END_OF_TEXT,
    TOKENIZER_FILE,
    USER,
    FakeEngine,
    Reply,
)
from sightline.core.engine import TokenDelta
from sightline.core.errors import InternalError, Unavailable
from sightline.core.prompt import Image, ImageSpan, Prompt
from sightline.core.sampling import SamplingParams

PROMPT = Prompt(token_ids=(USER, *b"\nhello", ASSISTANT))
PARAMS = SamplingParams(max_tokens=100, temperature=0)


async def collect(
    engine: FakeEngine, prompt: Prompt = PROMPT, params: SamplingParams = PARAMS
) -> list[TokenDelta]:
    return [delta async for delta in engine.generate(prompt, params, "r")]


def text(deltas: list[TokenDelta]) -> str:
    return bytes(t for d in deltas for t in d.token_ids if t < END_OF_TEXT).decode()


def test_a_scripted_reply_is_one_delta_per_piece_and_a_stop_token() -> None:
    deltas = asyncio.run(collect(FakeEngine([Reply(["It is ", "猫"])])))
    assert [d.token_ids for d in deltas] == [tuple(b"It is "), tuple("猫".encode()), (END_OF_TEXT,)]
    assert [d.finish_reason for d in deltas] == [None, None, "stop"]
    assert [d.queue_s for d in deltas] == [0.0, None, None]


def test_the_default_is_an_echo_of_the_last_user_message() -> None:
    deltas = asyncio.run(collect(FakeEngine()))
    assert text(deltas) == "\nhello"
    assert all(len(d.token_ids) == 1 for d in deltas)


def test_an_echo_names_the_picture_it_was_shown() -> None:
    image = Image(
        pixels=bytes(12),
        width=2,
        height=2,
        digest=b"\xab" * 32,
        original_width=2,
        original_height=2,
    )
    ids = (USER, *b"\n", *b"\0" * 4, *b"what?", ASSISTANT)
    prompt = Prompt(token_ids=ids, images=(ImageSpan(image=image, start=2, length=4),))
    assert text(asyncio.run(collect(FakeEngine(), prompt))) == "\n[image abababab] what?"


def test_it_can_be_told_to_forget_old_requests() -> None:
    async def scenario() -> FakeEngine:
        engine = FakeEngine(max_remembered=2)
        for _ in range(5):
            await collect(engine)
        return engine

    assert len(asyncio.run(scenario()).requests) == 2


def test_max_tokens_cuts_the_script() -> None:
    params = SamplingParams(max_tokens=4)
    deltas = asyncio.run(collect(FakeEngine([Reply(["abc", "def"])]), params=params))
    assert [d.token_ids for d in deltas] == [tuple(b"abc"), tuple(b"d")]
    assert deltas[-1].finish_reason == "length"


def test_a_stop_token_in_the_script_ends_it() -> None:
    params = SamplingParams(max_tokens=9, stop_token_ids=(USER,))
    deltas = asyncio.run(collect(FakeEngine([Reply([(65, USER, 66)])]), params=params))
    assert deltas[-1].token_ids == (65, USER)
    assert deltas[-1].finish_reason == "stop"


def test_an_error_comes_after_the_pieces() -> None:
    async def main() -> None:
        engine = FakeEngine([Reply(["a"], error=InternalError())])
        stream = engine.generate(PROMPT, PARAMS, "r")
        assert (await anext(stream)).token_ids == (97,)
        with pytest.raises(InternalError):
            await anext(stream)
        assert engine.requests[0].outcome == "failed"

    asyncio.run(main())


def test_closing_the_iterator_aborts_and_frees_the_slot() -> None:
    async def main() -> None:
        engine = FakeEngine([Reply(["a", asyncio.Event()])], max_num_seqs=1)
        stream = engine.generate(PROMPT, PARAMS, "r")
        await anext(stream)
        assert (await engine.stats()).num_running == 1
        await stream.aclose()
        assert (await engine.stats()).num_running == 0
        assert engine.requests[0].outcome == "aborted"
        assert text(await collect(engine)) == "\nhello"

    asyncio.run(main())


def test_requests_beyond_the_slots_wait_their_turn() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        engine = FakeEngine([Reply(["a", gate])], max_num_seqs=1)
        stream = engine.generate(PROMPT, PARAMS, "first")
        await anext(stream)
        second = asyncio.ensure_future(collect(engine))
        await asyncio.sleep(0)
        assert (await engine.stats()).num_waiting == 1
        gate.set()
        assert (await anext(stream)).finish_reason == "stop"
        await stream.aclose()
        assert text(await second) == "\nhello"

    asyncio.run(main())


@pytest.mark.parametrize("turns", range(6))
def test_a_caller_who_leaves_while_it_gets_its_slot_gives_it_back(turns: int) -> None:
    async def leave_and_ask_again() -> str:
        engine = FakeEngine(max_num_seqs=1)
        leaving = asyncio.create_task(collect(engine))
        for _ in range(turns):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        return text(await asyncio.wait_for(collect(engine), 5))

    assert asyncio.run(leave_and_ask_again()).strip() == "hello"


def test_a_crash_ends_live_requests_and_no_later_one() -> None:
    async def main() -> None:
        engine = FakeEngine([Reply(["a", asyncio.Event()])])
        stream = engine.generate(PROMPT, PARAMS, "r")
        await anext(stream)
        reader = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        engine.crash()
        with pytest.raises(Unavailable) as raised:
            await reader
        assert raised.value.code == "engine_restarting"
        assert text(await collect(engine)) == "\nhello"

    asyncio.run(main())


def test_nothing_is_known_while_loading() -> None:
    async def main() -> None:
        engine = FakeEngine(loading=True)
        assert not engine.is_ready
        with pytest.raises(Unavailable) as raised:
            _ = engine.info
        assert raised.value.code == "model_loading"
        with pytest.raises(Unavailable):
            await collect(engine)
        engine.finish_loading()
        assert engine.info.model_id == "sightline-fake"
        assert text(await collect(engine)) == "\nhello"

    asyncio.run(main())


def test_the_tokenizer_file_has_one_rank_per_byte() -> None:
    ranks = [line.split() for line in TOKENIZER_FILE.read_text().splitlines()]
    assert [(base64.b64decode(t)[0], int(r)) for t, r in ranks] == [(i, i) for i in range(256)]

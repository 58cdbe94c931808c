"""A chat request from its arrival to the end of its answer, on a scripted engine."""

import asyncio
import itertools
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.backends.fake import ASSISTANT, END_OF_TEXT, OBSERVATION, USER, FakeEngine, Reply
from sightline.backends.fake import fake_info as make_info
from sightline.core.engine import TokenDelta
from sightline.core.errors import (
    GenerationTimeout,
    InternalError,
    Overloaded,
    RequestError,
    StartupError,
    Unavailable,
)
from sightline.service.chat import ChatOptions

IMAGE_TOKENS = 18  # of the fake model


def refusal(world, *content, **request):
    with pytest.raises(RequestError) as caught:
        asyncio.run(world.ask(*content, **request))
    world.assert_idle()
    return caught.value


# What is asked of the engine


def test_text_and_picture_reach_the_engine_in_their_places(kit) -> None:
    world = kit.world()
    asyncio.run(world.ask("what ", kit.image("cat"), "is it?", cache_salt=b"tenant"))
    (request,) = world.engine.requests
    ids, (span,) = request.prompt.token_ids, request.prompt.images
    assert ids[2:4] == (USER, ord("\n"))
    assert (span.start, span.length) == (4, IMAGE_TOKENS)
    assert bytes(ids[4 + IMAGE_TOKENS : -1]) == b"what is it?"
    assert ids[-1] == ASSISTANT
    assert span.image.digest != b""
    assert request.prompt.cache_salt == b"tenant"
    assert request.request_id == "r-1"
    assert world.pictures.loaded == ["cat"]
    assert world.pictures.salts == {b"tenant"}


def test_settings_of_the_request_go_before_those_of_the_model(kit) -> None:
    world = kit.world(FakeEngine(info=make_info()))
    asyncio.run(world.ask("hi", temperature=0.0, top_p=0.5, seed=7, max_tokens=5))
    asyncio.run(world.ask("hi"))
    asked, default = (request.params for request in world.engine.requests)
    assert (asked.temperature, asked.top_p, asked.seed, asked.max_tokens) == (0.0, 0.5, 7, 5)
    assert (default.temperature, default.top_p, default.seed) == (0.0, 1.0, None)
    assert default.max_tokens == 1024
    assert set(default.stop_token_ids) == {END_OF_TEXT, USER, OBSERVATION}


def test_settings_that_are_not_sent_are_the_models_own_and_zero_is_sent(kit) -> None:
    own = replace(make_info(), default_top_k=1, default_repetition_penalty=1.05)
    world = kit.world(FakeEngine(info=own))
    asyncio.run(world.ask("hi"))
    asyncio.run(world.ask("hi", top_k=0, repetition_penalty=1.0))
    default, asked = (request.params for request in world.engine.requests)
    assert (default.top_k, default.repetition_penalty) == (1, 1.05)
    assert (asked.top_k, asked.repetition_penalty) == (0, 1.0)


def test_without_a_wish_the_answer_may_be_as_long_as_the_server_says(kit) -> None:
    world = kit.world(options=ChatOptions(default_max_tokens=3))
    deltas = asyncio.run(world.ask("hello"))
    assert kit.joined(deltas) == "he"  # a newline, which is not shown, and two letters
    assert deltas[-1].finish_reason == "length"


def test_later_turns_keep_the_picture_of_the_first(kit) -> None:
    world = kit.world()
    turns = [
        kit.message("user", "what?", kit.image("cat")),
        kit.message("assistant", "a cat"),
        kit.message("user", "its colour?"),
    ]
    asyncio.run(world.ask(*turns))
    (request,) = world.engine.requests
    assert [span.start for span in request.prompt.images] == [4]


@pytest.mark.parametrize(
    "text",
    [
        "<|image_pad|>",
        "<|vision_start|><|image_pad|><|vision_end|>",
        "<img>http://127.0.0.1/x</img>",
        "<|im_end|><|endoftext|>",
        "[gMASK]<sop></s>",
        "<|begin_of_image|><|endoftext|><|end_of_image|>",
        "",
        "   ",
        "\n\n\n",
        "a\u202eb\u200b" + "e" + "\u0301" * 1000,
    ],
)
@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
def test_text_of_any_role_is_only_text(kit, role, text) -> None:
    world = kit.world()
    asyncio.run(world.ask(kit.message(role, text), kit.message("user", text, kit.image())))
    (request,) = world.engine.requests
    control = [i for i in request.prompt.token_ids if i > 255]
    assert len(control) == 3 + bool(text) + 1 + IMAGE_TOKENS
    assert [span.length for span in request.prompt.images] == [IMAGE_TOKENS]
    assert world.pictures.loaded == ["cat.png"]


# What comes back


def test_the_answer_is_the_text_without_its_opening_newline(kit) -> None:
    world = kit.world(FakeEngine([Reply(["\n", "It is ", "猫"])]))
    deltas = asyncio.run(world.ask("what?"))
    assert [delta.text for delta in deltas] == ["It is ", "猫", ""]
    assert [delta.finish_reason for delta in deltas] == [None, None, "stop"]
    assert deltas[0].usage is deltas[1].usage is None
    world.assert_idle()


def test_no_delta_is_empty_but_the_last(kit) -> None:
    deltas = asyncio.run(kit.world().ask("图中有一只猫😀"))
    assert kit.joined(deltas) == "图中有一只猫😀"
    assert all(delta.text for delta in deltas[:-1])
    assert not any("\ufffd" in delta.text for delta in deltas)


def test_usage_counts_images_and_the_hidden_stop_token(kit) -> None:
    world = kit.world(FakeEngine([Reply(["\nab"])]))
    usage = asyncio.run(world.ask("hi", kit.image()))[-1].usage
    assert usage.image_tokens == IMAGE_TOKENS
    assert usage.prompt_tokens == len("\nhi") + 4 + IMAGE_TOKENS
    assert usage.completion_tokens == len("\nab") + 1
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_cached_tokens_are_the_engines_own_count(kit) -> None:
    class Caching(FakeEngine):
        async def generate(self, prompt, params, request_id):
            yield TokenDelta(token_ids=(65,), num_cached_tokens=16)
            yield TokenDelta(token_ids=(66, END_OF_TEXT), finish_reason="stop")

    deltas = asyncio.run(kit.world(Caching()).ask("hi"))
    assert kit.joined(deltas) == "AB"
    assert deltas[-1].usage.cached_tokens == 16


def test_a_stop_string_ends_the_answer_and_the_work(kit) -> None:
    world = kit.world(FakeEngine([Reply(["one EN", "D", " two"])]))
    deltas = asyncio.run(world.ask("hi", stop=("END",)))
    assert kit.joined(deltas) == "one "
    assert deltas[-1].finish_reason == "stop"
    assert deltas[-1].usage.completion_tokens == len("one END")
    assert [request.outcome for request in world.engine.requests] == ["aborted"]
    world.assert_idle()


def test_an_answer_that_reaches_its_limit_ends_with_length(kit) -> None:
    deltas = asyncio.run(kit.world().ask("hello", max_tokens=4))
    assert kit.joined(deltas) == "hel"
    assert deltas[-1].finish_reason == "length"
    assert deltas[-1].usage.completion_tokens == 4


def test_held_back_text_is_shown_when_the_answer_ends(kit) -> None:
    world = kit.world(FakeEngine([Reply([b"a EN\xe4\xb8"])]))
    assert kit.joined(asyncio.run(world.ask("hi", stop=("END",)))) == "a EN\ufffd"


answers = st.lists(st.sampled_from(["猫", "😀", "a", "END", "\n", "b", "EN"]), max_size=10)


@settings(deadline=None)
@given(
    answer=answers.map("".join),
    stop=st.lists(st.sampled_from(["END", "b", "猫a"]), max_size=2),
    max_tokens=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 40), max_size=10),
)
def test_the_answer_does_not_depend_on_how_the_engine_delivers_it(
    kit, answer, stop, max_tokens, cuts
) -> None:
    data = answer.encode()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    cut_up = [data[a:b] for a, b in itertools.pairwise(edges)]

    def run(pieces):
        world = kit.world(FakeEngine([Reply(pieces)]))
        deltas = asyncio.run(world.ask("hi", stop=tuple(stop), max_tokens=max_tokens))
        world.assert_idle()
        return kit.joined(deltas), deltas[-1].finish_reason, deltas[-1].usage

    one_by_one = run([bytes([byte]) for byte in data])
    if max_tokens > len(data):  # else a scripted engine ends one delta earlier or later
        assert run([data]) == run(cut_up) == one_by_one
    text, finish_reason, usage = one_by_one
    assert not any(s in text for s in stop)
    assert usage.completion_tokens <= max_tokens
    assert finish_reason == "stop" or usage.completion_tokens == max_tokens


def test_every_image_is_reported_where_it_stood(kit) -> None:
    async def scenario():
        world = kit.world()
        answer = await world.service.start(kit.request("what?", kit.image()))
        await answer.aclose()
        return answer

    answer = asyncio.run(scenario())
    (report,) = answer.images
    assert report.param == "messages[0].content[1].image_url"
    assert (report.original_width, report.original_height) == (640, 480)
    assert (report.width, report.height, report.num_tokens) == (112, 112, IMAGE_TOKENS)
    assert answer.counts.image == IMAGE_TOKENS
    assert answer.counts.text == len("\nwhat?") + 4


# Names


@pytest.mark.parametrize("name", ["sightline-fake", "eyes", "glm-4v"])
def test_the_answer_says_which_model_it_really_was(kit, name) -> None:
    async def scenario():
        engine = FakeEngine(info=make_info(aliases=("eyes",)))
        world = kit.world(engine, options=ChatOptions(aliases=("glm-4v",)))
        assert world.service.model.names == ("sightline-fake", "eyes", "glm-4v")
        answer = await world.service.start(kit.request("hi", model=name))
        await answer.aclose()
        return answer.model

    assert asyncio.run(scenario()) == "sightline-fake"


def test_an_unknown_model_is_refused_before_anything_else(kit) -> None:
    world = kit.world(max_running=0, max_waiting=0)
    assert refusal(world, "hi", model="gpt-4").code == "model_not_found"
    assert world.tokenizers == []


def test_a_model_that_is_still_loading_is_unavailable(kit) -> None:
    world = kit.world(FakeEngine(loading=True))
    assert not world.service.is_ready
    with pytest.raises(Unavailable) as caught:
        asyncio.run(world.ask("hi"))
    assert caught.value.code == "model_loading"
    world.engine.finish_loading()
    assert world.service.is_ready
    assert kit.joined(asyncio.run(world.ask("hi"))) == "hi"


# Limits, in the order in which they are judged


def test_images_are_judged_before_they_are_fetched(kit) -> None:
    world = kit.world()
    error = refusal(
        world, "hi", kit.image("bad", param="messages[0].content[1]"), kit.image("b", param="P")
    )
    assert (error.code, error.param) == ("too_many_images", "P")
    assert world.pictures.loaded == []


def test_a_prompt_that_does_not_fit_costs_no_fetch(kit) -> None:
    world = kit.world(FakeEngine(info=make_info(max_model_len=30)))
    error = refusal(world, "12345678", kit.image("bad"))
    assert error.code == "context_length_exceeded"
    assert error.message == (
        "This model's maximum context length is 30 tokens. However, your messages resulted in "
        "31 tokens (13 text, 18 image). The prompt is too long."
    )
    assert not world.engine.requests


def test_a_prompt_that_leaves_one_token_is_answered_with_one(kit) -> None:
    world = kit.world(FakeEngine(info=make_info(max_model_len=30)))
    deltas = asyncio.run(world.ask("123456", kit.image(), max_tokens=1))
    assert deltas[-1].usage.total_tokens == 30
    assert deltas[-1].finish_reason == "length"


def test_asking_for_more_than_the_window_is_lowered_and_said(kit) -> None:
    async def scenario(strict):
        world = kit.world(FakeEngine(info=make_info(max_model_len=20)))
        request = kit.request("123", max_tokens=100, strict=strict)
        answer = await world.service.start(request)
        await answer.aclose()
        return answer.notices, world.engine.requests[0].params.max_tokens

    (notice,), max_tokens = asyncio.run(scenario(strict=False))
    assert (notice.field, notice.severity, max_tokens) == ("max_tokens", "warn", 12)
    with pytest.raises(RequestError) as caught:
        asyncio.run(scenario(strict=True))
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "max_tokens")


def test_a_strict_refusal_names_the_field_that_asked_for_the_length(kit) -> None:
    world = kit.world(FakeEngine(info=make_info(max_model_len=20)))
    request = kit.request(
        "123", max_tokens=100, max_tokens_param="max_completion_tokens", strict=True
    )
    with pytest.raises(RequestError) as caught:
        asyncio.run(world.service.start(request))
    assert caught.value.param == "max_completion_tokens"


def test_a_strict_request_is_refused_where_another_loses_an_old_image(kit) -> None:
    turns = [
        kit.message("user", "a", kit.image("old", param="messages[0].content[1].image_url")),
        kit.message("user", "b", kit.image("new", param="messages[1].content[1].image_url")),
    ]
    world = kit.world()
    asyncio.run(world.ask(*turns))
    assert world.pictures.loaded == ["new"]
    dropped = refusal(kit.world(), *turns, strict=True)
    assert dropped.code == "unsupported_parameter"
    assert dropped.param == "messages[0].content[1].image_url"
    too_many = refusal(kit.world(options=ChatOptions(extra_images="error")), *turns)
    assert too_many.code == "too_many_images"
    assert too_many.param == "messages[1].content[1].image_url"


def test_a_text_only_model_answers_text_and_refuses_images(kit) -> None:
    world = kit.world(FakeEngine(info=make_info(image_policy=None)))
    assert kit.joined(asyncio.run(world.ask("hi"))) == "hi"
    assert refusal(world, kit.image()).code == "image_input_not_supported"


def test_a_bad_image_is_refused_before_the_engine_hears_of_it(kit) -> None:
    world = kit.world()
    error = refusal(world, kit.image("bad", param="messages[0].content[0].image_url"))
    assert (error.code, error.param) == ("image_parse_error", "messages[0].content[0].image_url")
    assert not world.engine.requests


# Long texts


def test_a_long_text_is_encoded_off_the_event_loop(kit) -> None:
    threads = []

    class Watching(kit.ByteTokenizer):
        def encode(self, text):
            if len(text) > 1:
                threads.append(threading.current_thread())
            return super().encode(text)

    async def scenario():
        world = kit.world(FakeEngine(info=make_info(max_model_len=100_000)))
        world.service._load_tokenizer = Watching
        for text in ("a" * 16 * 1024, "a" * (16 * 1024 + 1)):
            await (await world.service.start(kit.request(text))).aclose()
        await world.service.close()
        world.assert_idle()

    asyncio.run(scenario())
    short, long = threads
    assert short is threading.main_thread()
    assert long is not threading.main_thread()


@pytest.mark.parametrize("text", ["a", "😀", " ", "e\u0301", "\u202e\u200b"])
def test_a_huge_text_is_refused_without_being_encoded(kit, text) -> None:
    world = kit.world()
    num_chars = 2 * 1024 * 1024
    error = refusal(world, text * (num_chars // len(text)))
    assert error.code == "context_length_exceeded"
    assert f"at least {num_chars} tokens ({num_chars} text, 0 image)" in error.message
    assert world.tokenizers[0].encoded == ["\n"]


# Counting


def test_counting_needs_no_picture_no_permit_and_no_room(kit) -> None:
    world = kit.world(FakeEngine(info=make_info(max_model_len=10)), max_running=0, max_waiting=0)
    request = kit.request("hello", kit.image("bad"))
    counts = asyncio.run(world.service.measure(request)).counts
    assert (counts.text, counts.image) == (len("\nhello") + 4, IMAGE_TOKENS)
    assert counts.total == counts.text + counts.image
    assert world.pictures.loaded == []


def test_the_count_is_what_the_answer_reports(kit) -> None:
    world = kit.world()
    counts = asyncio.run(world.service.measure(kit.request("hello", kit.image()))).counts
    usage = asyncio.run(world.ask("hello", kit.image()))[-1].usage
    assert (counts.total, counts.image) == (usage.prompt_tokens, usage.image_tokens)


# When the engine fails


def test_an_error_before_the_first_text_is_an_error_of_the_start(kit) -> None:
    world = kit.world(FakeEngine([Reply(["\n"], error=InternalError())]))
    with pytest.raises(InternalError):
        asyncio.run(world.service.start(kit.request("hi")))
    world.assert_idle()


def test_an_error_in_the_middle_comes_after_what_was_said(kit) -> None:
    async def scenario() -> str:
        world = kit.world(FakeEngine([Reply(["half "], error=InternalError())]))
        answer = await world.service.start(kit.request("hi"))
        assert (await anext(answer)).text == "half "
        with pytest.raises(InternalError):
            await anext(answer)
        with pytest.raises(StopAsyncIteration):
            await anext(answer)
        world.assert_idle()

    asyncio.run(scenario())


def test_a_dead_engine_ends_its_answers_and_the_next_one_is_served(kit) -> None:
    async def scenario() -> None:
        gate = asyncio.Event()
        world = kit.world(FakeEngine([Reply(["half ", gate])]))
        answer = await world.service.start(kit.request("hi"))
        await anext(answer)
        reading = asyncio.create_task(anext(answer))
        await kit.settle()
        world.engine.crash()
        with pytest.raises(Unavailable) as caught:
            await reading
        assert caught.value.code == "engine_restarting"
        world.assert_idle()
        assert kit.joined(await world.ask("again")) == "again"

    asyncio.run(scenario())


def test_an_engine_that_stops_without_a_reason_is_an_internal_error(kit) -> None:
    class Silent(FakeEngine):
        async def generate(self, prompt, params, request_id):
            yield TokenDelta(token_ids=(65,))

    world = kit.world(Silent())
    with pytest.raises(InternalError):
        asyncio.run(world.ask("hi"))
    world.assert_idle()


def test_a_tokenizer_that_cannot_be_loaded_is_told_at_the_start(kit) -> None:
    def load(path):
        raise StartupError("tokenizer.model is cut short")

    world = kit.world()
    world.service._load_tokenizer = load
    with pytest.raises(StartupError):
        asyncio.run(world.service.prepare())


def test_the_tokenizer_is_loaded_once_however_many_ask_for_it(kit) -> None:
    async def scenario() -> None:
        world = kit.world()
        await asyncio.gather(world.service.prepare(), *(world.ask(str(i)) for i in range(8)))
        assert len(world.tokenizers) == 1

    asyncio.run(scenario())


# Time and load


def jump(seconds: float) -> None:
    """Set the running loop's clock forward."""
    loop = asyncio.get_running_loop()
    real_time = loop.time
    loop.time = lambda: real_time() + seconds


@pytest.mark.parametrize(("streaming", "limit_s"), [(False, 280), (True, 600)])
def test_an_answer_that_takes_too_long_is_stopped(kit, streaming, limit_s) -> None:
    async def scenario() -> None:
        gate = asyncio.Event()
        gate.set()
        world = kit.world(FakeEngine([Reply(["half ", gate, "more", asyncio.Event()])]))
        answer = await world.service.start(kit.request("hi"), streaming=streaming)
        await anext(answer)
        jump(limit_s - 100)
        assert (await anext(answer)).text == "more"
        jump(101)
        with pytest.raises(GenerationTimeout) as caught:
            await anext(answer)
        assert caught.value.message == f"Stopped after {limit_s} s; not retried."
        assert [request.outcome for request in world.engine.requests] == ["aborted"]
        world.assert_idle()

    asyncio.run(scenario())


def test_the_clock_runs_from_the_arrival_on(kit) -> None:
    async def scenario() -> None:
        pictures = kit.Pictures(before=asyncio.Event().wait)
        world = kit.world(pictures=pictures, total_timeout_s=0.01)
        with pytest.raises(GenerationTimeout):
            await world.service.start(kit.request("hi", kit.image()))
        world.assert_idle()

    asyncio.run(scenario())


def test_a_burst_is_served_up_to_the_limit_and_the_rest_is_told_at_once(kit) -> None:
    async def scenario() -> None:
        world = kit.world(max_running=2, max_waiting=6)
        asked = [world.ask(f"number {i}") for i in range(40)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        served = [kit.joined(r) for r in results if isinstance(r, list)]
        refused = [r for r in results if isinstance(r, Overloaded)]
        assert served == [f"number {i}" for i in range(8)]
        assert len(refused) == 32
        assert all(1 <= error.retry_after_s <= 60 for error in refused)
        world.assert_idle()

    asyncio.run(scenario())


def test_a_drain_lets_answers_finish_and_refuses_new_ones(kit) -> None:
    async def scenario() -> None:
        gate = asyncio.Event()
        world = kit.world(FakeEngine([Reply(["half ", gate, "done"])]))
        answer = await world.service.start(kit.request("hi"))
        world.service.drain()
        assert not world.service.is_ready
        with pytest.raises(Unavailable) as caught:
            await world.service.start(kit.request("new"))
        assert caught.value.code == "draining"
        idle = asyncio.create_task(world.service.wait_idle())
        gate.set()
        assert kit.joined([delta async for delta in answer]) == "half done"
        await idle

    asyncio.run(scenario())

"""The one stream shape that every client reads, and how streams end."""

import json
import socket
from collections.abc import Iterator

import pytest
from front import (
    PICTURE,
    Front,
    chat,
    events_of,
    eventually,
    raw_post,
    serving,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.backends.fake import Reply
from sightline.core.errors import InternalError, Unavailable
from sightline.core.limits import Limits

STREAM = {"stream": True}
WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def stream_text(front: Front, body: dict[str, object]) -> str:
    answer = front.post(body)
    assert answer.status_code == 200
    return answer.text


def test_a_stream_is_role_text_finish_usage_done(front: Front) -> None:
    events = events_of(stream_text(front, chat("hi", **WITH_USAGE)))
    role, *texts, finish, usage, done = events
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [event["choices"][0]["delta"] for event in texts] == [
        {"content": "h"},
        {"content": "i"},
    ]
    assert finish["choices"][0]["delta"] == {}
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] > 0
    assert done == "[DONE]"


def test_every_chunk_has_the_same_id_time_and_model(front: Front) -> None:
    *events, _ = events_of(stream_text(front, chat("hello", **WITH_USAGE)))
    assert len({(e["id"], e["created"], e["model"], e["system_fingerprint"]) for e in events}) == 1
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    for event in events[:-1]:
        (choice,) = event["choices"]
        assert set(choice) == {"index", "delta", "logprobs", "finish_reason"}
        assert choice["index"] == 0
        assert event["usage"] is None


def test_without_include_usage_no_chunk_has_usage(front: Front) -> None:
    *events, _ = events_of(stream_text(front, chat("hello", **STREAM)))
    assert all("usage" not in event for event in events)
    assert all(event["choices"] for event in events)


def test_only_the_first_delta_has_a_role(front: Front) -> None:
    *events, _ = events_of(stream_text(front, chat("hello", **STREAM)))
    assert ["role" in e["choices"][0]["delta"] for e in events] == [True] + [False] * (
        len(events) - 1
    )


def test_the_framing_is_data_and_two_line_feeds(front: Front) -> None:
    answer = front.post(chat("中\u2028\u2029\x85\r\n😀", **STREAM))
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.content.isascii()
    assert b"\r" not in answer.content
    blocks = answer.content.split(b"\n\n")
    assert blocks.pop() == b""
    assert all(block.startswith(b"data: ") and b"\n" not in block for block in blocks)


TEXTS = st.text(max_size=40)


@settings(max_examples=40, deadline=None)
@given(text=TEXTS, picture=st.booleans())
def test_a_streamed_answer_is_the_plain_answer(
    shared_front: Front, text: str, picture: bool
) -> None:
    body = chat(text, *[PICTURE][: int(picture)], max_tokens=64)
    plain = shared_front.post(body).json()
    *events, usage, _ = events_of(stream_text(shared_front, body | WITH_USAGE))
    joined = "".join(e["choices"][0]["delta"].get("content", "") for e in events)
    assert joined == plain["choices"][0]["message"]["content"]
    assert events[-1]["choices"][0]["finish_reason"] == plain["choices"][0]["finish_reason"]
    assert usage["usage"] == plain["usage"]


def test_an_answer_cut_by_max_tokens_says_length(front: Front) -> None:
    *events, _ = events_of(stream_text(front, chat("hello", max_tokens=3, **STREAM)))
    assert events[-1]["choices"][0]["finish_reason"] == "length"


def test_an_empty_answer_is_still_a_whole_stream(front: Front) -> None:
    front.enqueue(Reply([]))
    role, finish, done = events_of(stream_text(front, chat("x", **STREAM)))
    assert role["choices"][0]["delta"]["role"] == "assistant"
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert done == "[DONE]"


def test_the_report_rides_on_the_finish_chunk(front: Front) -> None:
    body = chat("x", PICTURE, sightline={"report": True}, foo=1, **WITH_USAGE)
    *_, finish, _usage, _done = events_of(stream_text(front, body))
    assert finish["sightline"]["images"][0]["param"] == "messages[0].content[0].image_url"
    assert finish["sightline"]["warnings"] == [
        {"field": "foo", "reason": "unknown-field", "severity": "warn"}
    ]


def test_an_error_before_the_first_word_keeps_its_status(front: Front) -> None:
    front.enqueue(Reply([], error=Unavailable("Gone.", code="engine_restarting")))
    answer = front.post(chat("x", **STREAM))
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "engine_restarting"


def test_a_stream_that_has_said_nothing_yet_outlives_its_engine(front: Front) -> None:
    lost = Reply(["\n"], error=Unavailable("Gone.", code="engine_restarting"))  # not shown
    front.enqueue(lost, lost, Reply(["\nWhole"]))
    *texts, _finish, done = events_of(stream_text(front, chat("x", **STREAM)))
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in texts) == "Whole"
    assert done == "[DONE]"


@pytest.mark.parametrize("crashes", [1, 4])
def test_a_whole_answer_that_went_down_with_its_engine_is_asked_again(
    front: Front, crashes: int
) -> None:
    lost = Reply(["Half"], error=Unavailable("Gone.", code="engine_restarting"))
    front.enqueue(*[lost] * crashes, Reply(["Whole"]))
    answer = front.post(chat("x", foo=1))
    if crashes == 1:
        assert answer.json()["choices"][0]["message"]["content"] == "Whole"
        assert answer.headers["x-sightline-warnings"] == "foo=unknown-field"
    else:
        assert answer.status_code == 503
        front.post(chat("take the last one"))


def test_an_error_after_the_first_word_is_an_event_and_the_end(front: Front) -> None:
    front.enqueue(Reply(["Half"], error=InternalError()))
    answer = front.post(chat("x", **STREAM))
    *_, last = events_of(answer.text)
    assert set(last) == {"error"}
    assert last["error"]["code"] == "internal_error"
    assert last["error"]["type"] == "server_error"
    assert answer.headers["x-request-id"] in last["error"]["message"]
    assert "[DONE]" not in answer.text


def test_text_goes_out_as_it_comes(front: Front) -> None:
    gate = front.new_gate()
    front.enqueue(Reply(["one ", gate, "two"]))
    with front.client.stream(
        "POST", front.url + "/v1/chat/completions", json=chat("x", **STREAM)
    ) as answer:
        pieces = answer.iter_text()
        assert '"content":"one "' in next(pieces)
        front.on_loop(gate.set)
        assert '"content":"two"' in "".join(pieces)


@pytest.fixture(scope="module")
def impatient() -> Iterator[Front]:
    """A server that comments on every short silence."""
    with serving(Front(limits=Limits(keep_alive_comment_s=0.05))) as front:
        yield front


def test_silence_is_filled_with_comments(impatient: Front) -> None:
    before, between = impatient.new_gate(), impatient.new_gate()
    impatient.enqueue(Reply([before, "one", between, "two"]))
    with impatient.client.stream(
        "POST", impatient.url + "/v1/chat/completions", json=chat("x", **STREAM)
    ) as answer:
        pieces = answer.iter_text()
        assert answer.status_code == 200
        assert next(pieces) == ": keep-alive\n\n"
        impatient.on_loop(before.set)
        seen = next(pieces)
        while '"one"' not in seen:
            seen += next(pieces)
        assert seen.endswith("\n\n")
        while not seen.endswith("keep-alive\n\n"):
            seen += next(pieces)
        impatient.on_loop(between.set)
        seen += "".join(pieces)
    events = events_of(seen)
    assert [e["choices"][0]["delta"].get("content") for e in events[:-1]] == [
        "",
        "one",
        "two",
        None,
    ]


def test_an_error_after_a_comment_is_an_event(impatient: Front) -> None:
    gate = impatient.new_gate()
    impatient.enqueue(Reply([gate], error=Unavailable("Gone.", code="engine_restarting")))
    with impatient.client.stream(
        "POST", impatient.url + "/v1/chat/completions", json=chat("x", **STREAM)
    ) as answer:
        pieces = answer.iter_text()
        assert next(pieces).startswith(":")
        impatient.on_loop(gate.set)
        (error,) = events_of("".join(pieces))
    assert error["error"]["code"] == "engine_restarting"


def leave(front: Front, body: dict[str, object], *, after: int = 0, reset: bool = False) -> None:
    """Send a request, read at least `after` bytes of the answer, and hang up."""
    connection = front.connect()
    connection.sendall(raw_post(json.dumps(body).encode()))
    assert eventually(lambda: front.stats().num_running == 1)
    num_read = 0
    while num_read < after:
        num_read += len(connection.recv(65536))
    if reset:
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    ("body", "after"),
    [(chat("x"), 0), (chat("x", **STREAM), 0), (chat("x", **STREAM), 300)],
    ids=["plain", "before the first word", "after the first word"],
)
def test_h13_a_client_that_leaves_frees_the_engine(
    front: Front, body: dict[str, object], after: int, reset: bool
) -> None:
    gate = front.new_gate()
    front.enqueue(Reply(["word", gate, "never"] if after else [gate, "never"]))
    leave(front, body, after=after, reset=reset)
    assert eventually(front.is_idle, within_s=2)
    assert front.engine.requests[-1].outcome == "aborted"


def test_h13_a_client_that_leaves_during_its_upload_leaves_nothing(front: Front) -> None:
    for part in (b"POST /v1/chat", raw_post(b"x" * 100)[:-50]):
        with front.connect() as connection:
            connection.sendall(part)
    assert eventually(front.is_idle)
    assert eventually(lambda: len(front.server.server_state.tasks) == 0)

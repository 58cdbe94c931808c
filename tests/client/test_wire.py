import base64
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.client.errors import ClientError
from sightline.client.wire import (
    EventParser,
    chat_body,
    image_part,
    parse_answer,
    parse_chunk,
    parse_error,
    parse_models,
    text_part,
)

CHUNK = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "圆"}, "finish_reason": None}],
}


def events(stream: bytes, cuts: list[int]) -> list[str]:
    parser = EventParser()
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(edges)]
    return [event for piece in pieces for event in parser.feed(piece)]


@given(st.lists(st.integers(0, 10_000)), st.sampled_from(["\n", "\r\n"]))
def test_events_are_the_same_however_the_bytes_are_cut(cuts, newline):
    lines = [": keep-alive", "", "data: 圆形", "", "data: a", "data: b", "", "data: [DONE]", "", ""]
    stream = newline.join(lines).encode()
    assert events(stream, cuts) == ["圆形", "a\nb", "[DONE]"]


def test_an_unfinished_event_is_not_an_event():
    assert events(b"data: half", []) == []


def test_a_chunk_carries_text_and_reason():
    chunk = parse_chunk(json.dumps(CHUNK))
    assert (chunk.model, chunk.text, chunk.finish_reason, chunk.usage) == ("m", "圆", None, None)


def test_a_chunk_may_leave_out_what_is_null():
    """`transformers serve` does: neither a reason nor a text before there is one."""
    first = parse_chunk(json.dumps({"model": "m", "choices": [{"delta": {"role": "assistant"}}]}))
    last = parse_chunk(json.dumps({"model": "m", "choices": [{"finish_reason": "stop"}]}))
    assert (first.text, first.finish_reason) == ("", None)
    assert (last.text, last.finish_reason) == ("", "stop")


def test_the_usage_chunk_has_no_choices():
    usage = {
        "prompt_tokens": 30,
        "completion_tokens": 5,
        "prompt_tokens_details": {"image_tokens": 18},
    }
    chunk = parse_chunk(json.dumps(CHUNK | {"choices": [], "usage": usage}))
    assert chunk.usage is not None
    assert (chunk.usage.prompt_tokens, chunk.usage.image_tokens) == (30, 18)


def test_an_error_event_is_raised_with_its_message():
    event = json.dumps({"error": {"message": "gone", "type": "t", "param": None, "code": "c"}})
    with pytest.raises(ClientError, match="gone") as caught:
        parse_chunk(event)
    assert caught.value.code == "c"


@pytest.mark.parametrize("event", ["", "[]", "{}", '{"choices": 3}', "<html>", '{"choices": [{}]}'])
def test_what_is_no_chunk_is_refused_readably(event):
    with pytest.raises(ClientError, match="OpenAI-compatible"):
        parse_chunk(event)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"choices": []}', b"<html>"])
def test_what_is_no_answer_is_refused_readably(body):
    with pytest.raises(ClientError, match="OpenAI-compatible"):
        parse_answer(body)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"detail": "x"}', b'{"error": "x"}', b"\xff"])
def test_a_foreign_error_body_still_gives_one_line(body):
    assert str(parse_error(502, body)) == "The server answered with status 502."


def test_models_are_listed():
    body = b'{"object":"list","data":[{"id":"a","max_model_len":9},{"id":"b"}]}'
    assert [(card.id, card.max_model_len) for card in parse_models(body)] == [("a", 9), ("b", None)]


def test_the_aliases_of_a_model_are_read_where_they_are_told():
    body = b'{"data": [{"id": "a", "sightline": {"aliases": ["b", "c"]}}, {"id": "d"}]}'
    assert [card.aliases for card in parse_models(body)] == [("b", "c"), ()]


def test_a_file_becomes_a_data_uri_of_its_type():
    url = image_part(b"\x89PNG\r\n\x1a\nrest")["image_url"]["url"]
    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data) == b"\x89PNG\r\n\x1a\nrest"


def test_an_address_is_sent_as_it_is():
    assert image_part("https://h/a.png")["image_url"]["url"] == "https://h/a.png"


def test_a_body_holds_only_what_was_asked_for():
    messages = [{"role": "user", "content": [text_part("这是什么?")]}]
    plain = json.loads(chat_body(messages, model="m", stream=False))
    assert plain == {"model": "m", "messages": messages, "stream": False}
    stream = json.loads(chat_body(messages, model="m", stream=True, max_tokens=5, temperature=0.0))
    assert stream["stream_options"] == {"include_usage": True}
    assert (stream["max_tokens"], stream["temperature"]) == (5, 0.0)

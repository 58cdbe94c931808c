"""Section 1 of the API's description: every rule of the one stream shape."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from front import Front, chat, events_of, eventually, raw_post, serving

from sightline.backends.fake import Reply
from sightline.core.errors import InternalError
from sightline.core.limits import Limits

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def streamed(shared_front: Front) -> tuple[Any, list[Any]]:
    """A stream with usage: the answer and its events."""
    options = {"stream": True, "stream_options": {"include_usage": True}}
    answer = shared_front.post(chat("中\u2028\u0085b", **options))
    return answer, events_of(answer.text)


def choices_of(events: list[Any]) -> list[Any]:
    return [event["choices"][0] for event in events[:-1] if event["choices"]]


def rule_1_framing(answer: Any, events: list[Any]) -> None:
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.content.isascii()
    assert b"\r" not in answer.content
    assert all(line.startswith("data: ") for line in answer.text.split("\n\n") if line)


def rule_2_every_chunk_is_whole(answer: Any, events: list[Any]) -> None:
    heads = {(event["id"], event["created"], event["model"]) for event in events[:-1]}
    assert len(heads) == 1
    assert all(event["object"] == "chat.completion.chunk" for event in events[:-1])
    for choice in choices_of(events):
        assert {"delta", "index", "finish_reason"} <= choice.keys()


def rule_3_role_once(answer: Any, events: list[Any]) -> None:
    roles = [choice["delta"].get("role") for choice in choices_of(events)]
    assert roles == ["assistant", *[None] * (len(roles) - 1)]


def rule_6_the_finish_chunk_is_separate(answer: Any, events: list[Any]) -> None:
    *others, last = choices_of(events)
    assert (last["delta"], last["finish_reason"]) == ({}, "stop")
    assert all(choice["finish_reason"] is None for choice in others)


def rule_7_usage_comes_last(answer: Any, events: list[Any]) -> None:
    *chunks, last, done = events
    assert done == "[DONE]"
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] > 0
    assert all(chunk["usage"] is None for chunk in chunks)


RULES = [
    rule_1_framing,
    rule_2_every_chunk_is_whole,
    rule_3_role_once,
    rule_6_the_finish_chunk_is_separate,
    rule_7_usage_comes_last,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_section_1(rule: Callable[[Any, list[Any]], None], streamed: tuple[Any, list[Any]]) -> None:
    rule(*streamed)


def test_section_1_rule_4_reasoning_under_both_names(front: Front) -> None:
    front.enqueue(Reply(["<think>hm</think>yes"]))
    events = events_of(front.post(chat("q", stream=True)).text)
    deltas = [choice["delta"] for choice in choices_of(events)]
    thoughts = [delta for delta in deltas if "reasoning" in delta]
    assert "".join(delta["reasoning_content"] for delta in thoughts) == "hm"
    assert all(delta["reasoning"] == delta["reasoning_content"] for delta in thoughts)


def test_section_1_rule_5_a_call_is_one_delta(front: Front) -> None:
    front.enqueue(Reply(["f\n{}"]))
    events = events_of(front.post(chat("q", stream=True, tools=[TOOL])).text)
    (told,) = [c["delta"] for c in choices_of(events) if "tool_calls" in c["delta"]]
    (call,) = told["tool_calls"]
    assert (call["index"], call["type"], call["function"]) == (
        0,
        "function",
        {"name": "f", "arguments": "{}"},
    )


def test_section_1_rule_5_arguments_come_in_pieces_when_asked_for(front: Front) -> None:
    front.enqueue(Reply(["f\n", '{"a":', "1}"]))
    asked = chat("q", stream=True, tools=[TOOL], sightline={"stream_tool_arguments": True})
    deltas = [choice["delta"] for choice in choices_of(events_of(front.post(asked).text))]
    calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert len(calls) > 1
    assert [call["function"].get("name") for call in calls] == ["f", *[None] * (len(calls) - 1)]
    assert "".join(call["function"]["arguments"] for call in calls) == '{"a":1}'


def test_section_1_rule_7_without_include_usage_no_chunk_has_the_key(front: Front) -> None:
    *chunks, _ = events_of(front.post(chat("q", stream=True)).text)
    assert all("usage" not in chunk for chunk in chunks)


def test_section_1_rule_8_one_choice_a_chunk(front: Front) -> None:
    events = events_of(front.post(chat("q", stream=True, n=2)).text)
    finished = [c["index"] for c in choices_of(events) if c["finish_reason"]]
    assert all(len(event["choices"]) == 1 for event in events[:-1])
    assert sorted(finished) == [0, 1]


def test_section_1_rule_9_a_stop_string_never_leaks(front: Front) -> None:
    events = events_of(front.post(chat("one END two", stream=True, stop=["END"])).text)
    said = "".join(choice["delta"].get("content", "") for choice in choices_of(events))
    assert said == "one "


def test_section_1_rule_9_half_a_character_is_held_back(front: Front) -> None:
    front.enqueue(Reply([b"\n\xe4", b"\xb8", b"\xad"]))
    events = events_of(front.post(chat("q", stream=True)).text)
    said = [choice["delta"]["content"] for choice in choices_of(events) if choice["delta"]]
    assert "".join(said) == "中"


def test_section_1_rule_10_early_errors_are_statuses(front: Front) -> None:
    assert front.post(chat("q", "broken", stream=True)).status_code == 400


def test_section_1_rule_10_silence_is_filled_with_comments() -> None:
    with serving(Front(limits=Limits(keep_alive_comment_s=0.05))) as front:
        gate = front.new_gate()
        front.enqueue(Reply([gate, "x"]))
        url = front.url + "/v1/chat/completions"
        with front.client.stream("POST", url, json=chat("q", stream=True)) as answer:
            pieces = answer.iter_text()
            assert answer.status_code == 200
            assert next(pieces) == ": keep-alive\n\n"
            front.on_loop(gate.set)
            assert events_of("".join(pieces))[-1] == "[DONE]"


def test_section_1_rule_11_a_late_error_is_one_block_without_done(front: Front) -> None:
    front.enqueue(Reply(["half"], error=InternalError()))
    *chunks, last = events_of(front.post(chat("q", stream=True)).text)
    assert all("choices" in chunk for chunk in chunks)
    assert last["error"].keys() == {"message", "type", "param", "code"}


def test_section_1_rule_12_a_client_that_leaves_cancels_its_request(front: Front) -> None:
    front.enqueue(Reply(["x", front.new_gate()]))
    with front.connect() as connection:
        connection.sendall(raw_post(json.dumps(chat("q", stream=True)).encode()))
        assert connection.recv(1)
    assert eventually(front.is_idle)
    assert front.engine.requests[-1].outcome == "aborted"


def test_section_1_rule_12_whether_it_streams_or_not(front: Front) -> None:
    front.enqueue(Reply([front.new_gate()]))
    with front.connect() as connection:
        connection.sendall(raw_post(json.dumps(chat("q")).encode()))
        assert eventually(lambda: front.stats().num_running == 1)
    assert eventually(front.is_idle)
    assert front.engine.requests[-1].outcome == "aborted"


def test_section_1_rule_13_responses_have_event_lines(front: Front) -> None:
    body = {"model": "sightline-fake", "input": "q", "stream": True}
    blocks = front.post(body, path="/v1/responses").text.removesuffix("\n\n").split("\n\n")
    assert all(block.startswith("event: response.") for block in blocks)


def test_section_1_rule_13_completions_stream_text_completions(front: Front) -> None:
    body = {"model": "sightline-fake", "prompt": "q", "stream": True}
    events = events_of(front.post(body, path="/v1/completions").text)
    assert events[-1] == "[DONE]"
    assert {event["object"] for event in events[:-1]} == {"text_completion"}

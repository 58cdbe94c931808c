"""Anthropic's Messages API: the same service in another dialect, and errors in its form."""

import json
import re

import pytest
from front import PICTURE, Front, chat, eventually, serving

from sightline.backends.fake import Reply
from sightline.core.chat import ChatDelta, ToolCallDelta, Usage
from sightline.core.errors import InternalError
from sightline.core.limits import Limits
from sightline.server.anthropic.answer import MessageEvents, message_object
from sightline.server.anthropic.convert import to_anthropic_call
from sightline.server.anthropic.schema import MessagesBody
from sightline.server.intake import Terms
from sightline.server.whole_answer import ChoiceParts, WholeAnswer

PATH = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
BASE64 = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": PICTURE.partition(",")[2]},
}
BY_URL = {"type": "image", "source": {"type": "url", "url": "https://example.org/cat.png"}}
TERMS = Terms(strict=False, limits=Limits())


def text(value: str) -> dict[str, object]:
    return {"type": "text", "text": value}


def asks(*blocks: object, **fields: object) -> dict[str, object]:
    content = blocks[0] if len(blocks) == 1 and isinstance(blocks[0], str) else list(blocks)
    return {
        "model": "sightline-fake",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": content}],
        **fields,
    }


def events_of(stream: str) -> list[dict]:
    events = []
    for block in stream.strip().split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


@pytest.mark.parametrize("path", [PATH, "/messages"])
def test_a_message_has_everything_that_clients_read(front: Front, path: str) -> None:
    answer = front.post(asks("你好"), path=path)
    body = answer.json()
    assert re.fullmatch(r"msg_[0-9a-f]{32}", body.pop("id"))
    usage = body.pop("usage")
    assert body == {
        "type": "message",
        "role": "assistant",
        "model": "sightline-fake",
        "content": [{"type": "text", "text": "你好"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
    }
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] > 0
    assert (usage["cache_creation_input_tokens"], usage["cache_read_input_tokens"]) == (0, 0)


@pytest.mark.parametrize("image", [BASE64, BY_URL])
def test_pictures_are_seen_by_data_and_by_address(front: Front, image) -> None:
    body = front.post(asks(image, text("这是什么?")), path=PATH).json()
    assert re.fullmatch(r"\[image [0-9a-f]{8}\] 这是什么\?", body["content"][0]["text"])
    assert len(front.engine.requests[-1].prompt.images) == 1


def test_the_prompt_is_that_of_the_same_chat(front: Front) -> None:
    body = asks(BASE64, text("q"), system=[text("be "), text("kind")], temperature=0.5, top_p=0.25)
    front.post(body, path=PATH)
    messages = [{"role": "system", "content": "be kind"}, *chat("q", PICTURE)["messages"]]
    front.post({"model": "sightline-fake", "messages": messages})
    ours, theirs = list(front.engine.requests)[-2:]
    assert ours.prompt.token_ids == theirs.prompt.token_ids
    assert ours.prompt.images[0].image.digest == theirs.prompt.images[0].image.digest
    assert (ours.params.temperature, ours.params.top_p, ours.params.max_tokens) == (0.5, 0.25, 64)


def test_an_answer_ends_for_a_reason(front: Front) -> None:
    cut = front.post(asks("hello", max_tokens=3), path=PATH).json()
    assert cut["stop_reason"] == "max_tokens"
    stopped = front.post(asks("one two three", stop_sequences=["two"]), path=PATH).json()
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", "two")
    assert stopped["content"][0]["text"] == "one "


def test_a_stream_tells_the_same_message(front: Front) -> None:
    front.enqueue(Reply(["Hel", "lo"]), Reply(["Hel", "lo"]))
    plain = front.post(asks("x"), path=PATH).json()
    answer = front.post(asks("x", stream=True), path=PATH)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = events_of(answer.text)
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    head = events[0]["message"]
    assert (head["content"], head["stop_reason"]) == ([], None)
    assert head["usage"]["input_tokens"] == plain["usage"]["input_tokens"]
    assert "".join(event["delta"]["text"] for event in events[2:4]) == "Hello"
    assert events[5]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert events[5]["usage"] == plain["usage"]


def test_an_error_in_a_stream_is_an_event(front: Front) -> None:
    front.enqueue(Reply(["Half"], error=InternalError()))
    events = events_of(front.post(asks("x", stream=True), path=PATH).text)
    assert events[-1]["type"] == "error"
    assert events[-1]["error"]["type"] == "api_error"
    assert events[-1]["error"]["message"].startswith("Internal error, request id req_")


def test_an_error_before_the_first_word_has_a_status(front: Front) -> None:
    front.enqueue(Reply([], error=InternalError()))
    assert front.post(asks("x", stream=True), path=PATH).status_code == 500


def test_a_client_that_leaves_frees_the_engine(front: Front) -> None:
    gate = front.new_gate()
    front.enqueue(Reply(["one", gate]))
    with front.client.stream("POST", front.url + PATH, json=asks("x", stream=True)) as answer:
        next(answer.iter_lines())
    assert eventually(front.is_idle)


def test_counting_counts_images_and_needs_no_length(front: Front) -> None:
    body = asks(BASE64, text("hello"))
    del body["max_tokens"]
    counted = front.post(body, path=COUNT).json()
    usage = front.post(body | {"max_tokens": 9}, path=PATH).json()["usage"]
    assert counted == {"input_tokens": usage["input_tokens"]}


WRONG = {
    "no max_tokens": ({"max_tokens": None}, "max_tokens"),
    "no messages": ({"messages": []}, "messages"),
    "messages of another type": ({"messages": "x"}, "messages"),
    "no role": ({"messages": [{"content": "x"}]}, "messages[0].role"),
    "a system among them": ({"messages": [{"role": "system", "content": "x"}]}, "messages[0].role"),
    "no content": ({"messages": [{"role": "user"}]}, "messages[0].content"),
    "null content": ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    "max_tokens of text": ({"max_tokens": "5"}, "max_tokens"),
    "max_tokens zero": ({"max_tokens": 0}, "max_tokens"),
    "temperature": ({"temperature": 3}, "temperature"),
    "top_p": ({"top_p": 0}, "top_p"),
    "stop_sequences text": ({"stop_sequences": "x"}, "stop_sequences"),
    "stop_sequences many": ({"stop_sequences": ["x"] * 5}, "stop_sequences"),
    "stop_sequences empty": ({"stop_sequences": [""]}, "stop_sequences[0]"),
    "system of another type": ({"system": 5}, "system"),
    "system with a picture": ({"system": [BASE64]}, "system[0].type"),
    "system block no text": ({"system": [{"type": "text"}]}, "system[0].text"),
    "tool_choice": ({"tool_choice": "auto"}, "tool_choice"),
    "tool_choice type": ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
    "tool_choice no name": ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
    "tools": ({"tools": {}}, "tools"),
    "tool no schema": ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
    "tool_choice parallel": (
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": "yes"}},
        "tool_choice.disable_parallel_tool_use",
    ),
    "tool strict": ({"tools": [{"name": "f", "input_schema": {}, "strict": 1}]}, "tools[0].strict"),
    "thinking": ({"thinking": True}, "thinking"),
    "thinking type": ({"thinking": {"type": "maybe"}}, "thinking.type"),
    "output_format": ({"output_format": {"type": "xml"}}, "output_format.type"),
    "output_config": ({"output_config": []}, "output_config"),
    "two formats": (
        {
            "output_format": {"type": "json_schema", "schema": {}},
            "output_config": {"format": {"type": "json_schema", "schema": {}}},
        },
        "output_format",
    ),
    "metadata": ({"metadata": "x"}, "metadata"),
    "stream": ({"stream": 1}, "stream"),
}
WRONG_BLOCKS = {
    "no object": (5, "messages[0].content[0]"),
    "no type": ({}, "messages[0].content[0].type"),
    "type of another type": ({"type": 5}, "messages[0].content[0].type"),
    "unknown type": ({"type": "document"}, "messages[0].content[0].type"),
    "text of another type": ({"type": "text", "text": 5}, "messages[0].content[0].text"),
    "no source": ({"type": "image"}, "messages[0].content[0].source"),
    "source of text": ({"type": "image", "source": "x"}, "messages[0].content[0].source"),
    "source no type": ({"type": "image", "source": {}}, "messages[0].content[0].source.type"),
    "source of a file": (
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
        "messages[0].content[0].source.type",
    ),
    "no data": (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png"}},
        "messages[0].content[0].source.data",
    ),
    "media type injected": (
        {"type": "image", "source": {"type": "base64", "media_type": "a,b\n", "data": "x"}},
        "messages[0].content[0].source.media_type",
    ),
    "no url": (
        {"type": "image", "source": {"type": "url"}},
        "messages[0].content[0].source.url",
    ),
    "broken picture": (
        {"type": "image", "source": {"type": "url", "url": "broken"}},
        "messages[0].content[0].source",
    ),
    "result without id": ({"type": "tool_result"}, "messages[0].content[0].tool_use_id"),
    "result of another type": (
        {"type": "tool_result", "tool_use_id": "t", "content": 5},
        "messages[0].content[0].content",
    ),
    "result with a broken block": (
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "x"}]},
        "messages[0].content[0].content[0].type",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_field_is_refused_at_its_path(front: Front, case: str) -> None:
    fields, path = WRONG[case]
    assert_refused(front, asks("x") | fields, path)


@pytest.mark.parametrize("case", WRONG_BLOCKS)
def test_a_wrong_block_is_refused_at_its_path(front: Front, case: str) -> None:
    block, path = WRONG_BLOCKS[case]
    assert_refused(front, asks(block, text("x")), path)


def assert_refused(front: Front, body: object, path: str) -> None:
    answer = front.post(body, path=PATH)
    assert answer.status_code == 400, answer.text
    refusal = answer.json()
    assert set(refusal) == {"type", "error", "request_id"}
    assert refusal["type"] == "error"
    assert refusal["error"]["type"] == "invalid_request_error"
    assert path in refusal["error"]["message"]
    assert refusal["request_id"] == answer.headers["x-request-id"] == answer.headers["request-id"]


def test_a_result_without_its_call_is_told_at_one_path(front: Front) -> None:
    answer = front.post(asks({"type": "tool_result", "tool_use_id": "t9"}), path=PATH)
    assert answer.json()["error"]["message"] == (
        "messages[0].content[0].tool_use_id: no call with id 't9' comes before it."
    )


def test_two_pictures_of_one_message_are_too_many_at_the_second(front: Front) -> None:
    assert_refused(front, asks(BASE64, BASE64), "messages[0].content[1].source")


def test_a_prompt_beyond_the_window_is_refused(front: Front) -> None:
    answer = front.post(asks("x" * 5000), path=PATH)
    assert "maximum context length" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (asks("x") | {"model": "claude"}, 404, "not_found_error"),
        (b"{", 400, "invalid_request_error"),
        (b"[]", 400, "invalid_request_error"),
        (b"\xff", 400, "invalid_request_error"),
    ],
)
def test_statuses_have_anthropics_types(front: Front, body, status: int, kind: str) -> None:
    answer = front.post(body, path=PATH)
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == kind


@pytest.mark.parametrize("path", [PATH, COUNT, "/v1/messages/batches"])
def test_wrong_methods_and_paths_answer_in_its_form(front: Front, path: str) -> None:
    answer = front.get(path)
    assert answer.status_code in (404, 405)
    assert answer.json()["type"] == "error"


def test_keys_are_taken_from_x_api_key_and_refused_in_its_form() -> None:
    with serving(Front(server_options={"api_keys": ("sl-1",)})) as front:
        refused = front.post(asks("x"), path=PATH)
        assert refused.status_code == 401
        assert refused.json()["error"]["type"] == "authentication_error"
        assert front.post(asks("x"), path=PATH, x_api_key="sl-1").status_code == 200


def test_what_is_not_used_is_told_and_strict_mode_refuses_it(front: Front) -> None:
    body = asks({**text("x"), "cache_control": {"type": "ephemeral"}}, container="c")
    answer = front.post(body, path=PATH)
    assert answer.headers["x-sightline-warnings"] == (
        "messages[0].content[0].cache_control=not-used, container=unknown-field"
    )
    assert front.post(body, path=PATH, x_sightline_strict="1").status_code == 400


TOOL = {"name": "f", "input_schema": {"type": "object", "properties": {}}}
NOT_USED = {
    "tools[0].foo": {"tools": [TOOL | {"foo": 1}]},
    "tool_choice.foo": {"tools": [TOOL], "tool_choice": {"type": "auto", "foo": 1}},
    "thinking.budget_tokens": {"thinking": {"type": "disabled", "budget_tokens": 1024}},
    "output_format.foo": {"output_format": {"type": "json_schema", "schema": True, "foo": 1}},
    "output_config.format.foo": {
        "output_config": {"format": {"type": "json_schema", "schema": True, "foo": 1}}
    },
}


@pytest.mark.parametrize("path", NOT_USED)
def test_whatever_a_field_holds_that_is_not_used_is_told_at_its_path(
    front: Front, path: str
) -> None:
    answer = front.post(asks("x", **NOT_USED[path]), path=PATH)
    assert f"{path}=unknown-field" in answer.headers["x-sightline-warnings"].split(", ")


def test_null_is_nothing_to_tell_of(front: Front) -> None:
    fields = {
        "tools": [TOOL | {"cache_control": None, "defer_loading": None, "strict": None}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": None, "foo": None},
        "output_config": {"format": {"type": "json_schema", "schema": True, "foo": None}},
        "cache_control": None,
    }
    answer = front.post(asks("x", **fields), path=PATH, x_sightline_strict="1")
    assert answer.status_code == 200, answer.text
    assert "x-sightline-warnings" not in answer.headers


def test_a_mark_for_the_cache_changes_no_answer_wherever_it_stands(front: Front) -> None:
    mark = {"type": "ephemeral"}
    body = asks("x", tools=[TOOL | {"cache_control": mark}], cache_control=mark)
    answer = front.post(body, path=PATH, x_sightline_strict="1")
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-sightline-warnings"] == (
        "tools[0].cache_control=not-used, cache_control=not-used"
    )


def test_that_a_result_is_an_error_is_not_shown_and_that_is_told(front: Front) -> None:
    def warned(is_error: object) -> str | None:
        body = asks("x")
        use = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
        result = {"type": "tool_result", "tool_use_id": "t", "content": "5", "is_error": is_error}
        body["messages"] += [
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [result]},
        ]
        return front.post(body, path=PATH).headers.get("x-sightline-warnings")

    assert warned(True) == "messages[2].content[0].is_error=not-used"
    assert warned(False) is None
    assert warned(None) is None


def test_a_beginning_that_the_client_wrote_is_not_continued_and_that_is_told(front: Front) -> None:
    body = asks("x")
    body["messages"].append({"role": "assistant", "content": "I think"})
    warnings = front.post(body, path=PATH).headers["x-sightline-warnings"]
    assert warnings == "messages[1]=answered-not-continued"


def test_tools_and_their_results_become_those_of_a_chat() -> None:
    body = MessagesBody.model_validate(
        asks("weather?")
        | {
            "messages": [
                {"role": "user", "content": "weather?"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "s"},
                        text("Let me see."),
                        {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "北京"}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"},
                        text("And now?"),
                    ],
                },
            ],
        }
    )
    messages = to_anthropic_call(body, TERMS, request_id="m").call.request.messages
    assert [message.role for message in messages] == ["user", "assistant", "tool", "user"]
    assert [message.text for message in messages] == [
        "weather?",
        "Let me see.",
        "sunny",
        "And now?",
    ]


def test_calls_and_thoughts_are_blocks_of_their_own() -> None:
    deltas = [
        ChatDelta(reasoning="hm"),
        ChatDelta(text="Let me see."),
        ChatDelta(tool_calls=(ToolCallDelta(index=0, id="c0", name="f", arguments='{"a":'),)),
        ChatDelta(tool_calls=(ToolCallDelta(index=0, arguments="1}"),)),
        ChatDelta(tool_calls=(ToolCallDelta(index=1, id="c1", name="g", arguments="{}"),)),
        ChatDelta(finish_reason="tool_calls", usage=Usage(prompt_tokens=5, completion_tokens=7)),
    ]
    parts = ChoiceParts()
    for delta in deltas:
        parts.add(delta)
    usage = Usage(prompt_tokens=5, completion_tokens=7, cached_tokens=2)
    whole = WholeAnswer(model="m", choices=(parts.whole(),), usage=usage, images=())
    message = message_object("msg_1", whole)
    assert message["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "c0", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "c1", "name": "g", "input": {}},
    ]
    assert message["stop_reason"] == "tool_use"
    assert message["usage"]["input_tokens"] == 3
    assert message["usage"]["cache_read_input_tokens"] == 2
    writer = MessageEvents("msg_1", "m", 5)
    events = [writer.start(), *(event for delta in deltas for event in writer.of(delta))]
    told = [
        (event["type"], event.get("index"))
        for event in events
        if event["type"] not in ("content_block_delta",)
    ]
    blocks = [(f"content_block_{what}", index) for index in range(4) for what in ("start", "stop")]
    assert told == [
        ("message_start", None),
        *blocks,
        ("message_delta", None),
        ("message_stop", None),
    ]
    pieces = [
        event["delta"]["partial_json"]
        for event in events
        if event.get("delta", {}).get("type") == "input_json_delta"
    ]
    assert pieces == ['{"a":', "1}", "{}"]


def test_arguments_that_were_cut_short_are_kept_as_text() -> None:
    parts = ChoiceParts()
    parts.add(
        ChatDelta(
            tool_calls=(ToolCallDelta(index=0, id="c", name="f", arguments='{"a":'),),
            finish_reason="length",
        )
    )
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    whole = WholeAnswer(model="m", choices=(parts.whole(),), usage=usage, images=())
    (block,) = message_object("msg_1", whole)["content"]
    assert block["input"] == {"INVALID_JSON": '{"a":'}

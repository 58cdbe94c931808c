"""OpenAI's Responses API: stateless, and every event in the order that clients insist on."""

import json
import re

import pytest
from front import PICTURE, Front, chat, eventually, serving

from sightline.backends.fake import Reply
from sightline.core.chat import ChatDelta, ToolCall, ToolCallDelta, Usage
from sightline.core.errors import InternalError
from sightline.core.limits import Limits
from sightline.server.intake import Terms
from sightline.server.responses.answer import ResponseForm, output_items
from sightline.server.responses.convert import to_responses_call
from sightline.server.responses.events import ResponseEvents
from sightline.server.responses.schema import ResponsesBody
from sightline.server.whole_answer import ChoiceParts

PATH = "/v1/responses"
COUNT = "/v1/responses/input_tokens"
IMAGE = {"type": "input_image", "image_url": PICTURE, "detail": "low"}


def words(text: str) -> dict[str, object]:
    return {"type": "input_text", "text": text}


def asks(*parts: object, **fields: object) -> dict[str, object]:
    one = parts[0] if len(parts) == 1 and isinstance(parts[0], str) else None
    given = one if one is not None else [{"role": "user", "content": list(parts)}]
    return {"model": "sightline-fake", "input": given, "max_output_tokens": 64, **fields}


def events_of(stream: str) -> list[dict]:
    events = []
    for block in stream.strip().split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


@pytest.mark.parametrize("path", [PATH, "/responses"])
def test_a_response_has_everything_that_clients_read(front: Front, path: str) -> None:
    body = front.post(asks("你好"), path=path).json()
    assert re.fullmatch(r"resp_[0-9a-f]{32}", body["id"])
    assert (body["object"], body["status"], body["error"]) == ("response", "completed", None)
    (item,) = body["output"]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
    assert item["content"] == [
        {"type": "output_text", "text": "你好", "annotations": [], "logprobs": []}
    ]
    assert body["max_output_tokens"] == 64
    assert (body["store"], body["previous_response_id"]) == (False, None)
    usage = body["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert set(usage["input_tokens_details"]) >= {"cached_tokens", "cache_write_tokens"}
    assert usage["output_tokens_details"] == {"reasoning_tokens": 0}


@pytest.mark.parametrize("row", ["user", "safety_identifier", "prompt_cache_key"])
def test_what_is_only_noted_comes_back(front: Front, row: str) -> None:
    assert front.post(asks("x"), path=PATH).json()[row] is None
    assert front.post(asks("x", **{row: "ann"}), path=PATH).json()[row] == "ann"


def test_the_prompt_is_that_of_the_same_chat(front: Front) -> None:
    body = asks(words("q"), IMAGE, instructions="be kind", temperature=0.5, top_p=0.25)
    assert front.post(body, path=PATH).json()["usage"]["input_tokens_details"]["image_tokens"] == 18
    parts = [{"type": "text", "text": "q"}, {"type": "image_url", "image_url": {"url": PICTURE}}]
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": parts}]
    front.post({"model": "sightline-fake", "messages": messages})
    ours, theirs = list(front.engine.requests)[-2:]
    assert ours.prompt.token_ids == theirs.prompt.token_ids
    assert (ours.params.temperature, ours.params.top_p, ours.params.max_tokens) == (0.5, 0.25, 64)


def test_an_item_whose_type_is_null_is_a_message(front: Front) -> None:
    given = {"type": None, "role": "user", "content": "q"}
    answer = front.post(asks("x") | {"input": [given]}, path=PATH, x_sightline_strict="1")
    assert answer.json()["output"][0]["content"][0]["text"] == "q"


def test_a_whole_conversation_is_taken_back(front: Front) -> None:
    first = front.post(asks("one"), path=PATH).json()
    given = [
        {"role": "user", "content": "one"},
        *first["output"],
        {"type": "message", "role": "user", "content": [words("two")]},
    ]
    answer = front.post(asks() | {"input": given}, path=PATH, x_sightline_strict="1")
    assert answer.status_code == 200, answer.text
    messages = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "two"},
    ]
    front.post({"model": "sightline-fake", "messages": messages})
    ours, theirs = list(front.engine.requests)[-2:]
    assert ours.prompt.token_ids == theirs.prompt.token_ids


def test_an_answer_that_was_cut_is_incomplete(front: Front) -> None:
    body = front.post(asks("hello", max_output_tokens=2), path=PATH).json()
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert body["output"][0]["status"] == "incomplete"


def test_a_stream_tells_every_step(front: Front) -> None:
    front.enqueue(Reply(["Hel", "lo"]), Reply(["Hel", "lo"]))
    plain = front.post(asks("x"), path=PATH).json()
    answer = front.post(asks("x", stream=True), path=PATH)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = events_of(answer.text)
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert "".join(event["delta"] for event in events[4:6]) == events[6]["text"] == "Hello"
    response = events[-1]["response"]
    assert {event["response"]["id"] for event in events if "response" in event} == {response["id"]}
    assert response["output"] == [events[8]["item"]]
    assert events[8]["item"]["id"] == events[2]["item"]["id"]
    assert response["usage"] == plain["usage"]
    assert response["output"][0]["content"] == plain["output"][0]["content"]


def test_a_stream_that_was_cut_ends_as_incomplete(front: Front) -> None:
    events = events_of(front.post(asks("hello", max_output_tokens=2, stream=True), path=PATH).text)
    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["status"] == "incomplete"


def test_a_failure_in_a_stream_is_a_failed_response(front: Front) -> None:
    front.enqueue(Reply(["Half"], error=InternalError()))
    events = events_of(front.post(asks("x", stream=True), path=PATH).text)
    assert events[-1]["type"] == "response.failed"
    response = events[-1]["response"]
    assert response["status"] == "failed"
    assert response["error"]["code"] == "server_error"
    assert response["error"]["message"].startswith("Internal error, request id req_")


def test_a_failure_after_silence_alone_is_a_response_that_was_created_and_failed() -> None:
    with serving(Front(limits=Limits(keep_alive_comment_s=0.02))) as front:
        gate = front.new_gate()
        front.enqueue(Reply([gate], error=InternalError()))
        url, body = front.url + PATH, asks("x", stream=True)
        with front.client.stream("POST", url, json=body) as answer:
            pieces = answer.iter_text()
            assert next(pieces) == ": keep-alive\n\n"
            front.on_loop(gate.set)
            told = "".join(pieces).replace(": keep-alive\n\n", "")
    names = [event["type"] for event in events_of(told)]
    assert names == ["response.created", "response.in_progress", "response.failed"]


def test_an_error_before_the_first_word_has_a_status(front: Front) -> None:
    front.enqueue(Reply([], error=InternalError()))
    assert front.post(asks("x", stream=True), path=PATH).status_code == 500


def test_a_client_that_leaves_frees_the_engine(front: Front) -> None:
    gate = front.new_gate()
    front.enqueue(Reply(["one", gate]))
    with front.client.stream("POST", front.url + PATH, json=asks("x", stream=True)) as answer:
        next(answer.iter_lines())
    assert eventually(front.is_idle)


def test_counting_counts_images(front: Front) -> None:
    body = asks(words("hello"), IMAGE)
    counted = front.post(body, path=COUNT).json()
    usage = front.post(body, path=PATH).json()["usage"]
    assert counted == {"object": "response.input_tokens", "input_tokens": usage["input_tokens"]}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_no_response_is_kept(front: Front, method: str) -> None:
    answer = front.request(method, "/v1/responses/resp_1")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "response_not_found"


def item(**fields: object) -> dict[str, object]:
    return {"input": [fields]}


def part(**fields: object) -> dict[str, object]:
    return {"input": [{"role": "user", "content": [fields]}]}


def test_an_item_that_was_kept_elsewhere_is_refused_with_the_way_out(front: Front) -> None:
    body = {"model": "sightline-fake", "input": [{"type": "item_reference", "id": "msg_1"}]}
    error = front.post(body, path="/v1/responses").json()["error"]
    assert error["param"] == "input[0].type"
    assert "store: false" in error["message"]


def test_the_form_of_an_answer_under_its_name_in_a_chat_is_refused(front: Front) -> None:
    body = {"model": "sightline-fake", "input": "x", "response_format": {"type": "json_object"}}
    error = front.post(body, path="/v1/responses").json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_parameter", "response_format")
    assert "text.format" in error["message"]
    body["response_format"] = None
    assert front.post(body, path="/v1/responses").status_code == 200


def test_settings_that_are_null_are_repeated_as_what_they_stand_for(front: Front) -> None:
    nulls = {"text": {"format": None, "verbosity": None}, "reasoning": {"effort": None}}
    body = {"model": "sightline-fake", "input": "x", **nulls}
    response = front.post(body, path="/v1/responses").json()
    assert response["text"] == {"format": {"type": "text"}}
    assert response["reasoning"] == {"effort": None, "summary": None}


def test_the_settings_that_were_used_are_repeated_and_nothing_else(front: Front) -> None:
    schema = {"type": "object", "properties": {}}
    look = {"type": "function", "name": "look", "parameters": schema, "strict": True}
    chosen = {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "function", "name": "look"}],
    }
    form = {"type": "json_schema", "name": "x", "schema": {"type": "null"}}
    body = asks(
        "x",
        tools=[{**look, "cache": "x"}, {"type": "web_search", "x": "y" * 9}],
        tool_choice={**chosen, "more": 1},
        text={"format": {**form, "more": 1}, "verbosity": "low"},
        reasoning={"effort": "low", "more": 1},
        metadata={"a": "b"},
    )
    response = front.post(body, path=PATH).json()
    assert response["tools"] == [look]
    assert response["tool_choice"] == chosen
    assert response["text"] == {"format": form, "verbosity": "low"}
    assert response["reasoning"] == {"effort": "low", "summary": None}
    assert response["metadata"] == {"a": "b"}


@pytest.mark.parametrize(
    "field",
    [
        {"tools": [{"type": "web_search", "x": "中" * 1_000_000}]},
        {"reasoning": {"effort": "low", "x": "中" * 1_000_000}},
        {"text": {"verbosity": "中" * 1_000_000}},
    ],
    ids=["a tool", "reasoning", "verbosity"],
)
def test_megabytes_that_nobody_uses_do_not_come_back_with_every_event(
    front: Front, field: dict[str, object]
) -> None:
    assert len(front.post(asks("x", stream=True, **field), path=PATH).content) < 10_000


@pytest.mark.parametrize(
    "field",
    ['"metadata": {"a": 1e400}', '"tools": [{"type": "web_search", "x": 1e400}]'],
    ids=["metadata", "a tool"],
)
def test_numbers_that_no_float_holds_are_no_fault_of_ours(front: Front, field: str) -> None:
    body = f'{{"model": "sightline-fake", "input": "x", {field}}}'
    answer = front.post(body.encode(), path=PATH)
    assert answer.status_code in (200, 400)
    assert "nfinity" not in answer.text


WRONG = {
    "no input": ({"input": None}, "invalid_type", "input"),
    "empty input": ({"input": []}, "missing_required_parameter", "input"),
    "input number": ({"input": 5}, "invalid_type", "input"),
    "item text": ({"input": ["x"]}, "invalid_type", "input[0]"),
    "item type": (item(type="web_search_call"), "unsupported_parameter", "input[0].type"),
    "item type number": (item(type=5), "invalid_type", "input[0].type"),
    "item reference": (
        item(type="item_reference", id="x"),
        "unsupported_parameter",
        "input[0].type",
    ),
    "no role": (item(content="x"), "missing_required_parameter", "input[0].role"),
    "role": (item(role="tool", content="x"), "invalid_value", "input[0].role"),
    "no content": (item(role="user"), "missing_required_parameter", "input[0].content"),
    "null content": (item(role="user", content=None), "invalid_type", "input[0].content"),
    "part": (item(role="user", content=["x"]), "invalid_type", "input[0].content[0]"),
    "no part type": (part(), "missing_required_parameter", "input[0].content[0].type"),
    "part type": (
        part(type="input_file", file_data="x"),
        "unsupported_parameter",
        "input[0].content[0].type",
    ),
    "no text": (part(type="input_text"), "missing_required_parameter", "input[0].content[0].text"),
    "no image": (
        part(type="input_image"),
        "missing_required_parameter",
        "input[0].content[0].image_url",
    ),
    "image number": (
        part(type="input_image", image_url=5),
        "invalid_type",
        "input[0].content[0].image_url",
    ),
    "image file": (
        part(type="input_image", file_id="file-1"),
        "image_file_not_found",
        "input[0].content[0].file_id",
    ),
    "broken image": (
        part(type="input_image", image_url="broken"),
        "image_parse_error",
        "input[0].content[0].image_url",
    ),
    "detail": (
        part(type="input_image", image_url=PICTURE, detail="ultra"),
        "invalid_value",
        "input[0].content[0].detail",
    ),
    "call without id": (
        item(type="function_call", name="f", arguments="{}"),
        "missing_required_parameter",
        "input[0].call_id",
    ),
    "output without id": (
        item(type="function_call_output", output="x"),
        "missing_required_parameter",
        "input[0].call_id",
    ),
    "output number": (
        item(type="function_call_output", call_id="c", output=5),
        "invalid_type",
        "input[0].output",
    ),
    "thought": (item(type="reasoning", summary=[{}]), "invalid_value", "input[0]"),
    "max_output_tokens": ({"max_output_tokens": 0}, "invalid_value", "max_output_tokens"),
    "temperature": ({"temperature": 3}, "invalid_value", "temperature"),
    "top_logprobs": ({"top_logprobs": "x"}, "invalid_type", "top_logprobs"),
    "instructions": ({"instructions": 5}, "invalid_type", "instructions"),
    "kept": ({"previous_response_id": "resp_1"}, "unsupported_parameter", "previous_response_id"),
    "conversation": ({"conversation": "c"}, "unsupported_parameter", "conversation"),
    "background": ({"background": True}, "unsupported_parameter", "background"),
    "template": ({"prompt": {"id": "p"}}, "unsupported_parameter", "prompt"),
    "text": ({"text": "x"}, "invalid_type", "text"),
    "format": ({"text": {"format": 5}}, "invalid_type", "text.format"),
    "format type": ({"text": {"format": {}}}, "missing_required_parameter", "text.format.type"),
    "no schema": (
        {"text": {"format": {"type": "json_schema"}}},
        "missing_required_parameter",
        "text.format.schema",
    ),
    "tools": ({"tools": {}}, "invalid_type", "tools"),
    "tool choice": ({"tool_choice": 5}, "invalid_type", "tool_choice"),
    "tool choice type": (
        {"tool_choice": {"type": "web_search"}},
        "unsupported_parameter",
        "tool_choice",
    ),
    "truncation": ({"truncation": "some"}, "invalid_value", "truncation"),
    "stream_options": ({"stream_options": {}}, "invalid_value", "stream_options"),
    "guided": ({"guided_json": {}}, "unsupported_parameter", "guided_json"),
    "too long": ({"input": "x" * 5000}, "context_length_exceeded", "input"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_refused_at_its_path(front: Front, case: str) -> None:
    fields, code, param = WRONG[case]
    answer = front.post(asks("x") | fields, path=PATH)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert "messages[" not in error["message"]


def test_an_output_without_its_call_is_told_in_the_words_of_responses(front: Front) -> None:
    body = asks("x") | item(type="function_call_output", call_id="c", output="5")
    error = front.post(body, path=PATH).json()["error"]
    assert error["message"] == "input[0]: no call with id 'c' comes before it."
    assert error["param"] == "input[0].call_id"


def test_a_model_that_does_not_think_says_so_of_the_field_that_was_sent(front: Front) -> None:
    answer = front.post(asks("x", reasoning={"effort": "low"}), path=PATH)
    assert answer.headers["x-sightline-warnings"] == "reasoning.effort=model-does-not-think"


def test_an_unknown_effort_is_refused_at_the_field_that_was_sent(front: Front) -> None:
    error = front.post(asks("x", reasoning={"effort": "ultra"}), path=PATH).json()["error"]
    assert (error["code"], error["param"]) == ("invalid_value", "reasoning.effort")
    assert error["message"].startswith("reasoning.effort: 'ultra' is not one of none, minimal")


def test_an_unknown_model_is_404(front: Front) -> None:
    assert front.post(asks("x") | {"model": "gpt"}, path=PATH).status_code == 404


def test_the_bounds_of_a_picture_are_told_of_where_they_were_sent(front: Front) -> None:
    answer = front.post(asks(IMAGE | {"detail": "auto", "max_pixels": 10_000}), path=PATH)
    told_of = answer.headers["x-sightline-warnings"]
    assert told_of == "input[0].content[0].max_pixels=fixed-image-size"


def test_two_pictures_are_too_many_at_the_second(front: Front) -> None:
    error = front.post(asks(IMAGE, words("and"), IMAGE), path=PATH).json()["error"]
    assert (error["code"], error["param"]) == ("too_many_images", "input[0].content[2].image_url")


def test_what_is_not_used_is_told_and_strict_mode_refuses_it(front: Front) -> None:
    body = asks("x", truncation="auto", store=True, tools=[{"type": "web_search"}], foo=1)
    warnings = front.post(body, path=PATH).headers["x-sightline-warnings"]
    for field in ("truncation", "store", "tools[0]", "foo"):
        assert f"{field}=" in warnings
    assert front.post(body, path=PATH, x_sightline_strict="1").status_code == 400


def test_calls_thoughts_and_outputs_become_messages_of_a_chat() -> None:
    body = ResponsesBody.model_validate(
        {
            "model": "m",
            "input": [
                {"role": "user", "content": "weather?"},
                {"type": "reasoning", "id": "rs", "summary": [], "content": [{"text": "hm"}]},
                {"type": "message", "role": "assistant", "content": [words("Let me see.")]},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call", "call_id": "d", "name": "g", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "sunny"},
                {"type": "function_call_output", "call_id": "d", "output": [words("warm")]},
            ],
        }
    )
    terms = Terms(strict=False, limits=Limits())
    messages = to_responses_call(body, terms, request_id="r").call.request.messages
    assert [message.role for message in messages] == ["user", "assistant", "tool", "tool"]
    assert [message.text for message in messages] == ["weather?", "Let me see.", "sunny", "warm"]


def test_thoughts_words_and_calls_are_items_of_their_own() -> None:
    deltas = [
        ChatDelta(reasoning="hm"),
        ChatDelta(text="Let me see."),
        ChatDelta(tool_calls=(ToolCallDelta(index=0, id="c0", name="f", arguments='{"a":'),)),
        ChatDelta(tool_calls=(ToolCallDelta(index=0, arguments="1}"),)),
        ChatDelta(tool_calls=(ToolCallDelta(index=1, id="c1", name="g", arguments="{}"),)),
        ChatDelta(finish_reason="tool_calls", usage=Usage(prompt_tokens=5, completion_tokens=7)),
    ]
    form = ResponseForm(
        response_id="resp_1",
        created=1,
        model="m",
        body=ResponsesBody.model_validate({"model": "m", "input": "x"}),
    )
    writer = ResponseEvents(form)
    events = [*writer.start(), *(event for delta in deltas for event in writer.of(delta))]
    added = [event for event in events if event["type"] == "response.output_item.added"]
    done = [event for event in events if event["type"] == "response.output_item.done"]
    kinds = ["reasoning", "message", "function_call", "function_call"]
    assert [event["item"]["type"] for event in added] == kinds
    assert [event["output_index"] for event in added] == [0, 1, 2, 3]
    assert [event["item"]["id"] for event in added] == [event["item"]["id"] for event in done]
    assert done[2]["item"]["arguments"] == '{"a":1}'
    assert done[3]["item"]["call_id"] == "c1"
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["output"] == [event["item"] for event in done]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    parts = ChoiceParts()
    for delta in deltas:
        parts.add(delta)
    whole = output_items(parts.whole())

    def told(items: list[dict]) -> list[dict]:
        return [{k: v for k, v in item.items() if k != "id"} for item in items]

    assert told(whole) == told(events[-1]["response"]["output"])
    assert parts.tool_calls[0] == ToolCall(id="c0", name="f", arguments='{"a":1}')


def test_an_answer_without_a_word_is_a_message(front: Front) -> None:
    front.enqueue(Reply([]), Reply([]))
    (whole,) = front.post(asks("x"), path=PATH).json()["output"]
    assert whole["content"][0]["text"] == ""
    events = events_of(front.post(asks("x", stream=True), path=PATH).text)
    (streamed,) = events[-1]["response"]["output"]
    assert streamed["content"] == whole["content"]
    assert front.post(chat("x")).status_code == 200


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"type": "json_schema", "name": "a", "schema": True, "foo": 1}, "text.format.foo"),
        ({"type": "json_object", "schema": {}, "foo": None}, "text.format.schema"),
        ({"type": "text", "name": "a"}, "text.format.name"),
    ],
)
def test_what_a_format_does_not_know_is_named(
    front: Front, form: dict[str, object], field: str
) -> None:
    body = asks("q", text={"format": form})
    answer = front.post(body, path=PATH)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-sightline-warnings"] == f"{field}=unknown-field"
    assert front.post(body, path=PATH, x_sightline_strict="1").json()["error"]["param"] == field


@pytest.mark.parametrize("name", ["name", "description", "strict"])
def test_the_words_about_a_schema_have_their_types(front: Front, name: str) -> None:
    form = {"type": "json_schema", "name": "a", "schema": True, name: 5}
    error = front.post(asks("q", text={"format": form}), path=PATH).json()["error"]
    assert (error["code"], error["param"]) == ("invalid_type", f"text.format.{name}")
    front.post(asks("q", text={"format": form | {name: None}}), path=PATH).raise_for_status()

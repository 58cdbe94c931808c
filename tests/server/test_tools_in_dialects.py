"""Tools, formats and choices in every dialect: judged once, told in each one's words."""

import json

import pytest
from front import Front

from sightline.backends.fake import OBSERVATION, Reply

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
CALLING = Reply(["look\n", '{"a": ', "1}", (OBSERVATION,)])
NESTED = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
FLAT = {"type": "function", "name": "look", "parameters": SCHEMA}
ANTHROPIC = {"name": "look", "input_schema": SCHEMA}
QUESTION = [{"role": "user", "content": "where?"}]


def responses(**fields: object) -> dict[str, object]:
    return {"model": "sightline-fake", "input": "where?", **fields}


def messages(**fields: object) -> dict[str, object]:
    return {"model": "sightline-fake", "messages": QUESTION, "max_tokens": 64, **fields}


def ollama(**fields: object) -> dict[str, object]:
    return {"model": "sightline-fake", "messages": QUESTION, "stream": False, **fields}


def posted(front: Front, path: str, body: object) -> dict:
    answer = front.post(body, path=path)
    assert answer.status_code == 200, answer.text
    assert "x-sightline-warnings" not in answer.headers
    return answer.json()


def test_a_call_is_an_item_of_a_response(front: Front) -> None:
    front.enqueue(CALLING)
    body = posted(front, "/v1/responses", responses(tools=[FLAT]))
    (item,) = body["output"]
    assert (item["type"], item["name"], item["status"]) == ("function_call", "look", "completed")
    assert json.loads(item["arguments"]) == {"a": 1}
    back = [
        {"role": "user", "content": "where?"},
        item,
        {"type": "function_call_output", "call_id": item["call_id"], "output": "there"},
    ]
    posted(front, "/v1/responses", responses(input=back, tools=[FLAT]))


def test_a_streamed_call_is_an_item_of_a_response(front: Front) -> None:
    front.enqueue(CALLING)
    text = front.post(responses(tools=[FLAT], stream=True), path="/v1/responses").text
    events = [json.loads(block.split("data: ")[1]) for block in text.strip().split("\n\n")]
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds[2:] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert json.loads(events[4]["arguments"]) == {"a": 1}


def test_a_call_is_a_block_of_a_message(front: Front) -> None:
    front.enqueue(CALLING)
    body = posted(front, "/v1/messages", messages(tools=[ANTHROPIC]))
    (block,) = body["content"]
    assert (block["type"], block["name"], block["input"]) == ("tool_use", "look", {"a": 1})
    assert body["stop_reason"] == "tool_use"
    back = [
        *QUESTION,
        {"role": "assistant", "content": body["content"]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": block["id"], "content": "there"}],
        },
    ]
    posted(front, "/v1/messages", messages(messages=back, tools=[ANTHROPIC]))


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_is_told_to_ollamas_clients(front: Front, stream: bool) -> None:
    front.enqueue(CALLING)
    answer = front.post(ollama(tools=[NESTED], stream=stream), path="/api/chat")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    told = [line["message"] for line in lines if "tool_calls" in line["message"]]
    (message,) = told
    (call,) = message["tool_calls"]
    assert call["id"].startswith("call_")
    assert call["function"] == {"index": 0, "name": "look", "arguments": {"a": 1}}
    back = [*QUESTION, message, {"role": "tool", "content": "there", "tool_name": "look"}]
    posted(front, "/api/chat", ollama(messages=back, tools=[NESTED]))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/responses",
            responses(tools=[FLAT], tool_choice={"type": "function", "name": "look"}),
        ),
        ("/v1/responses", responses(tools=[FLAT], tool_choice="required")),
        ("/v1/messages", messages(tools=[ANTHROPIC], tool_choice={"type": "any"})),
        ("/v1/messages", messages(tools=[ANTHROPIC], tool_choice={"type": "tool", "name": "look"})),
        (
            "/v1/responses",
            responses(text={"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}),
        ),
        ("/v1/responses", responses(text={"format": {"type": "json_object"}})),
        ("/v1/messages", messages(output_format={"type": "json_schema", "schema": SCHEMA})),
        (
            "/v1/messages",
            messages(output_config={"format": {"type": "json_schema", "schema": SCHEMA}}),
        ),
        ("/api/chat", ollama(format=SCHEMA)),
        ("/api/chat", ollama(format="json")),
    ],
)
def test_what_an_answer_must_be_reaches_the_engine_as_a_grammar(front: Front, path, body) -> None:
    posted(front, path, body)
    assert front.engine.requests[-1].params.grammar is not None


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/responses", responses(tools=[{**FLAT, "name": "a b"}]), "tools[0].name"),
        (
            "/v1/responses",
            responses(tools=[{"type": "web_search"}, {**FLAT, "name": ""}]),
            "tools[1].name",
        ),
        ("/v1/responses", responses(tools=[{**FLAT, "parameters": []}]), "tools[0].parameters"),
        (
            "/v1/responses",
            responses(tools=[FLAT], tool_choice={"type": "function", "name": "other"}),
            "tool_choice",
        ),
        ("/v1/responses", responses(tool_choice="required"), "tool_choice"),
        ("/v1/messages", messages(tools=[{**ANTHROPIC, "name": "a b"}]), "tools[0].name"),
        (
            "/v1/messages",
            messages(tools=[{**ANTHROPIC, "input_schema": 5}]),
            "tools[0].input_schema",
        ),
        (
            "/v1/messages",
            messages(tools=[ANTHROPIC], tool_choice={"type": "tool", "name": "other"}),
            "tool_choice",
        ),
        (
            "/v1/messages",
            messages(
                messages=[
                    {
                        "role": "user",
                        "content": [{"type": "tool_result", "tool_use_id": "x", "content": ""}],
                    }
                ]
            ),
            "messages[0].content[0].tool_use_id",
        ),
        (
            "/v1/responses",
            responses(input=[{"type": "function_call_output", "call_id": "x", "output": ""}]),
            "input[0].call_id",
        ),
        ("/v1/responses", responses(text={"format": {"type": "xml"}}), "text.format.type"),
        (
            "/v1/responses",
            responses(text={"format": {"type": "json_schema", "schema": 5}}),
            "text.format.schema",
        ),
        (
            "/api/chat",
            ollama(tools=[{"type": "function", "function": {}}]),
            "tools[0].function.name",
        ),
    ],
)
def test_a_wrong_tool_or_format_is_refused_at_its_path(front: Front, path, body, param) -> None:
    answer = front.post(body, path=path)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    if path == "/v1/responses":
        assert error["param"] == param
    else:
        assert param in json.dumps(error)


def test_choices_of_a_text_completion_are_numbered_through(front: Front) -> None:
    body = {"model": "sightline-fake", "prompt": ["a", "b"], "n": 2, "max_tokens": 4}
    completion = posted(front, "/v1/completions", body)
    assert [choice["index"] for choice in completion["choices"]] == [0, 1, 2, 3]
    text = front.post(body | {"stream": True}, path="/v1/completions").text
    blocks = [block.removeprefix("data: ") for block in text.strip().split("\n\n")][:-1]
    finished = [
        choice["index"]
        for block in blocks
        for choice in json.loads(block)["choices"]
        if choice["finish_reason"]
    ]
    assert sorted(finished) == [0, 1, 2, 3]

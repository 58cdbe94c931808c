"""Section 6 of the API's description: every line about tools, schemas and thoughts.

How calls are written and read in each syntax is in `tests/service/test_tool_calls.py`, how they
are enforced in `tests/service/test_tool_grammars.py`.
"""

import json
from typing import Any

import pytest
from front import PICTURE, Front, chat

from sightline.backends.fake import ASSISTANT, OBSERVATION, Reply

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
NAMED = {"type": "function", "function": {"name": "f"}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def tell(front: Front, *pieces: Any, **fields: Any) -> dict[str, Any]:
    front.enqueue(Reply(list(pieces)))
    answer = front.post(chat("q", **fields))
    assert answer.status_code == 200, answer.text
    choice: dict[str, Any] = answer.json()["choices"][0]
    return choice


def grammar(front: Front) -> str | None:
    return front.engine.requests[-1].params.grammar


def wrapped(schema: object, **more: object) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, **more}}


def test_section_6_tools_are_offered_by_the_prompt(front: Front) -> None:
    tell(front, "\nno", tools=[TOOL])
    ids = front.engine.requests[-1].prompt.token_ids
    assert b"## f" in bytes(t for t in ids if t < 256)


def test_section_6_tools_at_most_128_with_names_of_64_characters(front: Front) -> None:
    def named(name: str) -> dict[str, Any]:
        return {"type": "function", "function": {"name": name}}

    most = chat("q", tools=[named(f"{n:064}") for n in range(128)])
    assert front.post(most, path="/v1/chat/completions/input_tokens").status_code == 200
    for tools, code in (
        ([named(f"n{n}") for n in range(129)], "invalid_value"),
        ([named("n" * 65)], "invalid_tool"),
        ([named("é")], "invalid_tool"),
    ):
        answer = front.post(chat("q", tools=tools))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_section_6_tool_choice_auto_is_the_default(front: Front) -> None:
    assert tell(front, "\nno", tools=[TOOL])["message"]["content"] == "no"
    assert grammar(front) is None


def test_section_6_tool_choice_none(front: Front) -> None:
    choice = tell(front, "f\n{}", tools=[TOOL], tool_choice="none")
    assert "tool_calls" not in choice["message"]


@pytest.mark.parametrize("wanted", ["required", NAMED], ids=["required", "named"])
def test_section_6_tool_choice_is_enforced_by_grammar(front: Front, wanted: object) -> None:
    choice = tell(front, "f\n{}", (OBSERVATION,), tools=[TOOL], tool_choice=wanted)
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "f"
    assert "start: calls" in (grammar(front) or "")


@pytest.mark.parametrize("nothing", [{}, {"type": None}])
def test_section_6_thinking_without_a_type_is_as_if_it_were_absent(
    front: Front, nothing: object
) -> None:
    assert front.post(chat("q", thinking=nothing)).status_code == 200


def test_section_6_tool_choice_beside_functions_is_refused_by_name(front: Front) -> None:
    functions = [{"name": "f", "parameters": {"type": "object"}}]
    asked = chat("q", functions=functions, tool_choice="required")
    error = front.post(asked).json()["error"]
    assert (error["code"], error["param"]) == ("invalid_value", "tool_choice")
    assert "function_call" in error["message"]
    assert front.post(asked | {"tool_choice": "auto"}).status_code == 200


def test_section_6_parallel_tool_calls_false_keeps_the_first_call(front: Front) -> None:
    calls = ("f\n{}", (ASSISTANT,), 'f\n{"n": 2}', (OBSERVATION,))
    both = tell(front, *calls, tools=[TOOL])
    one = tell(front, *calls, tools=[TOOL], parallel_tool_calls=False)
    assert len(both["message"]["tool_calls"]) == 2
    assert [call["function"]["arguments"] for call in one["message"]["tool_calls"]] == ["{}"]


def test_section_6_a_schema_without_end_is_refused(front: Front) -> None:
    endless = {"properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    body = chat("q", tools=[TOOL | {"function": {"name": "f", "parameters": endless}}])
    error = front.post(body).json()["error"]
    assert (error["code"], error["param"]) == ("invalid_schema", "tools[0].function.parameters")
    assert "$.properties.a" in error["message"]


def test_section_6_unknown_tool_objects_are_dropped_with_a_notice(front: Front) -> None:
    body = chat("q", tools=[TOOL, {"type": "web_search"}])
    answer = front.post(body)
    assert answer.status_code == 200
    assert answer.headers["x-sightline-warnings"] == "tools[1]=tool-type-not-supported"
    assert front.post(body, x_sightline_strict="1").status_code == 400


def test_section_6_what_stands_beside_a_function_is_told(front: Front) -> None:
    marked = chat("q", tools=[TOOL | {"cache_control": {"type": "ephemeral"}, "x": None}])
    answer = front.post(marked, x_sightline_strict="1")
    assert answer.headers["x-sightline-warnings"] == "tools[0].cache_control=not-used"
    unknown = chat("q", tools=[TOOL | {"x": 1}])
    assert front.post(unknown).headers["x-sightline-warnings"] == "tools[0].x=unknown-field"
    assert front.post(unknown, x_sightline_strict="1").status_code == 400


def test_section_6_arguments_in_history_that_are_not_json_pass_as_text(front: Front) -> None:
    call = CALL | {"function": {"name": "f", "arguments": "not {json"}}
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "y"},
    ]
    assert front.post(chat("q") | {"messages": messages}).status_code == 200
    ids = front.engine.requests[-1].prompt.token_ids
    assert b"f\nnot {json" in bytes(t for t in ids if t < 256)


@pytest.mark.parametrize("said", ["f\n__import__('os').abort()", "f\n[1]", "g\n{}"])
def test_section_6_model_output_is_data_and_a_broken_call_falls_back_to_text(
    front: Front, said: str
) -> None:
    choice = tell(front, said, tools=[TOOL])
    assert choice["message"]["content"] == said
    assert choice["finish_reason"] == "stop"


def test_section_6_tool_results_may_hold_images(front: Front) -> None:
    part = {"type": "image_url", "image_url": {"url": PICTURE}}
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c", "content": [part]},
    ]
    usage = front.post(chat("q") | {"messages": messages}).json()["usage"]
    assert usage["prompt_tokens_details"]["image_tokens"] == 18


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, '"type": "object"'),
        (wrapped({"type": "null"}), '"type": "null"'),
        ({"type": "json_schema", "json_schema": {"type": "null"}}, '"type": "null"'),
    ],
    ids=["text", "json_object", "json_schema", "a bare schema"],
)
def test_section_6_response_format(front: Front, wanted: object, part: str | None) -> None:
    tell(front, "\n{}", response_format=wanted)
    assert (grammar(front) is None) == (part is None)
    assert (part or "") in (grammar(front) or "")


@pytest.mark.parametrize("key", ["foo", "title"])
def test_section_6_a_wrapper_stays_one_beside_keys_that_it_does_not_know(
    front: Front, key: str
) -> None:
    front.enqueue(Reply(["\nnull"]))
    asked = chat("q", response_format=wrapped({"type": "null"}, **{key: "x"}))
    answer = front.post(asked)
    assert '"type": "null"' in (grammar(front) or "")
    told = answer.headers["x-sightline-warnings"]
    assert told == f"response_format.json_schema.{key}=unknown-field"
    assert front.post(asked, x_sightline_strict="1").status_code == 400


@pytest.mark.parametrize(
    "value",
    [{"city": "string"}, {"json_schema": {"name": "x", "schema": {"type": "null"}}}, {"x": {}}],
    ids=json.dumps,
)
def test_section_6_a_bare_schema_without_a_word_of_json_schema_is_no_schema(
    front: Front, value: dict[str, Any]
) -> None:
    wanted = {"type": "json_schema", "json_schema": value}
    error = front.post(chat("q", response_format=wanted)).json()["error"]
    assert (error["code"], error["param"]) == ("invalid_schema", "response_format.json_schema")
    assert "no keyword of JSON Schema" in error["message"]


def test_section_6_response_format_tells_what_it_does_not_know(front: Front) -> None:
    answer = front.post(chat("q", response_format={"type": "text", "foo": 1, "bar": None}))
    assert answer.headers["x-sightline-warnings"] == "response_format.foo=unknown-field"


@pytest.mark.parametrize("strict", [True, False, None])
def test_section_6_the_schema_is_enforced_whatever_strict_says(
    front: Front, strict: bool | None
) -> None:
    tell(front, "\nnull", response_format=wrapped({"type": "null"}, strict=strict))
    assert '"type": "null"' in (grammar(front) or "")


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


OVER = {
    "64 KiB": {"enum": ["x" * 65_536]},
    "depth 16": deep(17),
    "1000 properties": {
        "type": "object",
        "properties": {f"p{n}": {"type": "null"} for n in range(1001)},
    },
}


@pytest.mark.parametrize("limit", OVER)
def test_section_6_a_schema_over_its_limits(front: Front, limit: str) -> None:
    answer = front.post(chat("q", response_format=wrapped(OVER[limit])))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "schema_too_complex")


def test_section_6_no_remote_ref(front: Front) -> None:
    schema = {"$ref": "http://a.example/schema.json"}
    error = front.post(chat("q", response_format=wrapped(schema))).json()["error"]
    assert (error["code"], error["param"]) == (
        "invalid_schema",
        "response_format.json_schema.schema",
    )


def test_section_6_an_output_that_was_cut_ends_with_length(front: Front) -> None:
    choice = tell(front, '{"a": 1', response_format={"type": "json_object"}, max_tokens=4)
    assert choice["finish_reason"] == "length"


def test_section_6_reasoning_leaves_under_both_names_and_not_in_the_content(front: Front) -> None:
    front.enqueue(Reply(["<think>hm</think>yes"]))
    body = front.post(chat("q")).json()
    message = body["choices"][0]["message"]
    assert message["reasoning_content"] == message["reasoning"] == "hm"
    assert message["content"] == "yes"
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


@pytest.mark.parametrize(
    "switch",
    [
        {"enable_thinking": False},
        {"thinking": {"type": "disabled"}},
        {"thinking": {"type": "enabled"}},
        {"thinking": True},
        {"chat_template_kwargs": {"enable_thinking": True}},
        {"chat_template_kwargs": {"thinking": False}},
        {"reasoning_effort": "none"},
    ],
    ids=str,
)
def test_section_6_thinking_switch_is_an_info_on_a_model_without_thinking(
    front: Front, switch: dict[str, Any]
) -> None:
    answer = front.post(chat("q", **switch), x_sightline_strict="1")
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-sightline-warnings"] == f"{next(iter(switch))}=model-does-not-think"


@pytest.mark.parametrize("effort", ["minimal", "low", "medium", "high", "xhigh", "max", "auto"])
def test_section_6_thinking_switch_takes_every_effort_that_clients_know(
    front: Front, effort: str
) -> None:
    answer = front.post(chat("q", reasoning_effort=effort), x_sightline_strict="1")
    assert answer.headers["x-sightline-warnings"] == "reasoning_effort=model-does-not-think"


@pytest.mark.parametrize("effort", ["ultra", "", "None", "x" * 1000])
def test_section_6_thinking_switch_refuses_an_unknown_effort_by_name(
    front: Front, effort: str
) -> None:
    answer = front.post(chat("q", reasoning_effort=effort))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_value", "reasoning_effort")
    assert error["message"].startswith(f"reasoning_effort: '{effort[:60]}")
    assert "none, minimal, low" in error["message"]


@pytest.mark.parametrize(
    ("value", "content"), [("none", "<think>hm</think>yes"), ("auto", "yes"), ("deepseek", "yes")]
)
def test_section_6_reasoning_format(front: Front, value: str, content: str) -> None:
    choice = tell(front, "<think>hm</think>yes", reasoning_format=value)
    assert choice["message"]["content"] == content

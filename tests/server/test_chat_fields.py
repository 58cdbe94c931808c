"""Every row of the table of chat fields: what it changes in the engine or in the answer."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from front import Front, chat, events_of

from sightline.backends.fake import OBSERVATION, Reply
from sightline.core.sampling import SamplingParams

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
CALL = 'weather\n{"city": "北京"}'
ASSISTANT = 264


def tell(front: Front, *pieces: str | Sequence[int], **fields: Any) -> dict[str, Any]:
    """Return the answer to a request for which the model writes `pieces`."""
    if pieces:
        front.enqueue(Reply(list(pieces)))
    answer = front.post(chat("hello", **fields))
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def stream(front: Front, *pieces: str | Sequence[int], **fields: Any) -> list[dict[str, Any]]:
    """Return the chunks of a streamed answer."""
    front.enqueue(Reply(list(pieces)))
    answer = front.post(chat("hello", stream=True, **fields))
    assert answer.status_code == 200, answer.text
    events = events_of(answer.text)
    assert events[-1] == "[DONE]"
    return [event for event in events if isinstance(event, dict)]


def deltas(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [choice["delta"] for chunk in chunks for choice in chunk["choices"]]


def params(front: Front) -> SamplingParams:
    return front.engine.requests[-1].params


@pytest.mark.parametrize(
    ("row", "value", "name", "expected"),
    [
        ("temperature", 0.7, "temperature", 0.7),
        ("top_p", 0.5, "top_p", 0.5),
        ("top_k", 40, "top_k", 40),
        ("top_k", -1, "top_k", 0),
        ("min_p", 0.05, "min_p", 0.05),
        ("repetition_penalty", 1.1, "repetition_penalty", 1.1),
        ("presence_penalty", -1.5, "presence_penalty", -1.5),
        ("frequency_penalty", 2, "frequency_penalty", 2),
        ("logit_bias", {"7": -100, "8": 1.5}, "logit_bias", ((7, -100.0), (8, 1.5))),
        ("max_tokens", 5, "max_tokens", 5),
        ("max_completion_tokens", 5, "max_tokens", 5),
        ("seed", -(2**63), "seed", -(2**63)),
    ],
)
def test_the_row_of_a_sampling_field_reaches_the_engine(
    front: Front, row: str, value: object, name: str, expected: object
) -> None:
    tell(front, **{row: value})
    assert getattr(params(front), name) == expected


def test_the_row_n_gives_choices_in_order_with_one_usage(front: Front) -> None:
    front.enqueue(Reply(["\none"]), Reply(["\ntwo"]), Reply(["\nsix"]))
    body = tell(front, n=3)
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    texts = {choice["message"]["content"] for choice in body["choices"]}
    assert texts == {"one", "two", "six"}
    assert body["usage"]["completion_tokens"] == 15


def test_the_row_n_streams_one_choice_per_chunk_and_a_finish_for_each(front: Front) -> None:
    front.enqueue(Reply(["\none"]), Reply(["\ntwo"]))
    answer = front.post(
        chat("hi", n=2, stream=True, stream_options={"include_usage": True}, seed=1)
    )
    chunks = [event for event in events_of(answer.text) if isinstance(event, dict)]
    assert all(len(chunk["choices"]) == 1 for chunk in chunks[:-1])
    for index in (0, 1):
        own = [c["choices"][0] for c in chunks[:-1] if c["choices"][0]["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert own[-1]["finish_reason"] == "stop"
        assert sum("role" in choice["delta"] for choice in own) == 1
    assert chunks[-1]["choices"] == []


def test_the_row_logprobs_is_told_plain_and_streamed(front: Front) -> None:
    body = tell(front, "\nhé", logprobs=True, top_logprobs=2)
    content = body["choices"][0]["logprobs"]["content"]
    assert [token["bytes"] for token in content] == [[104], [195], [169]]
    assert content[0]["token"] == "h"
    assert content[0]["logprob"] == -0.5
    assert [other["token"] for other in content[0]["top_logprobs"]] == ["h", "i"]
    chunks = stream(front, "\nhé", logprobs=True, top_logprobs=2)
    streamed = [
        token
        for chunk in chunks
        for token in ((chunk["choices"][0]["logprobs"] or {}).get("content") or [])
    ]
    assert streamed == content


def test_the_row_logprobs_without_alternatives_has_empty_lists(front: Front) -> None:
    body = tell(front, "\nh", logprobs=True)
    assert body["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []
    assert tell(front, "\nh")["choices"][0]["logprobs"] is None


def test_the_row_logprobs_of_a_long_answer_are_told_in_every_dialect(front: Front) -> None:
    body = tell(front, "\n" + "x" * 200, logprobs=True, top_logprobs=1)
    content = body["choices"][0]["logprobs"]["content"]
    assert "".join(token["token"] for token in content) == "x" * 200
    front.enqueue(Reply(["x" * 200]))
    asked = {"model": "sightline-fake", "prompt": "x", "max_tokens": 300, "logprobs": 1}
    (choice,) = front.post(asked, path="/v1/completions").json()["choices"]
    assert choice["logprobs"]["text_offset"] == list(range(200))
    front.enqueue(Reply(["\n" + "x" * 200]))
    asked = {"model": "sightline-fake", "input": "x", "top_logprobs": 1}
    (item,) = front.post(asked, path="/v1/responses").json()["output"]
    assert len(item["content"][0]["logprobs"]) == 200


def test_the_row_stop_never_leaks_and_takes_its_likelihoods_along(front: Front) -> None:
    body = tell(front, *"\nab END cd", stop=["END"], logprobs=True)
    assert body["choices"][0]["message"]["content"] == "ab "
    assert len(body["choices"][0]["logprobs"]["content"]) == 3


@pytest.mark.parametrize(
    ("row", "value", "part"),
    [
        ("json_object", {"type": "json_object"}, '"type": "object"'),
        (
            "json_schema",
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "null"}}},
            '"type": "null"',
        ),
        (
            "a bare schema",
            {"type": "json_schema", "json_schema": {"type": "array", "maxItems": 3}},
            '"maxItems": 3',
        ),
    ],
)
def test_the_row_response_format_binds_the_answer(
    front: Front, row: str, value: object, part: str
) -> None:
    tell(front, response_format=value)
    grammar = params(front).grammar
    assert grammar is not None
    assert part in grammar


def test_the_row_response_format_text_binds_nothing(front: Front) -> None:
    tell(front, response_format={"type": "text"})
    assert params(front).grammar is None


def test_the_row_tools_gives_calls_and_their_finish_reason(front: Front) -> None:
    body = tell(front, CALL, (OBSERVATION,), tools=[WEATHER])
    choice = body["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["function"] == {"name": "weather", "arguments": '{"city": "北京"}'}
    assert call["id"].startswith("call_")


def test_the_row_tools_streams_a_call_as_one_delta(front: Front) -> None:
    chunks = stream(front, *CALL, (ASSISTANT,), *CALL, (OBSERVATION,), tools=[WEATHER])
    calls = [delta["tool_calls"][0] for delta in deltas(chunks) if "tool_calls" in delta]
    assert [call["index"] for call in calls] == [0, 1]
    assert len({call["id"] for call in calls}) == 2
    assert all(json.loads(call["function"]["arguments"]) == {"city": "北京"} for call in calls)
    assert chunks[-1]["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": "tool_calls",
    }


def test_the_row_sightline_streams_arguments_in_pieces(front: Front) -> None:
    chunks = stream(
        front,
        *CALL,
        (OBSERVATION,),
        tools=[WEATHER],
        sightline={"stream_tool_arguments": True},
    )
    calls = [delta["tool_calls"][0] for delta in deltas(chunks) if "tool_calls" in delta]
    assert len(calls) > 3
    assert [("id" in call, "name" in call["function"]) for call in calls] == [
        (True, True),
        *[(False, False)] * (len(calls) - 1),
    ]
    arguments = "".join(call["function"]["arguments"] for call in calls)
    assert arguments == '{"city": "北京"}'


def test_the_row_tool_choice_none_keeps_the_tools_from_the_model(front: Front) -> None:
    body = tell(front, CALL, tools=[WEATHER], tool_choice="none")
    assert body["choices"][0]["message"]["content"] == CALL
    assert b"weather" not in bytes(t for t in _prompt(front) if t < 256)


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}]
)
def test_the_row_tool_choice_binds_the_answer_to_a_call(front: Front, choice: object) -> None:
    tell(front, CALL, (OBSERVATION,), tools=[WEATHER], tool_choice=choice)
    grammar = params(front).grammar
    assert grammar is not None
    assert "start: calls\n" in grammar
    assert '"weather\\n"' in grammar


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_the_row_tool_choice_allowed_tools_offers_only_those(front: Front, mode: str) -> None:
    other = {"type": "function", "function": {"name": "clock", "parameters": {}}}
    allowed = {"mode": mode, "tools": [{"type": "function", "function": {"name": "weather"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    body = tell(front, CALL, (OBSERVATION,), tools=[other, WEATHER], tool_choice=choice)
    assert body["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "weather"
    assert b"## clock" not in bytes(t for t in _prompt(front) if t < 256)
    grammar = params(front).grammar
    assert (grammar is None) == (mode == "auto")
    assert "clock" not in (grammar or "")


def test_the_row_tool_choice_auto_binds_nothing(front: Front) -> None:
    body = tell(front, "\nNo idea.", tools=[WEATHER])
    assert params(front).grammar is None
    assert body["choices"][0]["message"]["content"] == "No idea."
    assert b"## weather" in bytes(t for t in _prompt(front) if t < 256)


def test_the_row_parallel_tool_calls_keeps_the_first(front: Front) -> None:
    body = tell(
        front, CALL, (ASSISTANT,), CALL, (OBSERVATION,), tools=[WEATHER], parallel_tool_calls=False
    )
    assert len(body["choices"][0]["message"]["tool_calls"]) == 1


def test_the_row_functions_is_answered_in_the_legacy_form(front: Front) -> None:
    fields = {"functions": [WEATHER["function"]], "function_call": {"name": "weather"}}
    choice = tell(front, CALL, (OBSERVATION,), **fields)["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {
        "name": "weather",
        "arguments": '{"city": "北京"}',
    }
    assert "tool_calls" not in choice["message"]
    chunks = stream(front, CALL, (OBSERVATION,), **fields)
    assert {"function_call": {"name": "weather", "arguments": '{"city": "北京"}'}} in deltas(chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "function_call"


def _prompt(front: Front) -> tuple[int, ...]:
    return front.engine.requests[-1].prompt.token_ids


def test_the_row_messages_takes_calls_and_their_results(front: Front) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "not {"}}
    messages = [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "hm"},
        {"role": "tool", "tool_call_id": "c1", "content": "Sun."},
        {"role": "assistant", "function_call": {"name": "weather", "arguments": "{}"}},
        {"role": "function", "name": "weather", "content": "Still sun."},
    ]
    answer = front.post({"model": "sightline-fake", "messages": messages})
    assert answer.status_code == 200, answer.text
    assert "x-sightline-warnings" not in answer.headers
    text = bytes(t for t in _prompt(front) if t < 256).decode()
    assert text == "\nRain?weather\nnot {\nSun.weather\n{}\nStill sun."


def test_the_row_reasoning_leaves_under_both_names_and_is_counted(front: Front) -> None:
    body = tell(front, *"\n<think>Two cats.</think>Two.")
    message = body["choices"][0]["message"]
    assert message["reasoning_content"] == message["reasoning"] == "Two cats."
    assert message["content"] == "Two."
    details = body["usage"]["completion_tokens_details"]
    assert 0 < details["reasoning_tokens"] < body["usage"]["completion_tokens"]
    chunks = stream(front, *"\n<think>Two cats.</think>Two.")
    thoughts = [delta for delta in deltas(chunks) if "reasoning" in delta]
    assert all(d["reasoning"] == d["reasoning_content"] for d in thoughts)
    assert "".join(d["reasoning"] for d in thoughts) == "Two cats."
    assert {} not in deltas(chunks)[:-1]


def test_the_row_reasoning_format_none_leaves_thoughts_in_the_text(front: Front) -> None:
    text = "<think>Two cats.</think>Two."
    body = tell(front, "\n" + text, reasoning_format="none")
    assert body["choices"][0]["message"]["content"] == text


@pytest.mark.parametrize(
    "fields",
    [
        {"enable_thinking": True},
        {"thinking": {"type": "disabled"}},
        {"thinking": True},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"reasoning_effort": "none"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_the_row_of_a_thinking_switch_is_an_info_where_no_model_thinks(
    front: Front, fields: dict[str, Any]
) -> None:
    answer = front.post(chat("hello") | fields, x_sightline_strict="1")
    assert answer.status_code == 200
    expected = f"{next(iter(fields))}=model-does-not-think"
    assert answer.headers["x-sightline-warnings"] == expected


def test_the_rows_usage_details_are_numbers_that_add_up(front: Front) -> None:
    usage = tell(front, "\nhi")["usage"]
    prompt, completion = usage["prompt_tokens_details"], usage["completion_tokens_details"]
    assert prompt["text_tokens"] + prompt["image_tokens"] == usage["prompt_tokens"]
    told = completion["text_tokens"] + completion["reasoning_tokens"]
    assert told == usage["completion_tokens"]
    assert prompt["cached_tokens"] == 0


@pytest.mark.parametrize("row", ["response_format", "tools"])
def test_a_schema_that_cannot_be_enforced_is_refused_with_its_path(front: Front, row: str) -> None:
    schema = {"type": "object", "properties": {"a": {"not": {}}}}
    if row == "tools":
        tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
        fields: dict[str, Any] = {"tools": [tool], "tool_choice": "required"}
        param = "tools[0].function.parameters"
    else:
        wrapper = {"name": "x", "schema": schema}
        fields = {"response_format": {"type": "json_schema", "json_schema": wrapper}}
        param = "response_format.json_schema.schema"
    answer = front.post(chat("hello") | fields)
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": f"{param}: Keyword 'not' at $.properties.a is not supported.",
        "type": "invalid_request_error",
        "param": param,
        "code": "invalid_schema",
    }


def test_s09_a_bad_schema_between_two_good_ones(front: Front) -> None:
    def ask(schema: object) -> int:
        wrapper = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        return front.post(chat("hello", response_format=wrapper)).status_code

    assert [ask({"type": "null"}), ask({"type": 5}), ask({"type": "null"})] == [200, 400, 200]


TOO_MUCH = [
    ("store", True, "nothing-is-kept"),
    *(
        (row, value, "not-supported")
        for row, value in (
            ("service_tier", "flex"),
            ("prompt_cache_options", {}),
            ("prompt_cache_retention", "24h"),
            ("verbosity", "low"),
            ("prediction", {"type": "content", "content": "x"}),
            ("moderation", "low"),
            ("web_search_options", {}),
            ("web_search", True),
        )
    ),
    ("anything else", 1, "unknown-field"),
]


@pytest.mark.parametrize(("row", "value", "reason"), TOO_MUCH, ids=[row for row, *_ in TOO_MUCH])
def test_the_row_is_ignored_with_a_warning_and_refused_in_strict_mode(
    front: Front, row: str, value: object, reason: str
) -> None:
    body = chat("hello") | {row: value}
    answer = front.post(body)
    assert answer.status_code == 200
    assert answer.headers["x-sightline-warnings"].endswith(f"={reason}")
    refused = front.post(body, x_sightline_strict="1")
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "unsupported_parameter"


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ("user", "u"),
        ("safety_identifier", "s"),
        ("metadata", {"a": "b"}),
        ("prompt_cache_key", "k"),
        ("store", False),
    ],
)
def test_the_row_is_ignored_as_it_cannot_change_the_answer(
    front: Front, row: str, value: object
) -> None:
    answer = front.post(chat("hello") | {row: value}, x_sightline_strict="1")
    assert answer.status_code == 200
    assert answer.headers["x-sightline-warnings"].startswith(f"{row}=")


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ("modalities", ["audio"]),
        ("audio", {"voice": "x"}),
        ("chat_template", "{{ x }}"),
        ("documents", []),
        ("prompt_embeds", "x"),
        ("image_embeds", "x"),
        ("guided_json", {}),
        ("guided_choice", ["a"]),
        ("structured_outputs", {"regex": "a"}),
        ("structural_tag", {}),
        ("grammar", "root ::= x"),
        ("regex", "a"),
        ("stop_regex", "a"),
        ("prompt_logprobs", 1),
        ("best_of", 2),
        ("use_beam_search", True),
        ("mm_processor_kwargs", {"size": 5}),
        ("chat_template_kwargs", {"tokenize": True}),
    ],
)
def test_the_row_is_refused_by_name(front: Front, row: str, value: object) -> None:
    answer = front.post(chat("hello") | {row: value})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "unsupported_parameter"
    assert error["param"].startswith(row)

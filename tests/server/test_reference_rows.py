"""The API row by row, under the names that its description gives them.

What a row means in depth is tested where its subject is; here every one of them is asked for once,
over HTTP. Rows about pictures are in `tests/media/test_reference_rows.py`, fields of a chat request
in `test_chat_fields.py`.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from front import PICTURE, Front, chat, events_of, eventually, raw_post, serving

from sightline.backends.fake import Reply
from sightline.core.errors import InternalError
from sightline.core.limits import Limits

CHAT = "/v1/chat/completions"
KEY = "sl-of-the-rows"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


# Section 1: the one stream shape


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


def test_section_1_rule_8_one_choice_a_chunk(front: Front) -> None:
    events = events_of(front.post(chat("q", stream=True, n=2)).text)
    finished = [c["index"] for c in choices_of(events) if c["finish_reason"]]
    assert all(len(event["choices"]) == 1 for event in events[:-1])
    assert sorted(finished) == [0, 1]


def test_section_1_rule_9_a_stop_string_never_leaks(front: Front) -> None:
    events = events_of(front.post(chat("one END two", stream=True, stop=["END"])).text)
    said = "".join(choice["delta"].get("content", "") for choice in choices_of(events))
    assert said == "one "


def test_section_1_rule_10_early_errors_are_statuses(front: Front) -> None:
    assert front.post(chat("q", "broken", stream=True)).status_code == 400


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


def test_section_1_rule_13_completions_stream_text_completions(front: Front) -> None:
    body = {"model": "sightline-fake", "prompt": "q", "stream": True}
    events = events_of(front.post(body, path="/v1/completions").text)
    assert events[-1] == "[DONE]"
    assert {event["object"] for event in events[:-1]} == {"text_completion"}


# Section 2: objects


def test_section_2_chat_completion_choice_message_usage(front: Front) -> None:
    body = front.post(chat("q", PICTURE)).json()
    assert {"id", "object", "created", "model", "choices", "usage"} <= body.keys()
    assert body["object"] == "chat.completion"
    (choice,) = body["choices"]
    assert choice.keys() == {"finish_reason", "index", "message", "logprobs"}
    assert choice["logprobs"] is None
    assert choice["message"].keys() == {"role", "content", "refusal"}
    prompt, completion = (body["usage"][f"{w}_tokens_details"] for w in ("prompt", "completion"))
    assert prompt.keys() == {
        "audio_tokens",
        "cached_tokens",
        "text_tokens",
        "image_tokens",
        "cache_write_tokens",
    }
    assert prompt["image_tokens"] + prompt["text_tokens"] == body["usage"]["prompt_tokens"]
    assert {"reasoning_tokens", "text_tokens"} <= completion.keys()


def test_section_2_text_completion(front: Front) -> None:
    body = front.post({"model": "sightline-fake", "prompt": "q"}, path="/v1/completions").json()
    assert body["object"] == "text_completion"
    assert body["choices"][0].keys() == {"text", "index", "logprobs", "finish_reason"}


def test_section_2_model(front: Front) -> None:
    (model,) = front.get("/v1/models").json()["data"]
    assert model["object"] == "model"
    assert {"id", "created", "owned_by", "max_model_len", "sightline"} <= model.keys()


# Section 3: errors

ROWS: dict[str, tuple[Any, int, str, str | None]] = {
    "Not JSON": (b"{", 400, "invalid_json", None),
    "Wrong JSON type": (chat("q", max_tokens="5"), 400, "invalid_type", "max_tokens"),
    "Field missing": ({"messages": []}, 400, "missing_required_parameter", "model"),
    "messages: []": (
        {"model": "m", "messages": []},
        400,
        "missing_required_parameter",
        "messages",
    ),
    "Out of range": (chat("q", temperature=3), 400, "invalid_value", "temperature"),
    "Field that cannot be dropped safely": (
        chat("q", prompt_embeds="x"),
        400,
        "unsupported_parameter",
        "prompt_embeds",
    ),
    "Content neither string nor parts": (
        {"model": "sightline-fake", "messages": [{"role": "user", "content": 5}]},
        400,
        "invalid_type",
        "messages[0].content",
    ),
    "Part type unknown": (
        {
            "model": "sightline-fake",
            "messages": [{"role": "user", "content": [{"type": "file"}]}],
        },
        400,
        "unsupported_parameter",
        "messages[0].content[0].type",
    ),
    "tool result without its call": (
        {
            "model": "sightline-fake",
            "messages": [{"role": "tool", "tool_call_id": "x", "content": "1"}],
        },
        400,
        "invalid_value",
        "messages[0].tool_call_id",
    ),
    "Unknown model": (chat("q") | {"model": "X"}, 404, "model_not_found", "model"),
    "Prompt too long": (chat("q" * 5000), 400, "context_length_exceeded", "messages"),
    "More images than the model takes": (
        chat("q", PICTURE, PICTURE),
        400,
        "too_many_images",
        "messages[0].content[1].image_url",
    ),
    "Bad detail": (
        {
            "model": "sightline-fake",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": PICTURE, "detail": "ultra"}}
                    ],
                }
            ],
        },
        400,
        "invalid_value",
        "messages[0].content[0].image_url.detail",
    ),
    "Bad tool definition": (
        chat("q", tools=[{"type": "function", "function": {"name": "a b"}}]),
        400,
        "invalid_tool",
        "tools[0].function.name",
    ),
    "tool_choice names no given tool": (
        chat("q", tools=[TOOL], tool_choice={"type": "function", "function": {"name": "g"}}),
        400,
        "invalid_value",
        "tool_choice",
    ),
    "Schema invalid": (
        chat("q", response_format={"type": "json_schema", "json_schema": {"type": 5}}),
        400,
        "invalid_schema",
        "response_format.json_schema",
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_section_3_row(front: Front, row: str) -> None:
    body, status, code, param = ROWS[row]
    answer = front.post(body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert error.keys() == {"message", "type", "param", "code"}
    assert len(error["message"]) <= 300
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-request-id"]


def test_section_3_row_unknown_route(front: Front) -> None:
    answer = front.post({}, path="/v1/nothing")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")


def test_section_3_row_wrong_method(front: Front) -> None:
    answer = front.get(CHAT)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error"]["code"] == "method_not_allowed"


def test_section_3_row_content_type(front: Front) -> None:
    answer = front.request("POST", CHAT, content=b"{}", headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


def test_section_3_row_body_over_the_cap(front: Front) -> None:
    head = raw_post(b"").replace(b"Content-Length: 0", b"Content-Length: 99999999")
    answer = front.exchange(head)
    assert (answer.status, answer.json()["error"]["code"]) == (413, "request_too_large")


def test_section_3_row_headers_out_of_bounds(front: Front) -> None:
    answer = front.exchange(raw_post(b"", "X: " + "x" * 17_000))
    assert (answer.status, answer.json()["error"]["code"]) == (431, "headers_too_large")


@pytest.fixture(scope="module")
def guarded() -> Iterator[Front]:
    with serving(Front(server_options={"api_keys": (KEY,)})) as front:
        yield front


@pytest.mark.parametrize("given", [{}, {"authorization": "Bearer x"}, {"authorization": KEY}])
def test_section_3_row_key_missing_unknown_malformed(guarded: Front, given: dict[str, str]) -> None:
    answer = guarded.post(chat("q"), **given)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (
        401,
        "authentication_error",
        "invalid_api_key",
    )
    assert answer.headers["www-authenticate"] == "Bearer"


def test_section_3_row_host_refused(front: Front) -> None:
    answer = front.get("/v1/models", headers={"host": "evil.example"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "host_not_allowed")


def test_section_3_row_queue_full() -> None:
    with serving(Front(limits=Limits(max_running=1, max_waiting=0))) as front:
        gate = front.new_gate()
        front.enqueue(Reply(["x", gate]))
        body = json.dumps(chat("q", stream=True)).encode()
        with front.connect() as connection:
            connection.sendall(raw_post(body))
            connection.recv(1)
            answer = front.post(chat("q"))
            front.on_loop(gate.set)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
    assert int(answer.headers["retry-after"]) >= 1


def test_section_3_row_model_loading() -> None:
    with serving(Front(engine_options={"loading": True})) as front:
        answer = front.post(chat("q"))
        front.on_loop(front.engine.finish_loading)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_loading")
    assert answer.headers["retry-after"]


# Section 7: endpoints

ANTHROPIC = {"model": "sightline-fake", "max_tokens": 5, "messages": chat("q")["messages"]}
ENDPOINTS: list[tuple[str, str, Any]] = [
    ("POST", "/v1/chat/completions", chat("q")),
    ("GET", "/v1/models", None),
    ("GET", "/v1/models/sightline-fake", None),
    ("POST", "/v1/completions", {"model": "sightline-fake", "prompt": "q"}),
    ("GET", "/health", None),
    ("GET", "/metrics", None),
    ("GET", "/version", None),
    ("POST", "/v1/chat/completions/input_tokens", chat("q")),
    ("POST", "/v1/responses", {"model": "sightline-fake", "input": "q"}),
    ("POST", "/v1/responses/input_tokens", {"model": "sightline-fake", "input": "q"}),
    ("POST", "/v1/messages", ANTHROPIC),
    ("POST", "/v1/messages/count_tokens", ANTHROPIC),
]


@pytest.mark.parametrize(("method", "path", "body"), ENDPOINTS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("spelling", ["as told", "without v1", "with slashes"])
def test_section_7_endpoint(front: Front, method: str, path: str, body: Any, spelling: str) -> None:
    if spelling == "without v1":
        path = path.removeprefix("/v1")
    elif spelling == "with slashes":
        path = path.replace("/", "//") + "/"
    content = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    assert front.request(method, path, content=content, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank"])
def test_section_7_endpoints_of_other_models_are_unknown_and_say_why(
    front: Front, path: str
) -> None:
    answer = front.post({}, path=path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
    assert "No model for" in answer.json()["error"]["message"]

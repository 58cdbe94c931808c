"""Ollama's dialect: a line of JSON for each piece, pictures as base64, errors as one string."""

import json
from typing import Any

import pytest
from front import PICTURE, Front, chat, eventually, serving

from sightline.backends.fake import Reply
from sightline.core.chat import ToolCall, Usage
from sightline.core.errors import InternalError
from sightline.core.limits import Limits
from sightline.server.intake import Terms
from sightline.server.ollama.answer import OllamaWriter
from sightline.server.ollama.convert import to_ollama_chat
from sightline.server.ollama.schema import OllamaChatBody

CHAT, GENERATE = "/api/chat", "/api/generate"
BASE64 = PICTURE.partition(",")[2]
COUNTS = {
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
}


def asks(text: str, *images: str, **fields: object) -> dict[str, Any]:
    message: dict[str, object] = {"role": "user", "content": text}
    if images:
        message["images"] = list(images)
    return {"model": "sightline-fake", "messages": [message], "stream": False, **fields}


def generates(prompt: str, **fields: object) -> dict[str, object]:
    return {"model": "sightline-fake", "prompt": prompt, "stream": False, **fields}


def lines_of(text: str) -> list[dict]:
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_an_answer_has_everything_that_clients_read(front: Front) -> None:
    body = front.post(asks("你好"), path=CHAT).json()
    assert set(body) == COUNTS | {"model", "created_at", "message", "done", "done_reason"}
    assert body["message"] == {"role": "assistant", "content": "你好"}
    assert (body["done"], body["done_reason"]) == (True, "stop")
    assert body["prompt_eval_count"] > 0
    assert body["eval_count"] > 0
    assert body["created_at"].endswith("Z")


def test_a_prompt_has_its_answer_in_response(front: Front) -> None:
    body = front.post(generates("hello", system="be kind"), path=GENERATE).json()
    assert set(body) == COUNTS | {"model", "created_at", "response", "done", "done_reason"}
    assert body["response"] == "hello"


@pytest.mark.parametrize("path", [CHAT, GENERATE])
def test_pictures_come_as_base64_before_the_text(front: Front, path: str) -> None:
    asked = asks("q", BASE64) if path == CHAT else generates("q", images=[BASE64])
    assert front.post(asked, path=path).status_code == 200
    front.post(chat("q", PICTURE))
    ours, theirs = list(front.engine.requests)[-2:]
    assert ours.prompt.token_ids == theirs.prompt.token_ids
    assert len(ours.prompt.images) == 1


@pytest.mark.parametrize("path", [CHAT, GENERATE])
def test_likelihoods_are_told_plain_and_streamed(front: Front, path: str) -> None:
    asked = (asks if path == CHAT else generates)("x", logprobs=True, top_logprobs=2)
    asked["options"] = {"stop": ["END"]}
    said = [*"hé EN", *"D!"]
    front.enqueue(Reply(said), Reply(said))
    body = front.post(asked, path=path).json()
    tokens = body["logprobs"]
    assert b"".join(bytes(token["bytes"]) for token in tokens) == "hé ".encode()
    assert all(len(token["top_logprobs"]) == 2 for token in tokens)
    lines = lines_of(front.post(asked | {"stream": True}, path=path).text)
    assert [token for line in lines for token in line.get("logprobs", ())] == tokens


def test_without_likelihoods_alternatives_are_ignored_with_a_notice(front: Front) -> None:
    answer = front.post(asks("x", top_logprobs=2), path=CHAT)
    assert answer.headers["x-sightline-warnings"] == "top_logprobs=not-used"
    assert "logprobs" not in answer.json()
    for wrong in (
        {"logprobs": True, "top_logprobs": 21},
        {"top_logprobs": 21},
        {"top_logprobs": -1},
    ):
        assert front.post(asks("x", **wrong), path=CHAT).status_code == 400


@pytest.mark.parametrize("path", [CHAT, GENERATE])
def test_it_streams_unless_told_not_to(front: Front, path: str) -> None:
    front.enqueue(Reply(["Hel", "lo"]))
    asked = asks("x") if path == CHAT else generates("x")
    del asked["stream"]
    answer = front.post(asked, path=path)
    assert answer.headers["content-type"] == "application/x-ndjson"
    *pieces, last = lines_of(answer.text)
    texts = [p["message"]["content"] if path == CHAT else p["response"] for p in pieces]
    assert "".join(texts) == "Hello"
    assert not any(piece["done"] for piece in pieces)
    assert set(last) >= COUNTS
    assert (last["done"], last["done_reason"]) == (True, "stop")


def test_options_reach_the_engine(front: Front) -> None:
    options = {"temperature": 0.5, "top_p": 0.25, "seed": 7, "num_predict": 9, "num_ctx": 4096}
    answer = front.post(asks("x", options=options), path=CHAT)
    params = front.engine.requests[-1].params
    assert (params.temperature, params.top_p, params.seed, params.max_tokens) == (0.5, 0.25, 7, 9)
    assert answer.headers["x-sightline-warnings"] == "options.num_ctx=the-operator-decides"


def test_an_answer_ends_for_a_reason(front: Front) -> None:
    body = front.post(asks("one two", options={"num_predict": 3}), path=CHAT).json()
    assert body["done_reason"] == "length"
    body = front.post(asks("one two", options={"stop": ["two"], "num_predict": -1}), path=CHAT)
    assert body.json()["message"]["content"] == "one "


@pytest.mark.parametrize("number", [0, -1, -2, -9])
def test_an_answer_without_a_limit_goes_on_until_it_ends(front: Front, number: int) -> None:
    body = asks("one two three", options={"num_predict": number})
    answer = front.post(body, path=CHAT).json()
    assert answer["message"]["content"] == "one two three"
    assert answer["done_reason"] == "stop"


@pytest.mark.parametrize("options", [{"top_p": 0}, {"top_p": 0.0, "top_k": 40}])
def test_a_top_p_of_nothing_leaves_the_likeliest_token(front: Front, options: object) -> None:
    assert front.post(asks("x", options=options), path=CHAT).status_code == 200
    assert front.engine.requests[-1].params.top_k == 1


def test_a_raw_prompt_is_continued_as_it_is(front: Front) -> None:
    front.post(generates("Once", raw=True), path=GENERATE)
    assert bytes(front.engine.requests[-1].prompt.token_ids[2:]) == b"Once"


def test_the_form_of_an_answer_binds_what_continues_a_raw_prompt_too(front: Front) -> None:
    front.post(generates("Once", raw=True, format={"type": "integer"}), path=GENERATE)
    assert '"type": "integer"' in front.engine.requests[-1].params.grammar
    answer = front.post(generates("Once", raw=True, format={"not": {}}), path=GENERATE)
    assert answer.json()["error"].startswith("format: Keyword 'not'")


def test_what_is_unknown_in_a_call_of_the_history_is_told(front: Front) -> None:
    function = {"index": 0, "name": "f", "bar": 1}
    call = {"id": "c", "type": "function", "function": function, "foo": 1}
    body = asks("x")
    body["messages"] += [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_name": "f", "content": "5"},
    ]
    warnings = front.post(body, path=CHAT).headers["x-sightline-warnings"]
    assert warnings == (
        "messages[1].tool_calls[0].foo=unknown-field, "
        "messages[1].tool_calls[0].function.bar=unknown-field"
    )


@pytest.mark.parametrize("path", [CHAT, GENERATE])
def test_without_a_question_the_model_is_loaded(front: Front, path: str) -> None:
    for nothing in ({}, {"messages": None, "prompt": None}, {"messages": [], "prompt": ""}):
        body = front.post({"model": "sightline-fake", **nothing}, path=path).json()
        assert (body["done"], body["done_reason"]) == (True, "load")
    assert front.post({"model": "llama3"}, path=path).status_code == 404


def test_the_tag_that_clients_add_is_no_part_of_the_name(front: Front) -> None:
    answer = front.post(asks("x") | {"model": "sightline-fake:latest"}, path=CHAT)
    assert answer.status_code == 200


def test_the_model_is_listed_and_described(front: Front) -> None:
    (listed,) = front.get("/api/tags").json()["models"]
    assert listed["name"] == listed["model"] == "sightline-fake"
    assert len(bytes.fromhex(listed["digest"])) == 32  # `ollama list` shows the first 12 digits
    (running,) = front.get("/api/ps").json()["models"]
    assert running["digest"] == listed["digest"]
    assert running["size"] == listed["size"] >= running["size_vram"]
    assert running["context_length"] == 4096
    for body in ({"model": "sightline-fake"}, {"name": "sightline-fake:latest"}):
        shown = front.post(body, path="/api/show").json()
        assert shown["capabilities"][:2] == ["completion", "vision"]
        assert shown["model_info"]["glm4.context_length"] == 4096
    assert front.post({}, path="/api/show").status_code == 400
    assert front.post({"model": "x"}, path="/api/show").status_code == 404
    assert front.get("/api/version").json()["version"].count(".") == 2


def test_an_error_in_a_stream_is_a_line(front: Front) -> None:
    front.enqueue(Reply(["Half"], error=InternalError()))
    lines = lines_of(front.post(asks("x", stream=True), path=CHAT).text)
    assert lines[-1]["error"].startswith("Internal error, request id req_")


def test_a_client_that_leaves_frees_the_engine(front: Front) -> None:
    gate = front.new_gate()
    front.enqueue(Reply(["one", gate]))
    with front.client.stream("POST", front.url + CHAT, json=asks("x", stream=True)) as answer:
        next(answer.iter_lines())
    assert eventually(front.is_idle)


def test_silence_stays_silent_where_a_comment_would_break_the_client() -> None:
    limits = Limits(keep_alive_comment_s=0.01)
    with serving(Front(limits=limits)) as front:
        gate = front.new_gate()
        front.enqueue(Reply(["one", gate]))
        with front.client.stream("POST", front.url + CHAT, json=asks("x", stream=True)) as answer:
            lines = answer.iter_lines()
            assert json.loads(next(lines))["message"]["content"] == "one"
            # A stream beside it fills its silence, so this one has had time to do so, too.
            front.enqueue(Reply(["two", gate]))
            with front.client.stream(
                "POST", front.url + "/v1/chat/completions", json=chat("x", stream=True)
            ) as other:
                assert ": keep-alive" in other.iter_lines()
            front.on_loop(gate.set)
            assert all(json.loads(line) for line in lines)


WRONG = {
    "no model": ({"model": None}, "model"),
    "messages": ({"messages": "x"}, "messages"),
    "role": ({"messages": [{"role": "x", "content": ""}]}, "messages[0].role"),
    "content": ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    "images": ({"messages": [{"role": "user", "images": "x"}]}, "messages[0].images"),
    "image": ({"messages": [{"role": "user", "images": [5]}]}, "messages[0].images[0]"),
    "broken image": (
        {"messages": [{"role": "user", "content": "x", "images": ["broken"]}]},
        "messages[0].images[0]",
    ),
    "many images": (
        {"messages": [{"role": "user", "content": "x", "images": [BASE64, BASE64]}]},
        "messages[0].images[1]",
    ),
    "call": (
        {"messages": [{"role": "assistant", "tool_calls": [{}]}]},
        "messages[0].tool_calls[0].function",
    ),
    "call name": (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]},
        "messages[0].tool_calls[0].function.name",
    ),
    "call arguments": (
        {
            "messages": [
                {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 5}}]}
            ]
        },
        "messages[0].tool_calls[0].function.arguments",
    ),
    "result without a call": (
        {"messages": [{"role": "tool", "content": "5"}]},
        "messages[0].tool_name: no call comes before it that has no result yet.",
    ),
    "result of another call": (
        {
            "messages": [
                {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]},
                {"role": "tool", "content": "5", "tool_name": "g"},
            ]
        },
        "messages[1].tool_name: no call of 'g' comes before it that has no result yet.",
    ),
    "options": ({"options": []}, "options"),
    "temperature": ({"options": {"temperature": 3}}, "options.temperature"),
    "temperature text": ({"options": {"temperature": "hot"}}, "options.temperature"),
    "num_predict": ({"options": {"num_predict": "9"}}, "options.num_predict"),
    "top_p": ({"options": {"top_p": -1}}, "options.top_p"),
    "top_k beside a top_p of nothing": ({"options": {"top_p": 0, "top_k": "x"}}, "options.top_k"),
    "top_p true": ({"options": {"top_p": False}}, "options.top_p"),
    "stop": ({"options": {"stop": [5]}}, "options.stop[0]"),
    "repeat_penalty": ({"options": {"repeat_penalty": 0}}, "options.repeat_penalty"),
    "format": ({"format": "xml"}, "format"),
    "format number": ({"format": 5}, "format"),
    "think": ({"think": 5}, "think"),
    "think hard": ({"think": "hard"}, "think: 'hard' is not one of"),
    "stream": ({"stream": "yes"}, "stream"),
}
WRONG_GENERATE = {
    "prompt": ({"prompt": 5}, "prompt"),
    "too long": ({"prompt": "x" * 5000}, "maximum context length"),
    "suffix": ({"suffix": "x"}, "suffix"),
    "template": ({"template": "{{ .Prompt }}"}, "template"),
    "context": ({"context": [1, 2]}, "context"),
    "images": ({"images": ["broken"]}, "images[0]"),
    "raw with images": ({"raw": True, "images": [BASE64]}, "raw"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_field_of_a_chat_is_refused_at_its_path(front: Front, case: str) -> None:
    fields, path = WRONG[case]
    assert_refused(front, asks("x") | fields, CHAT, path)


@pytest.mark.parametrize("case", WRONG_GENERATE)
def test_a_wrong_field_of_a_prompt_is_refused_at_its_path(front: Front, case: str) -> None:
    fields, path = WRONG_GENERATE[case]
    assert_refused(front, generates("x") | fields, GENERATE, path)


def assert_refused(front: Front, body: object, path: str, said: str) -> None:
    answer = front.post(body, path=path)
    assert answer.status_code == 400, answer.text
    refusal = answer.json()
    assert set(refusal) == {"error"}
    assert said in refusal["error"]


@pytest.mark.parametrize("path", ["/api", "/api/pull", "/api/embed", "/api/chat"])
def test_what_is_not_there_is_said_in_its_form(front: Front, path: str) -> None:
    answer = front.request("DELETE", path)
    assert answer.status_code in (404, 405)
    assert isinstance(answer.json()["error"], str)


def test_an_embedding_is_refused_with_the_reason(front: Front) -> None:
    answer = front.post({"model": "sightline-fake", "input": "x"}, path="/api/embed")
    assert answer.status_code == 404
    assert answer.json()["error"].endswith("No model for embeddings is loaded.")


def test_what_is_not_used_is_told_and_strict_mode_refuses_it(front: Front) -> None:
    body = asks("x", options={"mirostat": 1}, keep_alive="5m")
    answer = front.post(body, path=CHAT)
    assert answer.headers["x-sightline-warnings"] == (
        "options.mirostat=not-supported, keep_alive=the-operator-decides"
    )
    assert front.post(body, path=CHAT, x_sightline_strict="1").status_code == 400


def test_calls_of_anybody_but_the_assistant_are_left_out_with_a_word(front: Front) -> None:
    body = asks("hello")
    body["messages"][0]["tool_calls"] = [{"function": {"name": "f", "arguments": {}}}]
    answer = front.post(body, path=CHAT)
    assert answer.json()["message"]["content"] == "hello"
    assert answer.headers["x-sightline-warnings"] == "messages[0].tool_calls=not-used"


def test_results_answer_calls_by_name_or_in_order() -> None:
    def calls(*names: str) -> dict[str, object]:
        return {
            "role": "assistant",
            "tool_calls": [{"function": {"name": n, "arguments": {"a": 1}}} for n in names],
        }

    body = OllamaChatBody.model_validate(
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": "q"},
                calls("f", "g"),
                {"role": "tool", "content": "of g", "tool_name": "g"},
                {"role": "tool", "content": "of f"},
            ],
        }
    )
    terms = Terms(strict=False, limits=Limits())
    asked = to_ollama_chat(body, terms, known=("m",), request_id="r")
    assert asked.call is not None
    roles = [message.role for message in asked.call.request.messages]
    assert roles == ["user", "assistant", "tool", "tool"]


def results_of(*results: dict[str, object], ids: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return which call each result answers, when all calls are of `f`, and what was noticed."""
    calls = [{"id": call_id, "function": {"name": "f", "arguments": {}}} for call_id in ids]
    messages = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "", "tool_calls": calls},
        *({"role": "tool", "content": "5", **result} for result in results),
    ]
    body = OllamaChatBody.model_validate({"model": "m", "messages": messages})
    terms = Terms(strict=False, limits=Limits())
    asked = to_ollama_chat(body, terms, known=("m",), request_id="r")
    assert asked.call is not None
    answered = [message.tool_call_id or "" for message in asked.call.request.messages[2:]]
    return answered, [notice.field for notice in asked.notices]


def test_results_answer_the_calls_whose_ids_they_name() -> None:
    crossed = ({"tool_call_id": "b"}, {"tool_call_id": "a", "tool_name": "f"})
    assert results_of(*crossed, ids=("a", "b")) == (["b", "a"], [])


def test_ids_that_no_call_has_are_told_and_the_order_counts() -> None:
    answered, noticed = results_of({"tool_call_id": "mine"}, {}, ids=("a", "b"))
    assert answered == ["a", "b"]
    assert noticed == ["messages[2].tool_call_id"]


def test_calls_and_thoughts_are_told() -> None:
    writer = OllamaWriter(model="m", kind="chat")
    call = ToolCall(id="c", name="f", arguments='{"a": 1}')
    told = writer.last(
        "x",
        thinking="hm",
        tool_calls=[call],
        finish_reason="tool_calls",
        usage=Usage(prompt_tokens=1, completion_tokens=2),
        first_s=0.5,
        total_s=1.5,
    )
    assert told["message"] == {
        "role": "assistant",
        "content": "x",
        "thinking": "hm",
        "tool_calls": [{"id": "c", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}],
    }
    assert (told["prompt_eval_duration"], told["eval_duration"]) == (500_000_000, 1_000_000_000)
    assert told["done_reason"] == "stop"


@pytest.mark.parametrize("content_type", ["", "application/x-www-form-urlencoded", "text/plain"])
def test_a_body_is_json_whatever_its_type_says_as_curl_sends_it(
    front: Front, content_type: str
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    body = json.dumps(asks("hello", stream=False)).encode()
    answer = front.request("POST", CHAT, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert front.request("POST", CHAT, content=b"nonsense", headers=headers).status_code == 400

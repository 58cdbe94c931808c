"""Section 3 of the API's description: every row of its table of errors, asked for over HTTP.

Rows about pictures are in `tests/media/test_reference_rows.py`; what a row means in depth is tested
where its subject is.
"""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from front import PICTURE, Front, RawAnswer, chat, eventually, raw_post, read_answer, serving

from sightline.backends.fake import Reply, fake_info
from sightline.core.errors import InternalError
from sightline.core.limits import Limits
from sightline.server.key_file import new_key, write_keys
from sightline.server.keys import KeyRing
from sightline.server.rate_limits import Rates

CHAT = "/v1/chat/completions"
KEY = "sl-of-the-rows"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
NO_RETRY = {"x-should-retry": "false"}


def schema(value: object) -> dict[str, Any]:
    wrapper = {"name": "x", "schema": value}
    return chat("q", response_format={"type": "json_schema", "json_schema": wrapper})


def picture(**fields: Any) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": fields}
    return chat("q") | {"messages": [{"role": "user", "content": [part]}]}


def said(*messages: dict[str, Any]) -> dict[str, Any]:
    return chat("q") | {"messages": list(messages)}


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"type": "null"}
    for _ in range(levels):
        value = {"type": "object", "properties": {"a": value}}
    return value


AT = "messages[0].content[0].image_url"
SCHEMA = "response_format.json_schema.schema"

# Row: body, status, code, param, and how the message reads.
ROWS: dict[str, tuple[Any, int, str, str | None, str]] = {
    "Not JSON": (b'{\n"a": }', 400, "invalid_json", None, r"Body is not valid JSON at line 2, co"),
    "Wrong JSON type, no coercion": (
        chat("q", max_tokens="5"),
        400,
        "invalid_type",
        "max_tokens",
        r"max_tokens: expected integer, got string\.",
    ),
    "Field missing": (
        {"messages": []},
        400,
        "missing_required_parameter",
        "model",
        r"Missing required parameter: 'model'\.",
    ),
    "Field missing, messages: []": (
        said(),
        400,
        "missing_required_parameter",
        "messages",
        r"Missing required parameter: 'messages'\.",
    ),
    "Field missing, role": (
        said({"content": "x"}),
        400,
        "missing_required_parameter",
        "messages[0].role",
        r"Missing required parameter: 'messages\[0\]\.role'\.",
    ),
    "Out of range": (
        chat("q", temperature=3),
        400,
        "invalid_value",
        "temperature",
        r"temperature: 3 is above the maximum 2\.",
    ),
    "Unknown enum value": (
        chat("q", tool_choice="any"),
        400,
        "invalid_value",
        "tool_choice",
        r"tool_choice: 'any' is not one of ",
    ),
    "Unknown role": (
        said({"role": "root", "content": "x"}),
        400,
        "invalid_value",
        "messages[0].role",
        r"messages\[0\]\.role: 'root' is not one of ",
    ),
    "Contradiction": (
        chat("q", max_tokens=5, max_completion_tokens=6),
        400,
        "invalid_value",
        "max_completion_tokens",
        r"max_completion_tokens: ",
    ),
    "Field that cannot be dropped safely": (
        chat("q", prompt_embeds="x"),
        400,
        "unsupported_parameter",
        "prompt_embeds",
        r"'prompt_embeds' is not supported",
    ),
    "Content neither string nor parts": (
        said({"role": "user", "content": 5}),
        400,
        "invalid_type",
        "messages[0].content",
        r"messages\[0\]\.content: expected string or array, got number\.",
    ),
    "Part type unknown": (
        said({"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "file"}]}),
        400,
        "unsupported_parameter",
        "messages[0].content[1].type",
        r"Part type 'file' is not supported; supported: text, image_url\.",
    ),
    "Part type not taken by this model": (
        said({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}),
        400,
        "unsupported_parameter",
        "messages[0].content[0].type",
        r"Part type 'input_audio' is not supported",
    ),
    "Tool result without its call": (
        said({"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "call_9"}),
        400,
        "invalid_value",
        "messages[1].tool_call_id",
        r"messages\[1\]: no call with id 'call_9' comes before it\.",
    ),
    "Unknown model": (
        chat("q") | {"model": "X"},
        404,
        "model_not_found",
        "model",
        r"The model 'X' does not exist\. Available: sightline-fake\.",
    ),
    "Prompt too long": (
        chat("q" * 5000),
        400,
        "context_length_exceeded",
        "messages",
        r"This model's maximum context length is 4096 tokens\. However, your messages resulted in "
        r"\d+ tokens \(\d+ text, 0 image\)\.",
    ),
    "More images than the model takes": (
        chat("q", PICTURE, PICTURE, PICTURE),
        400,
        "too_many_images",
        "messages[0].content[1].image_url",
        r"3 images given, at most 1 for 'sightline-fake'\.",
    ),
    "Bad detail": (
        picture(url=PICTURE, detail="ultra"),
        400,
        "invalid_value",
        f"{AT}.detail",
        r".*detail: 'ultra' is not one of auto, low, high, original\.",
    ),
    "Bad min_pixels": (
        picture(url=PICTURE, min_pixels=0),
        400,
        "invalid_value",
        f"{AT}.min_pixels",
        r".*min_pixels: ",
    ),
    "Bad max_pixels": (
        picture(url=PICTURE, max_pixels="many"),
        400,
        "invalid_type",
        f"{AT}.max_pixels",
        r".*max_pixels: expected integer, got string\.",
    ),
    "file_id unknown": (
        picture(file_id="file-abc"),
        400,
        "image_file_not_found",
        f"{AT}.file_id",
        r"No such file: 'file-abc'\.",
    ),
    "Bad tool definition": (
        chat("q", tools=[TOOL, {"type": "function", "function": {"name": "a b"}}]),
        400,
        "invalid_tool",
        "tools[1].function.name",
        r".*must match \[A-Za-z0-9_-\]\{1,64\}",
    ),
    "tool_choice names no given tool": (
        chat("q", tools=[TOOL], tool_choice={"type": "function", "function": {"name": "x"}}),
        400,
        "invalid_value",
        "tool_choice",
        r".*[Nn]o tool named 'x'\.",
    ),
    "tool_choice required without tools": (
        chat("q", tool_choice="required"),
        400,
        "invalid_value",
        "tool_choice",
        r"tool_choice: ",
    ),
    "Schema invalid": (schema({"type": 5}), 400, "invalid_schema", SCHEMA, ""),
    "Schema with an unsupported keyword": (
        schema({"type": "object", "properties": {"a": {"not": {}}}}),
        400,
        "invalid_schema",
        SCHEMA,
        r".*Keyword 'not' at \$\.properties\.a is not supported\.",
    ),
    "Schema over limits": (schema(deep(17)), 400, "schema_too_complex", SCHEMA, r".*limit 16"),
    "Schema of a tool over limits": (
        chat("q", tools=[{"type": "function", "function": {"name": "f", "parameters": deep(17)}}]),
        400,
        "schema_too_complex",
        "tools[0].function.parameters",
        r".*limit 16",
    ),
}


def check(
    answer: Any, status: int, code: str, param: str | None, kind: str = "invalid_request_error"
) -> str:
    """The body has its four keys, the headers tell whether to come again; return the message."""
    found = answer.status if isinstance(answer, RawAnswer) else answer.status_code
    error = answer.json()["error"]
    assert (found, error["code"], error["param"], error["type"]) == (status, code, param, kind)
    assert error.keys() == {"message", "type", "param", "code"}
    assert len(error["message"]) <= 300
    assert answer.headers["x-request-id"]
    worth_a_retry = status in (408, 429, 503)
    assert ("x-should-retry" in answer.headers) == (not worth_a_retry)
    if status in (429, 503):
        seconds = int(answer.headers["retry-after"])
        assert 1 <= seconds <= 120
        assert int(answer.headers["retry-after-ms"]) == 1000 * seconds
    message: str = error["message"]
    return message


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("row", ROWS)
def test_section_3_row(front: Front, row: str, stream: bool) -> None:
    body, status, code, param, message = ROWS[row]
    answer = front.post(body if isinstance(body, bytes) else body | {"stream": stream})
    assert re.match(message, check(answer, status, code, param))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_section_3_row_unknown_route_any_method(front: Front, method: str) -> None:
    answer = front.request(method, "/v1/nothing")
    message = check(answer, 404, "unknown_url", None)
    assert message == f"Unknown request URL: {method} /v1/nothing. Try /v1/chat/completions."


def test_section_3_row_wrong_method(front: Front) -> None:
    answer = front.get(CHAT)
    message = check(answer, 405, "method_not_allowed", None)
    assert message == f"GET is not allowed on {CHAT}; allowed: POST."
    assert answer.headers["allow"] == "POST"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Front]:
    with serving(Front(server_options={"api_keys": (KEY,)})) as front:
        yield front


@pytest.mark.parametrize("given", [{}, {"authorization": "Bearer x"}, {"authorization": KEY}])
def test_section_3_row_key_missing_unknown_malformed(guarded: Front, given: dict[str, str]) -> None:
    answer = guarded.post(chat("q"), **given)
    message = check(answer, 401, "invalid_api_key", None, "authentication_error")
    assert message == "Incorrect or missing API key."
    assert answer.headers["www-authenticate"] == "Bearer"


def test_section_3_row_key_lacks_the_right(tmp_path: Path) -> None:
    text, key = new_key("narrow", models=["other"])
    write_keys(tmp_path / "keys.json", [key])
    options = {"key_ring": KeyRing(file=tmp_path / "keys.json")}
    with serving(Front(server_options=options)) as front:
        answer = front.post(chat("q"), authorization=f"Bearer {text}")
    message = check(answer, 403, "key_not_allowed", None, "permission_error")
    assert message == "This key may not use model 'sightline-fake'."


def test_section_3_row_host_refused(front: Front) -> None:
    answer = front.get("/v1/models", headers={"host": "evil.example"})
    message = check(answer, 403, "host_not_allowed", None, "permission_error")
    assert message == "Host 'evil.example' is not allowed."


def test_section_3_row_origin_refused(front: Front) -> None:
    answer = front.post(chat("q"), origin="https://evil.example")
    check(answer, 403, "host_not_allowed", None, "permission_error")


@pytest.mark.parametrize("given", ["text/plain", "multipart/form-data; boundary=x", ""])
def test_section_3_row_content_type_not_json(front: Front, given: str) -> None:
    answer = front.post(chat("q"), content_type=given)
    assert check(answer, 415, "unsupported_media_type", None) == "Send application/json."


def test_section_3_row_encoded_body(front: Front) -> None:
    body = gzip.compress(json.dumps(chat("q")).encode())
    check(front.post(body, content_encoding="gzip"), 415, "unsupported_media_type", None)


@pytest.fixture(scope="module")
def narrow() -> Iterator[Front]:
    limits = Limits(max_body_bytes=1000, header_timeout_s=0.2, body_timeout_s=0.2)
    with serving(Front(limits=limits)) as front:
        yield front


def test_section_3_row_body_over_the_cap(narrow: Front) -> None:
    check(narrow.post(chat("q" * 2000)), 413, "request_too_large", None)


def test_section_3_row_body_over_the_cap_names_the_limit(front: Front) -> None:
    head = raw_post(b"").replace(b"Content-Length: 0", b"Content-Length: 99999999")
    answer = front.exchange(head)
    message = check(answer, 413, "request_too_large", None)
    assert message == "Body is over the limit of 32 MiB."


def test_section_3_row_body_over_the_cap_is_counted_while_read(narrow: Front) -> None:
    head = raw_post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    answer = narrow.exchange(head + b"400\r\n" + bytes(1024) + b"\r\n0\r\n\r\n")
    check(answer, 413, "request_too_large", None)


def test_section_3_row_headers_out_of_bounds_431(front: Front) -> None:
    answer = front.exchange(raw_post(b"", "X: " + "x" * 17_000))
    message = check(answer, 431, "headers_too_large", None)
    assert message == "Header block is over the limit of 16 KiB."
    assert answer.headers["connection"] == "close"


def test_section_3_row_url_out_of_bounds_414(front: Front) -> None:
    answer = front.exchange(raw_post(b"", path="/v1/models?" + "x" * 9000))
    message = check(answer, 414, "uri_too_long", None)
    assert "8192" in message
    assert answer.headers["connection"] == "close"


def test_section_3_row_length_missing_411(front: Front) -> None:
    answer = front.exchange(raw_post(b"").replace(b"Content-Length: 0\r\n", b""))
    check(answer, 411, "length_required", None)
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("sent", [b"POST /v1/chat", raw_post(b"{}" * 100)[:-150]])
def test_section_3_row_speed_out_of_bounds_408(narrow: Front, sent: bytes) -> None:
    with narrow.connect() as connection:
        connection.sendall(sent)
        answer = read_answer(connection)
    message = check(answer, 408, "request_timeout", None)
    assert "0.2 s" in message
    assert answer.headers["connection"] == "close"


def test_section_3_row_strict_mode(front: Front) -> None:
    answer = front.post(chat("q", verbosity="low"), x_sightline_strict="1")
    message = check(answer, 400, "unsupported_parameter", "verbosity")
    assert message.startswith("'verbosity' is not honoured")


def test_section_3_row_image_for_a_text_only_model() -> None:
    with serving(Front(engine_options={"info": fake_info(image_policy=None)})) as front:
        answer = front.post(chat("q", PICTURE))
    message = check(answer, 400, "image_input_not_supported", AT)
    assert message == "Model 'sightline-fake' takes no images."


def test_section_3_row_more_images_than_the_server_takes(front: Front) -> None:
    body = said(*chat("q", PICTURE)["messages"] * 20)
    answer = front.post(body, x_sightline_strict="1")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in ("too_many_images", "unsupported_parameter")


@pytest.mark.parametrize("field", ["previous_response_id", "background"])
def test_section_3_row_what_would_have_to_be_kept(front: Front, field: str) -> None:
    value = True if field == "background" else "resp_1"
    body = {"model": "sightline-fake", "input": "q", field: value}
    message = check(front.post(body, path="/v1/responses"), 400, "unsupported_parameter", field)
    assert "nothing is kept" in message


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("kind", ["response", "file"])
def test_section_3_row_unknown_ids(front: Front, method: str, kind: str) -> None:
    answer = front.request(method, f"/v1/{kind}s/x-1")
    message = check(answer, 404, f"{kind}_not_found", None)
    assert message == f"No such {kind}: 'x-1'."


@pytest.mark.parametrize(
    ("method", "kind", "below"),
    [
        ("POST", "response", "cancel"),
        ("GET", "response", "input_items"),
        ("GET", "file", "content"),
    ],
)
@pytest.mark.parametrize("root", ["/v1", ""])
def test_section_3_row_unknown_ids_whatever_is_asked_of_them(
    front: Front, method: str, kind: str, below: str, root: str
) -> None:
    answer = front.request(method, f"{root}/{kind}s/x-1/{below}")
    message = check(answer, 404, f"{kind}_not_found", None)
    assert message == f"No such {kind}: 'x-1'."


def test_section_3_row_rate_limit_of_a_key() -> None:
    ring = KeyRing([KEY], rates=Rates(requests=1))
    with serving(Front(server_options={"key_ring": ring})) as front:
        answers = [front.post(chat("q"), authorization=f"Bearer {KEY}") for _ in range(2)]
    assert answers[0].status_code == 200
    check(answers[1], 429, "rate_limit_exceeded", None, "rate_limit_error")


def test_section_3_row_bounded_queue_full() -> None:
    with serving(Front(limits=Limits(max_running=1, max_waiting=0))) as front:
        gate = front.new_gate()
        front.enqueue(Reply(["x", gate]))
        with front.connect() as connection:
            connection.sendall(raw_post(json.dumps(chat("q", stream=True)).encode()))
            connection.recv(1)
            answer = front.post(chat("q"))
            front.on_loop(gate.set)
    message = check(answer, 429, "queue_full", None, "rate_limit_error")
    assert re.fullmatch(r"Queue is full: 0 waiting, limit 0; retry in \d+ s\.", message)


def test_section_3_row_model_loading() -> None:
    with serving(Front(engine_options={"loading": True})) as front:
        answer = front.post(chat("q"))
        front.on_loop(front.engine.finish_loading)
    message = check(answer, 503, "model_loading", None, "server_error")
    assert re.search(r"is loading; retry in \d+ s\.", message)


def test_section_3_row_waited_too_long() -> None:
    with serving(Front(limits=Limits(max_running=1, queue_timeout_s=0.05))) as front:
        gate = front.new_gate()
        front.enqueue(Reply(["x", gate]))
        with front.connect() as connection:
            connection.sendall(raw_post(json.dumps(chat("q", stream=True)).encode()))
            connection.recv(1)
            answer = front.post(chat("q"))
            front.on_loop(gate.set)
    check(answer, 503, "overloaded", None, "server_error")


def test_section_3_row_shutting_down() -> None:
    with serving(Front()) as front:
        gate = front.new_gate()
        front.enqueue(Reply(["x", gate]))
        with front.connect() as connection:
            connection.sendall(raw_post(json.dumps(chat("q", stream=True)).encode()))
            connection.recv(1)
            front.on_loop(front.server.start_drain)
            answer = front.post(chat("q"))
            front.on_loop(gate.set)
    check(answer, 503, "draining", None, "server_error")


def test_section_3_row_engine_restarting(front: Front) -> None:
    gate = front.new_gate()
    front.enqueue(Reply([gate]))
    with front.connect() as connection:
        connection.sendall(raw_post(json.dumps(chat("q")).encode()))
        assert eventually(lambda: front.stats().num_running == 1)
        front.on_loop(front.engine.crash)
        answer = read_answer(connection)
    check(answer, 503, "engine_restarting", None, "server_error")


def test_section_3_row_time_limit_passed_while_generating_504() -> None:
    with serving(Front(limits=Limits(total_timeout_s=0.1))) as front:
        front.enqueue(Reply(["x", front.new_gate()]))
        answer = front.post(chat("q"))
    message = check(answer, 504, "generation_timeout", None, "server_error")
    assert message == "Stopped after 0.1 s; not retried."


@pytest.mark.parametrize("code", ["out_of_memory", "internal_error"])
def test_section_3_row_anything_else_500(front: Front, code: str) -> None:
    front.enqueue(Reply([], error=InternalError("a detail", code=code)))
    answer = front.post(chat("q"))
    message = check(answer, 500, code, None, "server_error")
    assert message == f"Internal error, request id {answer.headers['x-request-id']}."


def test_section_3_header_x_request_id(front: Front) -> None:
    given = "A-z_0.9"
    assert front.post(chat("q"), x_request_id=given).headers["x-request-id"] == given
    made = front.post(chat("q"), x_request_id="a b").headers["x-request-id"]
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", made)
    assert made != "a b"


def test_section_3_header_openai_processing_ms(front: Front) -> None:
    for answer in (front.post(chat("q")), front.post({}), front.get("/v1/models")):
        assert answer.headers["openai-processing-ms"].isdigit()


def test_section_3_header_x_sightline_warnings(front: Front) -> None:
    answer = front.post(chat("q", verbosity="low", foo=1))
    assert answer.headers["x-sightline-warnings"] == "verbosity=not-supported, foo=unknown-field"
    assert "x-sightline-warnings" not in front.post(chat("q")).headers


def test_section_3_header_x_ratelimit_only_when_a_limit_is_set(front: Front) -> None:
    plain = front.post(chat("q"))
    assert not any(name.startswith("x-ratelimit") for name in plain.headers)
    ring = KeyRing([KEY], rates=Rates(requests=60))
    with serving(Front(server_options={"key_ring": ring})) as limited:
        headers = limited.post(chat("q"), authorization=f"Bearer {KEY}").headers
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "59"
    assert headers["x-ratelimit-reset-requests"]
    assert "x-ratelimit-limit-tokens" not in headers

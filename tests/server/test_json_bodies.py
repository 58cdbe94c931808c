"""What is posted is one JSON object of the right shape, or it is refused with a reason."""

import json
import time

import pytest
from front import PICTURE, Front, chat, eventually, raw_post


def with_message(message: object) -> dict[str, object]:
    return {"model": "sightline-fake", "messages": [message]}


def user(content: object) -> dict[str, object]:
    return with_message({"role": "user", "content": content})


# 0.1 s is the bar on a quiet machine; parsing on the loop would take five times as long.
MAX_HOLD_UP_S = 0.3
GOOD = json.dumps(chat("hello")).encode()

REFUSED = {
    "J01 an empty body": (b"", "invalid_json", None),
    "J02 an unfinished object": (b"{", "invalid_json", None),
    "J03 an array": (b"[]", "invalid_type", None),
    "J04 null": (b"null", "invalid_type", None),
    "J05 a number": (b"1", "invalid_type", None),
    "J06 deep nesting": (b"[" * 100_000, "invalid_json", None),
    "J07 NaN": (GOOD[:-1] + b',"temperature":NaN}', "invalid_json", None),
    "J07 infinity in an unknown field": (GOOD[:-1] + b',"x":-Infinity}', "invalid_json", None),
    "J07 a number beyond floats": (
        GOOD[:-1] + b',"temperature":1e999}',
        "invalid_value",
        "temperature",
    ),
    "J08 five thousand digits": (
        GOOD[:-1] + b',"seed":' + b"1" * 5000 + b"}",
        "invalid_json",
        None,
    ),
    "J09 a lone surrogate": (GOOD.replace(b"hello", b"\\ud800"), "invalid_json", None),
    "J11 bytes that are not UTF-8": (GOOD.replace(b"hello", b"\xff\xfe"), "invalid_json", None),
    "a body after the body": (GOOD + GOOD, "invalid_json", None),
    "a repeated key": (GOOD[:-1] + b',"model":"x"}', "invalid_json", None),
    "a key repeated in other letters": (
        GOOD[:-1] + b',"\\u006dodel":"x"}',
        "invalid_json",
        None,
    ),
    "65 levels": (
        GOOD[:-1] + b',"x":' + b"[" * 64 + b"]" * 64 + b"}",
        "invalid_json",
        None,
    ),
    "too many values": (GOOD[:-1] + b',"x":[' + b"0," * 262_144 + b"0]}", "invalid_value", "x"),
    "J15 no messages": (
        {"model": "m", "messages": []},
        "missing_required_parameter",
        "messages",
    ),
    "J15 messages missing": ({"model": "m"}, "missing_required_parameter", "messages"),
    "J16 no role": (
        with_message({"content": "x"}),
        "missing_required_parameter",
        "messages[0].role",
    ),
    "J16 an unknown role": (
        with_message({"role": "root", "content": "x"}),
        "invalid_value",
        "messages[0].role",
    ),
    "J16 an empty role": (
        with_message({"role": "", "content": "x"}),
        "invalid_value",
        "messages[0].role",
    ),
    "J16 a huge role": (
        with_message({"role": "r" * 10_240, "content": "x"}),
        "invalid_value",
        "messages[0].role",
    ),
    "J17 content missing": (
        with_message({"role": "user"}),
        "missing_required_parameter",
        "messages[0].content",
    ),
    "J17 content null": (user(None), "invalid_type", "messages[0].content"),
    "J17 content an object": (user({}), "invalid_type", "messages[0].content"),
    "J17 content a number": (user(5), "invalid_type", "messages[0].content"),
    "J19 audio": (
        user([{"type": "input_audio", "input_audio": {}}]),
        "unsupported_parameter",
        "messages[0].content[0].type",
    ),
    "J19 a file": (
        user([{"type": "file", "file": {}}]),
        "unsupported_parameter",
        "messages[0].content[0].type",
    ),
    "J19 video": (
        user([{"type": "video_url", "video_url": {"url": "x"}}]),
        "unsupported_parameter",
        "messages[0].content[0].type",
    ),
    "a part that is no object": (user(["x"]), "invalid_type", "messages[0].content[0]"),
    "a part without type": (
        user([{"text": "x"}]),
        "missing_required_parameter",
        "messages[0].content[0].type",
    ),
    "a part whose type is a number": (
        user([{"type": 1}]),
        "invalid_type",
        "messages[0].content[0].type",
    ),
    "a text part without text": (
        user([{"type": "text"}]),
        "missing_required_parameter",
        "messages[0].content[0].text",
    ),
    "a text part with a number": (
        user([{"type": "text", "text": 1}]),
        "invalid_type",
        "messages[0].content[0].text",
    ),
    "an image part without address": (
        user([{"type": "image_url"}]),
        "missing_required_parameter",
        "messages[0].content[0].image_url",
    ),
    "an image address without url": (
        user([{"type": "image_url", "image_url": {}}]),
        "missing_required_parameter",
        "messages[0].content[0].image_url.url",
    ),
    "an image address that is a number": (
        user([{"type": "image_url", "image_url": 5}]),
        "invalid_type",
        "messages[0].content[0].image_url",
    ),
    "an unknown detail": (
        user([{"type": "image_url", "image_url": {"url": PICTURE, "detail": "ultra"}}]),
        "invalid_value",
        "messages[0].content[0].image_url.detail",
    ),
    "no pixels at all": (
        user([{"type": "image_url", "image_url": {"url": PICTURE, "min_pixels": 0}}]),
        "invalid_value",
        "messages[0].content[0].image_url.min_pixels",
    ),
    "a file id": (
        user([{"type": "input_image", "file_id": "file-1"}]),
        "image_file_not_found",
        "messages[0].content[0].file_id",
    ),
    "an image from the system": (
        with_message({"role": "system", "content": [{"type": "image_url", "image_url": "x"}]}),
        "unsupported_parameter",
        "messages[0].content[0].type",
    ),
    "a damaged image": (
        user([{"type": "image_url", "image_url": "broken"}]),
        "image_parse_error",
        "messages[0].content[0].image_url",
    ),
    "two images for a one-image model": (
        user([{"type": "image_url", "image_url": PICTURE}] * 2),
        "too_many_images",
        "messages[0].content[1].image_url",
    ),
    "257 messages": (
        {"model": "m", "messages": [{"role": "user", "content": "x"}] * 257},
        "invalid_value",
        "messages",
    ),
    "257 parts": (
        user([{"type": "text", "text": "x"}] * 257),
        "invalid_value",
        "messages[0].content",
    ),
    "messages an object": ({"model": "m", "messages": {}}, "invalid_type", "messages"),
    "a message that is a string": (
        {"model": "m", "messages": ["x"]},
        "invalid_type",
        "messages[0]",
    ),
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_body_is_refused_with_its_path(front: Front, case: str, stream: bool) -> None:
    body, code, param = REFUSED[case]
    if isinstance(body, dict):
        body = body | {"stream": stream}
    answer = front.post(body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert error["type"] == "invalid_request_error"
    assert len(error["message"]) <= 300
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["content-type"] == "application/json"


ACCEPTED = {
    "J10 a NUL in text": user("\x00 zero"),
    "J18 a string": user("hello"),
    "J18 an image before text": user(
        [{"type": "image_url", "image_url": {"url": PICTURE}}, {"type": "text", "text": "hello"}]
    ),
    "J18 two texts": user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
    "a plain string address": user([{"type": "image_url", "image_url": PICTURE}]),
    "an input_image": user([{"type": "input_image", "image_url": PICTURE, "detail": "auto"}]),
    "text of one space": user(" "),
    "empty text": user(""),
    "64 levels": user("x") | {"x": json.loads("[" * 63 + "]" * 63)},
    "null assistant content": {
        "model": "sightline-fake",
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": None},
            {"role": "user", "content": "y"},
        ],
    },
    "J17 null content beside tool calls": {
        "model": "sightline-fake",
        "messages": [
            {"role": "user", "content": "x"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c", "function": {"name": "f"}}],
            },
            {"role": "tool", "tool_call_id": "c", "content": "y"},
        ],
    },
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_a_good_body_is_answered(front: Front, case: str) -> None:
    answer = front.post(ACCEPTED[case])
    assert answer.status_code == 200, answer.text


def test_an_answer_says_the_nul_that_it_was_asked_to_say(front: Front) -> None:
    answer = front.post(user("a\x00b"))
    assert answer.json()["choices"][0]["message"]["content"] == "a\x00b"


def test_a_byte_order_mark_is_no_part_of_the_body(front: Front) -> None:
    assert front.post(b"\xef\xbb\xbf" + GOOD).status_code == 200


def test_the_place_of_a_syntax_error_is_told(front: Front) -> None:
    error = front.post(b'{\n"model": ?}').json()["error"]
    assert error["message"] == "Body is not valid JSON at line 2, column 10."


def test_an_empty_body_ends_at_its_first_column(front: Front) -> None:
    error = front.post(b"").json()["error"]
    assert error["message"] == "Body is not valid JSON at line 1, column 1."


def test_a_deep_body_is_refused_fast(front: Front) -> None:
    times = []
    for _ in range(5):
        started = time.monotonic()
        front.post(b"[" * 100_000)
        times.append(time.monotonic() - started)
    assert min(times) < 0.2


@pytest.mark.parametrize("piece", [b"a", b"\\n", b"\\u4e2d"], ids=["text", "breaks", "escapes"])
def test_a_huge_unknown_field_is_named_and_the_loop_stays_free(front: Front, piece: bytes) -> None:
    text = piece * (int(31.9 * 2**20) // len(piece))

    def post() -> float:
        with front.watching_the_loop() as held_up_s:
            answer = front.post(GOOD[:-1] + b',"extra":"' + text + b'"}')
        assert answer.status_code == 200
        assert answer.headers["x-sightline-warnings"] == "extra=unknown-field"
        return held_up_s()

    # What holds the loop up holds it up each time; a busy machine does not.
    assert any(post() < MAX_HOLD_UP_S for _ in range(4))


def test_many_schemas_are_looked_at_and_the_loop_stays_free(front: Front) -> None:
    properties = {f"p{number}": {"type": "string"} for number in range(120)}
    schema = {"type": "object", "properties": properties}
    named = [{"name": f"f{number}", "parameters": schema} for number in range(128)]
    tools = [{"type": "function", "function": function} for function in named]

    def post() -> float:
        with front.watching_the_loop() as held_up_s:
            answer = front.post(chat("x", tools=tools))
        assert answer.json()["error"]["code"] == "context_length_exceeded"
        return held_up_s()

    assert any(post() < MAX_HOLD_UP_S for _ in range(4))


def test_a_declared_body_over_the_limit_is_refused_before_it_is_read(front: Front) -> None:
    head = raw_post(b"").replace(b"Content-Length: 0", b"Content-Length: 150000000")
    answer = front.exchange(head)
    assert answer.status == 413
    assert answer.json()["error"]["code"] == "request_too_large"
    assert answer.json()["error"]["message"] == "Body is over the limit of 32 MiB."
    assert answer.headers["connection"] == "close"


def test_a_client_that_sends_it_all_anyway_still_reads_the_refusal(front: Front) -> None:
    answer = front.exchange(raw_post(b" " * (40 * 2**20)))
    assert answer.status == 413


def test_a_body_over_the_limit_is_refused_although_no_length_was_declared(front: Front) -> None:
    head = raw_post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    piece = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    answer = front.exchange(head + piece * 40)
    assert answer.status == 413


def test_a_million_one_byte_chunks_are_refused(front: Front) -> None:
    head = raw_post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    with front.watching_the_loop() as held_up_s:
        answer = front.exchange(head + b"1\r\n \r\n" * 1_000_000)
    assert answer.status == 413
    assert answer.json()["error"]["message"] == "Body comes in more than 65536 pieces."
    assert held_up_s() < MAX_HOLD_UP_S


def test_many_wrong_messages_cost_one_error(front: Front) -> None:
    answer = front.post({"model": "m", "messages": [1] * 100_000})
    assert answer.json()["error"]["param"] == "messages[0]"
    assert eventually(front.is_idle)


def test_more_names_than_any_request_needs_are_refused(front: Front) -> None:
    names = {f"k{number}": 1 for number in range(70_000)}
    error = front.post(user("x") | {"metadata": names}).json()["error"]
    assert error["message"] == "Body holds more than 65536 names, texts, lists and objects."
    assert error["code"] == "invalid_value"

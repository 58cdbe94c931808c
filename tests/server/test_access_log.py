"""One line per request: what happened, never what was said."""

import json
from collections.abc import Iterator

import pytest
from front import Front, chat, eventually, serving

KEY = "sl-secret-key"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Front]:
    with serving(Front(server_options={"api_keys": (KEY,)})) as front:
        yield front


def lines_of(request_id: str, caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """Await the access line of a request and return every line that there is about it.

    The line of an earlier request may come in late.
    """

    def found() -> list[dict[str, object]]:
        written = [r.getMessage() for r in caplog.records if r.name == "sightline.access"]
        lines = [json.loads(line) for line in written]
        return [line for line in lines if line["request_id"] == request_id]

    assert eventually(lambda: bool(found()))
    return found()


def test_a_line_has_the_facts_of_its_request(
    guarded: Front, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        answer = guarded.post(chat("a very private question", foo=1), authorization=f"Bearer {KEY}")
        (line,) = lines_of(answer.headers["x-request-id"], caplog)
    assert line["chat_id"] == answer.json()["id"]
    assert line["status"] == 200
    assert line["path"] == "/v1/chat/completions"
    assert line["finish_reason"] == "stop"
    assert line["completion_tokens"] == answer.json()["usage"]["completion_tokens"]
    assert {"queue_s", "media_s", "ttft_s", "text_tokens", "image_tokens"} <= line.keys()
    assert line["warnings"] == "foo=unknown-field"
    assert len(str(line["key_id"])) == 8


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_one_line(
    stream: bool, front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "sightline"):
        answer = front.post(chat("hello", stream=stream))
        (line,) = lines_of(answer.headers["x-request-id"], caplog)
    assert {r.name for r in caplog.records if r.name.startswith("sightline")} == {
        "sightline.access"
    }
    assert line["stream"] is stream


def test_neither_content_nor_keys_nor_queries_are_logged(
    guarded: Front, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        asked = guarded.post(chat("a very private question"), authorization=f"Bearer {KEY}")
        refused = guarded.get(
            "/v1/models?token=hidden", headers={"authorization": "Bearer sl-wrong"}
        )
        for answer in (asked, refused):
            assert lines_of(answer.headers["x-request-id"], caplog)
    logged = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("sightline"))
    for secret in ("private", KEY, "hidden", "sl-wrong"):
        assert secret not in logged


def test_h16_hostile_text_stays_inside_one_escaped_line(
    front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "sightline.access"):
        hostile = "/%0a%1b[31m%25n%E4%B8%AD"
        answer = front.get(hostile, headers={"user-agent": "a\x1b%n\u00e9".encode("latin-1")})
        request_id = answer.headers["x-request-id"]
        (line,) = lines_of(request_id, caplog)
    (message,) = [r.getMessage() for r in caplog.records if request_id in r.getMessage()]
    assert message.isascii()
    assert message.isprintable()
    assert line["path"] == "/??[31m%n中"


def test_a_refusal_of_the_protocol_is_logged_too(
    front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "sightline.access"):
        answer = front.exchange(b"nonsense\r\n\r\n")
        (line,) = lines_of(answer.headers["x-request-id"], caplog)
    assert line["status"] == 400
    assert line["error"] == "bad_request"

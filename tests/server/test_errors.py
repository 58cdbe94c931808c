"""Every error of the tree has one HTTP form, and nothing else ever gets out."""

import re
from typing import Any

import pytest
from front import Front, chat, eventually, serving

from sightline.backends.fake import Reply
from sightline.core.chat import ChatRequest
from sightline.core.errors import (
    GenerationTimeout,
    InternalError,
    Overloaded,
    RequestError,
    SightlineError,
    StartupError,
    Unavailable,
)
from sightline.core.limits import Limits
from sightline.server.error_map import STATUS_OF_CODE, error_reply
from sightline.service.chat import ChatService

ERRORS: list[tuple[SightlineError, int, str, dict[str, str]]] = [
    (RequestError("m", code="invalid_value"), 400, "invalid_request_error", {}),
    (
        RequestError("m", code="invalid_api_key"),
        401,
        "authentication_error",
        {"www-authenticate": "Bearer"},
    ),
    (RequestError("m", code="host_not_allowed"), 403, "permission_error", {}),
    (RequestError("m", code="model_not_found"), 404, "invalid_request_error", {}),
    (
        RequestError("m", code="request_too_large"),
        413,
        "invalid_request_error",
        {"connection": "close"},
    ),
    (
        Overloaded("m", retry_after_s=7),
        429,
        "rate_limit_error",
        {"retry-after": "7", "retry-after-ms": "7000"},
    ),
    (Unavailable("m", code="overloaded"), 503, "server_error", {"retry-after": "1"}),
    (GenerationTimeout("m"), 504, "server_error", {}),
    (InternalError(), 500, "server_error", {}),
    (InternalError(code="out_of_memory"), 500, "server_error", {}),
    (StartupError("m"), 500, "server_error", {}),
]


@pytest.mark.parametrize(
    ("error", "status", "kind", "headers"), ERRORS, ids=lambda value: getattr(value, "code", None)
)
def test_an_error_has_its_status_type_and_headers(
    error: SightlineError, status: int, kind: str, headers: dict[str, str]
) -> None:
    reply = error_reply(error, "r1")
    found = dict(reply.headers)
    assert reply.status == status
    assert f'"type":"{kind}"'.encode() in reply.body
    assert f'"code":"{error.code}"'.encode() in reply.body
    assert headers.items() <= found.items()
    assert (found.get("x-should-retry") == "false") == (status not in (408, 429, 503))


def test_no_code_stands_for_a_status_that_is_ours() -> None:
    assert all(400 <= status < 500 for status in STATUS_OF_CODE.values())


def test_an_internal_error_says_its_request_id_and_nothing_else(front: Front) -> None:
    front.enqueue(Reply([], error=InternalError("secret detail")))
    answer = front.post(chat("x"))
    assert answer.status_code == 500
    request_id = answer.headers["x-request-id"]
    assert answer.json()["error"]["message"] == f"Internal error, request id {request_id}."
    assert answer.headers["x-should-retry"] == "false"


@pytest.fixture
def buggy_front(monkeypatch: pytest.MonkeyPatch) -> Any:
    async def start(self: ChatService, request: ChatRequest, **options: object) -> None:
        raise ZeroDivisionError("at 0x7f0012345678 in /usr/lib")

    monkeypatch.setattr(ChatService, "start", start)
    with serving(Front()) as front:
        yield front


@pytest.mark.parametrize("stream", [False, True])
def test_a_bug_is_a_500_without_a_word_of_it(
    buggy_front: Front, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    answer = buggy_front.post(chat("x", stream=stream))
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert not re.search("0x|/usr|Zero|Trace", answer.text)
    assert eventually(lambda: "ZeroDivisionError" in caplog.text)


def test_a_full_queue_is_429_with_a_time_to_come_back() -> None:
    with serving(Front(limits=Limits(max_running=1, max_waiting=0))) as front:
        gate = front.new_gate()
        front.enqueue(Reply(["a", gate, "b"]))
        with front.client.stream(
            "POST", front.url + "/v1/chat/completions", json=chat("x", stream=True)
        ) as held:
            assert held.status_code == 200
            answer = front.post(chat("x"))
            assert answer.status_code == 429
            assert answer.json()["error"]["code"] == "queue_full"
            assert 1 <= int(answer.headers["retry-after"]) <= 60
            front.on_loop(gate.set)
            held.read()
        assert eventually(front.is_idle)
        assert front.post(chat("x")).status_code == 200


def test_an_answer_that_takes_too_long_is_504_and_frees_the_engine() -> None:
    with serving(Front(limits=Limits(total_timeout_s=0.1, stream_timeout_s=0.1))) as front:
        gate = front.new_gate()
        front.enqueue(Reply([gate]), Reply(["a", gate]))
        plain = front.post(chat("x"))
        assert plain.status_code == 504
        assert plain.json()["error"]["code"] == "generation_timeout"
        streamed = front.post(chat("x", stream=True))
        assert '"code":"generation_timeout"' in streamed.text
        assert eventually(front.is_idle)

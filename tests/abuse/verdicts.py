"""What an answer may look like, whatever was asked: its form, and what it must not tell."""

import json
import re
from typing import Any

from tests.abuse.rows import Row
from tests.abuse.wire import Answer, Target

ERROR_KEYS = {"message", "type", "param", "code"}
MAX_MESSAGE = 300
# Things that only the inside of a server knows.
LEAKS = re.compile(
    rb"(?<![0-9])0x[0-9a-f]{6}|Traceback|site-packages|\.py\b|/(?:root|home|usr|etc|tmp|var)/[\w./-]+"
)


def fault_of(row: Row, answer: Answer, target: Target) -> str | None:
    """Return what is wrong with an answer; None when all is well."""
    if answer.status == -2:
        return "the server is gone"
    if answer.status == -1:
        return "no answer in time"
    if answer.status >= 500 and answer.status not in (501, 505):
        return f"status {answer.status}"
    if answer.status not in row.statuses:
        return f"status {answer.status} instead of {'/'.join(map(str, sorted(row.statuses)))}"
    if (leak := _leak(row, answer, target)) is not None:
        return f"tells {leak}"
    if answer.status == 0 or not answer.body:
        return None
    if answer.status >= 400:
        return _fault_of_error(row, answer)
    return _fault_of_success(row, answer)


def _leak(row: Row, answer: Answer, target: Target) -> str | None:
    if target.key and target.key.encode() in answer.body:
        return "the key"
    if answer.status < 400:
        return None  # an answer may repeat what was asked
    for found in LEAKS.findall(answer.body):
        if found not in row.data:
            return found.decode("latin-1")
    return None


def _fault_of_error(row: Row, answer: Answer) -> str | None:
    try:
        body = answer.json()
    except ValueError:
        return "an error that is not JSON"
    error = body.get("error") if isinstance(body, dict) else None
    if _is_dialect(row.path, body):
        return None
    if not isinstance(error, dict) or not set(error) >= ERROR_KEYS:
        return "not the OpenAI error form"
    if not isinstance(error["message"], str) or len(error["message"]) > MAX_MESSAGE:
        return "a message that is none, or too long"
    if not isinstance(error["code"], str):
        return "a code that is no text"
    if row.codes and error["code"] not in row.codes:
        return f"code {error['code']} instead of {'/'.join(row.codes)}"
    return None


def _fault_of_success(row: Row, answer: Answer) -> str | None:
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if kind == "text/event-stream":
        return _fault_of_stream(answer.body.decode("utf-8", "replace"))
    if kind == "application/json":
        try:
            answer.json()
        except ValueError:
            return "a body that is not JSON"
    elif kind == "application/x-ndjson":
        return _fault_of_lines(answer.body.decode("utf-8", "replace").splitlines())
    return None


def _fault_of_stream(text: str) -> str | None:
    if not text.endswith("\n\n"):
        return "a stream that breaks off"
    if "\r" in text:
        return "a stream with carriage returns"
    lines = [line for line in text.split("\n") if line and not line.startswith((":", "event: "))]
    payloads = [line.removeprefix("data: ") for line in lines]
    if any(not line.startswith("data: ") for line in lines):
        return "a stream with other lines"
    return _fault_of_lines([payload for payload in payloads if payload != "[DONE]"])


def _fault_of_lines(lines: list[str]) -> str | None:
    for line in lines:
        try:
            json.loads(line)
        except ValueError:
            return "a line that is not JSON"
    return None


def _is_dialect(path: str, body: Any) -> bool:
    """Whether the error has the form of the other dialect that is spoken at `path`."""
    error = body.get("error") if isinstance(body, dict) else None
    if path.startswith("/api/"):
        return isinstance(error, str)
    if path.removeprefix("/v1").startswith("/messages"):
        is_error = isinstance(error, dict) and body.get("type") == "error"
        return is_error and {"type", "message"} <= set(error)
    return False


def canary_text(answer: Answer) -> Any:
    """Return the answer without what differs every time; None unless it is a good one."""
    if answer.status != 200:
        return None
    body = answer.json()
    return [choice["message"] for choice in body["choices"]], body["usage"]

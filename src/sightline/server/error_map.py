"""The one place where errors become HTTP: status, headers, and the body in its dialect's form.

A status that no retry can change says so with `x-should-retry: false`, because the OpenAI SDK
would otherwise send the request three times.
"""

from dataclasses import dataclass

from starlette.responses import Response

from sightline.core.errors import (
    GenerationTimeout,
    InternalError,
    Overloaded,
    RequestError,
    SightlineError,
    Unavailable,
)
from sightline.server import ascii_json
from sightline.server.error_forms import error_form

# Codes of `RequestError` whose status is not 400.
STATUS_OF_CODE = {
    "invalid_api_key": 401,
    "host_not_allowed": 403,
    "key_not_allowed": 403,
    "model_not_found": 404,
    "response_not_found": 404,
    "file_not_found": 404,
    "unknown_url": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "length_required": 411,
    "request_too_large": 413,
    "uri_too_long": 414,
    "unsupported_media_type": 415,
    "headers_too_large": 431,
}
# What is not HTTP as we read it; the bytes that follow cannot be trusted either.
BAD_REQUEST = "bad_request"
# The rest of such a request may still be on its way.
_CLOSING_STATUS = frozenset({408, 411, 413, 414, 431})
_WORTH_A_RETRY = frozenset({408, 429, 503})


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error in HTTP form. `body` is ASCII JSON; header names are lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def status_of(error: SightlineError) -> int:
    match error:
        case RequestError():
            return STATUS_OF_CODE.get(error.code, 400)
        case Overloaded():
            return 429
        case Unavailable():
            return 503
        case GenerationTimeout():
            return 504
        case _:
            return 500


def error_object(error: SightlineError, request_id: str, path: str = "") -> dict[str, object]:
    """Return the error as bodies and error events of `path` carry it."""
    message = error_message(error, request_id)
    return error_form(path)(error, status_of(error), message, request_id)


def error_message(error: SightlineError, request_id: str) -> str:
    """Return what the client is told; of our own failures only where to look them up."""
    if isinstance(error, InternalError):
        return f"Internal error, request id {request_id}."
    return error.message


def error_reply(error: SightlineError, request_id: str, path: str = "") -> ErrorReply:
    status = status_of(error)
    headers = [("content-type", "application/json")]
    if status == 401:
        headers.append(("www-authenticate", "Bearer"))
    if isinstance(error, Overloaded | Unavailable):
        retry_after_s = max(1, error.retry_after_s)
        headers.append(("retry-after", str(retry_after_s)))
        headers.append(("retry-after-ms", str(retry_after_s * 1000)))
    if status not in _WORTH_A_RETRY:
        headers.append(("x-should-retry", "false"))
    if status in _CLOSING_STATUS or error.code == BAD_REQUEST:
        headers.append(("connection", "close"))
    body = ascii_json.encode(error_object(error, request_id, path))
    return ErrorReply(status, tuple(headers), body)


def error_response(error: SightlineError, request_id: str, path: str = "") -> Response:
    reply = error_reply(error, request_id, path)
    return Response(reply.body, reply.status, dict(reply.headers))

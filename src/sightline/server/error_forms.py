"""The body of an error, as the dialect of the path wants it.

OpenAI's form is everybody's but those of two neighbours: Anthropic's clients look for a `type`
and a nested `error`, Ollama's for one string. Neither has a place for the path of the guilty field,
so there it opens the message.
"""

import re
from collections.abc import Callable

from sightline.core.errors import RequestError, SightlineError

ErrorForm = Callable[[SightlineError, int, str, str], dict[str, object]]

ANTHROPIC_PATH = re.compile(r"(?:/v1)?/messages(?:/.*)?")
OLLAMA_PATH = re.compile(r"/api(?:/.*)?")

_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_form(path: str) -> ErrorForm:
    """Return the form in which clients of `path` read errors."""
    if ANTHROPIC_PATH.fullmatch(path):
        return anthropic_form
    if OLLAMA_PATH.fullmatch(path):
        return ollama_form
    return openai_form


def openai_form(
    error: SightlineError, status: int, message: str, request_id: str
) -> dict[str, object]:
    default = "invalid_request_error" if status < 500 else "server_error"
    return {
        "error": {
            "message": message,
            "type": _OPENAI_TYPES.get(status, default),
            "param": error.param if isinstance(error, RequestError) else None,
            "code": error.code,
        }
    }


def anthropic_form(
    error: SightlineError, status: int, message: str, request_id: str
) -> dict[str, object]:
    kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": _with_path(error, message)},
        "request_id": request_id,
    }


def ollama_form(
    error: SightlineError, status: int, message: str, request_id: str
) -> dict[str, object]:
    return {"error": _with_path(error, message)}


def _with_path(error: SightlineError, message: str) -> str:
    param = error.param if isinstance(error, RequestError) else None
    if not param or param in message:
        return message
    place, colon, rest = message.partition(":")
    # A text that opens with what holds the guilty field says where it is once.
    return f"{param}:{rest}" if colon and param.startswith(place) else f"{param}: {message}"

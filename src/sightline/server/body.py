"""Reading a request body: judged by its headers, bounded and timed while it arrives.

The pieces of a chunked body are counted by the protocol, which alone sees them.
"""

import asyncio
import re
from collections.abc import Callable

from starlette.types import Receive, Scope

from sightline.core.errors import RequestError, shorten
from sightline.core.limits import MIB, Limits
from sightline.media.recogniser import Recogniser
from sightline.server.context import context_of, header_values
from sightline.server.hangup import ClientGone
from sightline.server.received import Received

MIN_BYTES_PER_S = 1024

_JSON_TYPE = re.compile(
    r"application/(?:json|[a-z0-9.!#$&^_-]+\+json)"
    r'(?:\s*;\s*charset\s*=\s*"?(?P<charset>[^\s";]+)"?)?'
    r"(?:\s*;\s*[a-z0-9-]+=[^;]*)*\s*",
    re.IGNORECASE,
)


def check_media_type(scope: Scope) -> None:
    """Raise `RequestError` (`unsupported_media_type`) unless the body is said to be UTF-8 JSON."""
    types = header_values(scope, b"content-type")
    match = _JSON_TYPE.fullmatch(types[0].decode("latin-1")) if len(types) == 1 else None
    if match is None or (match["charset"] or "utf-8").lower() not in ("utf-8", "utf8"):
        raise RequestError("Send application/json.", code="unsupported_media_type")


def check_encoding(scope: Scope) -> None:
    """Raise `RequestError` (`unsupported_media_type`) unless the body comes as it is."""
    encodings = header_values(scope, b"content-encoding")
    if any(encoding.strip().lower() != b"identity" for encoding in encodings):
        name = shorten(encodings[0].decode("latin-1"))
        raise RequestError(
            f"Send application/json without content encoding, got '{name}'.",
            code="unsupported_media_type",
        )


def check_length(scope: Scope) -> None:
    """Raise `RequestError` (`length_required`) where no body was announced at all."""
    if not any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"]):
        raise RequestError("Send a body, with Content-Length.", code="length_required")


async def read_body(
    scope: Scope,
    receive: Receive,
    limits: Limits,
    *,
    recogniser: Callable[[], Recogniser],
    any_type: bool = False,
) -> Received:
    """Return the whole body; `any_type`: whatever it is said to be.

    Raises `RequestError` (`length_required`, `unsupported_media_type`, `request_too_large`,
    `request_timeout`), `Overloaded` when all requests together hold too much, and `ClientGone`.
    A body that declares too much is refused before any of it is read. Every body has
    `limits.body_timeout_s`, and a second more for each KiB that has arrived.
    """
    check_length(scope)
    if not any_type:
        check_media_type(scope)
    check_encoding(scope)
    for declared in header_values(scope, b"content-length"):
        if int(declared) > limits.max_body_bytes:
            raise _too_large(limits)
    body = Received(recogniser)
    held = context_of(scope).held_bytes
    deadline = asyncio.get_running_loop().time() + limits.body_timeout_s

    def take(piece: bytes) -> None:
        if body.size + len(piece) > limits.max_body_bytes:
            raise _too_large(limits)
        if held is not None:
            held.take(len(piece))
        body.add(piece)
        clock.reschedule(deadline + body.size / MIN_BYTES_PER_S)

    try:
        async with asyncio.timeout_at(deadline) as clock:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                take(message.get("body", b""))
                if not message.get("more_body", False):
                    break
                if (read_rest := scope.get("state", {}).get("read_rest")) is not None:
                    await read_rest(take)
                    break
    except TimeoutError:
        raise RequestError(
            f"Body is slower than 1 KiB/s for {limits.body_timeout_s:g} s.",
            code="request_timeout",
        ) from None
    return body


def _too_large(limits: Limits) -> RequestError:
    size = limits.max_body_bytes
    text = f"{size // MIB} MiB" if size % MIB == 0 else f"{size} bytes"
    return RequestError(f"Body is over the limit of {text}.", code="request_too_large")

"""What is known about one HTTP request, from its first byte to its log line."""

import re
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from starlette.types import Scope, Send

from sightline.core.chat import Notice
from sightline.core.held_bytes import Lease
from sightline.service.request_log import Facts

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_SCOPE_KEY = "sightline"

HeaderSource = Callable[[], Iterable[tuple[bytes, bytes]]]


@dataclass(slots=True)
class RequestContext:
    """`started` is a monotonic time. `cache_salt` and `key_id` belong to the caller's API key.

    `log` collects what the access line tells beyond the request line; never content.
    `held_bytes` is charged with what the request brings, until it has been answered.
    `header_sources` are asked for further headers when the answer, whatever it is, begins.
    `send_body` takes the pieces of an answer that has begun, past all layers that only look at
    beginnings. `write_piece` does so at once, or returns False and does nothing: see
    `GuardedProtocol.write_piece`. `is_quiet`: no access line, because nobody would want to read it.
    """

    request_id: str
    started: float = field(default_factory=time.monotonic)
    key_id: str | None = None
    cache_salt: bytes = field(default=b"", repr=False)
    notices: list[Notice] = field(default_factory=list)
    log: Facts = field(default_factory=dict)
    header_sources: list[HeaderSource] = field(default_factory=list)
    held_bytes: Lease | None = None
    send_body: Send | None = None
    write_piece: Callable[[bytes], bool] | None = None
    is_quiet: bool = False

    def understood(self, call_id: str, notices: Iterable[Notice], *, stream: bool) -> None:
        """Note what the body turned out to ask for."""
        self.notices.extend(notices)
        self.log["chat_id"] = call_id
        self.log["stream"] = stream

    def elapsed_ms(self) -> int:
        return round((time.monotonic() - self.started) * 1000)


def new_request_id() -> str:
    return f"req_{uuid.uuid4().hex}"


def header_values(scope: Scope, name: bytes) -> list[bytes]:
    """Return every value of a header, in order. `name` is lower case, as ASGI sends names."""
    return [value for key, value in scope["headers"] if key == name]


def open_context(scope: Scope) -> RequestContext:
    """Attach a context to `scope`. The client's request id is kept when it is harmless."""
    given = header_values(scope, b"x-request-id")
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        context = RequestContext(given[0].decode("ascii"))
    else:
        context = RequestContext(new_request_id())
    scope[_SCOPE_KEY] = context
    return context


def context_of(scope: Scope) -> RequestContext:
    context = scope[_SCOPE_KEY]
    assert isinstance(context, RequestContext)
    return context

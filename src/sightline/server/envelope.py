"""What surrounds every response: its id and time, its warnings, the access line, the last resort.

The outermost layer of the app. Whatever is raised inside becomes an answer in its dialect's form
here; a traceback goes to the log and nowhere else.
"""

import logging
import re
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightline.core.chat import Notice
from sightline.core.errors import InternalError, SightlineError, shorten
from sightline.core.held_bytes import HeldBytes
from sightline.server.access_log import log_access
from sightline.server.context import RequestContext, context_of, header_values, open_context
from sightline.server.error_forms import ANTHROPIC_PATH
from sightline.server.error_map import error_response
from sightline.server.hangup import ClientGone
from sightline.server.recent import RecentRequests
from sightline.service.metrics import Metrics
from sightline.service.transcript import current_transcript

MAX_WARNINGS_BYTES = 1024
CLIENT_CLOSED_REQUEST = 499  # for the log only; nobody is there to read a status

logger = logging.getLogger("sightline.server")

_UNSAFE = re.compile(r"[^A-Za-z0-9_.\[\]-]")


def warnings_header(notices: Sequence[Notice]) -> str:
    """Return the notices as `field=reason` pairs, at most 1 KiB of safe characters.

    Pairs that no longer fit are counted in a last one, `more=N`.
    """
    pairs: list[str] = []
    size = 0
    room = MAX_WARNINGS_BYTES - len(", more=99999")
    for index, notice in enumerate(notices):
        pair = f"{_safe(notice.field)}={_safe(notice.reason)}"
        size += len(pair) + 2
        if size > room:
            pairs.append(f"more={len(notices) - index}")
            break
        pairs.append(pair)
    return ", ".join(pairs)


def _safe(text: str) -> str:
    return _UNSAFE.sub("-", text[:128])


class Envelope:
    """Outermost middleware. Pure ASGI, so streams pass through it untouched."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics | None = None,
        held_bytes: HeldBytes | None = None,
        recent: RecentRequests | None = None,
    ) -> None:
        self._app = app
        self._recent = recent or RecentRequests()
        self._metrics = metrics or Metrics()
        self._held_bytes = held_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = open_context(scope)
        context.send_body = send
        context.write_piece = scope.get("state", {}).get("write_piece")
        status: int | None = None
        seen = self._recent.open(context, scope["method"], scope["path"])
        token = current_transcript.set(seen.transcript)

        async def send_enveloped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_headers(context, scope)]
            await send(message)

        try:
            try:
                await self._serve(scope, receive, send_enveloped)
            except ClientGone:
                status = status or CLIENT_CLOSED_REQUEST
            except Exception as error:
                if status is not None:
                    logger.error("answer of %s broke off", context.request_id, exc_info=error)
                    raise
                error = _as_sightline_error(error, context)
                response = error_response(error, context.request_id, scope["path"])
                await response(scope, receive, send_enveloped)
        finally:
            if not context.is_quiet:
                _log(scope, context, status)
            current_transcript.reset(token)
            self._recent.close(seen, status or CLIENT_CLOSED_REQUEST)
            self._metrics.responded(status or 0, str(context.log.get("error") or ""))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._held_bytes is None:
            await self._app(scope, receive, send)
            return
        with self._held_bytes.lease() as lease:
            context_of(scope).held_bytes = lease
            await self._app(scope, receive, send)


def _as_sightline_error(error: Exception, context: RequestContext) -> SightlineError:
    if not isinstance(error, SightlineError):
        logger.error("request %s failed", context.request_id, exc_info=error)
        error = InternalError()
    context.log["error"] = error.code
    return error


def _headers(context: RequestContext, scope: Scope) -> list[tuple[bytes, bytes]]:
    request_id = context.request_id.encode("ascii")
    headers = [
        (b"x-request-id", request_id),
        (b"openai-processing-ms", str(context.elapsed_ms()).encode("ascii")),
    ]
    if ANTHROPIC_PATH.fullmatch(scope["path"]):
        headers.append((b"request-id", request_id))  # where its SDK looks for it
    if context.notices:
        value = warnings_header(context.notices).encode("ascii")
        headers.append((b"x-sightline-warnings", value))
    for source in context.header_sources:
        headers.extend(source())
    return headers


def _log(scope: Scope, context: RequestContext, status: int | None) -> None:
    """Write the access line. Query strings may hold secrets, so only the path is told."""
    client = scope.get("client")
    agents = header_values(scope, b"user-agent")
    facts = {
        "request_id": context.request_id,
        "client": client[0] if client else None,
        "method": shorten(scope["method"], 16),
        "path": shorten(scope["path"], 256),
        "status": status,
        "duration_ms": context.elapsed_ms(),
        "key_id": context.key_id,
        "agent": shorten(agents[0].decode("latin-1")) if agents else None,
        **context.log,
    }
    if context.notices:
        facts["warnings"] = warnings_header(context.notices)
    log_access(facts)

"""Web pages of other sites: closed, except for origins that the operator has named.

A browser asks first (the preflight, which carries no key) and reads an answer only when its
headers name the page's origin. Origins are compared whole, letter for letter in lower case.
"""

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from sightline.core.errors import StartupError, shorten
from sightline.server.context import context_of, header_values

EXPOSED = (
    b"x-request-id, request-id, x-sightline-warnings, x-should-retry, retry-after, retry-after-ms, "
    b"openai-processing-ms, "
    b"x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
    b"x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, "
    b"x-ratelimit-limit-images, x-ratelimit-remaining-images, x-ratelimit-reset-images"
)
METHODS = b"DELETE, GET, HEAD, POST"  # of all paths together
MAX_AGE_S = b"600"


def checked_origins(origins: Sequence[str]) -> frozenset[str]:
    """Return the origins in lower case. Raises `StartupError` for what is none, `*` included."""
    for origin in origins:
        scheme, separator, rest = origin.partition("://")
        if not separator or not scheme or not rest or set("*/?# ") & set(rest):
            raise StartupError(
                f"--allow-origin: '{shorten(origin)}' is not an origin such as "
                "https://chat.example.org; name each one.",
                code="allow_origin",
            )
    return frozenset(origin.lower() for origin in origins)


class Cors:
    """Middleware. Stands outside the key check: a preflight cannot carry a key."""

    def __init__(self, app: ASGIApp, allowed_origins: frozenset[str]) -> None:
        self._app = app
        self._allowed = allowed_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = self._allowed_origin(scope) if scope["type"] == "http" else None
        if origin is None:
            await self._app(scope, receive, send)
            return
        context_of(scope).header_sources.append(
            lambda: (
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", EXPOSED),
                (b"vary", b"origin"),
            )
        )
        if scope["method"] == "OPTIONS" and header_values(scope, b"access-control-request-method"):
            await send({"type": "http.response.start", "status": 204, "headers": _preflight(scope)})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._app(scope, receive, send)

    def _allowed_origin(self, scope: Scope) -> bytes | None:
        values = header_values(scope, b"origin") if self._allowed else []
        if len(values) == 1 and values[0].decode("latin-1").lower() in self._allowed:
            return values[0]
        return None


def _preflight(scope: Scope) -> list[tuple[bytes, bytes]]:
    asked = header_values(scope, b"access-control-request-headers")
    headers = [
        (b"access-control-allow-methods", METHODS),
        (b"access-control-max-age", MAX_AGE_S),
    ]
    if len(asked) == 1:  # no cookies are ever read, so any header may be sent
        headers.append((b"access-control-allow-headers", asked[0]))
    return headers

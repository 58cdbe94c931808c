"""API keys: every path is closed unless it is on a written list.

The decision uses the path of the ASGI scope, which no header can change. Keys are kept as SHA-256
digests and compared in constant time against all of them; every failure looks the same.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from sightline.core.errors import RequestError
from sightline.server.context import context_of, header_values

OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/ready", "/version"})

_BEARER = re.compile(rb"(?i:bearer) ([\x21-\x7e]+)")


def unauthorized() -> RequestError:
    return RequestError("Incorrect or missing API key.", code="invalid_api_key")


class KeyGuard:
    """Middleware: without a good key, nothing but `OPEN_PATHS` exists."""

    def __init__(self, app: ASGIApp, api_keys: Sequence[str]) -> None:
        self._app = app
        self._digests = tuple(hashlib.sha256(key.encode()).digest() for key in api_keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._digests and scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            digest = self._authenticate(scope)
            if digest is None:
                raise unauthorized()
            context = context_of(scope)
            context.key_id = digest.hex()[:8]
            context.cache_salt = digest
        await self._app(scope, receive, send)

    def _authenticate(self, scope: Scope) -> bytes | None:
        """Return the digest of the caller's key, or None."""
        values = header_values(scope, b"authorization")
        match = _BEARER.fullmatch(values[0]) if len(values) == 1 else None
        given = hashlib.sha256(match[1] if match else b"").digest()
        found: bytes | None = None
        for digest in self._digests:  # all of them, so that time does not tell which one matched
            if hmac.compare_digest(digest, given):
                found = digest
        return found if match else None

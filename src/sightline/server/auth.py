"""API keys at the door: every path is closed unless it is on a written list.

The decision uses the path of the ASGI scope, which no header can change, and one place reads
credentials: `Authorization: Bearer`, and for Anthropic's clients, on their own paths alone,
`x-api-key`. Every failure looks the same. Behind this door the rights are the key's and nothing
else's; the service learns them as `current_caller`.
"""

import re
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from sightline.core.errors import RequestError
from sightline.server.context import context_of, header_values
from sightline.server.error_forms import ANTHROPIC_PATH
from sightline.server.keys import KeyHolder, KeyRing
from sightline.service.caller import current_caller

OPEN_PATHS = frozenset(
    prefix + path
    for prefix in ("", "/v1")
    for path in ("/health", "/health/live", "/health/ready", "/ready", "/version")
)

_BEARER = re.compile(rb"(?i:bearer) ([\x21-\x7e]+)")
_TOKEN = re.compile(rb"[\x21-\x7e]+")


def unauthorized() -> RequestError:
    return RequestError("Incorrect or missing API key.", code="invalid_api_key")


class KeyGuard:
    """Middleware: without a good key, nothing exists but what `is_open`; POSTs are paid for.

    `instead` may turn a refusal into a page on which a person can type the key.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: KeyRing,
        is_open: Callable[[str], bool] = OPEN_PATHS.__contains__,
        instead: Callable[[Scope], ASGIApp | None] = lambda _: None,
    ) -> None:
        self._app = app
        self._is_open = is_open
        self._keys = keys
        self._instead = instead

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        context = context_of(scope)
        try:
            holder = self._holder(scope)
        except RequestError as error:
            page = self._instead(scope)
            if page is None:
                raise
            context.log["error"] = error.code
            await page(scope, receive, send)
            return
        if holder.key_id:
            context.key_id = holder.key_id
            context.log["key"] = holder.name
        context.cache_salt = holder.digest
        if scope["method"] == "POST":
            context.header_sources.append(holder.budget.headers)
            holder.budget.take_request()
        token = current_caller.set(holder)
        try:
            await self._app(scope, receive, send)
        finally:
            current_caller.reset(token)

    def _holder(self, scope: Scope) -> KeyHolder:
        """Return who calls; raise `RequestError` (`invalid_api_key`) when that is not known."""
        if not self._keys:
            return self._keys.nobody
        given = _credential(scope)
        holder = self._keys.find(given or b"")
        if given is None or holder is None:
            raise unauthorized()
        return holder


def _credential(scope: Scope) -> bytes | None:
    """Return the one key that the request carries, or None."""
    values = header_values(scope, b"authorization")
    if not values and ANTHROPIC_PATH.fullmatch(scope["path"]):
        values = header_values(scope, b"x-api-key")
        match = _TOKEN.fullmatch(values[0]) if len(values) == 1 else None
        return match[0] if match else None
    match = _BEARER.fullmatch(values[0]) if len(values) == 1 else None
    return match[1] if match else None

"""One spelling for every path, before anything looks at it."""

import re

from starlette.types import ASGIApp, Receive, Scope, Send

_SLASHES = re.compile(r"/{2,}")


class CollapseSlashes:
    """Middleware: repeated slashes count as one and a slash at the end as none.

    Clients build `base_url + "/" + path` from whatever people type. It stands outside the key
    check, so that keys and routes are decided on the same path.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = _SLASHES.sub("/", scope["path"])
            scope["path"] = path.rstrip("/") or "/"
        await self._app(scope, receive, send)

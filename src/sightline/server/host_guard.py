"""Keeping web pages away from a server on loopback.

A page can make a browser send requests to 127.0.0.1, and by DNS rebinding even read the answers.
It cannot change the Host and Origin headers, so those decide.
"""

import ipaddress
import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from sightline.core.errors import RequestError, shorten
from sightline.server.context import header_values
from sightline.server.error_map import BAD_REQUEST

_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address without port, is this machine's own loopback."""
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):  # reserved: no site can own one
        return True
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


class HostGuard:
    """Middleware: a well-formed Host always; on a loopback bind, a local Host and Origin only.

    With `check_origin` off (keys are required, and a page has none) the Origin is not looked at.
    `allowed_origins`, in lower case, pass whatever their host.
    """

    def __init__(
        self,
        app: ASGIApp,
        bind_host: str,
        allowed_hosts: Sequence[str],
        check_origin: bool,
        allowed_origins: Collection[str] = frozenset(),
    ) -> None:
        self._app = app
        self._local_only = is_loopback(bind_host)
        self._allowed = {host.lower().removesuffix(".") for host in allowed_hosts}
        self._check_origin = check_origin
        self._allowed_origins = allowed_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = self._host(scope)
            if self._local_only and host is not None and not self._is_allowed(host):
                raise RequestError(
                    f"Host '{shorten(host)}' is not allowed.", code="host_not_allowed"
                )
            if self._check_origin:
                self._judge_origin(scope, host)
        await self._app(scope, receive, send)

    def _host(self, scope: Scope) -> str | None:
        values = header_values(scope, b"host")
        if not values and scope.get("http_version") == "1.0":
            return None
        match = _HOST.fullmatch(values[0].decode("latin-1")) if len(values) == 1 else None
        if match is None:
            raise RequestError("Host header is missing or malformed.", code=BAD_REQUEST)
        return match[1]

    def _is_allowed(self, host: str) -> bool:
        return is_loopback(host) or host.lower().removesuffix(".") in self._allowed

    def _judge_origin(self, scope: Scope, host: str | None) -> None:
        """Refuse other web sites. Apps with schemes of their own are no web sites."""
        for value in header_values(scope, b"origin"):
            origin = value.decode("latin-1")
            if origin.lower() in self._allowed_origins:
                continue
            scheme, _, rest = origin.partition("://")
            if rest and scheme.lower() not in ("http", "https"):
                continue
            if origin.lower() == "file://":  # Electron's; of a file's page browsers say null
                continue
            try:
                name = urlsplit(origin).hostname
            except ValueError:
                name = None
            if name is None or not (
                self._is_allowed(name) or name == (host or "").strip("[]").lower()
            ):
                raise RequestError(
                    f"Origin '{shorten(origin)}' is not allowed.", code="host_not_allowed"
                )

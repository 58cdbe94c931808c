"""The pages that a person sees, as GET: compressed, cached, with the headers they come with."""

from collections.abc import Mapping
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from sightline.core.errors import RequestError, shorten
from sightline.server.context import context_of, header_values
from sightline.server.router import Router


class SiteFile(Protocol):
    """One file as it goes out. `gzipped` is None where that would save nothing."""

    @property
    def body(self) -> bytes: ...
    @property
    def gzipped(self) -> bytes | None: ...
    @property
    def media_type(self) -> str: ...
    @property
    def etag(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


class Site(Protocol):
    """The pages by their paths. What `is_open` needs no key."""

    def find(self, path: str) -> SiteFile | None: ...
    def is_open(self, path: str) -> bool: ...


def page_instead_of_401(site: Site, scope: Scope) -> Response | None:
    """Return the page that asks a person for the key that is missing, if it is a page they want."""
    if not any(b"text/html" in value for value in header_values(scope, b"accept")):
        return None
    file = site.find(scope["path"]) if scope["method"] in ("GET", "HEAD") else None
    if file is None:
        return None
    headers = {**file.headers, "cache-control": "no-store", "www-authenticate": "Bearer"}
    return Response(file.body, 401, headers, media_type=file.media_type)


def site_router(site: Site) -> Router:
    router = Router()

    async def page(request: Request) -> Response:
        path = request.scope["path"]
        file = site.find(path)
        if file is None:
            raise RequestError(
                f"Unknown request URL: {request.method} {shorten(path)}. Reload the page.",
                code="unknown_url",
            )
        context_of(request.scope).is_quiet = True
        return _response(request, file)

    for path in ("/", "/compare", "/docs", "/status", "/playground/{name:path}"):
        router.get(path)(page)
    return router


def _response(request: Request, file: SiteFile) -> Response:
    headers = {**file.headers, "etag": file.etag, "vary": "accept-encoding"}
    if file.etag.encode() in header_values(request.scope, b"if-none-match"):
        return Response(None, 304, headers)
    body = file.body
    if _takes_gzip(request) and file.gzipped is not None:
        body, headers["content-encoding"] = file.gzipped, "gzip"
    return Response(body, 200, headers, media_type=file.media_type)


def _takes_gzip(request: Request) -> bool:
    accepted = b",".join(header_values(request.scope, b"accept-encoding")).lower().split(b",")
    return any(
        coding.partition(b";")[0].strip() == b"gzip" and b"q=0" not in coding.replace(b" ", b"")
        for coding in accepted
    )

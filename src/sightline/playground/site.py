"""The pages and what they are made of, read from `static/` once.

A page names its parts below `/playground/VERSION/`, where VERSION is a digest of all files, so
that a browser may keep every part for ever and never mixes two releases.
"""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

STATIC = Path(__file__).parent / "static"
PREFIX = "/playground/"
# Stands in the pages for the folder of the version at hand.
ANY_VERSION = "/playground/assets/"

PAGES = {
    "/": "index.html",
    "/compare": "compare.html",
    "/docs": "docs.html",
    "/status": "status.html",
}
# Documentation is for those who hold a key; who comes without one is asked for it on the page.
GUARDED = "/docs"
# These alone are told to the browser; a file of another kind is not part of the site.
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
}
_COMPRESSED_ALREADY = frozenset({".png", ".woff2"})

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; connect-src {connect}; "
    "manifest-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types dompurify"
)
# Only the page that compares servers may talk to another one than ours.
_CONNECT = {"/compare": "'self' http: https:"}
_PAGE_HEADERS = {
    "cache-control": "no-cache",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_PART_HEADERS = {
    "cache-control": "public, max-age=31536000, immutable",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True)
class SiteFile:
    """One file as it goes out. `gzipped` is None where that would save nothing."""

    body: bytes = field(repr=False)
    media_type: str
    headers: Mapping[str, str]
    is_compressible: bool

    @cached_property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    @cached_property
    def gzipped(self) -> bytes | None:
        return gzip.compress(self.body, mtime=0) if self.is_compressible else None


class Site:
    """Every file by its path. Reads the whole folder, about a megabyte, when it is made."""

    def __init__(self, folder: Path = STATIC) -> None:
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.suffix in MEDIA_TYPES and path.is_file()
        }
        self.version = _digest(files)
        self._parts = {
            name: _file(name, body, _PART_HEADERS)
            for name, body in files.items()
            if name not in PAGES.values()
        }
        self._pages = {
            path: self._page(path, name, files[name])
            for path, name in PAGES.items()
            if name in files
        }

    def find(self, path: str) -> SiteFile | None:
        """Return the file at `path`; None when the site has none there."""
        if path in self._pages:
            return self._pages[path]
        if not path.startswith(PREFIX):
            return None
        version, _, name = path.removeprefix(PREFIX).partition("/")
        # A tab that was opened before an update asks for parts of a version that is gone.
        return self._parts.get(name) if version == self.version else None

    def is_open(self, path: str) -> bool:
        """Whether `path` is the site's own, to be had without a key. It holds nothing secret."""
        return (path in PAGES and path != GUARDED) or path.startswith(PREFIX)

    def _page(self, path: str, name: str, body: bytes) -> SiteFile:
        text = body.replace(ANY_VERSION.encode(), f"{PREFIX}{self.version}/".encode())
        policy = _POLICY.format(connect=_CONNECT.get(path, "'self'"))
        return _file(name, text, {**_PAGE_HEADERS, "content-security-policy": policy})


def _file(name: str, body: bytes, headers: Mapping[str, str]) -> SiteFile:
    suffix = Path(name).suffix
    return SiteFile(body, MEDIA_TYPES[suffix], headers, suffix not in _COMPRESSED_ALREADY)


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, body in files.items():
        digest.update(f"{name}\0{len(body)}\0".encode())
        digest.update(body)
    return digest.hexdigest()[:12]

"""The one parser of image URLs.

What it returns are the parts that will be resolved, dialled and sent; no second parser sees the
text, so there is no second opinion about which host it names. Whatever URL parsers are known to
disagree on (user names, backslashes, white space, control characters) is refused.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote, urljoin

import idna

from sightline.core.errors import RequestError
from sightline.core.limits import Limits
from sightline.media import refusals

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_HOST_CHARS = 253

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\x9f\\]")
_WEB_URL = re.compile(r"(https?)://([^/?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{0,5}))?")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_PRINTABLE_ASCII = "".join(map(chr, range(0x21, 0x7F)))


@dataclass(frozen=True, slots=True, kw_only=True)
class WebUrl:
    """An http or https URL in parts.

    `host` is an IP address or an ASCII host name in lower case without a trailing dot; `target`
    is path and query as sent in the request line. The query may hold a secret: never shown.
    """

    scheme: Literal["http", "https"]
    host: str
    port: int
    target: str = field(repr=False)

    @property
    def origin(self) -> str:
        """Scheme, host and port as text; the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    @property
    def authority(self) -> str:
        """The Host header."""
        return self.origin.partition("://")[2]


def parse_url(text: str, limits: Limits) -> WebUrl:
    """Return the parts of an http or https URL.

    Raises `RequestError` (`invalid_image_url`).
    """
    check_length(text, limits)
    if _FORBIDDEN.search(text) or any(map(str.isspace, text)):
        raise refusals.invalid_url("The URL holds a backslash, white space or a control character.")
    match = _WEB_URL.fullmatch(text)
    if match is None:
        raise refusals.invalid_url()
    # Up to the first slash, so that an @ behind an early ? or # is not taken for a path either.
    if "@" in text[match.start(2) :].partition("/")[0]:
        raise refusals.invalid_url("The URL holds a user name or an @ before its path.")
    scheme: Literal["http", "https"] = "https" if match[1].lower() == "https" else "http"
    host, port = _split_authority(match[2])
    path, query = match[3] or "/", match[4] or ""
    return WebUrl(
        scheme=scheme,
        host=host,
        port=DEFAULT_PORTS[scheme] if port is None else port,
        target=quote(path + query, safe=_PRINTABLE_ASCII, errors="replace"),
    )


def follow(base: WebUrl, location: str, limits: Limits) -> WebUrl:
    """Return the URL to which `base` redirects with `location`; raises like `parse_url`."""
    check_length(location, limits)
    if _FORBIDDEN.search(location):  # urljoin would drop some of these without a word
        raise refusals.invalid_url("A redirect leads to a malformed URL.")
    try:
        joined = urljoin(base.origin + base.target, location)
    except ValueError:
        raise refusals.invalid_url("A redirect leads to a malformed URL.") from None
    return parse_url(joined, limits)


def check_length(text: str, limits: Limits) -> None:
    """Raise `RequestError` (`invalid_image_url`) for a URL over the limit."""
    num_bytes = len(text)
    if num_bytes <= limits.max_url_bytes and not text.isascii():
        num_bytes = len(text.encode("utf-8", "replace"))
    if num_bytes > limits.max_url_bytes:
        raise refusals.url_too_long(num_bytes, limits)


def parse_authority(text: str) -> tuple[str, int | None]:
    """Split `host` or `host:port` in the way URLs are; raises `ValueError`."""
    try:
        return _split_authority(text)
    except RequestError as error:
        raise ValueError(error.message) from None


def _split_authority(text: str) -> tuple[str, int | None]:
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise refusals.invalid_url("The URL's host or port is malformed.")
    port = int(match[2]) if match[2] else None
    if port is not None and not 1 <= port <= 65_535:
        raise refusals.invalid_url(f"Port {port} does not exist; the highest is 65535.")
    return _normalise_host(match[1]), port


def _normalise_host(host: str) -> str:
    if host.startswith("["):
        try:
            address = ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            address = None
        if address is None or address.scope_id is not None:
            raise refusals.invalid_url("The URL's IPv6 address is malformed.")
        return str(address)
    if not host.isascii() and len(host) <= MAX_HOST_CHARS:
        try:
            host = idna.encode(host, uts46=True, std3_rules=False).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            raise refusals.invalid_url("The URL's host is not a valid name.") from None
    host = host.lower().removesuffix(".")
    if len(host) > MAX_HOST_CHARS or not all(map(_LABEL.fullmatch, host.split("."))):
        raise refusals.invalid_url("The URL's host is not a valid name.")
    return host

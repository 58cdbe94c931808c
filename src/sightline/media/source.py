"""What an image reference in a request is: a URL, bytes in base64, or a file.

Decided by the first characters alone, so that megabytes of base64 cost nothing here.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

import pybase64

from sightline.core.limits import Limits
from sightline.media import refusals
from sightline.media.signatures import ImageFormat, image_format_of
from sightline.media.url import WebUrl, check_length, parse_url

MAX_DATA_HEADER_CHARS = 1024
_PEEK_CHARS = 128
_WEB_SCHEME = re.compile(r"https?:", re.IGNORECASE)
_DATA_SCHEME = re.compile(r"\s{0,64}data\s{0,8}:", re.IGNORECASE)
_DECLARED_TYPE = re.compile(r"\s{0,64}data\s{0,8}:\s{0,8}([^\s;,]{1,100})", re.IGNORECASE)
_FORMATS: dict[str, ImageFormat] = {
    "image/bmp": "BMP",
    "image/x-bmp": "BMP",
    "image/x-ms-bmp": "BMP",
    "image/gif": "GIF",
    "image/jpeg": "JPEG",
    "image/jpg": "JPEG",
    "image/pjpeg": "JPEG",
    "image/apng": "PNG",
    "image/png": "PNG",
    "image/x-png": "PNG",
    "image/webp": "WEBP",
}
_ANY_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_FILE_URL = re.compile(r"file:(?://(?:localhost)?)?(/(?!/)[^?#]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class UrlSource:
    url: WebUrl


@dataclass(frozen=True, slots=True)
class Base64Source:
    """The base64 text is `text[start:]`, not copied yet."""

    text: str = field(repr=False)
    start: int


@dataclass(frozen=True, slots=True)
class FileSource:
    """A path as the client wrote it: absolute, or relative to the media root."""

    path: str = field(repr=False)


Source = UrlSource | Base64Source | FileSource


def parse_source(text: str, limits: Limits, *, files: bool) -> Source:
    """Return what `text` refers to; `files` says whether files may be named at all.

    Raises `RequestError` (`invalid_image_url`). Touches neither the network nor the file system.
    """
    if _DATA_SCHEME.match(text):
        return Base64Source(text, _data_start(text))
    if _WEB_SCHEME.match(text):
        return UrlSource(parse_url(text, limits))
    if _is_bare_image(text):
        return Base64Source(text, 0)
    check_length(text, limits)
    if not files:
        raise refusals.invalid_url()
    return _parse_file(text)


def _data_start(text: str) -> int:
    """Return where the data of a data URL begin."""
    comma = text.find(",", 0, MAX_DATA_HEADER_CHARS)
    if comma < 0:
        raise refusals.invalid_url("The data URL has no comma after its header.")
    parameters = text[:comma].lower().split(";")[1:]
    if "base64" not in (parameter.strip() for parameter in parameters):
        raise refusals.invalid_url("The data URL is not base64.")
    return comma + 1


def is_declared_otherwise(text: str) -> bool:
    """Whether `text` is a data URL of an accepted image whose declared type is another one."""
    declared = _DECLARED_TYPE.match(text)
    if declared is None:
        return False
    start = text.find(",", 0, MAX_DATA_HEADER_CHARS) + 1
    found = _format_of(text[start : start + _PEEK_CHARS])
    return found is not None and not is_type_of(declared[1], found)


def is_type_of(media_type: str, image_format: ImageFormat) -> bool:
    """Whether `media_type` is one of the names of `image_format`."""
    return _FORMATS.get(media_type.lower()) == image_format


def _is_bare_image(text: str) -> bool:
    """Whether `text` is base64 that begins like one of the accepted formats."""
    return _format_of(text[:_PEEK_CHARS]) is not None


def _format_of(digits: str) -> ImageFormat | None:
    """Return which of the accepted formats begins with base64 `digits`."""
    head = "".join(digits.split()).replace("-", "+").replace("_", "/")
    head = head[: len(head) // 4 * 4]
    try:
        return image_format_of(pybase64.b64decode(head, validate=True))
    except ValueError:
        return None


def _parse_file(text: str) -> FileSource:
    if match := _FILE_URL.fullmatch(text):
        path = unquote(match[1])
    elif text and not _ANY_SCHEME.match(text):
        path = text
    else:
        raise refusals.invalid_url()
    if not path.isprintable():
        raise refusals.invalid_url()
    return FileSource(path)

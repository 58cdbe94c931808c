"""What bytes are, by their signature; what a client declares never decides.

Five formats go on to a decode worker. Kinds of data that clients send by mistake are recognised
so that the refusal can name them; everything else is just not an image.
"""

import struct
from typing import Literal

from sightline.media import refusals

ImageFormat = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP"]

SIGNATURE_BYTES = 1024  # enough for every test below

_BMP_HEADER_SIZES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})

_OTHER_PREFIXES: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "application/pdf"),
    (b"%!PS", "application/postscript"),
    (b"\xc5\xd0\xd3\xc6", "application/postscript"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"\x00\x00\x01\xb3", "video/mpeg"),
    (b"FLV\x01", "video/x-flv"),
    (b"0&\xb2u\x8ef\xcf\x11", "video/x-ms-asf"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"\xff\xf1", "audio/aac"),
    (b"\xff\xf9", "audio/aac"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"MThd", "audio/midi"),
    (b"#!AMR", "audio/amr"),
)
_RIFF = {b"AVI ": "video/x-msvideo", b"WAVE": "audio/wav"}
_STILL_BRANDS = frozenset(
    {b"avif", b"avis", b"mif1", b"msf1", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
)
_AUDIO_BRANDS = frozenset({b"M4A ", b"M4B ", b"M4P ", b"F4A "})
_MARKUP = (
    (b"<!doctype html", "text/html"),
    (b"<html", "text/html"),
    (b"<head", "text/html"),
    (b"<svg", "image/svg+xml"),
    (b"<!doctype svg", "image/svg+xml"),
)


def require_image(data: bytes) -> ImageFormat:
    """Return the format of an accepted image.

    Raises `RequestError`: `empty_image_file`, `unsupported_image_media_type` for video, audio and
    documents, `invalid_image_format` for all else.
    """
    if not data:
        raise refusals.empty()
    head = data[:SIGNATURE_BYTES]
    image_format = image_format_of(head)
    if image_format is not None:
        return image_format
    other = _other_type(head)
    raise refusals.invalid_format() if other is None else refusals.unsupported_media_type(other)


def image_format_of(head: bytes) -> ImageFormat | None:
    """Return which of the accepted formats begins with `head` (32 bytes are enough)."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    # Two letters are a weak signature, so the size of the header that follows has to fit too.
    if head.startswith(b"BM") and len(head) >= 18:
        (header_size,) = struct.unpack_from("<I", head, 14)
        if header_size in _BMP_HEADER_SIZES:
            return "BMP"
    return None


def _other_type(head: bytes) -> str | None:
    for prefix, media_type in _OTHER_PREFIXES:
        if head.startswith(prefix):
            return media_type
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _isobmff_type(head[8:12])
    return _markup_type(head)


def _isobmff_type(brand: bytes) -> str | None:
    if brand in _STILL_BRANDS:
        return None  # HEIC and AVIF are images, only not accepted ones
    if brand in _AUDIO_BRANDS:
        return "audio/mp4"
    return "video/quicktime" if brand == b"qt  " else "video/mp4"


def _markup_type(head: bytes) -> str | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not text.startswith(b"<"):
        return None
    if text.startswith(b"<?xml") or text.startswith(b"<!--"):
        return "image/svg+xml" if b"<svg" in text or b"<!doctype svg" in text else "text/xml"
    return next((kind for prefix, kind in _MARKUP if text.startswith(prefix)), None)

"""Base64 as clients really write it: with line breaks, the url-safe alphabet, no padding."""

import re

import pybase64

from sightline.core.limits import Limits
from sightline.media import refusals

_PIECE_CHARS = 256 * 1024
_URL_SAFE_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_WHITE_SPACE = b" \t\r\n\f\v"
_WRONG_CHARACTER = re.compile(r"[^A-Za-z0-9+/=_\s-]|=(?=[\s=]*[^\s=])", re.ASCII)


def decode_base64(text: str, limits: Limits) -> bytes:
    """Return the bytes that `text` encodes.

    White space is skipped, both alphabets are taken, missing padding is completed, and `%2B`,
    `%2F` and `%3D` are understood, since data URLs are URLs. Raises `RequestError`:
    `empty_image_file`, `image_file_too_large`, `invalid_base64_image` with the position.
    May take some ten milliseconds for 20 MiB; call it in a thread.
    """
    try:
        digits = _digits(text)
        num_bytes = len(digits) * 3 // 4
        if num_bytes > limits.max_image_bytes:
            raise refusals.file_too_large(num_bytes, limits)
        data = pybase64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except ValueError:
        raise refusals.invalid_base64(_wrong_position(text)) from None
    if not data:
        raise refusals.empty()
    return data


def _digits(text: str) -> bytes:
    """The base64 digits in the standard alphabet; raises `ValueError` if `text` is not ASCII.

    In pieces, because each step holds the interpreter's lock and the event loop wants it too.
    """
    if "%" in text:
        text = _unescape(text)
    pieces = (text[i : i + _PIECE_CHARS] for i in range(0, len(text), _PIECE_CHARS))
    digits = b"".join(
        piece.encode("ascii").translate(_URL_SAFE_TO_STANDARD, _WHITE_SPACE) for piece in pieces
    )
    padding = len(digits) - len(digits.rstrip(b"="))
    return digits.rstrip(b"=") if padding <= 2 else digits


def _unescape(text: str) -> str:
    return re.sub(r"%(2b|2f|3d|0a|0d|20)", _unescape_one, text, flags=re.IGNORECASE)


def _unescape_one(match: re.Match[str]) -> str:
    return chr(int(match[1], 16))


def _wrong_position(text: str) -> int:
    """Where the first character stands that cannot be right, counted from 1.

    If every one could be, the end is what is wrong.
    """
    match = _WRONG_CHARACTER.search(text)
    return match.start() + 1 if match else len(text) + 1

"""Base64 as clients really write it: with line breaks, the url-safe alphabet, no padding."""

import re

import pybase64

from sightline.core.limits import Limits
from sightline.media import refusals

_PIECE_CHARS = 256 * 1024
_URL_SAFE_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_WHITE_SPACE = b" \t\r\n\f\v"
_NO_BASE64 = re.compile(r"[^A-Za-z0-9+/=_\s-]", re.ASCII)
_NO_PADDING = re.compile(r"[^=\s]", re.ASCII)
_ESCAPED = {"2B": "+", "2F": "/", "3D": "=", "20": " ", "0A": " ", "0D": " "}


def decode_base64(text: str, limits: Limits) -> bytes:
    """Return the bytes that `text` encodes.

    White space is skipped, both alphabets are taken, missing padding is completed, and `%2B`,
    `%2F` and `%3D` are understood, since data URLs are URLs. Raises `RequestError`:
    `empty_image_file`, `image_file_too_large`, `invalid_base64_image` with the position.
    May take some ten milliseconds for 20 MiB; call it in a thread.
    """
    if (data := _decode_plain(text, limits)) is not None:
        return data
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


def _decode_plain(text: str, limits: Limits) -> bytes | None:
    """Decode what is written by the book, which is nearly everything; None for all else."""
    if not text or len(text) * 3 // 4 > limits.max_image_bytes:
        return None
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:
        return None


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
    for code, character in _ESCAPED.items():
        for spelling in dict.fromkeys((code, code.lower())):
            text = text.replace(f"%{spelling}", character)
    return text


def _wrong_position(text: str) -> int:
    """Where the first character stands that cannot be right, counted from 1.

    If every one could be, the end is what is wrong.
    """
    padding = text.find("=")
    is_data_behind = padding >= 0 and _search(_NO_PADDING, text, padding) >= 0
    suspects = [_search(_NO_BASE64, text, 0), padding if is_data_behind else -1]
    return min((position for position in suspects if position >= 0), default=len(text)) + 1


def _search(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Return where a pattern of one character first matches, or -1; in pieces, as above."""
    for i in range(start, len(text), _PIECE_CHARS):
        match = pattern.search(text, i, i + _PIECE_CHARS)
        if match is not None:
            return match.start()
    return -1

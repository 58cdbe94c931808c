"""Judging the shape of a JSON body before anything is built from it.

The parser behind pydantic accepts four things this server does not: nesting down to 200 levels,
repeated keys (the last one wins, a proxy may have read the first), NaN and Infinity, and bodies
of millions of tiny values, each of which costs it about 300 bytes and, as it lets no other thread
run, the event loop up to a microsecond. One linear pass finds them. It
need not understand JSON otherwise: what is broken in other ways is left to the parser.

Every regular expression runs over at most `_WINDOW` bytes at a time, so that a pass in a thread
lets the event loop in between.
"""

import json
import re

from sightline.core.errors import RequestError
from sightline.core.limits import Limits

_WINDOW = 1 << 20
_TOKEN = re.compile(rb'["{}\[\],NI]')
_STRING_BODY = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_NAME = re.compile(rb'"[A-Za-z_]{1,64}"')
_COLON = re.compile(rb"[ \t\r\n]*+:")

_QUOTE, _COMMA = ord('"'), ord(",")
_OPEN_OBJECT, _OPEN_ARRAY = ord("{"), ord("[")
_CLOSE_OBJECT, _CLOSE_ARRAY = ord("}"), ord("]")


def invalid_json(body: bytes, position: int, what: str = "Body is not valid JSON") -> RequestError:
    """Return the error that points at byte `position` of `body`."""
    line = body.count(b"\n", 0, position) + 1
    column = position - body.rfind(b"\n", 0, position)
    return RequestError(f"{what} at line {line}, column {column}.", code="invalid_json")


def check_limits(body: bytes, limits: Limits) -> None:
    """Raise `RequestError` as `check_shape` does."""
    check_shape(body, limits.max_json_depth, limits.max_json_values, limits.max_json_texts)


def check_shape(body: bytes, max_depth: int, max_values: int, max_texts: int | None = None) -> None:
    """Raise `RequestError` when `body` is too deep or ambiguous (`invalid_json`) or too rich.

    Too rich is `invalid_value`: more than `max_values` containers and separators, or more than
    `max_texts` containers and strings, which cost the parser, and the loop meanwhile, the most. It
    names the field of the body in which the bound was passed.
    """
    size = len(body)
    position = 0
    num_values = 1
    num_texts = 0
    # For each open container the keys seen so far; None for an array.
    open_keys: list[set[bytes] | None] = []
    field: str | None = None
    while position < size:
        match = _TOKEN.search(body, position, position + _WINDOW)
        if match is None:
            position += _WINDOW
            continue
        start = match.start()
        token = body[start]
        position = start + 1
        if token == _QUOTE:
            num_texts += 1
            position = _string_end(body, position)
            if open_keys and (keys := open_keys[-1]) is not None and _COLON.match(body, position):
                key = _plain_key(bytes(body[start:position]))
                if key in keys:
                    raise invalid_json(body, start, "Body repeats a key")
                keys.add(key)
                if len(open_keys) == 1:
                    field = _field_name(key)
        elif token == _COMMA:
            num_values += 1
        elif token in (_OPEN_OBJECT, _OPEN_ARRAY):
            num_values += 1
            num_texts += 1
            open_keys.append(set() if token == _OPEN_OBJECT else None)
            if len(open_keys) > max_depth:
                raise invalid_json(body, start, f"Body nests deeper than {max_depth} levels")
        elif token in (_CLOSE_OBJECT, _CLOSE_ARRAY):
            if open_keys:
                open_keys.pop()
        else:  # N or I outside a string begins NaN, Infinity or nothing
            raise invalid_json(body, start)
        if num_values > max_values:
            raise RequestError(
                f"Body holds more than {max_values} values.", code="invalid_value", param=field
            )
        if max_texts is not None and num_texts > max_texts:
            raise RequestError(
                f"Body holds more than {max_texts} names, texts, lists and objects.",
                code="invalid_value",
                param=field,
            )


def _field_name(key: bytes) -> str | None:
    """Return a quoted key as the path of an error, if it could be one."""
    return key[1:-1].decode("ascii") if _NAME.fullmatch(key) else None


def _string_end(body: bytes, position: int) -> int:
    """Return the position after the quote that ends the string whose text begins at `position`."""
    quote = body.find(b'"', position)
    if quote < 0:
        return len(body)
    if body.find(b"\\", position, quote) < 0:  # the usual case, at the speed of memchr
        return quote + 1
    while position < len(body):
        match = _STRING_BODY.match(body, position, position + _WINDOW)
        assert match is not None
        position = match.end()
        if body[position : position + 1] == b'"':
            return position + 1
        if match.end() == match.start():
            break  # a backslash is the very last byte
    return len(body)


def _plain_key(quoted: bytes) -> bytes:
    """Return a key as it reads without escapes, so that two spellings of one key are equal."""
    if b"\\" not in quoted:
        return quoted
    try:
        return json.dumps(json.loads(quoted), ensure_ascii=False).encode("utf-8", "surrogatepass")
    except ValueError:
        return quoted  # not JSON; the parser will say where

"""JSON as it leaves the server: compact, one line, ASCII only.

Clients that split streams with `str.splitlines` would cut a raw U+2028, U+2029 or U+0085; escaped
they are harmless, and so are lone surrogates.
"""

import json

_encoder = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def encode(value: object) -> bytes:
    return _encoder.encode(value).encode("ascii")

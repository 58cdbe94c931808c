"""JSON as it leaves the server: compact, one line, ASCII only.

Clients that split streams with `str.splitlines` would cut a raw U+2028, U+2029 or U+0085; escaped
they are harmless, and so are lone surrogates.
"""

import json
from collections.abc import Sequence

PIECE = 8192

_encoder = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def encode(value: object) -> bytes:
    return _encoder.encode(value).encode("ascii")


def encode_list(values: Sequence[object]) -> bytes:
    """Encode a long list in pieces, so that a thread which does it lets others run."""
    starts = range(0, len(values), PIECE)
    return b"[" + b",".join(encode(values[at : at + PIECE])[1:-1] for at in starts) + b"]"

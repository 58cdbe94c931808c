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


def encode_parts(value: object, depth: int = 6) -> bytes:
    """Encode what stands `depth` levels deep part by part, as `encode_list` does: `encode`'s bytes.

    So deep are the likelihoods of tokens in any dialect's answer.
    """
    if depth and isinstance(value, dict):
        pairs = ((encode(key), encode_parts(one, depth - 1)) for key, one in value.items())
        return b"{" + b",".join(b"%b:%b" % pair for pair in pairs) + b"}"
    if depth and isinstance(value, list):
        return b"[" + b",".join(encode_parts(one, depth - 1) for one in value) + b"]"
    return encode(value)

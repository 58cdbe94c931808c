"""Pixels as a PNG file, without a library that also reads pictures."""

import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TRUECOLOUR_8 = struct.pack(">BBBBB", 8, 2, 0, 0, 0)
_NO_FILTER = b"\0"


def encode_png(pixels: bytes, width: int, height: int) -> bytes:
    """Return a PNG of `height * width * 3` bytes of RGB, row by row."""
    stride = width * 3
    if len(pixels) != height * stride:
        raise ValueError(f"{len(pixels)} bytes are not {width} x {height} pixels")
    rows = b"".join(
        _NO_FILTER + pixels[start : start + stride] for start in range(0, len(pixels), stride)
    )
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", struct.pack(">II", width, height) + _TRUECOLOUR_8),
            _chunk(b"IDAT", zlib.compress(rows, 1)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

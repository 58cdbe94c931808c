"""The size that an image file declares, read from its header in plain Python.

This is what lets a tiny file with a huge size be refused in microseconds, before any decoder sees
it. None means that the header does not say; the decode worker judges again in any case.
"""

import re
import struct

from sightline.media.signatures import ImageFormat

Size = tuple[int, int]

MAX_JPEG_SEGMENTS = 4096
MAX_JPEG_FILL = 4096
_NO_FILL = re.compile(rb"[^\xff]")
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN = 0xDA
_JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})


def declared_size(data: bytes, image_format: ImageFormat) -> Size | None:
    """Return (width, height) as stored, before any orientation; never raises."""
    try:
        return _READERS[image_format](data)
    except (struct.error, IndexError, ValueError):
        return None


def _png(data: bytes) -> Size | None:
    if data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif(data: bytes) -> Size:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _bmp(data: bytes) -> Size:
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return width, height
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(width), abs(height)  # a negative height says that rows run from the top


def _webp(data: bytes) -> Size | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return (
            int.from_bytes(data[24:27], "little") + 1,
            int.from_bytes(data[27:30], "little") + 1,
        )
    if kind == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg(data: bytes) -> Size | None:
    position = 2
    for _ in range(MAX_JPEG_SEGMENTS):
        found = _NO_FILL.search(data, position, position + MAX_JPEG_FILL)
        if found is None:
            return None
        marker = found[0][0]
        position = found.end()
        if marker in _JPEG_STANDALONE:
            continue
        if marker == _JPEG_SCAN:
            return None
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 3)
            return width, height
        (length,) = struct.unpack_from(">H", data, position)
        position = data.index(b"\xff", position + length)
    return None


_READERS = {"PNG": _png, "GIF": _gif, "BMP": _bmp, "WEBP": _webp, "JPEG": _jpeg}

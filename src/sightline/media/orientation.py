"""How a picture has to be turned before a human sees it: the EXIF orientation tag, nothing else.

A reader of its own, because all that is wanted is one small number from data that may be garbage.
"""

import struct

ORIENTATION_TAG = 0x0112
UPRIGHT = 1
_SHORT, _LONG = 3, 4
_ENTRY_BYTES = 12


def read_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8; 1 (upright) if there is none or the data make no sense.

    `exif` is a TIFF structure, with or without the prefix that JPEG files put before it.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return UPRIGHT
    try:
        return _read_first_directory(tiff, order)
    except struct.error:
        return UPRIGHT


def _read_first_directory(tiff: bytes, order: str) -> int:
    magic, start = struct.unpack_from(f"{order}HI", tiff, 2)
    if magic != 42:
        return UPRIGHT
    (num_entries,) = struct.unpack_from(f"{order}H", tiff, start)
    for i in range(num_entries):
        position = start + 2 + i * _ENTRY_BYTES
        tag, kind, count = struct.unpack_from(f"{order}HHI", tiff, position)
        if tag != ORIENTATION_TAG:
            continue
        if count != 1 or kind not in (_SHORT, _LONG):
            return UPRIGHT
        (value,) = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), tiff, position + 8)
        return value if 1 <= value <= 8 else UPRIGHT
    return UPRIGHT

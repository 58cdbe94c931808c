"""What the front and a decode worker say to each other over two pipes.

Once: the worker's HELLO byte, when it is ready. Then, one at a time: a request (head and encoded
bytes) and its reply (head and RGB pixels). Statuses and sizes only, never a decoder's own words.
Standard library only: both sides import this.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

HELLO = b"\x01"

_REQUEST = struct.Struct(">II")
_REPLY = struct.Struct(">BIII")
REQUEST_HEAD_BYTES = _REQUEST.size
REPLY_HEAD_BYTES = _REPLY.size


class Status(IntEnum):
    OK = 0
    DAMAGED = 1
    TOO_LARGE = 2  # judged from the header; the reply holds the size


@dataclass(frozen=True, slots=True)
class Reply:
    """`width` and `height` are those of the picture as displayed, before it was resized."""

    status: Status
    width: int
    height: int
    num_pixel_bytes: int


def pack_request(num_bytes: int, target_size: int) -> bytes:
    """A request to resize the picture in the next `num_bytes` bytes to a square."""
    return _REQUEST.pack(num_bytes, target_size)


def unpack_request(head: bytes) -> tuple[int, int]:
    """Return `num_bytes` and `target_size`."""
    num_bytes, target_size = _REQUEST.unpack(head)
    return num_bytes, target_size


def pack_reply(reply: Reply) -> bytes:
    return _REPLY.pack(reply.status, reply.width, reply.height, reply.num_pixel_bytes)


def unpack_reply(head: bytes) -> Reply:
    """Raises `ValueError` for an unknown status."""
    status, width, height, num_pixel_bytes = _REPLY.unpack(head)
    return Reply(Status(status), width, height, num_pixel_bytes)

"""What the front and a decode worker say to each other over two pipes.

Once: the worker's HELLO byte, when it is ready. Then, one at a time: a request (head and encoded
bytes) and its reply (head and RGB pixels). Statuses and sizes only, never a decoder's own words.
Nothing heavy: both sides import this.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from sightline.core.image_policy import ImagePolicy, PatchGridImagePolicy, SquareImagePolicy

HELLO = b"\x01"

_REQUEST = struct.Struct(">IIIII")
_REPLY = struct.Struct(">BIII")
REQUEST_HEAD_BYTES = _REQUEST.size
REPLY_HEAD_BYTES = _REPLY.size


class Status(IntEnum):
    OK = 0
    DAMAGED = 1
    TOO_LARGE = 2  # judged from the header; the reply holds the size
    FIRST_FRAME = 3  # as OK; more frames follow, which are not shown


@dataclass(frozen=True, slots=True)
class Reply:
    """`width` and `height` are those of the picture as displayed, before it was resized."""

    status: Status
    width: int
    height: int
    num_pixel_bytes: int

    @property
    def is_ok(self) -> bool:
        return self.status in (Status.OK, Status.FIRST_FRAME)


def pack_request(num_bytes: int, target: ImagePolicy) -> bytes:
    """A request to resize the picture in the next `num_bytes` bytes as `target` says."""
    if isinstance(target, PatchGridImagePolicy):
        grid = (target.factor, target.min_pixels, target.max_pixels)
        return _REQUEST.pack(num_bytes, 0, *grid)
    return _REQUEST.pack(num_bytes, *target.target_size(1, 1)[:1], 0, 0, 0)


def unpack_request(head: bytes) -> tuple[int, ImagePolicy]:
    """Return `num_bytes` and what says the size."""
    num_bytes, size, factor, min_pixels, max_pixels = _REQUEST.unpack(head)
    if size:
        return num_bytes, SquareImagePolicy(size=size, num_tokens=0)
    return num_bytes, PatchGridImagePolicy(
        factor=factor, min_pixels=min_pixels, max_pixels=max_pixels
    )


def pack_reply(reply: Reply) -> bytes:
    return _REPLY.pack(reply.status, reply.width, reply.height, reply.num_pixel_bytes)


def unpack_reply(head: bytes) -> Reply:
    """Raises `ValueError` for an unknown status."""
    status, width, height, num_pixel_bytes = _REPLY.unpack(head)
    return Reply(Status(status), width, height, num_pixel_bytes)

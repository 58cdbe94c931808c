"""When two pictures are the same: by their reference, by their file, by their pixels."""

import hashlib
import struct
from collections.abc import Sequence

from blake3 import blake3

from sightline.core.chat import ImagePart, PixelBounds
from sightline.core.image_policy import ImagePolicy
from sightline.core.limits import KIB

LARGE_BYTES = 64 * KIB  # what is larger is not decoded or hashed on the event loop
PREPROCESSING_VERSION = 1  # to be raised whenever the same file gives other pixels than before

Name = tuple[str | int, PixelBounds | None]
"""A reference to a picture, and the bounds that came with it."""


def image_digest(pixels: bytes, policy: ImagePolicy, width: int, height: int) -> bytes:
    """Return the identity of a picture: SHA-256 over a head of fixed length and the RGB pixels.

    The head holds the version of the preprocessing, the size in pixels, and the size of the
    picture as displayed, so that equal bytes of another shape are another picture.
    """
    size = policy.target_size(width, height)
    head = struct.pack(">5I", PREPROCESSING_VERSION, *size, width, height)
    digest = hashlib.sha256(head)
    digest.update(pixels)
    return digest.digest()


def cache_key(file_digest: bytes, policy: ImagePolicy, cache_salt: bytes) -> bytes:
    """Return what names the pixels of a file as `policy` wants them, for one tenant."""
    wanted = repr(policy).encode()
    head = struct.pack(">II", len(wanted), len(cache_salt)) + wanted + cache_salt
    return blake3(head + file_digest).digest()


def by_name(parts: Sequence[ImagePart]) -> dict[Name, ImagePart]:
    """Return the first part of each name."""
    firsts: dict[Name, ImagePart] = {}
    for part in parts:
        firsts.setdefault(name_of(part), part)
    return firsts


def name_of(part: ImagePart) -> Name:
    """Return what is equal for equal addresses; for data, what is this very string's alone.

    To compare megabytes by their hash takes as long as decoding them.
    """
    if part.inline is not None:
        return part.inline.digest.hex(), part.bounds
    return (part.source if len(part.source) <= LARGE_BYTES else id(part.source)), part.bounds

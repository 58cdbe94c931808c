"""What a full block of the KV cache contains, as a key.

Keys and values of a slot depend on every token before it and on the pictures among them, so the
key of a block covers all of that: it is a SHA-256 chain over the salt, the blocks before, the
block's own token ids, and the digest and offset of every image that overlaps it. Image slots all
hold the same placeholder ids: without the digest two pictures would share their blocks. Where a
picture came from is not part of it: the same pixels from another address are the same picture.

Two blocks behind the same one may begin alike and then part: their contents say how far they agree.
"""

import hashlib
import struct
from array import array
from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import zip_longest

from sightline.core.prompt import ImageSpan
from sightline.engine.sequence import Sequence


def root_key(cache_salt: bytes, variant: int = 0) -> bytes:
    """Return what the chain of a tenant begins with; `variant` is the model's `kv_variant`."""
    return hashlib.sha256(b"root" + struct.pack("<q", variant) + cache_salt).digest()


def block_key(
    parent: bytes, token_ids: Items[int], images: Items[ImageSpan], start: int, end: int
) -> bytes:
    """Return the key of the block in slots [start, end), behind the block with key `parent`.

    `images` are those of the whole prompt; an image's offset is counted from its first row to
    the block's first slot, negative where the image begins inside the block.
    """
    digest = hashlib.sha256(parent)
    digest.update(array("q", token_ids))
    for span in images:
        if span.start < end and start < span.start + span.length:
            head = struct.pack("<qqq", start - span.start, span.length, len(span.image.digest))
            digest.update(head + span.image.digest)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class BlockContent:
    """What a block holds that others behind the same block need not hold.

    Of each image that overlaps it, `images` say where it begins, counted from the block's first
    slot, how many slots it has, and its digest; in order.
    """

    token_ids: "array[int]"
    images: tuple[tuple[int, int, bytes], ...] = ()

    def count_equal(self, other: "BlockContent") -> int:
        """Return how many of the first slots are equal."""
        count = 0
        for one, another in zip(self.token_ids, other.token_ids, strict=False):
            if one != another:
                break
            count += 1
        nowhere = (count, 0, b"")
        for pair in zip_longest(self.images, other.images, fillvalue=nowhere):
            if pair[0] != pair[1]:
                return max(0, min(count, pair[0][0], pair[1][0]))
        return count


def block_content(sequence: Sequence, start: int, end: int) -> BlockContent:
    """Return what slots [start, end) hold; all tokens must be known."""
    return BlockContent(
        array("q", sequence.tokens(start, end)),
        tuple(
            (span.start - start, span.length, span.image.digest)
            for span in sequence.images
            if span.start < end and start < span.start + span.length
        ),
    )


def extend_keys(sequence: Sequence, block_size: int, num_blocks: int, variant: int = 0) -> None:
    """Grow `sequence.block_keys` to `num_blocks` keys; the tokens of those must be known."""
    keys = sequence.block_keys
    parent = keys[-1] if keys else root_key(sequence.cache_salt, variant)
    for number in range(len(keys), num_blocks):
        start, end = number * block_size, (number + 1) * block_size
        parent = block_key(parent, sequence.tokens(start, end), sequence.images, start, end)
        keys.append(parent)

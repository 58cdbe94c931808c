"""Image embeddings by digest, within a budget of bytes; the least recently used go first.

A digest covers pixels, size and preprocessing, so equal keys mean equal embeddings. The second
question about a picture then costs no encoding.
"""

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class EmbeddingCache(Generic[T]):
    """Not thread-safe: only the thread that owns the device uses it."""

    def __init__(self, max_bytes: int) -> None:
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, tuple[T, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, digest: bytes) -> T | None:
        """Return the embeddings of `digest` and make them the most recently used."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        self._entries.move_to_end(digest)
        return entry[0]

    def put(self, digest: bytes, value: T, size_bytes: int) -> None:
        """Remember `value`, which takes `size_bytes`, unless it alone exceeds the budget."""
        if size_bytes > self._max_bytes:
            return
        if digest in self._entries:
            self.size_bytes -= self._entries.pop(digest)[1]
        self._entries[digest] = (value, size_bytes)
        self.size_bytes += size_bytes
        while self.size_bytes > self._max_bytes:
            _, (_, evicted) = self._entries.popitem(last=False)
            self.size_bytes -= evicted

"""Image embeddings within a budget of bytes; the least recently used go first.

A key is the tenant's salt and the picture's digest, which covers pixels, size and preprocessing:
equal keys mean equal embeddings, and nobody can tell by the clock what others have sent. The
second question about a picture then costs no encoding.
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

    def get(self, key: bytes) -> T | None:
        """Return the embeddings of `key` and make them the most recently used."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: bytes, value: T, size_bytes: int) -> None:
        """Remember `value`, which takes `size_bytes`, unless it alone exceeds the budget."""
        if size_bytes > self._max_bytes:
            return
        if key in self._entries:
            self.size_bytes -= self._entries.pop(key)[1]
        self._entries[key] = (value, size_bytes)
        self.size_bytes += size_bytes
        while self.size_bytes > self._max_bytes:
            _, (_, evicted) = self._entries.popitem(last=False)
            self.size_bytes -= evicted

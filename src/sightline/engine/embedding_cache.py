"""Which image embeddings are on the device, within a budget of bytes. No torch, no tensors here.

A key is the tenant's salt and the picture's digest, which covers pixels, size and preprocessing:
equal keys mean equal embeddings, and nobody can tell by the clock what others have sent. The
second question about a picture then costs no encoding.

A sequence leases the embeddings of an image from the step that first needs them until its
prefill has passed the image. What is leased stays; of the rest, the least recently used go first.
The tensors are the runner's: it encodes what it does not have, and drops what was evicted.
"""

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(slots=True)
class _Entry:
    size_bytes: int
    num_leases: int = 0


class EmbeddingCache:
    """The books of the runner's embeddings. Not thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size_bytes = 0
        self.num_hits = 0
        self.num_queries = 0
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()  # least recently used first
        self._evicted: list[bytes] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries

    @property
    def num_leases(self) -> int:
        return sum(entry.num_leases for entry in self._entries.values())

    def lease(self, key: bytes, size_bytes: int) -> bool:
        """Keep `key` on the device until `release`; False if there is no room for it now."""
        entry = self._entries.get(key)
        if entry is None:
            if not self._make_room(size_bytes):
                return False
            entry = self._entries[key] = _Entry(size_bytes)
            self.size_bytes += size_bytes
        else:
            self.num_hits += 1
        self.num_queries += 1
        entry.num_leases += 1
        self._entries.move_to_end(key)
        return True

    def release(self, key: bytes) -> None:
        """Give one lease of `key` back; it stays in the cache."""
        entry = self._entries[key]
        assert entry.num_leases > 0, "a lease is given back more often than it was taken"
        entry.num_leases -= 1

    def take_evicted(self) -> tuple[bytes, ...]:
        """Return the keys that were dropped since the last call and did not come back."""
        evicted = tuple(key for key in self._evicted if key not in self._entries)
        self._evicted.clear()
        return evicted

    def check_integrity(self, held: list[bytes]) -> None:
        """Raise AssertionError unless the leases are exactly `held` and the bytes add up."""
        assert sorted(held) == sorted(
            key for key, entry in self._entries.items() for _ in range(entry.num_leases)
        ), "the leases are not those that sequences hold"
        assert self.size_bytes == sum(e.size_bytes for e in self._entries.values())
        assert 0 <= self.size_bytes <= self.max_bytes

    def _make_room(self, size_bytes: int) -> bool:
        if size_bytes > self.max_bytes:
            return False
        missing = self.size_bytes + size_bytes - self.max_bytes
        victims = []
        for key, entry in self._entries.items():
            if missing <= 0:
                break
            if entry.num_leases == 0:
                victims.append(key)
                missing -= entry.size_bytes
        if missing > 0:
            return False
        for key in victims:
            self._drop(key)
        return True

    def _drop(self, key: bytes) -> None:
        self.size_bytes -= self._entries.pop(key).size_bytes
        self._evicted.append(key)

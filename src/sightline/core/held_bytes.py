"""How many bytes of clients' data the front holds at once, over all requests.

A request that is alone is always let in, however large; its own limits bound it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sightline.core.errors import Overloaded
from sightline.core.limits import MIB


class HeldBytes:
    """The book of a server. Exactly zero when nothing is going on. Event loop only."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.num_bytes = 0

    @contextmanager
    def lease(self) -> Iterator["Lease"]:
        """Give back at the end of the block whatever was taken in it."""
        lease = Lease(self)
        try:
            yield lease
        finally:
            self.num_bytes -= lease.num_bytes

    def take(self, lease: "Lease", num_bytes: int) -> None:
        is_alone = self.num_bytes == lease.num_bytes
        if self.num_bytes + num_bytes > self._max_bytes and not is_alone:
            raise Overloaded(
                f"Requests of {self.num_bytes // MIB} MiB are in flight, limit "
                f"{self._max_bytes // MIB} MiB; retry in 1 s."
            )
        self.num_bytes += num_bytes
        lease.num_bytes += num_bytes


class Lease:
    """What one request holds."""

    def __init__(self, book: HeldBytes) -> None:
        self._book = book
        self.num_bytes = 0

    def take(self, num_bytes: int) -> None:
        """Raise `Overloaded` (`queue_full`) when all requests together hold too much."""
        self._book.take(self, num_bytes)

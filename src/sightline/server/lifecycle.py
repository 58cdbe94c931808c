"""Running, draining, ended: the state that the app and the server around it share."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sightline.core.errors import Unavailable


def draining_error() -> Unavailable:
    return Unavailable("The server is shutting down; retry elsewhere.", code="draining")


class Lifecycle:
    """Counts running answers and says when new ones are refused and running ones end.

    Used on the event loop only. `start_drain` and `end_now` may be called any number of times.
    """

    def __init__(self) -> None:
        self.draining = False
        self.num_running = 0
        self._has_ended = False
        self._to_tell: set[Callable[[], None]] = set()

    @contextmanager
    def running_answer(self) -> Iterator[None]:
        """Hold the drain open while an answer runs. Raises `Unavailable` (`draining`)."""
        self.refuse_when_draining()
        self.num_running += 1
        try:
            yield
        finally:
            self.num_running -= 1

    def refuse_when_draining(self) -> None:
        """Raise `Unavailable` (`draining`) once the server no longer takes work."""
        if self.draining:
            raise draining_error()

    def start_drain(self) -> None:
        self.draining = True

    def end_now(self) -> None:
        """End every running answer with a `draining` error."""
        self.draining = True
        self._has_ended = True
        for tell in tuple(self._to_tell):
            tell()

    def when_ended(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Call `tell` at `end_now`, soon if that has been; return what forgets it again."""
        self._to_tell.add(tell)
        if self._has_ended:
            asyncio.get_running_loop().call_soon(self._tell_late, tell)
        return lambda: self._to_tell.discard(tell)

    def _tell_late(self, tell: Callable[[], None]) -> None:
        if tell in self._to_tell:
            tell()

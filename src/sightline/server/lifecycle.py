"""Running, draining, ended: the state that the app and the server around it share."""

import asyncio
from collections.abc import Iterator
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
        self._ended = asyncio.Event()

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
        self._ended.set()

    async def wait_ended(self) -> None:
        await self._ended.wait()

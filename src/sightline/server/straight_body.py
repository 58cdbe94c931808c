"""The rest of a long body of known length, taken from the socket as it comes.

uvicorn stops reading after 64 KiB until the app has asked for them, and copies every byte five
times on its way; a picture of some MiB costs more there than everything else that is done to it.
"""

import asyncio
from collections.abc import Callable

from sightline.core.limits import KIB, MIB

# Less than this is left to uvicorn.
LEAST_BYTES = 64 * KIB
# A turn of the event loop costs as much as hashing 100 KiB, so few turns should do.
READ_BYTES = MIB


class StraightBody:
    """Hands `missing` bytes on to `on_piece`; what that raises ends the reading.

    `wait` returns when all have come, and raises what ended it before.
    """

    def __init__(self, missing: int, on_piece: Callable[[bytes], None]) -> None:
        self.missing = missing
        self._on_piece = on_piece
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to the body; return what comes after it."""
        piece = data[: self.missing]
        self.missing -= len(piece)
        if not self._done.done():
            try:
                self._on_piece(piece)
            except Exception as error:
                self.end(error)
        if not self.missing and not self._done.done():
            self._done.set_result(None)
        return data[len(piece) :]

    def end(self, error: Exception) -> None:
        """Give up: nothing more will come."""
        if not self._done.done():
            self._done.set_exception(error)

    async def wait(self) -> None:
        await self._done

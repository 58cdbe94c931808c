"""A long body of known length, taken from the socket as it comes.

uvicorn stops reading after 64 KiB until the app has asked for them, and copies every byte five
times on its way; a picture of some MiB costs more there than everything else that is done to it.
"""

import asyncio
from collections.abc import Callable

# Less than this is left to uvicorn.
LEAST_BYTES = 128 * 1024


class StraightBody:
    """A body that began with `first` and has `missing` bytes to come, joined once all are there.

    `on_piece` is told the size of each piece; what it raises ends the reading, and `wait` raises
    it.
    """

    def __init__(self, first: bytes, missing: int, on_piece: Callable[[int], None]) -> None:
        self.missing = missing
        self._pieces = [first]
        self._on_piece = on_piece
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to the body; return what comes after it."""
        piece = data[: self.missing]
        self._pieces.append(piece)
        self.missing -= len(piece)
        try:
            self._on_piece(len(piece))
        except Exception as error:
            self.end(error)
        if not self.missing and not self._done.done():
            self._done.set_result(None)
        return data[len(piece) :]

    def end(self, error: Exception) -> None:
        """Give up: nothing more will come."""
        if not self._done.done():
            self._pieces.clear()
            self._done.set_exception(error)

    async def wait(self) -> bytes:
        await self._done
        return b"".join(self._pieces)

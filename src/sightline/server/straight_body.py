"""A long body of known length, taken from the socket as it comes.

uvicorn stops reading after 64 KiB until the app has asked for them, and copies every byte five
times on its way; a picture of some MiB costs more there than everything else that is done to it.
"""

import asyncio
from collections.abc import Callable

# Less than this is left to uvicorn.
LEAST_BYTES = 128 * 1024


class StraightBody:
    """What is missing of a body: `missing` bytes, gathered as they arrive.

    `on_piece` is told the size of each; what it raises ends the reading, and `wait` raises it.
    """

    def __init__(self, first: bytes, missing: int, on_piece: Callable[[int], None]) -> None:
        self.missing = missing
        self._data = bytearray(first)
        self._on_piece = on_piece
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._take(len(first))

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to the body; return what comes after it."""
        piece = data[: self.missing]
        self._data += piece
        self.missing -= len(piece)
        self._take(len(piece))
        return data[len(piece) :]

    def end(self, error: Exception) -> None:
        """Give up: nothing more will come."""
        if not self._done.done():
            self._done.set_exception(error)

    async def wait(self) -> bytearray:
        await self._done
        return self._data

    def _take(self, num_bytes: int) -> None:
        try:
            self._on_piece(num_bytes)
        except Exception as error:
            self.end(error)
        if not self.missing and not self._done.done():
            self._done.set_result(None)

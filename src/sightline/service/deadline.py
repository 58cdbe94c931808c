"""The total time that a request may take, from its arrival to the end of its answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sightline.core.errors import GenerationTimeout


class Deadline:
    """Starts to run when it is made, on the running event loop."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._at = asyncio.get_running_loop().time() + timeout_s

    @asynccontextmanager
    async def enforce(self) -> AsyncIterator[None]:
        """Cancel the block when the time is up, and raise `GenerationTimeout` in its place."""
        timeout = asyncio.timeout_at(self._at)
        try:
            async with timeout:
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
            raise GenerationTimeout(f"Stopped after {self._timeout_s:g} s; not retried.") from None

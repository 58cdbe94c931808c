"""Host names to addresses, off the event loop."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable

MAX_LOOKUPS = 16

# Returns every address of a host as text, best first; raises OSError when there is none.
Resolve = Callable[[str, int], Awaitable[list[str]]]


class SystemResolver:
    """The system's resolver, at most `MAX_LOOKUPS` at once.

    A lookup cannot be cancelled and may hang for half a minute. So it runs in a thread that nobody
    waits for: not a caller whose time is up, not a process that wants to end. A place among the
    lookups is free again only when the thread has ended.
    """

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(MAX_LOOKUPS)

    async def __call__(self, host: str, port: int) -> list[str]:
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[str]] = loop.create_future()

        def deliver(addresses: list[str], error: OSError | None) -> None:
            self._places.release()
            if found.done():
                return
            if error is None:
                found.set_result(addresses)
            else:
                found.set_exception(error)

        def look_up() -> None:
            addresses: list[str] = []
            failure: OSError | None = None
            try:
                answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
            except (OSError, UnicodeError):
                failure = OSError("no such host")
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(deliver, addresses, failure)

        try:
            threading.Thread(target=look_up, name="resolver", daemon=True).start()
        except RuntimeError:  # the system has no thread left
            self._places.release()
            raise OSError("no thread for a lookup") from None
        return await found

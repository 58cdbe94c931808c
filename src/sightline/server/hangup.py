"""Running work for a client that may leave, on a server that may stop."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from sightline.server.lifecycle import Lifecycle, draining_error

T = TypeVar("T")


class ClientGone(Exception):
    """The client left before its answer was complete; there is nobody to tell."""


async def run_for_client(work: Coroutine[Any, Any, T], receive: Receive, lifecycle: Lifecycle) -> T:
    """Return what `work` returns, or cancel it and raise as soon as it has lost its purpose.

    Raises `ClientGone` when the client disconnects and `Unavailable` (`draining`) when the server
    ends its answers. `work` has been cancelled and has cleaned up before either is raised. The
    request body must have been read: any further message of `receive` means a disconnect.
    """
    running = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_disconnected(receive))
    ended = asyncio.ensure_future(lifecycle.wait_ended())
    try:
        await asyncio.wait({running, left, ended}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return running.result()
        if left.done():
            left.result()
            raise ClientGone
        raise draining_error()
    finally:
        for task in (running, left, ended):
            task.cancel()
        # Errors met while cleaning up were logged where they arose; the outcome is decided.
        await asyncio.gather(running, left, ended, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

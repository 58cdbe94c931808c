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
    # In this very task: another one would cost every answer a turn of the event loop.
    task = asyncio.current_task()
    assert task is not None
    num_cancelled = task.cancelling()
    reasons: list[BaseException] = []

    def stop(reason: BaseException) -> None:
        if not reasons:
            task.cancel()
        reasons.append(reason)

    def on_left(left: asyncio.Task[None]) -> None:
        if not left.cancelled():
            stop(left.exception() or ClientGone())

    left = asyncio.ensure_future(_disconnected(receive))
    left.add_done_callback(on_left)
    forget = lifecycle.when_ended(lambda: stop(draining_error()))
    try:
        return await work
    except (Exception, asyncio.CancelledError):
        # Errors met while cleaning up were logged where they arose; the outcome is decided.
        if not reasons or task.cancelling() > num_cancelled + 1:
            raise
        raise reasons[0] from None
    finally:
        forget()
        left.remove_done_callback(on_left)
        left.cancel()
        if reasons:
            task.uncancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

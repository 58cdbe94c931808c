"""The total time that a request may take, from its arrival to the end of its answer."""

import asyncio
from types import TracebackType

from sightline.core.errors import GenerationTimeout


class Deadline:
    """Starts to run when it is made, on the running event loop.

    One timer serves the whole answer: an answer of a thousand tokens enters a thousand blocks.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(timeout_s, self._expire)
        self._block = _Block(self)
        self.has_expired = False
        self.waiting: asyncio.Task[object] | None = None

    def enforce(self) -> "_Block":
        """Cancel the block when the time is up, and raise `GenerationTimeout` in its place.

        Blocks of one deadline do not overlap.
        """
        return self._block

    def close(self) -> None:
        """Stop the timer. What was in time stays so."""
        self._timer.cancel()

    def error(self) -> GenerationTimeout:
        return GenerationTimeout(f"Stopped after {self._timeout_s:g} s; not retried.")

    def _expire(self) -> None:
        self.has_expired = True
        if self.waiting is not None:
            self.waiting.cancel()


class _Block:
    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._cancelling = 0

    async def __aenter__(self) -> None:
        deadline = self._deadline
        if deadline.has_expired:
            raise deadline.error()
        task = asyncio.current_task()
        assert task is not None
        self._cancelling = task.cancelling()
        deadline.waiting = task

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        deadline = self._deadline
        task, deadline.waiting = deadline.waiting, None
        if not deadline.has_expired:
            return
        assert task is not None
        # As asyncio's own timeouts do: a cancellation by somebody else goes on.
        is_ours_alone = task.uncancel() <= self._cancelling
        if is_ours_alone and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise deadline.error() from None

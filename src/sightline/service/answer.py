"""An answer while it is being made."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

from sightline.core.chat import ChatDelta, ImageReport, Notice
from sightline.service.budget import TokenCounts
from sightline.service.deadline import Deadline
from sightline.service.request_log import RequestLog


class ChatAnswer:
    """An async iterator of `ChatDelta`, for one reader. Its first delta is there already.

    Joined, the texts are the whole answer, so a streamed and a plain answer cannot differ. The
    request holds its permit and its place in the engine until the last delta was read, an error
    was raised, the reader was cancelled while it waited for a delta, or `aclose` has returned;
    who stops reading early must call `aclose`, from the task that reads.

    `model` is the model's own id, whatever name was asked for; `counts` is the prompt's cost;
    `images` tells what became of each image, in the order of the conversation; `notices` name
    everything that was asked for and not done.
    """

    def __init__(
        self,
        *,
        model: str,
        counts: TokenCounts,
        images: tuple[ImageReport, ...],
        notices: tuple[Notice, ...],
        first: ChatDelta,
        deltas: AsyncGenerator[ChatDelta, None],
        deadline: Deadline,
        log: RequestLog,
        resources: AsyncExitStack,
    ) -> None:
        self.model = model
        self.counts = counts
        self.images = images
        self.notices = notices
        self._first: ChatDelta | None = first
        self._deltas = deltas
        self._deadline = deadline
        self._log = log
        self._resources = resources
        self._has_ended = False

    def __aiter__(self) -> "ChatAnswer":
        return self

    async def __anext__(self) -> ChatDelta:
        """Raises what the engine raises, and `GenerationTimeout` when the time is up."""
        if self._has_ended:
            raise StopAsyncIteration
        try:
            delta = await self._next()
        except BaseException as error:
            self._log.fail(error)
            await self._end()
            raise
        self._log.said(delta)
        if delta.finish_reason is not None and delta.usage is not None:
            self._log.finish(delta.finish_reason, delta.usage)
            await self._end()
        return delta

    async def aclose(self) -> None:
        """Give up the rest of the answer, if there is any. May be called more than once."""
        if not self._has_ended:
            self._log.abandon()
            await self._end()

    async def _next(self) -> ChatDelta:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        async with self._deadline.enforce():
            return await anext(self._deltas)

    async def _end(self) -> None:
        self._has_ended = True
        await self._resources.aclose()

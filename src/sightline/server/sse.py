"""Server-sent events as every OpenAI client reads them.

Blocks are exactly `data: {json}` and an empty line, LF only, one line of ASCII JSON, no `event:`
or `id:` lines. The status line waits for the first event, so whatever can fail early keeps its
status; only when that takes long does a comment go out ahead of it, and then one after every
further silence, so that proxies and clients with read time-outs stay.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from sightline.core.errors import InternalError, SightlineError
from sightline.server import ascii_json
from sightline.server.context import RequestContext, context_of
from sightline.server.error_map import error_object
from sightline.server.hangup import ClientGone, run_for_client
from sightline.server.lifecycle import Lifecycle

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
# So many blocks may go out in one turn of the event loop.
BLOCKS_PER_TURN = 8
EVENTS = b"text/event-stream; charset=utf-8"

logger = logging.getLogger("sightline.server")


def block(value: object) -> bytes:
    return b"data: " + ascii_json.encode(value) + b"\n\n"


def named_block(name: str, value: object) -> bytes:
    """Return an event with an `event:` line, as some dialects want it; never in a chat stream."""
    return b"event: " + name.encode("ascii") + b"\n" + block(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamForm:
    """How a dialect frames a stream.

    `keep_alive` fills silences; None where the dialect has nothing that says nothing. `end` comes
    after the last block of a whole answer. `error` makes the last block of a broken one, of the
    error and the request's id.
    """

    media_type: bytes = EVENTS
    keep_alive: bytes | None = KEEP_ALIVE
    end: bytes = DONE
    error: Callable[[SightlineError, str], bytes]


OPENAI = StreamForm(error=lambda error, request_id: block(error_object(error, request_id)))


class EventStream(Response):
    """Sends `blocks` as they come, ends them when the client leaves or the server must.

    An error before the first block is raised, to become an ordinary response; one after it
    becomes an error event, and the stream ends there without `[DONE]`.
    """

    def __init__(
        self,
        blocks: AsyncGenerator[bytes, None],
        *,
        lifecycle: Lifecycle,
        keep_alive_s: float,
        form: StreamForm = OPENAI,
    ) -> None:
        self._form = form
        self._blocks = blocks
        self._lifecycle = lifecycle
        self._keep_alive_s = keep_alive_s
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writer = _Writer(send, self._form, context_of(scope))
        try:
            await run_for_client(self._stream(writer), receive, self._lifecycle)
        except ClientGone:
            raise
        except SightlineError as error:
            await self._end_with(error, writer, scope)
        except Exception as error:
            if not writer.has_started:
                raise
            logger.error("stream of %s failed", context_of(scope).request_id, exc_info=error)
            await self._end_with(InternalError(), writer, scope)

    async def _stream(self, writer: "_Writer") -> None:
        with writer.without_silences(self._keep_alive_s):
            async with aclosing(self._blocks):
                num_blocks = 0
                async for data in self._blocks:
                    await writer.write(data)
                    num_blocks += 1
                    # Neither a quick engine nor a dead client makes a write wait, so without
                    # this a stream could shut out all others, and its own cancellation.
                    if num_blocks % BLOCKS_PER_TURN == 0:
                        await asyncio.sleep(0)
        await writer.write(self._form.end, is_last=True)

    async def _end_with(self, error: SightlineError, writer: "_Writer", scope: Scope) -> None:
        if not writer.has_started:
            raise error
        context = context_of(scope)
        context.log["error"] = error.code
        await writer.write(self._form.error(error, context.request_id), is_last=True)


class _Writer:
    """The response so far. Two tasks write to it; the lock keeps the status line first."""

    def __init__(self, send: Send, form: StreamForm, context: RequestContext) -> None:
        self._send = send
        self._send_body = context.send_body or send
        self._write_piece = context.write_piece
        self._form = form
        self._lock = asyncio.Lock()
        self._clock = asyncio.get_running_loop()
        self._last_write = self._clock.time()
        self.has_started = False

    async def write(self, data: bytes, *, is_last: bool = False) -> None:
        # Most pieces go straight to the socket: nobody else is writing, and the head is on its way.
        straight = self._write_piece if self.has_started and not is_last else None
        if straight is not None and not self._lock.locked() and straight(data):
            self._last_write = self._clock.time()
            return
        async with self._lock:
            if not self.has_started:
                self.has_started = True
                await self._send(_start(self._form.media_type))
            message = {"type": "http.response.body", "body": data, "more_body": not is_last}
            await self._send_body(message)
            self._last_write = self._clock.time()

    @contextmanager
    def without_silences(self, after_s: float) -> Iterator[None]:
        """Write a comment whenever nothing was written for `after_s` in the block."""
        if self._form.keep_alive is None:
            yield
            return
        filling: list[asyncio.Task[None]] = []

        def begin() -> None:
            filling.append(asyncio.ensure_future(self._fill_silences(after_s)))

        timer = self._clock.call_later(after_s, begin)
        try:
            yield
        finally:
            timer.cancel()
            for task in filling:
                task.cancel()

    async def _fill_silences(self, after_s: float) -> None:
        assert self._form.keep_alive is not None
        while True:
            wait_s = self._last_write + after_s - self._clock.time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            else:
                await self.write(self._form.keep_alive)


def _start(media_type: bytes) -> Message:
    return {
        "type": "http.response.start",
        "status": 200,
        "headers": [
            (b"content-type", media_type),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ],
    }

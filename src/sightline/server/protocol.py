"""uvicorn's HTTP/1.1 protocol with the clocks, counts and manners it lacks.

Clocks: a connection that says nothing is closed, a head that takes too long is answered 408, a
client that stops reading is cut off. Counts and strictness are `strict_http`'s. Refusals wear the
OpenAI form and an `x-request-id`, as every other answer.
"""

import asyncio
import http
import socket
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from sightline.core.errors import RequestError, SightlineError
from sightline.core.limits import KIB, Limits
from sightline.server.access_log import log_access
from sightline.server.context import new_request_id
from sightline.server.error_map import error_reply
from sightline.server.hangup import ClientGone
from sightline.server.outlet import LINGER_S, Outlet
from sightline.server.straight_body import LEAST_BYTES, READ_BYTES, StraightBody
from sightline.server.strict_http import StrictConnection, malformed

# Bytes parsed in one go: a read full of one-byte chunks would hold the loop for half a second.
# Each of them costs the parser some 20 µs.
MAX_SLICE_BYTES = 4 * KIB
# What comes with a head is copied several times on its way through the parser.
HEAD_READ_BYTES = 64 * KIB
SEND_BUFFER_BYTES = 128 * KIB


class GuardedProtocol(H11Protocol):
    """One client connection.

    `max_connections` None means no bound; above it every request but the liveness probe gets 503.
    """

    limits: Limits = Limits()
    max_connections: int | None = None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn: StrictConnection = StrictConnection(self.limits)
        self._backlog: deque[bytes] = deque()
        self._straight: StraightBody | None = None
        self._is_refused = False
        self._head_clock: asyncio.TimerHandle | None = None
        self._head_has_begun = False
        self._rest_clock: asyncio.TimerHandle | None = None
        # uvicorn types whole seconds; the event loop takes any.
        self.timeout_keep_alive = self.limits.keep_alive_timeout_s  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.connections.add(self)
        _tune(transport)
        if self.max_connections is not None:
            self.conn.is_crowded = len(self.connections) > self.max_connections
        self.transport: Outlet = Outlet(
            transport,
            loop=self.loop,
            peer_may_send=self._peer_may_send,
            send_stall_s=self.limits.send_stall_s,
        )
        self.transport.read_up_to(HEAD_READ_BYTES)
        self.flow = FlowControl(self.transport)
        self.server = get_local_addr(transport)
        self.client = get_remote_addr(transport)
        self.scheme = "https" if is_ssl(transport) else "http"
        self._start_head_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_clock()
        self._stop_rest_clock()
        self._unset_keepalive_if_required()
        self._backlog.clear()
        self._end_straight()
        self.transport.release()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused or self.transport.is_closing():
            return
        if self._straight is not None:
            self._feed_straight(self._straight, data)
        elif self._backlog or (len(data) > MAX_SLICE_BYTES and self._is_chunked()):
            if not self._backlog:
                self.loop.call_soon(self._feed_backlog)
            self._backlog.extend(_slices(data))
            self.transport.pause_reading()
        else:
            self._feed(data)

    def handle_events(self) -> None:
        if not self._is_refused:
            super().handle_events()
            if self.cycle is not None:
                self.cycle.scope["state"]["write_piece"] = partial(self.write_piece, self.cycle)
            if self.cycle is not None and self.conn.num_missing >= LEAST_BYTES:
                self.cycle.scope["state"]["read_rest"] = self.read_rest
            self._watch_rest()
            self._watch_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._watch_rest()
            self._watch_head()

    def shutdown(self) -> None:
        # A connection that is closing already needs no farewell, and its state allows none.
        if not self.transport.is_closing():
            super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size() == 0:
            super().timeout_keep_alive_handler()
        else:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused; uvicorn's `msg` knows no reason."""
        self._refuse(self.conn.refusal or malformed())

    def _should_upgrade(self) -> bool:
        return False  # an offer to speak something else may be left unanswered

    async def read_rest(self, on_piece: Callable[[bytes], None]) -> None:
        """Hand the rest of a body of known length to `on_piece`, past uvicorn's flow control.

        `on_piece` may raise. Raises `ClientGone`.
        """
        assert self.cycle is not None
        if self.transport.is_closing():
            raise ClientGone
        here, self.cycle.body = bytes(self.cycle.body), bytearray()
        on_piece(here)
        self._straight = straight = StraightBody(self.conn.num_missing, on_piece)
        unread = b"".join(self._backlog)
        self._backlog.clear()
        if unread:
            self._feed_straight(straight, unread)
        self.transport.read_up_to(READ_BYTES)
        self.flow.resume_reading()
        self.transport.resume_reading()
        try:
            await straight.wait()
        finally:
            self._straight = None
            self.transport.read_up_to(HEAD_READ_BYTES)

    def write_piece(self, cycle: RequestResponseCycle, data: bytes) -> bool:
        """Send a piece of the chunked answer of `cycle`, past uvicorn's checks of its order.

        False, with nothing sent, where it has to go through uvicorn: when the head is not on its
        way yet, the client is slow or gone, or the answer is not a chunked one.
        """
        if cycle is not self.cycle or cycle.disconnected or cycle.response_complete:
            return False
        piece = None if self.flow.write_paused else self.conn.frame_piece(data)
        if piece is None:
            return False
        self.transport.write(piece)
        return True

    def _feed_straight(self, straight: StraightBody, data: bytes) -> None:
        rest = straight.feed(data)
        self.conn.num_missing = straight.missing
        if straight.missing:
            return
        self._straight = None
        if rest:
            self._feed(rest)
        else:
            self.handle_events()

    def _end_straight(self) -> None:
        if self._straight is not None:
            self._straight.end(ClientGone())

    def _feed(self, data: bytes) -> None:
        super().data_received(data)

    def _feed_backlog(self) -> None:
        if self._is_refused or self.transport.is_closing():
            self._backlog.clear()
        if not self._backlog:
            return
        if num_missing := self.conn.num_missing:  # a body without chunks may come in one go
            rest = b"".join(self._backlog)
            self._backlog = deque((rest[:num_missing], *_slices(rest[num_missing:])))
        self._feed(self._backlog.popleft())
        if self._backlog:
            self.loop.call_soon(self._feed_backlog)
        elif not self.flow.read_paused:
            self.transport.resume_reading()

    def _is_chunked(self) -> bool:
        return self.conn.their_state is h11.IDLE or any(
            name == b"transfer-encoding" for name, _ in self.headers
        )

    def _peer_may_send(self) -> bool:
        return self._is_refused or self.conn.their_state is h11.SEND_BODY

    def _watch_rest(self) -> None:
        """Let the rest of a body that was answered early arrive for a moment, then close.

        Closing at once would surprise a client that means to use the connection again.
        """
        if self._is_refused or self.cycle is None:
            return
        is_answered = self.cycle.response_complete
        if is_answered and self.conn.their_state is h11.SEND_BODY:
            if self._rest_clock is None:
                self._rest_clock = self.loop.call_later(LINGER_S, self.transport.close)
        elif self._rest_clock is not None:
            self._stop_rest_clock()
            if is_answered:  # uvicorn forgot its own clock when the rest of the body came in
                self._unset_keepalive_if_required()
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )

    def _stop_rest_clock(self) -> None:
        if self._rest_clock is not None:
            self._rest_clock.cancel()
            self._rest_clock = None

    def _watch_head(self) -> None:
        """Run the clock while a head is on its way, and only then."""
        if self._is_refused or not (
            self.conn.their_state is h11.IDLE and self.conn.has_partial_head
        ):
            self._stop_head_clock()
        elif self._head_clock is None or not self._head_has_begun:
            self._start_head_clock(has_begun=True)

    def _start_head_clock(self, *, has_begun: bool = False) -> None:
        self._stop_head_clock()
        self._head_has_begun = has_begun
        self._head_clock = self.loop.call_later(self.limits.header_timeout_s, self._on_head_timeout)

    def _stop_head_clock(self) -> None:
        if self._head_clock is not None:
            self._head_clock.cancel()
            self._head_clock = None

    def _on_head_timeout(self) -> None:
        self._head_clock = None
        if self.transport.is_closing():
            return
        if self._head_has_begun:
            limit = f"{self.limits.header_timeout_s:g}"
            self._refuse(
                RequestError(f"Header block took longer than {limit} s.", code="request_timeout")
            )
        else:
            self.transport.close()

    def _refuse(self, error: SightlineError) -> None:
        """Answer `error` in OpenAI form, tell the app that the client is gone, and close."""
        self._is_refused = True
        self._stop_head_clock()
        self._stop_rest_clock()
        request_id = new_request_id()
        cycle = self.cycle
        is_midway = cycle is not None and not cycle.response_complete
        if is_midway and cycle.response_started:
            self.transport.abort()  # half an answer is out; nothing can be put after it
        else:
            self.transport.write(self._reply_bytes(error, request_id))
            self.transport.close()
        if is_midway:
            cycle.disconnected = True
            cycle.message_event.set()
            self._end_straight()
        self._log_refusal(error, request_id)

    def _reply_bytes(self, error: SightlineError, request_id: str) -> bytes:
        reply = error_reply(error, request_id)
        headers = dict(reply.headers) | {
            "content-length": str(len(reply.body)),
            "connection": "close",
            "x-request-id": request_id,
            "openai-processing-ms": "0",
        }
        lines = [f"HTTP/1.1 {reply.status} {http.HTTPStatus(reply.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
        return head if self.conn.is_head_request else head + reply.body

    def _log_refusal(self, error: SightlineError, request_id: str) -> None:
        log_access(
            {
                "request_id": request_id,
                "client": self.client[0] if self.client else None,
                "status": error_reply(error, request_id).status,
                "error": error.code,
            }
        )


def _slices(data: bytes) -> Iterator[bytes]:
    return (data[start : start + MAX_SLICE_BYTES] for start in range(0, len(data), MAX_SLICE_BYTES))


def _tune(transport: asyncio.Transport) -> None:
    """Send at once, and keep little in the kernel.

    Nagle's algorithm would hold a body back 40 ms behind its head; asyncio turns it off only for
    sockets whose listener was made with an explicit protocol number. The kernel would buffer
    megabytes for a client that reads slowly, and report progress only in steps of a third of that,
    so a slow reader would look like one that has stopped.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

"""Clients that do not read: paused, then cut off; nothing is kept for them for ever."""

import socket
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from front import PATIENCE_S, Front, dechunk, eventually, serving
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sightline.core.limits import Limits
from sightline.server.envelope import Envelope
from sightline.server.lifecycle import Lifecycle
from sightline.server.sse import EventStream

STALL_S = 1.0
MEGABYTE = 2**20
REQUEST = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Talker:
    """An app that answers with a stream, or a body, of so many megabytes."""

    num_megabytes: int
    streams: bool = True
    num_sent: int = 0
    closed: bool = False
    lifecycle: Lifecycle = field(default_factory=Lifecycle)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if self.streams:
            answer: Response = EventStream(
                self.blocks(), lifecycle=self.lifecycle, keep_alive_s=PATIENCE_S
            )
        else:
            answer = Response(b"x" * self.num_megabytes * MEGABYTE)
        await answer(scope, receive, send)

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        try:
            for _ in range(self.num_megabytes * 64):
                self.num_sent += MEGABYTE // 64
                yield b"x" * (MEGABYTE // 64)
        finally:
            self.closed = True


@contextmanager
def talking_to(talker: Talker, window_bytes: int = 4096) -> Iterator[tuple[Front, socket.socket]]:
    """Serve `talker` to a client with a small window that has asked and reads nothing yet."""
    limits = Limits(send_stall_s=STALL_S)
    with serving(Front(limits=limits, app=Envelope(talker))) as front, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_bytes)
        client.settimeout(PATIENCE_S)
        client.connect(("127.0.0.1", front.port))
        client.sendall(REQUEST)
        yield front, client


def num_connections(front: Front) -> int:
    return front.on_loop(lambda: len(front.server.server_state.connections))


def test_h14_a_stream_that_nobody_reads_is_paused_and_then_cancelled() -> None:
    talker = Talker(num_megabytes=100)
    with talking_to(talker) as (front, _):
        assert eventually(lambda: talker.closed, within_s=PATIENCE_S)
        assert eventually(lambda: num_connections(front) == 0)
    assert talker.num_sent < 4 * MEGABYTE  # what the kernel buffers, and little more


def test_an_answer_that_is_complete_but_never_read_is_dropped() -> None:
    with talking_to(Talker(num_megabytes=4, streams=False)) as (front, _):
        assert eventually(lambda: num_connections(front) == 1)
        assert eventually(lambda: num_connections(front) == 0, within_s=PATIENCE_S)


@pytest.mark.parametrize("streams", [True, False], ids=["stream", "body"])
def test_a_slow_reader_that_does_read_gets_everything(streams: bool) -> None:
    talker = Talker(num_megabytes=4, streams=streams)
    with talking_to(talker, window_bytes=65536) as (_, client):
        data = bytearray()
        num_naps = 0
        while piece := client.recv(65536):
            data += piece
            if num_naps < 8 and len(data) > (num_naps + 1) * MEGABYTE // 4:
                num_naps += 1
                time.sleep(0.3 * STALL_S)
    body = bytes(data).partition(b"\r\n\r\n")[2]
    if streams:
        assert dechunk(body).endswith(b"data: [DONE]\n\n")
    else:
        assert len(body) == 4 * MEGABYTE

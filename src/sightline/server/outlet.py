"""A transport that lets go of its client in a way that never loses the answer, and never hangs.

Closing a socket while the peer still sends makes the kernel reset the connection, which can
destroy the answer on its way. So when the peer is not done, the outlet closes its own half, and
drops what still comes in, for a moment. And a peer that stops reading is given up after a while,
instead of keeping its buffer for ever.
"""

import asyncio
from collections.abc import Callable
from typing import Any

LINGER_S = 1.0
CHECKS_PER_STALL = 8


class Outlet(asyncio.Transport):
    """Stands before `transport`. `peer_may_send` tells whether the peer's request is unfinished.

    A client that reads nothing for `send_stall_s` while bytes wait for it is cut off.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        loop: asyncio.AbstractEventLoop,
        peer_may_send: Callable[[], bool],
        send_stall_s: float,
    ) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._peer_may_send = peer_may_send
        self._send_stall_s = send_stall_s
        self._is_closing = False
        self._num_written = 0
        self._num_read_by_peer = 0
        self._last_progress = 0.0
        self._stall_check: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._transport.write(data)
        self._num_written += len(data)
        if self._stall_check is None and self._transport.get_write_buffer_size() > 0:
            self._last_progress = self._loop.time()
            self._check_stall()

    def is_closing(self) -> bool:
        return self._is_closing or self._transport.is_closing()

    def close(self) -> None:
        """Close once everything written has been sent; at once when the peer is done, too."""
        if self.is_closing():
            return
        self._is_closing = True
        if self._peer_may_send() and self._transport.can_write_eof():
            self._transport.write_eof()
            self._transport.resume_reading()
            self._linger = self._loop.call_later(LINGER_S, self._transport.close)
        else:
            self._transport.close()

    def abort(self) -> None:
        self._is_closing = True
        self._transport.abort()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def read_up_to(self, num_bytes: int) -> None:
        """Take at most `num_bytes` from the socket at once, where the event loop can be told."""
        if hasattr(self._transport, "max_size"):
            self._transport.max_size = num_bytes

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def release(self) -> None:
        """Forget the clocks; the connection is gone."""
        for handle in (self._stall_check, self._linger):
            if handle is not None:
                handle.cancel()

    def _check_stall(self) -> None:
        self._stall_check = None
        waiting = self._transport.get_write_buffer_size()
        if waiting == 0:
            return
        now = self._loop.time()
        num_read = self._num_written - waiting
        if num_read > self._num_read_by_peer:
            self._num_read_by_peer = num_read
            self._last_progress = now
        elif now - self._last_progress >= self._send_stall_s:
            self.abort()
            return
        self._stall_check = self._loop.call_later(
            self._send_stall_s / CHECKS_PER_STALL, self._check_stall
        )

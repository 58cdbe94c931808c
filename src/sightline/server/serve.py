"""Running the app: the listening socket, uvicorn with our protocol, and a drain that keeps faith.

The first SIGTERM or SIGINT starts a drain: new chat requests get 503 `draining`, running answers
finish, bounded by `limits.drain_timeout_s`. A second signal ends them with an error event. Either
way `serve` then returns, and the process can exit with 0.

    with bind("127.0.0.1", 8888) as listener:
        await Server(create_app(chat, lifecycle=lifecycle), lifecycle=lifecycle).serve([listener])
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from sightline.core.errors import StartupError, shorten
from sightline.core.limits import Limits
from sightline.server.lifecycle import Lifecycle
from sightline.server.options import ServerOptions
from sightline.server.protocol import GuardedProtocol

try:
    import resource
except ImportError:  # pragma: no cover -- Windows has no such limit
    resource = None  # type: ignore[assignment]

BACKLOG = 2048
SHARE_OF_DESCRIPTORS = 0.9
# How long connections may take to close once every answer has ended.
CLOSING_TIMEOUT_S = 1


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host`:`port`; port 0 takes a free one.

    Raises `StartupError` (`port_in_use`, `port_forbidden`, `bad_host`) with one line for the
    operator.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise _bad_host(host) from None
    # IPv4 first: `localhost` has both, and clients that are told 127.0.0.1 must find us.
    family, *_, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    try:
        return socket.create_server(
            address,
            family=family,
            backlog=BACKLOG,
            dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartupError(
                f"Port {port} on {shorten(host)} is in use; choose another with --port, or stop "
                "what listens there.",
                code="port_in_use",
                values={"host": shorten(host), "port": port},
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise StartupError(
                f"Port {port} may not be opened by this user; choose one from 1024 on with --port.",
                code="port_forbidden",
                values={"host": shorten(host), "port": port},
            ) from None
        raise _bad_host(host) from None


def _bad_host(host: str) -> StartupError:
    return StartupError(
        f"Host '{shorten(host)}' is not an address of this machine; try --host 127.0.0.1.",
        code="bad_host",
        values={"host": shorten(host)},
    )


def uvicorn_config(app: ASGIApp, limits: Limits) -> uvicorn.Config:
    """Return uvicorn's settings for our protocol; it trusts no headers.

    It logs next to nothing, because the app and the protocol log every request and every failure
    themselves.
    """
    protocol = type(
        "Protocol",
        (GuardedProtocol,),
        {"limits": limits, "max_connections": _max_connections()},
    )
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        loop="asyncio",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=CLOSING_TIMEOUT_S,
    )


def _max_connections() -> int | None:
    """Return how many connections fit into the descriptors of this process, with some to spare."""
    if resource is None:
        return None
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if allowed == resource.RLIM_INFINITY else int(allowed * SHARE_OF_DESCRIPTORS)


class Server(uvicorn.Server):
    """Serves `app` until it has drained. Signals are handled when it runs in the main thread."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        lifecycle: Lifecycle,
        options: ServerOptions | None = None,
        on_stopping: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_stopping` is called on the event loop when a signal has begun the drain."""
        self._on_stopping = on_stopping
        self._limits = (options or ServerOptions()).limits
        super().__init__(uvicorn_config(app, self._limits))
        self._lifecycle = lifecycle
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain_deadline: float | None = None
        self._num_signals = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal. uvicorn would raise it again at the end, and the exit would not be 0.

        A handler runs between any two instructions, in the midst of writing a log line too: what it
        printed would fail as a reentrant call, and the signal would be lost.
        """
        self._num_signals += 1
        if self._loop is None:
            self.should_exit = True
        elif self._num_signals == 1:
            self._loop.call_soon_threadsafe(self.start_drain)
            self._loop.call_soon_threadsafe(self._on_stopping)
        else:
            self._loop.call_soon_threadsafe(self._lifecycle.end_now)

    def start_drain(self) -> None:
        """Stop taking work and return from `serve` when the running answers have ended.

        Must be called on the event loop.
        """
        self._lifecycle.start_drain()
        if self._drain_deadline is None:
            now = asyncio.get_running_loop().time()
            self._drain_deadline = now + self._limits.drain_timeout_s

    async def on_tick(self, counter: int) -> bool:
        must_exit = await super().on_tick(counter)
        if not self._lifecycle.draining:
            return must_exit
        if self._drain_deadline is None:
            self.start_drain()
        late = asyncio.get_running_loop().time() >= (self._drain_deadline or 0.0)
        if late:
            self._lifecycle.end_now()
        return must_exit or late or self._lifecycle.num_running == 0

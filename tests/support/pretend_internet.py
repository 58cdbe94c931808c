"""Loopback servers that play public hosts: a resolver, a dialler, and a canary that must not sing.

Only the way to an address is pretended. Which address may be dialled is judged by production code;
whatever it dials that is no pretended public host ends at the canary.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Page = bytes | Handler

PUBLIC_ADDRESS = "93.184.216.34"


def answer(body: bytes = b"", *, status: str = "200 OK", headers: Sequence[str] = ()) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    return answer(status=status, headers=[f"Location: {location}"])


class Internet:
    """`hosts` maps a name to its answers, one list of addresses per resolution, the last repeats.

    `pages` maps a path to a whole answer, or to a function that speaks for itself.
    """

    def __init__(self) -> None:
        self.hosts: dict[str, list[list[str]]] = {}
        self.pages: dict[str, Page] = {}
        self.lookups: list[str] = []
        self.dialled: list[tuple[str, int]] = []
        self.requests: list[bytes] = []
        self.refusing: set[str] = set()
        self.num_open = 0
        self.max_open = 0
        self.canary_hits = 0
        self._port = 0
        self._tls_port = 0
        self._canary_port = 0

    @asynccontextmanager
    async def up(self, tls: ssl.SSLContext | None = None) -> AsyncIterator["Internet"]:
        servers = [
            await asyncio.start_server(self._serve, "127.0.0.1", 0),
            await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls),
            await asyncio.start_server(self._sing, "127.0.0.1", 0),
        ]
        ports = [server.sockets[0].getsockname()[1] for server in servers]
        self._port, self._tls_port, self._canary_port = ports
        try:
            yield self
        finally:
            for server in servers:
                server.close()
            for _ in range(1000):
                if not self.num_open:
                    break
                await asyncio.sleep(0.005)
            assert not self.num_open, "a connection was left open"

    async def resolve(self, host: str, port: int) -> list[str]:
        self.lookups.append(host)
        answers = self.hosts.get(host, [[PUBLIC_ADDRESS]])
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if not found:
            raise OSError("no such host")
        return found

    async def dial(self, address: str, port: int, tls: ssl.SSLContext | None, name: str) -> Streams:
        self.dialled.append((address, port))
        if address in self.refusing:
            raise ConnectionRefusedError
        there = self._tls_port if tls else self._port
        if not address.startswith(("93.184.216.", "2606:2800:")):
            there = self._canary_port
        return await asyncio.open_connection(
            "127.0.0.1", there, ssl=tls, server_hostname=name if tls else None
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_open += 1
        self.max_open = max(self.max_open, self.num_open)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            path = head.split(b" ")[1].decode().partition("?")[0]
            page = self.pages.get(path, answer(b"nothing here", status="404 Not Found"))
            if isinstance(page, bytes):
                writer.write(page)
                await writer.drain()
            else:
                await page(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the fetcher has left, as it may
        finally:
            self.num_open -= 1
            writer.close()

    async def _sing(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.canary_hits += 1
        writer.close()

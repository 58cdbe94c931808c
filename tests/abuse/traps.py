"""Listeners on loopback: one that nothing may ever reach, and one that lures fetchers to it."""

import contextlib
import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.support.picture_files import PNG

HTTP_PORT = 80
ENDLESS_BYTES = 64 * 2**20


@dataclass
class Traps:
    """`port` is the forbidden listener's; `redirector`, 0 for none, may be fetched from.

    `hits` names every connection to a forbidden listener: there must be none.
    """

    port: int = 0
    redirector: int = 0
    hits: list[str] = field(default_factory=list)


@contextmanager
def listening(*, with_redirector: bool) -> Iterator[Traps]:
    """Open the traps. Port 80 is one too, where this machine lets us have it."""
    traps = Traps()
    with contextlib.ExitStack() as resources:
        canary = resources.enter_context(socket.create_server(("127.0.0.1", 0)))
        traps.port = canary.getsockname()[1]
        listeners = [canary]
        for address, port in (
            ("127.0.0.2", traps.port),
            ("::1", traps.port),
            ("127.0.0.1", HTTP_PORT),
        ):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with contextlib.suppress(OSError):
                listeners.append(
                    resources.enter_context(socket.create_server((address, port), family=family))
                )
        for listener in listeners:
            threading.Thread(target=_watch, args=(listener, traps), daemon=True).start()
        if with_redirector:
            lure = ThreadingHTTPServer(("127.0.0.1", 0), _Lure)
            traps.redirector = lure.server_address[1]
            thread = threading.Thread(target=lure.serve_forever, daemon=True)
            thread.start()
            resources.callback(lure.server_close)
            resources.callback(lure.shutdown)
        yield traps


def _watch(listener: socket.socket, traps: Traps) -> None:
    while True:
        try:
            connection, peer = listener.accept()
        except OSError:
            return
        traps.hits.append(f"{listener.getsockname()} from {peer}")
        connection.close()


class _Lure(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        page, _, argument = self.path.partition("?")
        with contextlib.suppress(OSError):
            match urlsplit(page).path.strip("/").split("/"):
                case ["to"]:
                    self._answer(302, Location=argument) if argument else self._answer(301)
                case ["status", code]:
                    self._answer(int(code))
                case ["html"]:
                    self._answer(200, b"<meta http-equiv=refresh content='0;url=http://127.0.0.1'>")
                case ["gzip"]:
                    self._answer(200, gzip.compress(PNG), **{"Content-Encoding": "gzip"})
                case ["long"]:
                    self._answer(200, b"", **{"Content-Length": str(21 * 2**20)})
                case ["endless"]:
                    self.send_response(200)
                    self.end_headers()
                    for _ in range(ENDLESS_BYTES // 65536):
                        self.wfile.write(bytes(65536))
                case _:
                    self._answer(200, PNG)

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...

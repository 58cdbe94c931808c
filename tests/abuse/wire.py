"""Bytes out, an answer in: no client library stands between the attack and the server."""

import contextlib
import json
import socket
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

PATIENCE_S = 30.0
MAX_ANSWER_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Target:
    """Where the server is, and what a good request to it carries."""

    host: str
    port: int
    model: str
    key: str = field(default="", repr=False)
    prefix: str = ""

    @classmethod
    def of(cls, url: str, model: str, key: str = "") -> "Target":
        parts = urlsplit(url)
        assert parts.scheme == "http", "only plain HTTP is spoken here"
        prefix = parts.path.rstrip("/").removesuffix("/v1")
        return cls(parts.hostname or "127.0.0.1", parts.port or 80, model, key, prefix)

    def head(self, method: str, path: str, *lines: str, key: str | None = None) -> bytes:
        """Return the head of a request that closes, up to the empty line that `lines` precede."""
        given = self.key if key is None else key
        host = f"[{self.host}]" if ":" in self.host else self.host
        rows = [f"{method} {self.prefix}{path} HTTP/1.1", f"Host: {host}:{self.port}"]
        rows += [
            "Connection: close",
            *([f"Authorization: Bearer {given}"] if given else []),
            *lines,
        ]
        return "\r\n".join(rows).encode("latin-1") + b"\r\n\r\n"

    def post(self, path: str, body: bytes, *lines: str, key: str | None = None) -> bytes:
        return (
            self.head(
                "POST",
                path,
                "Content-Type: application/json",
                f"Content-Length: {len(body)}",
                *lines,
                key=key,
            )
            + body
        )

    def send(self, data: bytes, *, patience_s: float = PATIENCE_S) -> "Answer":
        """Send `data` and read until the server closes."""
        started = time.monotonic()
        received = bytearray()
        try:
            with socket.create_connection((self.host, self.port), timeout=patience_s) as connection:
                with contextlib.suppress(OSError):  # refused before all was sent; the answer tells
                    connection.sendall(data)
                with contextlib.suppress(ConnectionResetError):
                    while piece := connection.recv(65536):
                        received += piece
                        if len(received) > MAX_ANSWER_BYTES:
                            break
        except TimeoutError:
            return Answer(-1, {}, bytes(received), time.monotonic() - started)
        except OSError:
            return Answer(-2, {}, b"", time.monotonic() - started)
        return Answer.parse(bytes(received), time.monotonic() - started)


@dataclass(frozen=True)
class Answer:
    """`status` 0: closed without a word; -1: silent until patience ended; -2: nobody there."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @classmethod
    def parse(cls, data: bytes, seconds: float) -> "Answer":
        if not data:
            return cls(0, {}, b"", seconds)
        head, _, body = data.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        if headers.get("transfer-encoding") == "chunked":
            body = _dechunk(body)
        words = status_line.split()
        status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        return cls(status, headers, body, seconds)

    def json(self) -> Any:
        return json.loads(self.body)


def _dechunk(body: bytes) -> bytes:
    pieces = []
    while body:
        size, _, body = body.partition(b"\r\n")
        try:
            length = int(size.split(b";")[0], 16)
        except ValueError:
            break
        if length == 0:
            break
        pieces.append(body[:length])
        body = body[length + 2 :]
    return b"".join(pieces)

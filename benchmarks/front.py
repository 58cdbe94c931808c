"""What the front costs, measured without a model: `python benchmarks/front.py [--other URL]`.

The engine is a fake that answers at once, so everything that is left is the front: HTTP, JSON,
admission, tokens to text, server-sent events. Three numbers, each beside its bar:

- streamed tokens per second over 64 connections;
- time to first token that the front adds at low load;
- the same with a picture of 4 MiB as a data URI that is in the pixel cache.

Under the picture stands what the same bytes take to a process that only reads them and answers
with one word: what no server can save on this machine at this minute. The two are sent in turn.
Server and client are processes of their own; on two quiet cores each has one. Beside the clock
stands the processor time of the server, which says the same on a busy machine.
`--other URL --model M` measures another server in the same way (its engine included).
"""

import argparse
import asyncio
import base64
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
NUM_CONNECTIONS = 64
NUM_TOKENS = 400
NUM_ROUNDS = 3
NUM_SINGLE = 200
PICTURE_BYTES = 4 * 2**20 * 3 // 4  # 4 MiB as base64
MODEL = "sightline-fake"


@dataclass(frozen=True)
class Target:
    host: str
    port: int
    model: str
    pid: int | None = None

    def processor_s(self) -> float:
        """Processor time of the server so far; 0 where it is not told."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Stream:
    """One streamed answer: seconds to its first text and to its end, and its chunks with text."""

    first_s: float
    total_s: float
    num_tokens: int


def request_of(target: Target, content: object, *, max_tokens: int) -> bytes:
    body = {
        "model": target.model,
        "messages": [{"role": "user", "content": content}],
        "stream": True,
        "max_tokens": max_tokens,
        "temperature": 0,
    }
    data = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Stream:
    """Send a request on an open connection and read its stream to the end."""
    began = time.perf_counter()
    first_s = 0.0
    num_tokens = 0
    writer.write(request)
    tail = b""
    while True:
        data = await reader.read(262144)
        if not data:
            raise RuntimeError(f"the server closed: {tail[:300]!r}")
        if not first_s and b'"content":' in data:
            first_s = time.perf_counter() - began
        num_tokens += data.count(b'"delta":{"content"')
        tail = (tail + data)[-200:]
        if tail.endswith(b"0\r\n\r\n"):
            return Stream(first_s, time.perf_counter() - began, num_tokens)


async def throughput(target: Target) -> tuple[float, float]:
    """Return streamed chunks per second over all connections, the best of some rounds.

    The second number is chunks per second of the server's processor time.
    """
    request = request_of(target, "x" * NUM_TOKENS, max_tokens=NUM_TOKENS)
    connections = [
        await asyncio.open_connection(target.host, target.port) for _ in range(NUM_CONNECTIONS)
    ]
    best, num_tokens, before_s = 0.0, 0, target.processor_s()
    for _ in range(NUM_ROUNDS):
        began = time.perf_counter()
        streams = await asyncio.gather(*(ask(r, w, request) for r, w in connections))
        seconds = time.perf_counter() - began
        best = max(best, sum(stream.num_tokens for stream in streams) / seconds)
        num_tokens += sum(stream.num_tokens for stream in streams)
    for _, writer in connections:
        writer.close()
    return best, num_tokens / max(target.processor_s() - before_s, 1e-9)


@dataclass(frozen=True)
class FirstToken:
    """Seconds to the first token, request by request, and to the same bytes' bare reading."""

    times_s: list[float]
    bare_s: list[float]
    processor_s: float  # per request, its few tokens included


def first_token(target: Target, content: object) -> FirstToken:
    """Ask over one connection, one request at a time, a bare reader's turn between any two.

    Plain sockets, so that the client adds next to nothing of its own.
    """
    request = request_of(target, content, max_tokens=4)
    with connected(target.host, target.port) as connection, bare_reader(len(request)) as bare:
        _ask_plainly(connection, request)  # the first of it is not in any cache
        times, bares = [], []
        before_s = target.processor_s()
        for _ in range(NUM_SINGLE):
            times.append(_ask_plainly(connection, request))
            began = time.perf_counter()
            bare.sendall(request)
            bare.recv(1)
            bares.append(time.perf_counter() - began)
    return FirstToken(times, bares, (target.processor_s() - before_s) / NUM_SINGLE)


@contextmanager
def connected(host: str, port: int) -> Iterator[socket.socket]:
    with socket.create_connection((host, port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


@contextmanager
def bare_reader(num_bytes: int) -> Iterator[socket.socket]:
    """A connection to a process that reads `num_bytes` and answers one byte, again and again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reader = multiprocessing.get_context("fork").Process(
            target=_read_and_answer, args=(listener, num_bytes), daemon=True
        )
        reader.start()
        try:
            with connected(*listener.getsockname()) as connection:
                yield connection
        finally:
            reader.terminate()
            reader.join()


def _read_and_answer(listener: socket.socket, num_bytes: int) -> None:
    buffer = bytearray(262144)
    connection, _ = listener.accept()
    left = num_bytes
    while num_read := connection.recv_into(buffer):
        left -= num_read
        if left == 0:
            connection.sendall(b".")
            left = num_bytes


def _ask_plainly(connection: socket.socket, request: bytes) -> float:
    """Send a request, read its stream to the end, and return the time to its first text."""
    began = time.perf_counter()
    connection.sendall(request)
    first_s = 0.0
    data = b""
    while not data.endswith(b"0\r\n\r\n"):
        piece = connection.recv(65536)
        if not piece:
            raise RuntimeError(f"the server closed: {data[:300]!r}")
        data += piece
        if not first_s and b'"content":' in data:
            first_s = time.perf_counter() - began
    return first_s


def picture() -> list[dict[str, object]]:
    """A question about a picture whose file has 3 MiB, so that its data URI has 4."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from picture_files import padded_png

    url = "data:image/png;base64," + base64.b64encode(padded_png(PICTURE_BYTES)).decode()
    return [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "what?"}]


@contextmanager
def own_server(profile: str | None) -> Iterator[Target]:
    command = [sys.executable, "-m", "sightline", "serve", "--engine", "fake", "--port", "0"]
    if profile is not None:
        command[1:2] = ["-m", "cProfile", "-o", profile, "-m"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    try:
        url = urlsplit(process.stdout.readline().rpartition(" ")[2].strip())
        yield Target(url.hostname or "", url.port or 0, MODEL, process.pid)
    finally:
        process.terminate()
        process.wait(30)


def measure(target: Target) -> None:
    rate, rate_cpu = asyncio.run(throughput(target))
    word = first_token(target, "hello")
    seen = first_token(target, picture())
    print(f"{'':<48}{'clock':>16}{'processor':>12}   bar")
    rows = [
        (f"streamed tokens/s, {NUM_CONNECTIONS} connections", f"{rate:,.0f}", f"{rate_cpu:,.0f}"),
        ("ms to first token (least / median)", _ms(word.times_s), _ms([word.processor_s])),
        ("... with a cached picture of 4 MiB", _ms(seen.times_s), _ms([seen.processor_s])),
        ("    the same bytes, only read", _ms(seen.bare_s), ""),
    ]
    bars = (">= 10,000", "<= 1", "<= 3", "")
    for (what, clock, processor), bar in zip(rows, bars, strict=True):
        print(f"{what:<48}{clock:>16}{processor:>12}   {bar}".rstrip())


def _ms(seconds: list[float]) -> str:
    """Return the least and the median of the times; of one time, itself."""
    shown = [min(seconds), statistics.median(seconds)] if len(seconds) > 1 else seconds
    return " / ".join(f"{value * 1000:.2f}" for value in shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--other", help="URL of another server to measure instead")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--profile", help="write the server's cProfile there")
    arguments = parser.parse_args()
    if arguments.other:
        url = urlsplit(arguments.other)
        measure(Target(url.hostname or "", url.port or 80, arguments.model))
        return
    with own_server(arguments.profile) as target:
        measure(target)


if __name__ == "__main__":
    main()

"""A whole front on loopback: real uvicorn in a thread, the real service, a scripted engine.

    with serving(Front()) as front:
        front.post(chat("hello")).json()

The engine lives on the server's loop; `front.on_loop` runs what must run there.
"""

import asyncio
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2
from starlette.types import ASGIApp

from sightline.backends.fake import NUM_TOKENS, TOKENIZER_FILE, FakeEngine, Reply
from sightline.core.chat import ImagePart
from sightline.core.engine import EngineStats
from sightline.core.errors import RequestError
from sightline.core.image_policy import SquareImagePolicy
from sightline.core.limits import Limits
from sightline.core.prompt import Image
from sightline.playground.site import Site
from sightline.server.app import create_app
from sightline.server.lifecycle import Lifecycle
from sightline.server.options import ServerOptions
from sightline.server.serve import Server, bind
from sightline.service.chat import ChatOptions, ChatService

T = TypeVar("T")

PATIENCE_S = 20.0
PICTURE = "data:image/png;base64,iVBORw0KGgo="


class ByteTokenizer:
    """A token per byte, then the control tokens of the fake engine's vocabulary."""

    num_tokens = NUM_TOKENS

    def __init__(self, path: str) -> None:
        config = json.loads((TOKENIZER_FILE.parent / "tokenizer_config.json").read_text())
        rows = config["added_tokens_decoder"].items()
        self.special_tokens = {row["content"]: int(token_id) for token_id, row in rows}

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8", "surrogatepass"))

    def special_id(self, name: str) -> int:
        return self.special_tokens[name]

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < 256 else b""


class Pictures:
    """Makes a picture out of any address, but refuses those that contain `broken`.

    Those that contain `moving` have more frames than the one that is shown.
    """

    async def load(
        self, parts: Sequence[ImagePart], policy: SquareImagePolicy, *, cache_salt: bytes
    ) -> list[Image]:
        images = []
        for part in parts:
            if "broken" in part.source:
                raise RequestError(
                    "The image is damaged or cut short.", code="image_parse_error", param=part.param
                )
            images.append(
                Image(
                    pixels=bytes(policy.size * policy.size * 3),
                    width=policy.size,
                    height=policy.size,
                    digest=hashlib.sha256(part.source.encode()).digest(),
                    original_width=640,
                    original_height=480,
                    has_more_frames="moving" in part.source,
                    is_declared_otherwise="misnamed" in part.source,
                )
            )
        return images


@dataclass
class Front:
    """What to serve. After `serving` has started it, also where and with what."""

    limits: Limits = field(default_factory=Limits)
    server_options: Mapping[str, Any] = field(default_factory=dict)
    chat_options: ChatOptions = field(default_factory=ChatOptions)
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    max_connections: int | None = None
    app: ASGIApp | None = None  # served instead of ours
    site: Site | None = None

    port: int = 0
    client: httpx2.Client = field(init=False)
    engine: FakeEngine = field(init=False)
    service: ChatService = field(init=False)
    server: Server = field(init=False)
    lifecycle: Lifecycle = field(init=False)
    loop: asyncio.AbstractEventLoop = field(init=False)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def on_loop(self, function: Callable[..., T], *args: Any) -> T:
        """Return what `function` returns when called on the server's loop."""

        async def call() -> T:
            return function(*args)

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(PATIENCE_S)

    def enqueue(self, *replies: Reply) -> None:
        self.on_loop(self.engine.enqueue, *replies)

    def new_gate(self) -> asyncio.Event:
        return self.on_loop(asyncio.Event)

    def stats(self) -> EngineStats:
        return asyncio.run_coroutine_threadsafe(self.engine.stats(), self.loop).result(PATIENCE_S)

    def is_idle(self) -> bool:
        """The books: nothing runs, nothing waits, every permit is back."""
        stats = self.stats()
        admission = self.service.admission
        return (
            stats.num_running + stats.num_waiting == 0
            and self.lifecycle.num_running == 0
            and admission.num_running + admission.num_waiting == 0
        )

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return self.client.request(method, self.url + path, **options)

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("GET", path, **options)

    def post(
        self, body: object, *, path: str = "/v1/chat/completions", **headers: str
    ) -> httpx2.Response:
        """Post `body` (bytes go out as they are). Underscores in header names become dashes."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request(
            "POST", path, content=content, headers={"content-type": "application/json", **named}
        )

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def exchange(self, data: bytes) -> "RawAnswer":
        """Send raw bytes and read until the server closes."""
        with self.connect() as connection:
            with suppress(OSError):  # refused before all of it was sent; the answer tells
                connection.sendall(data)
            return read_answer(connection)

    @contextmanager
    def watching_the_loop(self, every_s: float = 0.01) -> Iterator[Callable[[], float]]:
        """Tick on the server's loop; the value tells how long the loop was held up at the worst.

        On a busy machine a tick may be late because nobody ran; only time in which this process
        computed counts.
        """
        worst = 0.0

        async def tick() -> None:
            nonlocal worst
            while True:
                due, computed = self.loop.time() + every_s, time.process_time()
                await asyncio.sleep(every_s)
                late = self.loop.time() - due
                worst = max(worst, min(late, time.process_time() - computed))

        ticking = asyncio.run_coroutine_threadsafe(tick(), self.loop)
        try:
            yield lambda: worst
        finally:
            ticking.cancel()

    def canary(self) -> object:
        """Return the answer to a fixed request, without what differs every time."""
        answer = self.post(chat("canary", PICTURE, temperature=0))
        assert answer.status_code == 200, answer.text
        body = answer.json()
        del body["id"], body["created"]
        return body


@dataclass(frozen=True)
class RawAnswer:
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)


def read_answer(connection: socket.socket) -> RawAnswer:
    """Read until the server closes. Status 0 means it closed without a word."""
    started = time.monotonic()
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    seconds = time.monotonic() - started
    if not data:
        return RawAnswer(0, {}, b"", seconds)
    head, _, body = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    return RawAnswer(int(status_line.split()[1]), headers, body, seconds)


def read_one(connection: socket.socket) -> RawAnswer:
    """Read one answer with a length, and leave the connection open."""
    with connection.makefile("rb") as stream:
        status_line = stream.readline().decode("latin-1")
        headers = {}
        while line := stream.readline().decode("latin-1").strip():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        body = stream.read(int(headers["content-length"]))
    return RawAnswer(int(status_line.split()[1]), headers, body, 0.0)


@contextmanager
def serving(front: Front) -> Iterator[Front]:
    """Serve `front` for the length of the block, then drain it."""
    started = threading.Event()
    failures: list[BaseException] = []

    async def main() -> None:
        front.engine = FakeEngine(**front.engine_options)
        front.service = ChatService(
            front.engine,
            Pictures(),
            load_tokenizer=ByteTokenizer,
            limits=front.limits,
            options=front.chat_options,
        )
        front.lifecycle = Lifecycle()
        options = ServerOptions(limits=front.limits, **front.server_options)
        app = front.app or create_app(
            front.service, options=options, lifecycle=front.lifecycle, site=front.site
        )
        front.server = Server(app, lifecycle=front.lifecycle, options=options)
        if front.max_connections is not None:
            front.server.config.http.max_connections = front.max_connections
        front.loop = asyncio.get_running_loop()
        listener = bind("127.0.0.1", 0)
        front.port = listener.getsockname()[1]
        started.set()
        await front.server.serve([listener])
        await front.service.close()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failures.append(error)
        finally:
            started.set()
            front.ended.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(PATIENCE_S)
    try:
        if failures:
            raise failures[0]
        with httpx2.Client(timeout=PATIENCE_S, trust_env=False) as front.client:
            yield front
    finally:
        if not front.ended.is_set():
            front.loop.call_soon_threadsafe(front.server.start_drain)
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "the server did not end"
    if failures:
        raise failures[0]


def chat(text: str, *images: str, **fields: Any) -> dict[str, Any]:
    """Return a chat request with one user message."""
    content: Any = text
    if images:
        parts = [{"type": "image_url", "image_url": {"url": image}} for image in images]
        content = [*parts, {"type": "text", "text": text}]
    return {
        "model": "sightline-fake",
        "messages": [{"role": "user", "content": content}],
        **fields,
    }


def raw_post(body: bytes, *lines: str, path: str = "/v1/chat/completions") -> bytes:
    """Return the bytes of a POST that closes, with `lines` added to its head."""
    head = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *lines,
    ]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def events_of(text: str) -> list[Any]:
    """Return the JSON of every event of a stream, and `[DONE]` as it is."""
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    assert all(block.startswith("data: ") for block in blocks), text
    payloads = [block.removeprefix("data: ") for block in blocks]
    return [payload if payload == "[DONE]" else json.loads(payload) for payload in payloads]


def eventually(condition: Callable[[], bool], within_s: float = 5.0) -> bool:
    """Wait for a condition that another thread brings about."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def dechunk(body: bytes) -> bytes:
    """Return a chunked body without its framing."""
    data = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        data, body = data + body[:length], body[length + 2 :]
        if length == 0:
            break
    return data

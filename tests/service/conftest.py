"""A small world for the service: a vocabulary of bytes, pictures without a network, an engine
that says what it is told.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from sightline.backends.fake import NUM_TOKENS, TOKENIZER_FILE, FakeEngine
from sightline.core.chat import ChatDelta, ChatRequest, ImagePart, Message, TextPart
from sightline.core.errors import RequestError
from sightline.core.image_policy import SquareImagePolicy
from sightline.core.limits import Limits
from sightline.core.prompt import Image
from sightline.service.chat import ChatOptions, ChatService


class ByteTokenizer:
    """A token per byte, then the control tokens of the fake engine's vocabulary."""

    num_tokens = NUM_TOKENS

    def __init__(self, path: str = str(TOKENIZER_FILE)) -> None:
        config = json.loads((Path(path).parent / "tokenizer_config.json").read_text())
        self.special_tokens = {
            row["content"]: int(i) for i, row in config["added_tokens_decoder"].items()
        }
        self.encoded: list[str] = []

    def encode(self, text: str) -> list[int]:
        self.encoded.append(text)
        return list(text.encode("utf-8", "surrogatepass"))

    def special_id(self, name: str) -> int:
        return self.special_tokens[name]

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < 256 else b""


@dataclass
class Pictures:
    """An `ImageLoader` that makes a picture out of each source's text.

    A source that begins with "bad" is refused; `before` is awaited before anything is made.
    """

    before: Callable[[], Awaitable[object]] | None = None
    loaded: list[str] = field(default_factory=list)
    salts: set[bytes] = field(default_factory=set)

    async def load(
        self, parts: Sequence[ImagePart], policy: SquareImagePolicy, *, cache_salt: bytes
    ) -> list[Image]:
        self.salts.add(cache_salt)
        if self.before is not None:
            await self.before()
        images = []
        for part in parts:
            if part.source.startswith("bad"):
                raise RequestError("Damaged.", code="image_parse_error", param=part.param)
            self.loaded.append(part.source)
            images.append(
                Image(
                    pixels=bytes(policy.size * policy.size * 3),
                    width=policy.size,
                    height=policy.size,
                    digest=hashlib.sha256(part.source.encode()).digest(),
                    original_width=640,
                    original_height=480,
                )
            )
        return images


@dataclass
class World:
    """A service and what stands around it."""

    service: ChatService
    engine: FakeEngine
    pictures: Pictures
    tokenizers: list[ByteTokenizer]

    async def ask(self, *content: Any, **settings: Any) -> list[ChatDelta]:
        """Return all deltas of the answer to one user message."""
        answer = await self.service.start(chat_request(*content, **settings))
        return [delta async for delta in answer]

    def assert_idle(self) -> None:
        """No permit is out, nothing waits, and the engine works on nothing."""
        assert self.service.admission.num_running == 0
        assert self.service.admission.num_waiting == 0
        assert not {"running", "waiting"} & {r.outcome for r in self.engine.requests}


def message(role: str, *content: str | ImagePart) -> Message:
    parts = tuple(TextPart(text=c) if isinstance(c, str) else c for c in content)
    return Message(role=role, parts=parts)  # type: ignore[arg-type]


def image(source: str = "cat.png", param: str = "messages[0].content[1].image_url") -> ImagePart:
    return ImagePart(source=source, param=param)


def chat_request(*content: Any, **settings: Any) -> ChatRequest:
    """Make a request of messages, or of one user message with these texts and images."""
    if not (content and isinstance(content[0], Message)):
        content = (message("user", *content),)
    settings = {"request_id": "r-1", "model": "sightline-fake", **settings}
    return ChatRequest(messages=content, **settings)


def make_world(
    engine: FakeEngine | None = None,
    *,
    pictures: Pictures | None = None,
    options: ChatOptions | None = None,
    **limits: Any,
) -> World:
    engine = engine or FakeEngine()
    pictures = pictures or Pictures()
    tokenizers: list[ByteTokenizer] = []

    def load_tokenizer(path: str) -> ByteTokenizer:
        tokenizers.append(ByteTokenizer(path))
        return tokenizers[-1]

    service = ChatService(
        engine,
        pictures,
        load_tokenizer=load_tokenizer,
        limits=replace(Limits(), **limits),
        options=options,
    )
    return World(service=service, engine=engine, pictures=pictures, tokenizers=tokenizers)


def joined(deltas: Sequence[ChatDelta]) -> str:
    return "".join(delta.text for delta in deltas)


async def settle(turns: int = 20) -> None:
    """Let every task that can run do so."""
    for _ in range(turns):
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Kit:
    """What the tests of this room build with."""

    ByteTokenizer = ByteTokenizer
    Pictures = Pictures
    message = staticmethod(message)
    image = staticmethod(image)
    request = staticmethod(chat_request)
    world = staticmethod(make_world)
    joined = staticmethod(joined)
    settle = staticmethod(settle)


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit()

"""The API's bytes, without any input or output: what to send, and what came back.

Pure functions and one parser that is fed bytes as they arrive, so that any HTTP library can be
put around them.
"""

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sightline.client.errors import ClientError

Message = Mapping[str, Any]

MAX_EVENT_BYTES = 16 * 1024 * 1024
DONE = "[DONE]"

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int
    image_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One event of a stream: text that was gained, why it ended, what it cost."""

    model: str
    text: str = field(default="", repr=False)
    finish_reason: str | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    model: str
    text: str = field(repr=False)
    finish_reason: str
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """`aliases` are further names that the server answers to, if it tells them."""

    id: str
    max_model_len: int | None = None
    aliases: tuple[str, ...] = ()


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def image_part(image: str | bytes) -> dict[str, Any]:
    """Make a part of an address, sent as it is, or of a file's bytes, sent as a data URI."""
    if isinstance(image, bytes):
        image = f"data:{media_type(image)};base64,{b64encode(image).decode('ascii')}"
    return {"type": "image_url", "image_url": {"url": image}}


def media_type(image: bytes) -> str:
    """Guess from the first bytes; the server judges the bytes themselves, whatever this says."""
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return "image/webp"
    for signature, name in _SIGNATURES:
        if image.startswith(signature):
            return name
    return "application/octet-stream"


def chat_body(
    messages: Sequence[Message],
    *,
    model: str,
    stream: bool,
    max_tokens: int | None = None,
    temperature: float | None = None,
) -> bytes:
    """Return the JSON body of a chat request. A stream asks for its usage."""
    body: dict[str, Any] = {"model": model, "messages": list(messages), "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    if temperature is not None:
        body["temperature"] = temperature
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")


class EventParser:
    """Cuts a stream of bytes into the data of its events; comments are skipped.

    Bytes may be cut anywhere, even inside a character or between CR and LF.
    """

    def __init__(self) -> None:
        self._pending = bytearray()
        self._data: list[str] = []

    def feed(self, data: bytes) -> Iterator[str]:
        """Yield the data of every event that `data` completes."""
        self._pending += data
        if len(self._pending) > MAX_EVENT_BYTES:
            raise ClientError("The server sent an event that is too long.")
        *lines, rest = self._pending.split(b"\n")
        self._pending = bytearray(rest)
        for raw in lines:
            line = raw.removesuffix(b"\r").decode("utf-8", "replace")
            if line.startswith("data:"):
                self._data.append(line.removeprefix("data:").removeprefix(" "))
            elif not line and self._data:
                event, self._data = "\n".join(self._data), []
                yield event


def parse_chunk(event: str) -> Chunk:
    """Read one event. Raises ClientError for an error event and for what is no chunk."""
    body = _json_object(event)
    if "error" in body:
        raise parse_error(None, event.encode())
    try:
        choices = body["choices"]
        # Some servers leave out what is null, `transformers serve` among them.
        choice = choices[0] if choices else {}
        delta = choice.get("delta") or {}
        return Chunk(
            model=body["model"],
            text=delta.get("content") or "",
            finish_reason=choice.get("finish_reason"),
            usage=_usage(body["usage"]) if body.get("usage") else None,
        )
    except (KeyError, TypeError, IndexError, AttributeError):
        raise _not_the_api() from None


def parse_answer(body: bytes) -> Answer:
    """Read a `chat.completion` object."""
    completion = _json_object(body)
    try:
        choice = completion["choices"][0]
        return Answer(
            model=completion["model"],
            text=choice["message"]["content"] or "",
            finish_reason=choice["finish_reason"],
            usage=_usage(completion["usage"]),
        )
    except (KeyError, TypeError, IndexError):
        raise _not_the_api() from None


def parse_models(body: bytes) -> list[ModelCard]:
    try:
        return [
            ModelCard(
                id=card["id"],
                max_model_len=card.get("max_model_len"),
                aliases=tuple((card.get("sightline") or {}).get("aliases") or ()),
            )
            for card in _json_object(body)["data"]
        ]
    except (KeyError, TypeError, AttributeError):
        raise _not_the_api() from None


def parse_error(status: int | None, body: bytes) -> ClientError:
    """Turn an error body, ours or anybody's, into an error with one readable line."""
    try:
        error = json.loads(body)["error"]
        return ClientError(
            str(error["message"]), status=status, code=error.get("code"), param=error.get("param")
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return ClientError(f"The server answered with status {status}.", status=status)


def _usage(usage: Any) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        image_tokens=details.get("image_tokens") or 0,
        cached_tokens=details.get("cached_tokens") or 0,
    )


def _json_object(text: str | bytes) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        raise _not_the_api() from None
    if not isinstance(body, dict):
        raise _not_the_api()
    return body


def _not_the_api() -> ClientError:
    return ClientError("The answer is not one of an OpenAI-compatible server.")

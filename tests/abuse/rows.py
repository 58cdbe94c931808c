"""One attack: an id, the bytes, and which answers are right."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.abuse.wire import Target

OK = frozenset({200})
BAD = frozenset({400})
# What a server that survives may say to any JSON body at all.
ANY_REFUSAL = frozenset({200, 400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 429, 431})

PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAIElEQVR4nGP8z4AAjEgc"
    "JgYcgHQJRgYGhMH//zPSwg4AlEMFDGvWFHAAAAAASUVORK5CYII="
)


@dataclass(frozen=True)
class Row:
    """`data` goes out as it is. `codes` empty: any code. `canary_after`: check a good request."""

    id: str
    path: str
    data: bytes = field(repr=False)
    statuses: Collection[int] = ANY_REFUSAL
    codes: Collection[str] = ()
    is_heavy: bool = False


@dataclass(frozen=True)
class Builder:
    """Makes rows for one target."""

    target: Target
    path: str = "/v1/chat/completions"

    def chat(self, content: Any = "hello", **fields: Any) -> dict[str, Any]:
        body = {"model": self.target.model, "messages": [{"role": "user", "content": content}]}
        return {**body, "max_tokens": 8, **fields}

    def raw(self, id: str, data: bytes, **known: Any) -> Row:
        return Row(id, self.path, data, **known)

    def body(self, id: str, body: bytes, *lines: str, **known: Any) -> Row:
        return Row(id, self.path, self.target.post(self.path, body, *lines), **known)

    def json(self, id: str, value: Any, *lines: str, **known: Any) -> Row:
        return self.body(id, json.dumps(value).encode(), *lines, **known)

    def both(self, id: str, value: dict[str, Any], **known: Any) -> Iterator[Row]:
        """Yield the row streaming and not."""
        yield self.json(id, value, **known)
        yield self.json(f"{id} streamed", {**value, "stream": True}, **known)

    def image(self, source: str, text: str = "what?") -> dict[str, Any]:
        part = {"type": "image_url", "image_url": {"url": source}}
        return self.chat([part, {"type": "text", "text": text}])

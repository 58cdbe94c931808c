"""A conversation and its answer, in no particular dialect.

Every HTTP dialect is a pair of pure functions onto these types.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from sightline.core.engine import FinishReason

Role = Literal["system", "user", "assistant", "tool"]
Severity = Literal["info", "warn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPart:
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePart:
    """A picture by reference: an http(s) URL, a data URI or bare base64, as the client sent it.

    `param` is the part's path in the request, used in errors, for example
    `messages[0].content[1].image_url`.
    """

    source: str = field(repr=False)
    param: str
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn. `parts` keep the order of text and images that the client chose."""

    role: Role
    parts: tuple[TextPart | ImagePart, ...]

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def images(self) -> tuple[ImagePart, ...]:
        return tuple(part for part in self.parts if isinstance(part, ImagePart))


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something the client asked for that was ignored or changed.

    `info`: the answer cannot differ because of it. `warn`: it can; strict mode refuses it.
    """

    field: str
    reason: str
    severity: Severity = "warn"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A validated chat request. None means the model's or the server's default.

    `max_tokens_param` is the name under which the client gave `max_tokens`, used in notices.
    `raw_prompt`, if there is one, is continued as it is, and there are no messages: a text, or
    token ids that may be control tokens, too.
    """

    request_id: str
    model: str
    messages: Sequence[Message] = ()
    raw_prompt: str | tuple[int, ...] | None = field(default=None, repr=False)
    max_tokens: int | None = None
    max_tokens_param: str = "max_tokens"
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    strict: bool = False
    cache_salt: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """`prompt_tokens` counts the images' tokens too; `image_tokens` says how many they are."""

    prompt_tokens: int
    completion_tokens: int
    image_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReport:
    """What became of one image: where it stood, its sizes, its cost."""

    param: str
    original_width: int
    original_height: int
    width: int
    height: int
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatDelta:
    """Text that an answer gained. The last delta, and only it, has `finish_reason` and `usage`.

    `text` never splits a character and never holds a part of a stop string.
    """

    text: str = field(repr=False)
    finish_reason: FinishReason | None = None
    usage: Usage | None = None

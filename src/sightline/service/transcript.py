"""What was said in one request, for an operator who asked to see it; nobody keeps one otherwise.

The HTTP layer sets `current_transcript` around a request. It is written here, at the one place
that every dialect passes through.
"""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from sightline.core.chat import ChatDelta, ImagePart, Message, TextPart
from sightline.core.errors import shorten

MAX_CHARACTERS = 32_768


@dataclass(slots=True)
class Transcript:
    """Texts only, cut at `MAX_CHARACTERS` each; a picture is named, not kept."""

    messages: list[tuple[str, str]] = field(default_factory=list, repr=False)
    answer: str = field(default="", repr=False)

    def ask(self, messages: Sequence[Message]) -> None:
        self.messages = [(message.role, _text(message)[:MAX_CHARACTERS]) for message in messages]

    def hear(self, delta: ChatDelta) -> None:
        if delta.index == 0 and len(self.answer) < MAX_CHARACTERS:
            self.answer += delta.text


current_transcript: ContextVar[Transcript | None] = ContextVar("transcript", default=None)


def _text(message: Message) -> str:
    return "\n".join(_shown(part) for part in message.parts)


def _shown(part: TextPart | ImagePart) -> str:
    return part.text if isinstance(part, TextPart) else f"[picture {shorten(part.source)}]"

"""What the service asks of a prompt format, and what a prompt format asks of a tokenizer.

A layout is a prompt whose pictures are still to come: it knows how many slots each of them takes
and where, so a prompt that is too long is refused before any picture is fetched.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sightline.core.chat import ImagePart, Message
from sightline.core.prompt import Image, ImageSpan, Prompt


class Tokenizer(Protocol):
    """A vocabulary. Methods are pure and may be called from any thread."""

    @property
    def num_tokens(self) -> int:
        """Ids are 0 to `num_tokens` - 1, control tokens included."""
        ...

    def encode(self, text: str) -> list[int]:
        """Encode ordinary text. Never yields a control token, whatever the text says."""
        ...

    def special_id(self, name: str) -> int:
        """Return the id of a control token such as `<|user|>`."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that a token stands for; none for control tokens."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSlots:
    """The slots [start, start + length) that wait for the picture of `part`."""

    part: ImagePart
    start: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A prompt without its pixels. `images` are in the order of their slots."""

    token_ids: tuple[int, ...] = field(repr=False)
    images: tuple[ImageSlots, ...] = ()

    @property
    def num_image_tokens(self) -> int:
        return sum(slots.length for slots in self.images)

    @property
    def num_text_tokens(self) -> int:
        return len(self.token_ids) - self.num_image_tokens

    def fill(self, images: Sequence[Image], *, cache_salt: bytes) -> Prompt:
        """Return the prompt with one picture for each of `self.images`, in that order."""
        spans = tuple(
            ImageSpan(image=image, start=slots.start, length=slots.length)
            for slots, image in zip(self.images, images, strict=True)
        )
        return Prompt(token_ids=self.token_ids, images=spans, cache_salt=cache_salt)


class AnswerFilter(Protocol):
    """Takes away what a model writes around its answer. One per answer."""

    def feed(self, text: str) -> str:
        """Return what `text` adds to the answer; the cut between calls never matters."""
        ...


class PromptFormat(Protocol):
    """The dialogue syntax of one family, bound to one tokenizer. Pure; any thread may call."""

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """Ids that end an answer."""
        ...

    @property
    def text_prefix(self) -> tuple[int, ...]:
        """Ids that stand before a text that is continued as it is, outside any dialogue."""
        ...

    def layout(self, messages: Sequence[Message], *, tokens_per_image: int) -> Layout:
        """Return the prompt that asks for the next assistant message.

        Only this method writes control tokens; nothing in `messages` can.
        """
        ...

    def answer_filter(self) -> AnswerFilter: ...

"""What the service asks of a prompt format, and what a prompt format asks of a tokenizer.

A layout is a prompt whose pictures are still to come: it knows how many slots each of them takes
and where, so a prompt that is too long is refused before any picture is fetched.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Protocol

from sightline.core.chat import ImagePart, Message, Tool
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

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """The control tokens by name."""
        ...

    def special_id(self, name: str) -> int:
        """Return the id of a control token such as `<|user|>`."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that a token stands for; none for control tokens."""
        ...


TokensPerImage = int | Sequence[int]
"""One number for every picture, or one for each in the order of the conversation."""


def image_lengths(tokens_per_image: TokensPerImage) -> Iterator[int]:
    """Return the slots of one picture after the other."""
    if isinstance(tokens_per_image, int):
        return repeat(tokens_per_image)
    return iter(tokens_per_image)


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


@dataclass(frozen=True, slots=True)
class Said:
    """Text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """Text of the thinking before the answer. None of it is ever said, too."""

    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """A call of a tool, or a piece of one: the first piece has the name, later ones have None."""

    name: str | None
    arguments: str


Event = Said | Thought | Called


class AnswerParser(Protocol):
    """Takes apart what a model writes: words, thoughts, calls. One per answer.

    The events, those of the same kind joined, never depend on how the text was cut into pieces.
    What the model writes is data: nothing is evaluated, and a call that is broken is text.
    """

    @property
    def is_holding(self) -> bool:
        """Some text that was fed may yet be said."""
        ...

    def feed(self, text: str) -> Iterable[Event]: ...

    def control(self, token_id: int) -> Iterable[Event]:
        """Take a control token that does not end the answer."""
        ...

    def finish(self, *, cut: bool) -> Iterable[Event]:
        """End the answer; `cut` says that the model was not done."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """Which tools an answer may call, and how its calls are told.

    Without `parallel` only the first call counts; with `stream_arguments` a call is told piece by
    piece.
    """

    tools: tuple[Tool, ...] = ()
    parallel: bool = True
    stream_arguments: bool = False


NO_TOOLS = ToolUse()


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

    @property
    def thinks(self) -> bool:
        """The model can be told to think before it answers, and not to."""
        ...

    def layout(
        self,
        messages: Sequence[Message],
        *,
        tokens_per_image: TokensPerImage,
        tools: Sequence[Tool] = (),
        thinking: bool | None = None,
    ) -> Layout:
        """Return the prompt that asks for the next assistant message, which may call `tools`.

        Only this method writes control tokens; nothing in `messages` can.
        """
        ...

    def answer_parser(self, use: ToolUse) -> AnswerParser: ...

    def grammar(self, use: ToolUse, *, said: str | None) -> str:
        """Return the Lark grammar, as llguidance reads it, of a whole answer.

        The answer is a text of the form `said` (a Lark expression) or calls of the tools of
        `use`; with `said` None it is at least one call.
        """
        ...

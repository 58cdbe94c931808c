"""ChatML, the dialogue syntax of all of Qwen's chat models, with pictures between its words.

    <|im_start|>system\\nYou are a helpful assistant.<|im_end|>
    \\n<|im_start|>user\\n{picture}{text}<|im_end|>
    \\n<|im_start|>assistant\\n{answer}<|im_end|> ... \\n<|im_start|>assistant\\n

(shown on three lines; every newline is one of the \\n). Without a system message the one that the
models were trained with is said. Pictures stand where the client put them among a message's
parts. Tools are offered, called and answered in the words of `hermes`; results that come one after
another are one turn.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from sightline.core.chat import ImagePart, Message, Role, TextPart, Tool
from sightline.core.errors import InternalError
from sightline.service.formats import hermes
from sightline.service.formats.contract import (
    AnswerParser,
    ImageSlots,
    Layout,
    Tokenizer,
    TokensPerImage,
    ToolUse,
    image_lengths,
)

DEFAULT_SYSTEM = "You are a helpful assistant."
# Results of tools are told as the user's words.
ROLE_NAMES: dict[Role, str] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "user",
}
STOP_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a family writes its pictures, and what else is special about it.

    A picture is `begin`, as many `filler` as it has rows, `end`: names of control tokens. `label`
    is said before it, with its number in the conversation from 1 on, and `tail` after it.
    `joins_header` says that a role and what follows it were encoded as one text. What `marks`
    matches in a message is a control token of that name, harmless to the dialogue; what `words`
    matches is one in what the model has said itself, if the vocabulary has it.
    """

    begin: str
    filler: str
    end: str
    label: str = ""
    tail: str = ""
    joins_header: bool = True
    marks: re.Pattern[str] | None = None
    words: re.Pattern[str] | None = None


class ChatMlFormat:
    """Implements `PromptFormat` for one dialect."""

    thinks = False
    text_prefix: tuple[int, ...] = ()

    def __init__(self, tokenizer: Tokenizer, dialect: Dialect) -> None:
        self._tokenizer = tokenizer
        self._dialect = dialect
        special_id = tokenizer.special_id
        self._start, self._end = special_id("<|im_start|>"), special_id("<|im_end|>")
        self._begin_of_image, self._filler, self._end_of_image = (
            special_id(name) for name in (dialect.begin, dialect.filler, dialect.end)
        )
        self._newline = tokenizer.encode("\n")
        self._stop_token_ids = tuple(special_id(name) for name in STOP_TOKENS)
        # Control tokens in some vocabularies, words in others.
        self._tags = {
            name: tokenizer.special_tokens[name]
            for name in (hermes.OPEN, hermes.CLOSE)
            if name in tokenizer.special_tokens
        }

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        return self._stop_token_ids

    def layout(
        self,
        messages: Sequence[Message],
        *,
        tokens_per_image: TokensPerImage,
        tools: Sequence[Tool] = (),
        thinking: bool | None = None,
    ) -> Layout:
        writer = _Writer(self, tokens_per_image)
        for turn in _turns(messages, tools):
            writer.turn(turn)
        writer.begin("assistant")
        writer.flush()
        ids = writer.ids
        if ids.count(self._begin_of_image) != len(writer.images):
            # The tokenizer broke its promise: text became a control token.
            raise InternalError
        return Layout(token_ids=tuple(ids), images=tuple(writer.images))

    def answer_parser(self, use: ToolUse) -> AnswerParser:
        spoken = {token_id: name for name, token_id in self._tags.items()}
        return hermes.HermesAnswer(use, controls=spoken)

    def grammar(self, use: ToolUse, *, said: str | None) -> str:
        return hermes.grammar(use, said=said, controls=self._tags)


@dataclass(frozen=True, slots=True)
class _Turn:
    """Messages of one role under one header; behind them, `tools` are offered."""

    messages: Sequence[Message]
    tools: Sequence[Tool] = ()


def _turns(messages: Sequence[Message], tools: Sequence[Tool]) -> Iterator[_Turn]:
    """Put the system message first, with the offer of tools in it, and results together."""
    told = list(messages)
    if not told or told[0].role != "system":
        told.insert(0, Message(role="system", parts=(TextPart(text=DEFAULT_SYSTEM),)))
    yield _Turn(told[:1], tools)
    for is_result, group in groupby(told[1:], key=lambda message: message.role == "tool"):
        if is_result:
            yield _Turn(list(group))
        else:
            yield from (_Turn([message]) for message in group)


@dataclass(slots=True)
class _Writer:
    """Collects text until a control token or a border comes, and encodes it then."""

    format: ChatMlFormat
    tokens_per_image: TokensPerImage
    ids: list[int] = field(default_factory=list)
    images: list[ImageSlots] = field(default_factory=list)
    _pending: str = ""
    _lengths: Iterator[int] = field(init=False)

    def __post_init__(self) -> None:
        self._lengths = image_lengths(self.tokens_per_image)

    def turn(self, turn: _Turn) -> None:
        self.begin(ROLE_NAMES[turn.messages[0].role])
        for number, message in enumerate(turn.messages):
            if number:
                self.text("\n")
            self.message(message)
        if turn.tools:
            self.text("\n\n")
            self.tagged(hermes.offer(turn.tools))
        self.control(self.format._end)
        self.ids += self.format._newline

    def begin(self, role: str) -> None:
        self.control(self.format._start)
        self.text(role)
        # The newline behind a role.
        if self.format._dialect.joins_header:
            self.text("\n")
        else:
            self.flush()
            self.ids += self.format._newline

    def message(self, message: Message) -> None:
        if message.role == "tool":
            self.text(hermes.BEFORE_RESULT)
        for part in message.parts:
            if isinstance(part, ImagePart):
                self.image(part)
            elif message.role == "assistant":
                self.own_words(part.text)
            else:
                self.text(part.text)
        if message.role == "tool":
            self.text(hermes.AFTER_RESULT)
        if message.tool_calls:
            if message.text:
                self.text("\n")
            self.tagged(hermes.called(message.tool_calls))

    def tagged(self, pieces: Iterable[str]) -> None:
        """Write pieces of our own making, their tags as the vocabulary has them."""
        tags = self.format._tags
        for piece in pieces:
            if isinstance(piece, hermes.Tag) and piece in tags:
                self.control(tags[piece])
            else:
                self.text(piece)

    def own_words(self, text: str) -> None:
        """Write what the model said, in the tokens that it said it with."""
        words, known = self.format._dialect.words, self.format._tokenizer.special_tokens
        for piece in [text] if words is None else words.split(text):
            if words is not None and piece in known and words.fullmatch(piece):
                self.control(known[piece])
            else:
                self.text(piece)

    def text(self, text: str) -> None:
        self._pending += text

    def control(self, token_id: int) -> None:
        self.flush()
        self.ids.append(token_id)

    def image(self, part: ImagePart) -> None:
        dialect = self.format._dialect
        if dialect.label:
            self.text(dialect.label.format(number=len(self.images) + 1))
        self.control(self.format._begin_of_image)
        length = next(self._lengths)
        self.images.append(ImageSlots(part=part, start=len(self.ids), length=length))
        self.ids += [self.format._filler] * length
        self.ids.append(self.format._end_of_image)
        self.text(dialect.tail)

    def flush(self) -> None:
        text, self._pending = self._pending, ""
        marks = self.format._dialect.marks
        tokenizer = self.format._tokenizer
        for piece in [text] if marks is None else marks.split(text):
            if marks is not None and marks.fullmatch(piece):
                self.ids.append(tokenizer.special_id(piece))
            elif piece:
                self.ids += tokenizer.encode(piece)

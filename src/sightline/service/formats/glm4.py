"""The dialogue syntax of GLM-4 and GLM-4V.

    [gMASK]<sop><|user|>\\n{picture}{text}<|assistant|>\\n{answer}<|user|>\\n{text}<|assistant|>

- The newline belongs to the role before it, and is encoded apart from the text after it: encoding
  the joined string would merge it with a text that begins with a newline or a blank.
- Nothing stands between two messages, and no newline after the last `<|assistant|>`: the model
  writes that newline itself, as the first thing of its answer.
- A picture stands before the text of its message: begin-of-image, fillers, end-of-image, one slot
  for each row that the vision tower puts there.
- A message without text and picture is left out, header included.
- A call is an assistant message of its own, `<|assistant|>{name}\n{arguments}`, its result an
  `<|observation|>`; tools are offered in a system message before all others (`glm4_tools`).

With the real vocabulary one user turn 你好 is 151331 151333 151336 198 109377 151337.
Source: the tokenizer published with glm-4v-9b; the ids are those of chatglm.cpp's tests.
"""

from collections.abc import Sequence

from sightline.core.chat import Message, Role, TextPart, Tool
from sightline.core.errors import InternalError
from sightline.service.formats import glm4_tools
from sightline.service.formats.contract import (
    AnswerParser,
    ImageSlots,
    Layout,
    Tokenizer,
    TokensPerImage,
    ToolUse,
    image_lengths,
)

ROLE_TOKENS: dict[Role, str] = {
    "system": "<|system|>",
    "user": "<|user|>",
    "assistant": "<|assistant|>",
    "tool": "<|observation|>",
}
# <|user|> is the usual end of an answer, <|observation|> the end of a tool call.
STOP_TOKENS = ("<|endoftext|>", "<|user|>", "<|observation|>")


class Glm4Format:
    """Implements `PromptFormat`."""

    thinks = False

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        special_id = tokenizer.special_id
        self._prefix = (special_id("[gMASK]"), special_id("<sop>"))
        self._roles = {role: special_id(name) for role, name in ROLE_TOKENS.items()}
        self._header_end = tokenizer.encode("\n")
        self._begin_of_image = special_id("<|begin_of_image|>")
        self._filler = special_id("<|endoftext|>")
        self._end_of_image = special_id("<|end_of_image|>")
        self._stop_token_ids = tuple(special_id(name) for name in STOP_TOKENS)

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        return self._stop_token_ids

    @property
    def text_prefix(self) -> tuple[int, ...]:
        return self._prefix

    def layout(
        self,
        messages: Sequence[Message],
        *,
        tokens_per_image: TokensPerImage,
        tools: Sequence[Tool] = (),
        thinking: bool | None = None,
    ) -> Layout:
        ids = list(self._prefix)
        images: list[ImageSlots] = []
        lengths = image_lengths(tokens_per_image)
        if tools:
            offer = TextPart(text=glm4_tools.system_text(tools))
            messages = (Message(role="system", parts=(offer,)), *messages)
        for message in messages:
            text = message.text
            if text or message.images:
                ids.append(self._roles[message.role])
                ids.extend(self._header_end)
                for part in message.images:
                    length = next(lengths)
                    images.append(ImageSlots(part=part, start=len(ids), length=length))
                    ids.append(self._begin_of_image)
                    ids.extend([self._filler] * (length - 2))
                    ids.append(self._end_of_image)
                ids.extend(self._tokenizer.encode(text))
            for call in message.tool_calls:
                ids.append(self._roles["assistant"])
                ids.extend(self._tokenizer.encode(f"{call.name}\n"))
                ids.extend(self._tokenizer.encode(call.arguments))
        ids.append(self._roles["assistant"])
        if ids.count(self._begin_of_image) != len(images):
            # The tokenizer broke its promise: text became a control token.
            raise InternalError
        return Layout(token_ids=tuple(ids), images=tuple(images))

    def answer_parser(self, use: ToolUse) -> AnswerParser:
        return glm4_tools.Glm4Answer(use, next_message=self._roles["assistant"])

    def grammar(self, use: ToolUse, *, said: str | None) -> str:
        return glm4_tools.grammar(use, said=said, next_message=self._roles["assistant"])

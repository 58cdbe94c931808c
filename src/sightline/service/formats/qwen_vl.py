"""The dialogue syntax of Qwen-VL-Chat and of Qwen's first generation of chat models.

    <|im_start|>system\\nYou are a helpful assistant.<|im_end|>
    \\n<|im_start|>user\\nPicture 1: <img>{picture}</img>\\n{text}<|im_end|>
    \\n<|im_start|>assistant\\n{answer}<|im_end|> ... \\n<|im_start|>assistant\\n

(shown on three lines; every newline is one of the \\n). Names of roles, newlines and contents are
encoded apart. Between `<img>` and `</img>` stand 256 `<imgpad>`, whose rows the picture replaces:
the original writes the picture's path there, so that whoever asks can make it read any file, and
the result is the same. Pictures are numbered through the whole conversation. Without a system
message the one the model was trained with is said.

The marks of grounding, `<ref>name</ref><box>(x1,y1),(x2,y2)</box>`, are words of this language:
they may stand in any message and in the answer, with coordinates from 0 to 1000 of the picture's
width and height. All other control tokens stay text when a message spells them.

Source: the tokenizer and `make_context` published with Qwen-VL-Chat.
"""

import re
from collections.abc import Sequence

from sightline.core.chat import ImagePart, Message, Role
from sightline.core.errors import InternalError
from sightline.service.answer_text import AsItIs
from sightline.service.formats.contract import ImageSlots, Layout, Tokenizer

DEFAULT_SYSTEM = "You are a helpful assistant."
# The model knows no results of tools; they are told as the user's words.
ROLE_NAMES: dict[Role, str] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "user",
}
STOP_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
GROUNDING_MARK = re.compile(r"(</?(?:ref|box|quad)>)")


class QwenVLFormat:
    """Implements `PromptFormat`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        special_id = tokenizer.special_id
        self._start, self._end = special_id("<|im_start|>"), special_id("<|im_end|>")
        self._begin_of_image, self._end_of_image = special_id("<img>"), special_id("</img>")
        self._filler = special_id("<imgpad>")
        self._newline = tokenizer.encode("\n")
        self._roles = {role: tokenizer.encode(name) for role, name in ROLE_NAMES.items()}
        self._stop_token_ids = tuple(special_id(name) for name in STOP_TOKENS)

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        return self._stop_token_ids

    @property
    def text_prefix(self) -> tuple[int, ...]:
        return ()

    def layout(self, messages: Sequence[Message], *, tokens_per_image: int) -> Layout:
        ids: list[int] = []
        images: list[ImageSlots] = []
        if not messages or messages[0].role != "system":
            ids += [*self._opening("system"), *self._tokenizer.encode(DEFAULT_SYSTEM), self._end]
        for message in messages:
            if ids:
                ids += self._newline
            ids += self._opening(message.role)
            text = ""
            for part in message.parts:
                if isinstance(part, ImagePart):
                    ids += self._encode(f"{text}Picture {len(images) + 1}: ")
                    ids.append(self._begin_of_image)
                    images.append(ImageSlots(part=part, start=len(ids), length=tokens_per_image))
                    ids += [self._filler] * tokens_per_image
                    ids.append(self._end_of_image)
                    text = "\n"
                else:
                    text += part.text
            ids += [*self._encode(text), self._end]
        ids += [*self._newline, *self._opening("assistant")]
        if ids.count(self._begin_of_image) != len(images):
            # The tokenizer broke its promise: text became a control token.
            raise InternalError
        return Layout(token_ids=tuple(ids), images=tuple(images))

    def answer_filter(self) -> AsItIs:
        return AsItIs()

    def _opening(self, role: Role) -> list[int]:
        return [self._start, *self._roles[role], *self._newline]

    def _encode(self, text: str) -> list[int]:
        """Encode a message's text, where the marks of grounding are tokens of their own."""
        ids: list[int] = []
        for piece in GROUNDING_MARK.split(text):
            if GROUNDING_MARK.fullmatch(piece):
                ids.append(self._tokenizer.special_id(piece))
            elif piece:
                ids += self._tokenizer.encode(piece)
        return ids

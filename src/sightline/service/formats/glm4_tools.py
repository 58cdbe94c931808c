"""Tools in GLM-4's own words.

What the model reads: a system message that lists the tools. What it writes: every message has a
first line, empty for words and the tool's name for a call, whose arguments follow as JSON.

    \\n{text}                                              words
    {name}\\n{arguments}<|assistant|>{name}\\n{arguments}    two calls; <|observation|> ends them

The texts are those of the chat template published with glm-4-9b-chat.
"""

import json
from collections.abc import Collection, Iterator, Sequence

from sightline.core.chat import Tool
from sightline.service.formats import lark
from sightline.service.formats.contract import Called, Event, Said, ToolUse
from sightline.service.formats.scan import is_object

PREAMBLE = (
    "你是一个名为 GLM-4 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，"
    "你的任务是针对用户的问题和要求提供适当的答复和支持。"
)
HEADING = "\n\n# 可用工具"
CLOSING = "\n在调用上述函数时，请使用 Json 格式表示调用的参数。"


def system_text(tools: Sequence[Tool]) -> str:
    """Return the body of the system message that offers `tools`."""
    listed = "".join(f"\n\n## {tool.name}\n\n{_indented(tool)}{CLOSING}" for tool in tools)
    return PREAMBLE + HEADING + listed


def _indented(tool: Tool) -> str:
    return json.dumps(tool.definition, indent=4, ensure_ascii=False)


def grammar(use: ToolUse, *, said: str | None, next_message: int) -> str:
    """See `PromptFormat.grammar`; `next_message` is the id of `<|assistant|>`."""
    answers, rules = [], []
    if said is not None:
        answers.append("words")
        rules.append(f"words: {lark.literal(chr(10))} {said}")
    if use.tools:
        separator = lark.control_token(next_message)
        answers.append("calls")
        rules.append(f"calls: {lark.repeated('call', separator, parallel=use.parallel)}")
        rules += lark.one_of(
            "call",
            (lark.literal(f"{tool.name}\n") + " " + lark.arguments_of(tool) for tool in use.tools),
        )
    return "\n".join(("%llguidance {}", f"start: {' | '.join(answers)}", *rules))


class Glm4Answer:
    """The `AnswerParser` of GLM-4. `next_message` is the control token between two messages.

    A message is a call if its first line is the name of a tool and its second begins with a brace;
    it falls back to words if the arguments are not an object in the end, unless they were told
    already or the answer was cut.
    """

    def __init__(self, use: ToolUse, *, next_message: int) -> None:
        self._names: Collection[str] = {tool.name for tool in use.tools}
        self._use = use
        self._next_message = next_message
        self._num_calls = 0
        self._mode = "header"
        self._held: list[str] = []
        self._name = ""
        self._told = False

    @property
    def is_holding(self) -> bool:
        return bool(self._held) and not self._told

    def feed(self, text: str) -> Iterator[Event]:
        if not text:
            return
        if self._mode == "words":
            yield Said(text)
            return
        if self._mode == "header":
            text = "".join((*self._held, text))
            self._held = []
            mode = self._judge(text)
            if mode is None:
                self._held = [text]
                return
            self._mode = mode
            if mode == "words":
                text = text.removeprefix("\n")
                if text:
                    yield Said(text)
                return
            self._name, _, text = text.partition("\n")
            text = text.lstrip()
        self._held.append(text)
        if self._use.stream_arguments and self._counts:
            yield from self._tell()

    def control(self, token_id: int) -> Iterator[Event]:
        if token_id == self._next_message:
            yield from self._end_message(cut=False)

    def finish(self, *, cut: bool) -> Iterator[Event]:
        yield from self._end_message(cut=cut)

    @property
    def _counts(self) -> bool:
        return self._num_calls == 0 or self._use.parallel

    def _judge(self, text: str) -> str | None:
        """Say what a message is that begins with `text`; None if that is not clear yet."""
        line, newline, rest = text.partition("\n")
        if not newline:
            may_be_a_call = any(name.startswith(line) for name in self._names)
            return None if may_be_a_call and line else "words"
        if line not in self._names:
            return "words"
        body = rest.lstrip()
        if not body:
            return None
        return "call" if body.startswith("{") else "words"

    def _tell(self) -> Iterator[Event]:
        """Tell the call up to here, but for blanks that may stand behind it."""
        text = "".join(self._held)
        kept = text.rstrip()
        self._held = [text[len(kept) :]] if len(kept) < len(text) else []
        name, self._told = None if self._told else self._name, True
        if name is not None or kept:
            yield Called(name, kept)

    def _end_message(self, *, cut: bool) -> Iterator[Event]:
        text, self._held = "".join(self._held), []
        if self._mode == "header" and text:
            yield Said(text.removeprefix("\n"))
        elif self._mode == "call" and self._told:
            self._num_calls += 1
        elif self._mode == "call":
            arguments = text.rstrip()
            if not cut and not is_object(arguments):
                yield Said(f"{self._name}\n{text}")
            elif self._counts:
                self._num_calls += 1
                yield Called(self._name, arguments)
        self._mode, self._told = "header", False

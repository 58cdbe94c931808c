"""Tools in the words of Hermes and Qwen; also the fallback for models that were taught none.

What the model reads: a part of the system message that lists the tools. What it writes:

    {text}<tool_call>
    {"name": "count", "arguments": {"n": 2}}
    </tool_call>

and once more for every further call. Results come back inside `<tool_response>`.
"""

import json
import re
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from typing import Literal

from sightline.core.chat import Tool, ToolCall
from sightline.service.formats import lark
from sightline.service.formats.contract import Called, Event, Said, ToolUse
from sightline.service.formats.scan import ObjectEnd, held_length, is_object

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_HEAD = re.compile(r'\{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"arguments"\s*:\s*(?=\{)')


class Tag(str):
    """One of the tags, which a model reads as a control token where its vocabulary has it."""

    __slots__ = ()


def offer(tools: Sequence[Tool]) -> Iterator[str]:
    """Yield the part of the system message that offers `tools`: texts, and each `Tag` by itself."""
    listed = "\n".join(
        json.dumps({"type": "function", "function": tool.definition}, ensure_ascii=False)
        for tool in tools
    )
    yield (
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n"
        f"<tools>\n{listed}\n</tools>\n\n"
        "For each function call, return a json object with function name and arguments within "
    )
    yield from (Tag(OPEN), Tag(CLOSE), " XML tags:\n")
    yield from _tagged('{"name": <function-name>, "arguments": <args-json-object>}')


def called(calls: Sequence[ToolCall]) -> Iterator[str]:
    """Yield how the model would have written `calls`: texts, and each `Tag` by itself."""
    for number, call in enumerate(calls):
        if number:
            yield "\n"
        name = json.dumps(call.name, ensure_ascii=False)
        yield from _tagged(f'{{"name": {name}, "arguments": {call.arguments or "{}"}}}')


def _tagged(written: str) -> Iterator[str]:
    yield from (Tag(OPEN), f"\n{written}\n", Tag(CLOSE))


# What stands around the result of a call.
BEFORE_RESULT, AFTER_RESULT = "<tool_response>\n", "\n</tool_response>"


def grammar(
    use: ToolUse, *, said: str | None, lead: str = "", controls: Mapping[str, int] | None = None
) -> str:
    """See `PromptFormat.grammar`.

    `lead` is what the model writes before every answer; `controls` has the ids of the tags that
    are control tokens of this vocabulary.
    """

    def tag(name: str) -> str:
        token_id = (controls or {}).get(name)
        return lark.literal(name) if token_id is None else lark.control_token(token_id)

    answers, rules = [], []
    if said is not None:
        answers.append("words")
        rules.append(f"words: {said}")
    if use.tools:
        answers.append("calls")
        rules.append(
            f"calls: {lark.repeated('call', lark.literal(chr(10)), parallel=use.parallel)}"
        )
        heads = (f'\n{{"name": "{tool.name}", "arguments": ' for tool in use.tools)
        rules += lark.one_of(
            "call",
            (
                f"{tag(OPEN)} {lark.literal(head)} {lark.arguments_of(tool)} "
                f"{lark.literal('}' + chr(10))} {tag(CLOSE)}"
                for head, tool in zip(heads, use.tools, strict=True)
            ),
        )
    start = f"{lark.literal(lead)} answer" if lead else "answer"
    return "\n".join(
        ("%llguidance {}", f"start: {start}", f"answer: {' | '.join(answers)}", *rules)
    )


class HermesAnswer:
    """The `AnswerParser` of this syntax. `controls` are the tags by their token ids.

    What stands between the tags must be an object with the name of a tool and an object of
    arguments; otherwise it is text, tags included. A call that was told already stays told.
    """

    def __init__(self, use: ToolUse, *, controls: Mapping[int, str] | None = None) -> None:
        self._use = use
        self._names = {tool.name for tool in use.tools}
        self._controls = controls or {}
        self._mode: Literal["words", "call", "closing"] = "words"
        self._num_calls = 0
        self._held = ""  # in words: blanks and the beginning of a tag; closing: of the end tag
        self._call = _Call("")

    @property
    def is_holding(self) -> bool:
        return bool(self._held) if self._mode == "words" else not self._call.is_told

    def feed(self, text: str) -> Iterator[Event]:
        if not self._names:
            if text:
                yield Said(text)
            return
        while text:
            if self._mode == "words":
                text = yield from self._read_words(text)
            elif self._mode == "call":
                text = yield from self._read_call(text)
            else:
                text = self._read_closing(text)

    def control(self, token_id: int) -> Iterator[Event]:
        yield from self.feed(self._controls.get(token_id, ""))

    def finish(self, *, cut: bool) -> Iterator[Event]:
        if self._mode == "call" and not self._call.is_told:
            head = self._call.head(self._names) if cut else None
            if head is None:
                yield Said(self._call.raw)
            elif self._counts:
                yield Called(head[1], self._call.body[head.end() :])
        elif self._mode == "words" and (self._held.strip() or not self._num_calls) and self._held:
            yield Said(self._held)

    @property
    def _counts(self) -> bool:
        return self._num_calls == 0 or self._use.parallel

    def _read_words(self, text: str) -> Generator[Event, None, str]:
        """Say what cannot belong to a call; return what is left once a call begins."""
        text, self._held = self._held + text, ""
        before, found, after = text.partition(OPEN)
        kept = len(before) if found else len(text) - held_length(text, OPEN)
        words = text[:kept].rstrip()  # blanks before a call are its own
        if words:
            yield Said(words)
        if found:
            self._mode, self._call = "call", _Call(before[len(words) :] + OPEN)
            return after
        self._held = text[len(words) :]
        return ""

    def _read_call(self, text: str) -> Generator[Event, None, str]:
        """Take in the object of a call; return what stands behind it."""
        call = self._call
        rest = call.extend(text)
        if call.is_broken:
            self._mode = "words"
            yield Said(call.raw)
            return rest
        if self._use.stream_arguments and self._counts:
            yield from call.tell(self._names)
        if not call.is_complete:
            return ""
        if call.is_told:
            self._num_calls += 1
        elif (parsed := call.parse(self._names)) is None:
            self._mode = "words"
            yield Said(call.raw)
            return rest
        elif self._counts:
            self._num_calls += 1
            yield parsed
        self._mode = "closing"
        return rest

    def _read_closing(self, text: str) -> str:
        """Skip blanks and the end tag, which may be missing."""
        text = (self._held + text).lstrip()
        self._held = ""
        if text.startswith(CLOSE):
            self._mode = "words"
            return text[len(CLOSE) :]
        if CLOSE.startswith(text):
            self._held = text
            return ""
        self._mode = "words"
        return text


class _Call:
    """What stands behind one start tag. `raw` is everything since the blanks before the tag."""

    def __init__(self, before: str) -> None:
        self._before = before
        self.raw = before
        self.body = ""
        self.is_complete = False
        self.is_broken = False
        self.is_told = False
        self._object = ObjectEnd()
        self._arguments = ObjectEnd()
        self._num_told: int | None = None

    def extend(self, text: str) -> str:
        """Take in `text` up to the end of the object; return the rest of it.

        Where no object begins, the blanks that came before are given back, too.
        """
        if not self.body and (stripped := text.lstrip()) and not stripped.startswith("{"):
            self.is_broken = True
            blanks, self.raw = self.raw.removeprefix(self._before), self._before
            return blanks + text
        end = self._object.feed(text)
        self.is_complete = end is not None
        taken = text[:end]
        self.raw += taken
        self.body = (self.body + taken).lstrip()
        return text[len(taken) :]

    def head(self, names: Collection[str]) -> re.Match[str] | None:
        """Return the beginning of the object up to the arguments, once it is there."""
        head = _HEAD.match(self.body)
        return head if head is not None and head[1] in names else None

    def parse(self, names: Collection[str]) -> Called | None:
        """Return the whole call, its arguments as they were written if possible."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        name = value.get("name")
        arguments = value.get("arguments", value.get("parameters", {}))
        if not isinstance(name, str) or name not in names:
            return None
        if isinstance(arguments, str) and is_object(arguments):
            return Called(name, arguments)
        if not isinstance(arguments, dict):
            return None
        head = self.head(names)
        written = self.body[head.end() : -1].rstrip() if head is not None else ""
        if not is_object(written):
            written = json.dumps(arguments, ensure_ascii=False)
        return Called(name, written)

    def tell(self, names: Collection[str]) -> Iterator[Event]:
        """Tell what is known of the call and was not told yet."""
        if not self.is_told:
            head = self.head(names)
            if head is None:
                return
            self.is_told, self._num_told = True, head.end()
            yield Called(head[1], "")
        if self._num_told is None:
            return
        piece = self.body[self._num_told :]
        end = self._arguments.feed(piece)
        self._num_told = None if end is not None else len(self.body)
        if piece[:end]:
            yield Called(None, piece[:end])

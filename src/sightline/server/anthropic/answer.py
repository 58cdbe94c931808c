"""From `core.chat` to Anthropic's messages and events: pure functions, no I/O."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sightline.core.chat import ChatDelta, FinishReason, ToolCall, ToolCallDelta, Usage
from sightline.server.whole_answer import WholeAnswer

_STOP_REASONS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
}

Event = dict[str, Any]


def message_object(message_id: str, answer: WholeAnswer) -> dict[str, object]:
    """Return a whole `message`."""
    (choice,) = answer.choices
    content: list[dict[str, object]] = []
    if choice.reasoning:
        content.append({"type": "thinking", "thinking": choice.reasoning, "signature": ""})
    if choice.text:
        content.append({"type": "text", "text": choice.text})
    content.extend(_tool_use(call) for call in choice.tool_calls)
    return {
        **_head(message_id, answer.model),
        "content": content,
        **_stop(choice.finish_reason, choice.stop_string),
        "usage": _usage(answer.usage),
    }


def _head(message_id: str, model: str) -> dict[str, object]:
    return {"id": message_id, "type": "message", "role": "assistant", "model": model}


def _stop(reason: FinishReason | None, stop_string: str | None) -> dict[str, object]:
    if reason is None:
        return {"stop_reason": None, "stop_sequence": None}
    if stop_string is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": stop_string}
    return {"stop_reason": _STOP_REASONS[reason], "stop_sequence": None}


def _usage(usage: Usage) -> dict[str, object]:
    """Anthropic counts what came from a cache apart from the rest of the input."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def _tool_use(call: ToolCall) -> dict[str, object]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments)}


def _input(arguments: str) -> dict[str, object]:
    """Return the arguments as an object; what is cut short is kept as Anthropic advises."""
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"INVALID_JSON": arguments}


@dataclass(slots=True)
class _Block:
    """The content block that is open: a thought, a text, or a call with its number."""

    kind: str
    call: int | None = None


class MessageEvents:
    """Builds the events of one stream, each with its name in `type`.

    Blocks come one after another: each is closed before the next one opens.
    """

    def __init__(self, message_id: str, model: str, prompt_tokens: int) -> None:
        self._message_id = message_id
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._index = -1
        self._open: _Block | None = None

    def start(self) -> Event:
        usage = Usage(prompt_tokens=self._prompt_tokens, completion_tokens=0)
        message = {
            **_head(self._message_id, self._model),
            "content": [],
            **_stop(None, None),
            "usage": _usage(usage),
        }
        return {"type": "message_start", "message": message}

    def of(self, delta: ChatDelta) -> Iterator[Event]:
        """Yield the events that `delta` makes; the last delta closes the message."""
        if delta.reasoning:
            yield from self._enter("thinking", {"thinking": "", "signature": ""})
            yield self._delta("thinking_delta", thinking=delta.reasoning)
        if delta.text:
            yield from self._enter("text", {"text": ""})
            yield self._delta("text_delta", text=delta.text)
        for call in delta.tool_calls:
            yield from self._call(call)
        if delta.usage is not None:
            yield from self._leave()
            yield {
                "type": "message_delta",
                "delta": _stop(delta.finish_reason, delta.stop_string),
                "usage": _usage(delta.usage),
            }
            yield {"type": "message_stop"}

    def _call(self, call: ToolCallDelta) -> Iterator[Event]:
        head: dict[str, object] = {"id": call.id, "name": call.name, "input": {}}
        yield from self._enter("tool_use", head, call.index)
        if call.arguments:
            yield self._delta("input_json_delta", partial_json=call.arguments)

    def _enter(self, kind: str, head: dict[str, Any], call: int | None = None) -> Iterator[Event]:
        if self._open == _Block(kind, call):
            return
        yield from self._leave()
        self._open = _Block(kind, call)
        self._index += 1
        yield {
            "type": "content_block_start",
            "index": self._index,
            "content_block": {"type": kind, **head},
        }

    def _delta(self, kind: str, **gained: str) -> Event:
        delta = {"type": kind, **gained}
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _leave(self) -> Iterator[Event]:
        if self._open is not None:
            if self._open.kind == "thinking":
                yield self._delta("signature_delta", signature="")
            yield {"type": "content_block_stop", "index": self._index}
            self._open = None

"""From `core.chat` to responses: objects and items. Pure functions, no I/O."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sightline.core.chat import FinishReason, TokenLikelihood, ToolCall, Usage
from sightline.server.openai.answers import likelihoods
from sightline.server.responses.repeated import repeated_settings
from sightline.server.responses.schema import ResponsesBody
from sightline.server.whole_answer import WholeChoice

Json = dict[str, Any]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseForm:
    """What stays the same in every state of one response."""

    response_id: str
    created: int
    model: str
    body: ResponsesBody = field(repr=False)

    def response(
        self,
        status: str,
        output: Sequence[Json] = (),
        *,
        usage: Usage | None = None,
        error: Json | None = None,
    ) -> Json:
        """Return the response as it is now, with the settings that it is made with."""
        incomplete = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": self.response_id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": error,
            "incomplete_details": incomplete,
            "model": self.model,
            "output": list(output),
            **repeated_settings(self.body),
            "usage": None if usage is None else usage_object(usage),
        }


def usage_object(usage: Usage) -> Json:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": 0,
            "text_tokens": usage.prompt_tokens - usage.image_tokens,
            "image_tokens": usage.image_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def final_status(reason: FinishReason) -> Literal["completed", "incomplete"]:
    return "incomplete" if reason == "length" else "completed"


def output_items(choice: WholeChoice) -> list[Json]:
    """Return the items of a whole answer: thought, words, calls. There is always one."""
    status = final_status(choice.finish_reason)
    items = []
    if choice.reasoning:
        items.append(reasoning_item(new_id("rs"), choice.reasoning, "completed"))
    if choice.text or not (choice.reasoning or choice.tool_calls):
        part = text_part(choice.text, choice.logprobs)
        items.append(message_item(new_id("msg"), [part], status))
    items.extend(call_item(new_id("fc"), call, status) for call in choice.tool_calls)
    return items


def reasoning_item(item_id: str, text: str | None, status: ItemStatus) -> Json:
    content = [] if text is None else [reasoning_part(text)]
    return {
        "id": item_id,
        "type": "reasoning",
        "summary": [],
        "content": content,
        "status": status,
    }


def reasoning_part(text: str) -> Json:
    return {"type": "reasoning_text", "text": text}


def message_item(item_id: str, content: list[Json], status: ItemStatus) -> Json:
    return {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def text_part(text: str, logprobs: Sequence[TokenLikelihood] = ()) -> Json:
    return {
        "type": "output_text",
        "text": text,
        "annotations": [],
        "logprobs": likelihoods(logprobs),
    }


def call_item(item_id: str, call: ToolCall, status: ItemStatus) -> Json:
    return {
        "id": item_id,
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "status": status,
    }

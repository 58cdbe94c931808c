"""The settings that a response repeats: those it was made with. Pure functions.

Every event that carries the response carries them, too. So what was dropped is not repeated, nor is
a text of more than `MAX_TEXT` characters.
"""

from collections.abc import Mapping
from typing import Any

from sightline.core.limits import KIB
from sightline.server.responses.schema import ResponsesBody

Json = dict[str, object]
MAX_TEXT = 64 * KIB


def repeated_settings(body: ResponsesBody) -> Json:
    """Return what `body`, which was found to be right, says of its response."""
    return {
        "background": False,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": None,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": body.unknown.get("prompt_cache_key"),
        "reasoning": {
            "effort": None,
            "summary": None,
            **_words(body.reasoning or {}, "effort", "summary"),
        },
        "safety_identifier": body.unknown.get("safety_identifier"),
        "service_tier": "default",
        "store": False,
        "temperature": body.temperature,
        "text": _text(body.text or {}),
        "tool_choice": _tool_choice(body.tool_choice),
        "tools": [_tool(tool) for tool in body.tools or () if tool["type"] == "function"],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": body.top_p,
        "truncation": "disabled",
        "user": body.unknown.get("user"),
    }


def _words(fields: Mapping[str, Any], *names: str) -> Json:
    """Return those of `names` that have a value: a short text, or a boolean."""
    return {
        name: value
        for name in names
        if isinstance(value := fields.get(name), bool)
        or (isinstance(value, str) and len(value) <= MAX_TEXT)
    }


def _tool(tool: Mapping[str, Any]) -> Json:
    told = _words(tool, "type", "name", "description", "strict")
    return {**told, "parameters": tool.get("parameters")}


def _text(text: Mapping[str, Any]) -> Json:
    given = text.get("format") or {"type": "text"}
    form = _words(given, "type", "name", "description", "strict")
    if given["type"] == "json_schema":
        form["schema"] = given["schema"]
    return {"format": form, **_words(text, "verbosity")}


def _tool_choice(choice: Any) -> object:
    if not isinstance(choice, Mapping):
        return choice or "auto"
    told = _words(choice, "type", "name", "mode")
    if choice["type"] == "allowed_tools":
        told["tools"] = [_words(tool, "type", "name") for tool in choice["tools"]]
    return told

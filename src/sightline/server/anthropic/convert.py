"""From Anthropic's Messages API to `core.chat`, by way of a chat request: pure functions, no I/O.

One message here may become several there: the results of tools stand inside a user's message, and
a chat has a message for each of them. `renames` remembers where everything came from.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sightline.core.chat import Notice
from sightline.core.errors import RequestError, shorten
from sightline.server.anthropic.schema import (
    AnthropicMessageBody,
    Base64SourceBody,
    ImageBlockBody,
    MessagesBody,
    TextBlockBody,
    ThinkingBlockBody,
    ToolResultBlockBody,
    ToolUseBlockBody,
    UrlSourceBody,
)
from sightline.server.intake import Terms
from sightline.server.openai.convert import ChatCall
from sightline.server.openai.fields import invalid_value, unsupported
from sightline.server.openai.schema import (
    AnyBody,
    Body,
    check_type,
    missing_parameter,
    parse_part,
    wrong_type,
)
from sightline.server.renames import Renames
from sightline.server.via_chat import judge_chat

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9.+-]{1,64}/[A-Za-z0-9.+-]{1,64}")
_SAME = ("model", "max_tokens", "stream", "temperature", "top_p", "top_k", "metadata")
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_BLOCKS = "text, image, tool_use, tool_result, thinking"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnthropicCall:
    call: ChatCall
    renames: Renames


def to_anthropic_call(
    body: MessagesBody, terms: Terms, *, request_id: str, counting: bool = False
) -> AnthropicCall:
    """Convert a typed request. Raises `RequestError` with the path of what is wrong."""
    if body.max_tokens is None and not counting:
        raise missing_parameter("max_tokens")
    if not body.messages:
        raise missing_parameter("messages")
    chat = _Chat()
    fields = {name: getattr(body, name) for name in _SAME}
    if body.system is not None:
        chat.add_system(body.system)
    for index, message in enumerate(body.messages):
        chat.add(message, f"messages[{index}]")
    if body.messages[-1].role == "assistant":
        chat.notices.append(Notice(field=f"messages[{index}]", reason="answered-not-continued"))
    fields["messages"] = chat.messages
    if body.stop_sequences:
        chat.renames.add("stop", "stop_sequences")
        fields["stop"] = body.stop_sequences
    fields["service_tier"] = None if body.service_tier == "auto" else body.service_tier
    if body.tools is not None:
        fields["tools"] = [
            chat.tool(tool, f"tools[{index}]", position)
            for position, (index, tool) in enumerate(chat.own_tools(body.tools))
        ]
    if body.tool_choice is not None:
        fields |= chat.tool_choice(body.tool_choice)
    if body.thinking is not None:
        fields["thinking"] = chat.thinking(body.thinking)
    if body.output_config is not None:
        fields |= chat.output_config(body.output_config)
    if body.output_format is not None:
        if "response_format" in fields:
            raise invalid_value(
                "output_format", "output_config.format is given, too; send one of them."
            )
        fields |= chat.output_format(body.output_format, "output_format")
    for name, value in body.unknown.items():
        if value is not None:
            chat.note(shorten(name), info=name == "cache_control")
    call = judge_chat(
        {name: value for name, value in fields.items() if value is not None},
        chat.renames,
        terms,
        request_id=request_id,
        notices=chat.notices,
    )
    return AnthropicCall(call=call, renames=chat.renames)


@dataclass(slots=True)
class _Chat:
    """The chat request that is being made."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    renames: Renames = field(default_factory=Renames)

    def add_system(self, system: Any) -> None:
        if isinstance(system, str):
            self._append({"role": "system", "content": system}, "system")
        elif isinstance(system, list):
            message = self._append({"role": "system", "content": []}, "system")
            for index, block in enumerate(system):
                self._add_part(message, self._text(block, f"system[{index}]"), f"system[{index}]")
        else:
            raise wrong_type("system", "string or array", system)

    def add(self, body: AnthropicMessageBody, path: str) -> None:
        if body.role not in ("user", "assistant"):
            raise invalid_value(
                f"{path}.role", f"'{shorten(body.role)}' is not one of user, assistant."
            )
        self._note_unknown(body, path)
        match body.content:
            case str() as text:
                self._append({"role": body.role, "content": text}, path)
            case list() as blocks:
                adding = self._add_user if body.role == "user" else self._add_assistant
                adding(blocks, path)
            case other:
                raise wrong_type(f"{path}.content", "string or array", other)

    def _add_user(self, blocks: list[Any], path: str) -> None:
        message: dict[str, Any] | None = None
        for index, block in enumerate(blocks):
            where = f"{path}.content[{index}]"
            if _kind(block, where) == "tool_result":
                self._add_result(block, where)
                message = None
                continue
            if message is None:
                message = self._append({"role": "user", "content": []}, path)
            self._add_part(message, self._part(block, where), where)
        if not blocks:
            self._append({"role": "user", "content": []}, path)

    def _add_assistant(self, blocks: list[Any], path: str) -> None:
        message = self._append({"role": "assistant", "content": []}, path)
        at = f"messages[{len(self.messages) - 1}]"
        calls: list[dict[str, Any]] = []
        for index, block in enumerate(blocks):
            where = f"{path}.content[{index}]"
            match _kind(block, where):
                case "tool_use":
                    use = self._parse(ToolUseBlockBody, block, where)
                    self.renames.add(f"{at}.tool_calls[{len(calls)}]", where)
                    function = {
                        "name": use.name,
                        "arguments": json.dumps(use.input, ensure_ascii=False),
                    }
                    calls.append({"id": use.id, "type": "function", "function": function})
                case "thinking":
                    thought = parse_part(ThinkingBlockBody, block, where)
                    message["reasoning_content"] = (
                        message.get("reasoning_content", "") + thought.thinking
                    )
                case "redacted_thinking":
                    self.notices.append(Notice(field=where, reason="not-used"))
                case _:
                    self._add_part(message, self._part(block, where), where)
        if calls:
            message["tool_calls"] = calls

    def _add_result(self, block: Any, path: str) -> None:
        result = self._parse(ToolResultBlockBody, block, path)
        if result.is_error:  # a chat has no place for it; what went wrong is in the content
            self.notices.append(Notice(field=f"{path}.is_error", reason="not-used"))
        message = {"role": "tool", "tool_call_id": result.tool_use_id, "content": []}
        self._append(message, path)
        self.renames.add(f"messages[{len(self.messages) - 1}].tool_call_id", f"{path}.tool_use_id")
        match result.content:
            case None:
                pass
            case str() as text:
                message["content"] = text
            case list() as parts:
                for index, part in enumerate(parts):
                    where = f"{path}.content[{index}]"
                    self._add_part(message, self._part(part, where), where)
            case other:
                raise wrong_type(f"{path}.content", "string or array", other)

    def _append(self, message: dict[str, Any], path: str) -> dict[str, Any]:
        self.renames.add(f"messages[{len(self.messages)}]", path)
        self.messages.append(message)
        return message

    def _add_part(self, message: dict[str, Any], part: dict[str, Any], path: str) -> None:
        at = f"messages[{len(self.messages) - 1}].content[{len(message['content'])}]"
        self.renames.add(at, path)
        self.renames.add(f"{at}.image_url", f"{path}.source")
        message["content"].append(part)

    def _part(self, block: Any, path: str) -> dict[str, Any]:
        match _kind(block, path):
            case "text":
                return self._text(block, path)
            case "image":
                return self._image(block, path)
            case kind:
                raise RequestError(
                    f"Block type '{shorten(kind)}' is not supported here; supported: {_BLOCKS}.",
                    code="unsupported_parameter",
                    param=f"{path}.type",
                )

    def _text(self, block: Any, path: str) -> dict[str, Any]:
        if (kind := _kind(block, path)) != "text":
            raise unsupported(f"{path}.type", f"'{shorten(kind)}' is not taken here; send text.")
        return {"type": "text", "text": self._parse(TextBlockBody, block, path).text}

    def _image(self, block: Any, path: str) -> dict[str, Any]:
        where = f"{path}.source"
        source = self._parse(ImageBlockBody, block, path).source
        match _kind(source, where):
            case "base64":
                given = parse_part(Base64SourceBody, source, where)
                if not _MEDIA_TYPE.fullmatch(given.media_type):
                    raise invalid_value(f"{where}.media_type", "is not a media type.")
                url = f"data:{given.media_type};base64,{given.data}"
            case "url":
                url = parse_part(UrlSourceBody, source, where).url
            case kind:
                raise unsupported(
                    f"{where}.type",
                    f"Source type '{shorten(kind)}' is not supported; supported: base64, url.",
                )
        return {"type": "image_url", "image_url": url}

    def own_tools(self, tools: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
        """Return the tools that the client runs, with their places; others are dropped."""
        own = []
        for index, tool in enumerate(tools):
            check_type(tool, "type", str, f"tools[{index}]")
            if tool.get("type") in (None, "custom"):
                own.append((index, tool))
            else:
                self.notices.append(Notice(field=f"tools[{index}]", reason="not-supported"))
        return own

    def tool(self, tool: dict[str, Any], path: str, position: int) -> dict[str, Any]:
        at = f"tools[{position}]"
        self.renames.add(at, path)
        self.renames.add(f"{at}.function", path)
        self.renames.add(f"{at}.function.parameters", f"{path}.input_schema")
        if "input_schema" not in tool:
            raise missing_parameter(f"{path}.input_schema")
        check_type(tool, "strict", bool, path)  # it is always so
        self._note_others(tool, ("type", "name", "description", "input_schema", "strict"), path)
        function = {"parameters": tool["input_schema"]}
        for name in ("name", "description"):
            if name in tool:
                function[name] = tool[name]
        return {"type": "function", "function": function}

    def tool_choice(self, choice: Any) -> dict[str, Any]:
        if not isinstance(choice, dict):
            raise wrong_type("tool_choice", "object", choice)
        kind = _kind(choice, "tool_choice")
        check_type(choice, "disable_parallel_tool_use", bool, "tool_choice")
        fields: dict[str, Any] = {}
        if choice.get("disable_parallel_tool_use"):
            fields["parallel_tool_calls"] = False
        known = ("type", "name", "disable_parallel_tool_use")
        self._note_others(choice, known, "tool_choice")
        if kind == "tool":
            if "name" not in choice:
                raise missing_parameter("tool_choice.name")
            named = {"type": "function", "function": {"name": choice["name"]}}
            return fields | {"tool_choice": named}
        if kind not in _CHOICES:
            raise invalid_value(
                "tool_choice.type", f"'{shorten(kind)}' is not one of auto, any, tool, none."
            )
        return fields | {"tool_choice": _CHOICES[kind]}

    def thinking(self, thinking: Any) -> dict[str, Any]:
        if not isinstance(thinking, dict):
            raise wrong_type("thinking", "object", thinking)
        kind = _kind(thinking, "thinking")
        if kind not in ("enabled", "adaptive", "disabled"):
            raise invalid_value(
                "thinking.type", f"'{shorten(kind)}' is not one of enabled, adaptive, disabled."
            )
        self._note_others(thinking, ("type",), "thinking")
        return {"type": "disabled" if kind == "disabled" else "enabled"}

    def output_config(self, config: Any) -> dict[str, Any]:
        if not isinstance(config, dict):
            raise wrong_type("output_config", "object", config)
        fields: dict[str, Any] = {}
        for name, value in config.items():
            if value is None:
                continue
            if name == "format":
                fields |= self.output_format(value, "output_config.format")
            elif name == "effort":
                self.renames.add("reasoning_effort", "output_config.effort")
                fields["reasoning_effort"] = value
            else:
                self.note(f"output_config.{shorten(name)}")
        return fields

    def output_format(self, form: Any, path: str) -> dict[str, Any]:
        if not isinstance(form, dict):
            raise wrong_type(path, "object", form)
        if (kind := _kind(form, path)) != "json_schema":
            raise invalid_value(f"{path}.type", f"'{shorten(kind)}' is not one of json_schema.")
        if "schema" not in form:
            raise missing_parameter(f"{path}.schema")
        self._note_others(form, ("type", "schema"), path)
        self.renames.add("response_format", path)
        self.renames.add("response_format.json_schema", path)
        wrapped = {"name": "answer", "schema": form["schema"]}
        return {"response_format": {"type": "json_schema", "json_schema": wrapped}}

    def _parse(self, model: type[AnyBody], value: Any, path: str) -> AnyBody:
        block = parse_part(model, value, path)
        self._note_unknown(block, path)
        return block

    def _note_unknown(self, body: Body, path: str) -> None:
        self._note_others(body.unknown, (), path)

    def _note_others(self, values: Mapping[str, Any], known: Collection[str], path: str) -> None:
        """Note what is in `values` besides `known` and is not null."""
        for name, value in values.items():
            if name not in known and value is not None:
                self.note(f"{path}.{shorten(name)}", info=name in ("cache_control", "caller"))

    def note(self, path: str, *, info: bool = False) -> None:
        reason = "not-used" if info else "unknown-field"
        self.notices.append(Notice(field=path, reason=reason, severity="info" if info else "warn"))


def _kind(block: Any, path: str) -> str:
    """Return the `type` of what stands at `path`."""
    if not isinstance(block, Mapping):
        raise wrong_type(path, "object", block)
    if "type" not in block:
        raise missing_parameter(f"{path}.type")
    kind = block["type"]
    if not isinstance(kind, str):
        raise wrong_type(f"{path}.type", "string", kind)
    return kind

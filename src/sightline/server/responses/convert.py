"""From OpenAI's Responses API to `core.chat`, by way of a chat request: pure functions, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sightline.core.chat import Notice
from sightline.core.errors import RequestError, shorten
from sightline.server.intake import Terms
from sightline.server.openai.convert import ChatCall
from sightline.server.openai.fields import RULES, invalid_value, unsupported
from sightline.server.openai.schema import (
    AnyBody,
    Body,
    ChatBody,
    RefusalPartBody,
    check_type,
    missing_parameter,
    parse_part,
    wrong_type,
)
from sightline.server.renames import Renames
from sightline.server.responses.schema import (
    FunctionCallBody,
    FunctionOutputBody,
    InputMessageBody,
    InputTextBody,
    ReasoningItemBody,
    ResponsesBody,
)
from sightline.server.via_chat import judge_chat

_SAME = (
    "model",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "parallel_tool_calls",
    "metadata",
)
# Fields of a chat request whose work is done by others here.
_CHAT_ONLY = frozenset(
    {
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "n",
        "logprobs",
        "response_format",
        "functions",
        "function_call",
        "reasoning_effort",
        "sightline",
    }
)
_SHARED = (frozenset(ChatBody.model_fields) | frozenset(RULES)) - _CHAT_ONLY
_LOGPROBS = "message.output_text.logprobs"
_HARMLESS_INCLUDES = frozenset({_LOGPROBS, "reasoning.encrypted_content"})
_ITEMS = "message, function_call, function_call_output, reasoning"
_PARTS = "input_text, input_image"
_WRAPPED_KEYS = frozenset({"name", "description", "strict", "schema"})
_FORMAT_KEYS = _WRAPPED_KEYS | {"type"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesCall:
    """`body` is kept for the response, which repeats the settings that it was made with."""

    call: ChatCall
    renames: Renames
    body: ResponsesBody


def to_responses_call(body: ResponsesBody, terms: Terms, *, request_id: str) -> ResponsesCall:
    """Convert a typed request. Raises `RequestError` with the path of what is wrong."""
    _refuse_what_is_kept(body)
    chat = _Chat()
    chat.renames.add("messages", "input")
    if body.instructions:
        chat.append({"role": "system", "content": body.instructions}, "instructions")
    chat.add_input(body.input)
    fields: dict[str, Any] = {name: getattr(body, name) for name in _SAME}
    fields["messages"] = chat.messages
    if body.max_output_tokens is not None:
        chat.renames.add("max_tokens", "max_output_tokens")
        fields["max_tokens"] = body.max_output_tokens
    fields |= chat.logprobs(body) | chat.text(body.text or {})
    fields |= chat.reasoning(body.reasoning or {})
    if body.tools is not None:
        fields["tools"] = chat.tools(body.tools)
    if body.tool_choice is not None:
        fields["tool_choice"] = chat.tool_choice(body.tool_choice)
    if body.truncation not in (None, "auto", "disabled"):
        raise invalid_value(
            "truncation", f"'{shorten(body.truncation or '')}' is not one of auto, disabled."
        )
    if body.truncation == "auto":
        chat.notices.append(Notice(field="truncation", reason="not-supported"))
    for name, value in body.unknown.items():
        if name in _SHARED or name.startswith("guided_"):
            fields[name] = value
        elif value is not None and name == "response_format":  # a bond is not dropped
            raise unsupported(name, "response_format: in Responses it is text.format.")
        elif value is not None:
            chat.notices.append(Notice(field=shorten(name), reason="unknown-field"))
    call = judge_chat(
        {name: value for name, value in fields.items() if value is not None},
        chat.renames,
        terms,
        request_id=request_id,
        notices=chat.notices,
    )
    return ResponsesCall(call=call, renames=chat.renames, body=body)


def _refuse_what_is_kept(body: ResponsesBody) -> None:
    for name in ("previous_response_id", "conversation"):
        if getattr(body, name) is not None:
            raise unsupported(name, f"{name}: nothing is kept; send the whole input.")
    if body.background:
        raise unsupported("background", "background: nothing is kept; ask for a stream.")
    if body.prompt is not None:
        raise unsupported("prompt", "prompt: templates are not kept here; send the input.")


@dataclass(slots=True)
class _Chat:
    """The chat request that is being made.

    An assistant's words, thoughts and calls are items of their own here and one message there:
    `_assistant` is the message that the next of them belongs to.
    """

    messages: list[dict[str, Any]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    renames: Renames = field(default_factory=Renames)
    _assistant: dict[str, Any] | None = None

    def append(self, message: dict[str, Any], path: str) -> dict[str, Any]:
        self.renames.add(f"messages[{len(self.messages)}]", path)
        self.messages.append(message)
        self._assistant = message if message["role"] == "assistant" else None
        return message

    def add_input(self, given: Any) -> None:
        if isinstance(given, str):
            self.append({"role": "user", "content": given}, "input")
        elif isinstance(given, list):
            if not given:
                raise missing_parameter("input")
            for index, item in enumerate(given):
                self._add_item(item, f"input[{index}]")
        else:
            raise wrong_type("input", "string or array", given)

    def _add_item(self, item: Any, path: str) -> None:
        if not isinstance(item, Mapping):
            raise wrong_type(path, "object", item)
        kind = item.get("type")
        match kind:
            case None | "message":
                self._add_message(self._parse(InputMessageBody, item, path), path)
            case "function_call":
                self._add_call(self._parse(FunctionCallBody, item, path), path)
            case "function_call_output":
                self._add_output(self._parse(FunctionOutputBody, item, path), path)
            case "reasoning":
                self._add_thought(self._parse(ReasoningItemBody, item, path), path)
            case "item_reference":
                raise unsupported(
                    f"{path}.type",
                    "Nothing is kept; send the item itself, as SDKs do with store: false.",
                )
            case str():
                raise RequestError(
                    f"Item type '{shorten(kind)}' is not supported; supported: {_ITEMS}.",
                    code="unsupported_parameter",
                    param=f"{path}.type",
                )
            case _:
                raise wrong_type(f"{path}.type", "string", kind)

    def _add_message(self, body: InputMessageBody, path: str) -> None:
        if body.role not in ("user", "system", "developer", "assistant"):
            raise invalid_value(
                f"{path}.role",
                f"'{shorten(body.role)}' is not one of user, system, developer, assistant.",
            )
        thought = self._assistant if body.role == "assistant" else None
        if thought is not None and "content" not in thought and "tool_calls" not in thought:
            message = thought
        else:
            message = self.append({"role": body.role}, path)
        message["content"] = self._content(body.content, path, "content")

    def _content(self, content: Any, path: str, name: str) -> str | list[dict[str, Any]]:
        if isinstance(content, str):
            return content
        if not isinstance(content, list):
            raise wrong_type(f"{path}.{name}", "string or array", content)
        at = f"messages[{len(self.messages) - 1}].content"
        self.renames.add(at, f"{path}.{name}")
        return [self._part(part, f"{path}.{name}[{i}]") for i, part in enumerate(content)]

    def _part(self, part: Any, path: str) -> dict[str, Any]:
        if not isinstance(part, Mapping):
            raise wrong_type(path, "object", part)
        if "type" not in part:
            raise missing_parameter(f"{path}.type")
        match part["type"]:
            case "input_text" | "output_text" | "text":
                return {"type": "text", "text": self._parse(InputTextBody, part, path).text}
            case "refusal":
                refusal = self._parse(RefusalPartBody, part, path).refusal
                return {"type": "text", "text": refusal}
            case "input_image":
                if "image_url" not in part and part.get("file_id") is None:
                    raise missing_parameter(f"{path}.image_url")
                return dict(part)  # a chat knows this part, too
            case str() as kind:
                raise RequestError(
                    f"Part type '{shorten(kind)}' is not supported; supported: {_PARTS}.",
                    code="unsupported_parameter",
                    param=f"{path}.type",
                )
            case other:
                raise wrong_type(f"{path}.type", "string", other)

    def _add_call(self, body: FunctionCallBody, path: str) -> None:
        message = self._assistant or self.append({"role": "assistant"}, path)
        calls = message.setdefault("tool_calls", [])
        self.renames.add(f"messages[{len(self.messages) - 1}].tool_calls[{len(calls)}]", path)
        function = {"name": body.name, "arguments": body.arguments}
        calls.append({"id": body.call_id, "type": "function", "function": function})

    def _add_output(self, body: FunctionOutputBody, path: str) -> None:
        message = self.append({"role": "tool", "tool_call_id": body.call_id}, path)
        at = f"messages[{len(self.messages) - 1}]"
        self.renames.add(f"{at}.tool_call_id", f"{path}.call_id")
        message["content"] = self._content(body.output, path, "output")

    def _add_thought(self, body: ReasoningItemBody, path: str) -> None:
        texts = [part.get("text") for part in (*(body.summary or ()), *(body.content or ()))]
        for text in texts:
            if not isinstance(text, str):
                raise invalid_value(path, "its parts must have text.")
        message = self.append({"role": "assistant"}, path)
        message["reasoning_content"] = "".join(map(str, texts))

    def logprobs(self, body: ResponsesBody) -> dict[str, Any]:
        for name in body.include or ():
            if name not in _HARMLESS_INCLUDES:
                self.notices.append(
                    Notice(field="include", reason=f"not-supported.{shorten(name)}")
                )
        if _LOGPROBS not in (body.include or ()) and not body.top_logprobs:
            return {}
        return {"logprobs": True, "top_logprobs": body.top_logprobs or 0}

    def text(self, text: dict[str, Any]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, value in text.items():
            if value is None:
                continue
            if name == "format":
                fields |= self._format(value)
            elif name == "verbosity":
                self.renames.add("verbosity", "text.verbosity")
                fields["verbosity"] = value
            else:
                self._note(f"text.{shorten(name)}")
        return fields

    def _format(self, form: Any) -> dict[str, Any]:
        path = "text.format"
        if not isinstance(form, dict):
            raise wrong_type(path, "object", form)
        if "type" not in form:
            raise missing_parameter(f"{path}.type")
        self.renames.add("response_format", path)
        self.renames.add("response_format.json_schema", path)
        known = _FORMAT_KEYS if form["type"] == "json_schema" else ("type",)
        for name, value in form.items():
            if name not in known and value is not None:
                self._note(f"{path}.{shorten(name)}")
        if form["type"] != "json_schema":
            return {"response_format": {"type": form["type"]}}
        if "schema" not in form:
            raise missing_parameter(f"{path}.schema")
        wrapped = {name: value for name, value in form.items() if name in _WRAPPED_KEYS}
        return {"response_format": {"type": "json_schema", "json_schema": wrapped}}

    def reasoning(self, reasoning: dict[str, Any]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, value in reasoning.items():
            if value is None:
                continue
            if name == "effort":
                self.renames.add("reasoning_effort", "reasoning.effort")
                fields["reasoning_effort"] = value
            else:
                self._note(f"reasoning.{shorten(name)}", info=name in ("summary", "context"))
        return fields

    def tools(self, tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
        given: list[dict[str, Any]] = []
        for index, tool in enumerate(tools):
            path = f"tools[{index}]"
            if tool.get("type") is None:
                raise missing_parameter(f"{path}.type")
            check_type(tool, "type", str, path)
            if tool["type"] != "function":
                self.notices.append(Notice(field=path, reason="not-supported"))
                continue
            at = f"tools[{len(given)}]"
            self.renames.add(at, path)
            self.renames.add(f"{at}.function", path)
            function = {name: value for name, value in tool.items() if name != "type"}
            given.append({"type": "function", "function": function})
        return given

    def tool_choice(self, choice: Any) -> Any:
        if isinstance(choice, str):
            return choice
        if not isinstance(choice, dict):
            raise wrong_type("tool_choice", "string or object", choice)
        if choice.get("type") == "allowed_tools":
            self.renames.add("tool_choice.allowed_tools", "tool_choice")
            return {"type": "allowed_tools", "allowed_tools": choice}
        if choice.get("type") != "function":
            raise unsupported("tool_choice", "tool_choice: only functions can be chosen.")
        if "name" not in choice:
            raise missing_parameter("tool_choice.name")
        self.renames.add("tool_choice.function", "tool_choice")
        return {"type": "function", "function": {"name": choice["name"]}}

    def _parse(self, model: type[AnyBody], value: Any, path: str) -> AnyBody:
        item = parse_part(model, dict(value), path)
        self._note_unknown(item, path)
        return item

    def _note_unknown(self, body: Body, path: str) -> None:
        for name, value in body.unknown.items():
            if value is not None and name not in _OWN_WORDS:
                self._note(f"{path}.{shorten(name)}")

    def _note(self, path: str, *, info: bool = False) -> None:
        self.notices.append(
            Notice(
                field=path,
                reason="not-used" if info else "unknown-field",
                severity="info" if info else "warn",
            )
        )


# What a response says about its items; clients send these back with the items.
_OWN_WORDS = frozenset(
    {"type", "id", "status", "annotations", "logprobs", "phase", "encrypted_content"}
)

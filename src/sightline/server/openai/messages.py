"""The messages of an OpenAI chat, and the parts they are made of."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from sightline.core.chat import (
    Detail,
    DetailLevel,
    ImagePart,
    Message,
    Notice,
    PixelBounds,
    Role,
    TextPart,
    ToolCall,
)
from sightline.core.errors import RequestError, shorten
from sightline.core.limits import Limits
from sightline.media.source import is_declared_otherwise
from sightline.server.openai.fields import check_size, invalid_value, note_others
from sightline.server.openai.pixels import bounds_of, with_bounds
from sightline.server.openai.schema import (
    Body,
    ImagePartBody,
    ImageUrlBody,
    MessageBody,
    RefusalPartBody,
    TextPartBody,
    check_type,
    json_type,
    missing_parameter,
    parse_part,
    wrong_type,
)

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_MAY_BE_EMPTY = frozenset({"assistant", "tool", "function"})
_MAY_SHOW = frozenset({"user", "tool", "function"})
DETAILS: tuple[DetailLevel, ...] = get_args(DetailLevel)
# Ids of callers' own; pictures are known by their pixels.
_PICTURE_IDS = frozenset({"uuid", "content_hash"})
# What changes no answer: prefixes are cached by themselves, too.
_INFO_PART_KEYS = _PICTURE_IDS | {"cache_control"}
# What clients that collect a stream send back with the calls that they put together.
_CALL_KEYS = frozenset({"id", "type", "function", "index"})


def to_messages(
    bodies: Sequence[MessageBody],
    limits: Limits,
    notices: list[Notice],
    bounds: PixelBounds | None = None,
) -> tuple[Message, ...]:
    """Convert a conversation. Raises `RequestError` with the exact path of what is wrong.

    `bounds` are those of pictures that have none of their own.
    """
    known_calls: set[str] = set()
    messages = []
    for index, body in enumerate(bodies):
        path = f"messages[{index}]"
        message = with_bounds(_message(body, path, limits, notices), bounds)
        known_calls.update(call.id for call in message.tool_calls)
        call_id = message.tool_call_id
        # Results without an id are matched with the calls by their order.
        if body.role == "tool" and (
            not known_calls if call_id is None else call_id not in known_calls
        ):
            named = "" if call_id is None else f" with id '{shorten(call_id)}'"
            raise RequestError(
                f"{path}: no call{named} comes before it.",
                code="invalid_value",
                param=f"{path}.tool_call_id",
            )
        messages.append(message)
    return tuple(messages)


def _message(body: MessageBody, path: str, limits: Limits, notices: list[Notice]) -> Message:
    role = _ROLES.get(body.role)
    if role is None:
        raise invalid_value(
            f"{path}.role", f"'{shorten(body.role)}' is not one of {', '.join(_ROLES)}."
        )
    for name, value in body.unknown.items():
        # A result may name its tool or function; which call it answers is known without.
        if value is None or value == [] or (name == "name" and role == "tool"):
            continue
        notices.append(Notice(field=f"{path}.{shorten(name)}", reason="not-used"))
    if body.tool_call_id is not None and role != "tool":
        notices.append(Notice(field=f"{path}.tool_call_id", reason="not-used"))
    calls = _tool_calls(body.tool_calls, f"{path}.tool_calls", limits, notices)
    if body.function_call is not None:
        at = f"{path}.function_call"
        calls = (*calls, _call(body.function_call, at, notices, call_id=at))
    if calls and role != "assistant":
        name = "tool_calls" if body.tool_calls else "function_call"
        raise invalid_value(f"{path}.{name}", f"not in a message of '{shorten(body.role)}'.")
    return Message(
        role=role,
        parts=_parts(body, f"{path}.content", limits, notices),
        reasoning=body.reasoning_content or body.reasoning or "",
        tool_calls=calls,
        tool_call_id=body.tool_call_id if role == "tool" else None,
    )


def _tool_calls(
    values: Any, path: str, limits: Limits, notices: list[Notice]
) -> tuple[ToolCall, ...]:
    if values is None:
        return ()
    if not isinstance(values, list):
        raise wrong_type(path, "array", values)
    if len(values) > limits.max_tools:
        raise invalid_value(path, f"{len(values)} given, at most {limits.max_tools}.")
    calls = []
    for index, value in enumerate(values):
        at = f"{path}[{index}]"
        if not isinstance(value, dict):
            raise wrong_type(at, "object", value)
        check_type(value, "type", str, at)
        check_type(value, "id", str, at)
        call_id = at if value.get("id") is None else value["id"]
        if "function" not in value:
            raise missing_parameter(f"{at}.function")
        note_others(value, _CALL_KEYS, at, notices, reason="not-used")
        calls.append(_call(value["function"], f"{at}.function", notices, call_id=call_id))
    return tuple(calls)


def _call(value: Any, path: str, notices: list[Notice], *, call_id: str) -> ToolCall:
    """Convert a call of the history. Its arguments pass as the text they are, JSON or not."""
    if not isinstance(value, dict):
        raise wrong_type(path, "object", value)
    if "name" not in value:
        raise missing_parameter(f"{path}.name")
    note_others(value, ("name", "arguments"), path, notices, reason="not-used")
    name, arguments = value["name"], value.get("arguments")
    if not isinstance(name, str):
        raise wrong_type(f"{path}.name", "string", name)
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    if arguments is not None and not isinstance(arguments, str):
        raise wrong_type(f"{path}.arguments", "string", arguments)
    return ToolCall(id=call_id, name=name, arguments=arguments or "")


def _parts(
    body: MessageBody, path: str, limits: Limits, notices: list[Notice]
) -> tuple[TextPart | ImagePart, ...]:
    match body.content:
        case str() as text:
            return (TextPart(text=text),)
        case None if body.role in _MAY_BE_EMPTY:
            return ()
        case None if "content" not in body.model_fields_set:
            raise missing_parameter(path)
        case list() as parts:
            if len(parts) > limits.max_parts:
                raise invalid_value(path, f"{len(parts)} parts, at most {limits.max_parts}.")
            return tuple(
                _part(part, f"{path}[{index}]", body.role, limits, notices)
                for index, part in enumerate(parts)
            )
        case other:
            raise wrong_type(path, "string or array", other)


def _part(
    value: Any, path: str, role: str, limits: Limits, notices: list[Notice]
) -> TextPart | ImagePart:
    if not isinstance(value, dict):
        raise wrong_type(path, "object", value)
    if "type" not in value:
        raise missing_parameter(f"{path}.type")
    match value["type"]:
        case "text" | "input_text" | "output_text":
            part = parse_part(TextPartBody, value, path)
            note_unknown(part, path, notices)
            return TextPart(text=part.text)
        case "refusal" if role == "assistant":
            refusal = parse_part(RefusalPartBody, value, path)
            note_unknown(refusal, path, notices)
            return TextPart(text=refusal.refusal)
        case "image_url" | "input_image":
            if role not in _MAY_SHOW:
                raise RequestError(
                    f"Images are supported in user and tool messages, not in '{role}' messages.",
                    code="unsupported_parameter",
                    param=f"{path}.type",
                )
            return _image(value, path, limits, notices)
        case str() as kind:
            raise RequestError(
                f"Part type '{shorten(kind)}' is not supported; supported: text, image_url.",
                code="unsupported_parameter",
                param=f"{path}.type",
            )
        case other:
            raise wrong_type(f"{path}.type", "string", other)


def _image(value: Mapping[str, Any], path: str, limits: Limits, notices: list[Notice]) -> ImagePart:
    _refuse_file(value, path)
    for name in sorted(_PICTURE_IDS & value.keys()):
        if value[name] is not None:
            check_size(f"{path}.{name}", value[name], limits)
    part = parse_part(ImagePartBody, value, path)
    param = f"{path}.image_url"
    note_unknown(part, path, notices)
    bounds = bounds_of(value, path)
    detail, detail_path = part.detail, f"{path}.detail"
    match part.image_url:
        case str() as url:
            pass
        case dict() as address:
            _refuse_file(address, param)
            image_url = parse_part(ImageUrlBody, address, param)
            note_unknown(image_url, param, notices)
            bounds = bounds_of(address, param) or bounds
            url = image_url.url
            if image_url.detail is not None:
                detail, detail_path = image_url.detail, f"{param}.detail"
        case other:
            raise wrong_type(param, "string or object", other)
    if not url:
        raise RequestError("The address is empty.", code="invalid_image_url", param=param)
    if is_declared_otherwise(url):
        notices.append(Notice(field=param, reason="declared-type-differs", severity="info"))
    return ImagePart(source=url, param=param, detail=_detail(detail, detail_path), bounds=bounds)


def _refuse_file(value: Mapping[str, Any], path: str) -> None:
    """No files are kept, so whatever file is named is not there."""
    file_id = value.get("file_id")
    if file_id is not None:
        name = shorten(file_id) if isinstance(file_id, str) else json_type(file_id)
        raise RequestError(
            f"No such file: '{name}'. Send image_url.",
            code="image_file_not_found",
            param=f"{path}.file_id",
        )


def _detail(detail: Any, path: str) -> Detail | None:
    if detail is None:
        return None
    for level in DETAILS:
        if detail == level:
            return Detail(param=path, level=level)
    shown = f"'{shorten(detail)}'" if isinstance(detail, str) else json_type(detail)
    raise invalid_value(path, f"{shown} is not one of {', '.join(DETAILS)}.")


def note_unknown(body: Body, path: str, notices: list[Notice]) -> None:
    """Note the fields of `body` that nobody knows."""
    for name, value in body.unknown.items():
        if value is not None:
            info = name in _INFO_PART_KEYS
            notices.append(
                Notice(
                    field=f"{path}.{shorten(name)}",
                    reason="not-used" if info else "unknown-field",
                    severity="info" if info else "warn",
                )
            )

"""Tools, the choice among them, the form of the answer, and the thinking switch.

The legacy fields `functions` and `function_call` are read as `tools` and `tool_choice`; the answer
is then told in the legacy form, too.
"""

import re
from collections.abc import Mapping
from typing import Any

from sightline.core.chat import Notice, ResponseFormat, Tool, ToolChoice
from sightline.core.errors import RequestError, shorten
from sightline.core.limits import Limits
from sightline.server.openai.fields import invalid_value, note_others, quoted, unsupported
from sightline.server.openai.schema import ChatBody, check_type, missing_parameter, wrong_type

_OTHER_TYPES = ("array", "string", "number", "integer", "boolean", "null")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WRAPPER_KEYS = frozenset({"name", "description", "strict", "schema"})
# A bare schema has one of these; without any, every value would satisfy it.
_SCHEMA_WORD = re.compile(
    r"\$(schema|ref|defs)|definitions|type|enum|const|(any|one|all)Of|not|if|pattern|format"
    r"|properties|(pattern|additional)Properties|propertyNames|required|items|prefixItems|contains"
    r"|uniqueItems|m(in|ax)(imum|Length|Items|Properties)|exclusiveM(in|ax)imum|multipleOf"
)
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max", "auto", "default")
_THINKING_TYPES = {"enabled": True, "disabled": False, "auto": None, "adaptive": None}


def is_legacy(body: ChatBody) -> bool:
    return bool(body.functions)


def tool_fields(body: ChatBody, limits: Limits, notices: list[Notice]) -> dict[str, Any]:
    """Return the fields of a `ChatRequest` that concern tools. Raises `RequestError`."""
    if body.tools and body.functions:
        raise invalid_value("functions", "tools are given, too; send one of them.")
    tools = _tools(body.tools, "tools", limits, notices)
    functions = _functions(body.functions, limits)
    if body.functions:
        choice = _function_call(body.function_call, functions)
        if body.tool_choice not in (None, "auto"):
            raise invalid_value("tool_choice", "goes with tools; beside functions, function_call.")
    else:
        choice = _tool_choice(body.tool_choice, tools)
        _function_call(body.function_call, ())
    return {
        "tools": tools or functions,
        "tool_choice": choice,
        "parallel_tool_calls": body.parallel_tool_calls is not False and not is_legacy(body),
        "stream_tool_arguments": bool(body.sightline and body.sightline.stream_tool_arguments),
        "response_format": _response_format(body.response_format, notices),
    }


def thinking_fields(body: ChatBody) -> dict[str, Any]:
    """Return the fields of a `ChatRequest` that concern thinking. The first switch counts."""
    switches: dict[str, bool | None] = {}
    if body.enable_thinking is not None:
        switches["enable_thinking"] = body.enable_thinking
    if body.thinking is not None:
        switches["thinking"] = _thinking(body.thinking, "thinking")
    kwargs = body.chat_template_kwargs
    if kwargs is not None:
        if not isinstance(kwargs, dict):
            raise wrong_type("chat_template_kwargs", "object", kwargs)
        for key in kwargs:
            if key not in ("enable_thinking", "thinking"):
                raise unsupported(f"chat_template_kwargs.{key}")
        for key in ("enable_thinking", "thinking"):
            if kwargs.get(key) is not None:
                path = f"chat_template_kwargs.{key}"
                switches["chat_template_kwargs"] = switches.get(
                    "chat_template_kwargs", _thinking(kwargs[key], path)
                )
    if body.reasoning_effort is not None:
        switches["reasoning_effort"] = _effort(body.reasoning_effort)
    return {
        "thinking": next((value for value in switches.values() if value is not None), None),
        "thinking_params": tuple(switches),
        "split_reasoning": body.reasoning_format != "none",
    }


def _thinking(value: Any, path: str) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, dict):
        kind = value.get("type")
        if kind is None:
            return None
        if isinstance(kind, str) and kind in _THINKING_TYPES:
            return _THINKING_TYPES[kind]
        raise invalid_value(
            f"{path}.type", f"{quoted(kind)} is not one of {', '.join(_THINKING_TYPES)}."
        )
    raise wrong_type(path, "boolean or object", value)


def _effort(value: str) -> bool | None:
    if value not in EFFORTS:
        raise invalid_value(
            "reasoning_effort", f"{quoted(value)} is not one of {', '.join(EFFORTS)}."
        )
    return False if value == "none" else None


def _tools(values: Any, path: str, limits: Limits, notices: list[Notice]) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    for index, value in enumerate(_list(values, path, limits)):
        at = f"{path}[{index}]"
        if not isinstance(value, dict):
            raise wrong_type(at, "object", value)
        kind = value.get("type", "function")
        if not isinstance(kind, str):
            raise wrong_type(f"{at}.type", "string", kind)
        if kind != "function":
            # As Dify's web_search: what cannot be called is not offered.
            notices.append(Notice(field=at, reason="tool-type-not-supported"))
            continue
        if "function" not in value:
            raise _invalid_tool(f"{at}.function", "A tool needs a function.")
        if value.get("cache_control") is not None:  # prefixes are cached by themselves
            field = f"{at}.cache_control"
            notices.append(Notice(field=field, reason="not-used", severity="info"))
        note_others(value, ("type", "function", "cache_control"), at, notices)
        tools.append(_function(value["function"], f"{at}.function", tools))
    return tuple(tools)


def _functions(values: Any, limits: Limits) -> tuple[Tool, ...]:
    functions: list[Tool] = []
    for index, value in enumerate(_list(values, "functions", limits)):
        functions.append(_function(value, f"functions[{index}]", functions))
    return tuple(functions)


def _list(values: Any, path: str, limits: Limits) -> list[Any]:
    if values is None:
        return []
    if not isinstance(values, list):
        raise wrong_type(path, "array", values)
    if len(values) > limits.max_tools:
        raise invalid_value(path, f"{len(values)} given, at most {limits.max_tools}.")
    return values


def _may_be_object(schema: Any) -> bool:
    """Whether the type that `schema` gives, if it does, leaves room for an object."""
    if not isinstance(schema, dict):
        return False
    kinds = schema.get("type")
    return "object" in kinds if isinstance(kinds, list) else kinds not in _OTHER_TYPES


def _function(value: Any, path: str, others: list[Tool]) -> Tool:
    if not isinstance(value, dict):
        raise wrong_type(path, "object", value)
    name = value.get("name")
    if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
        raise _invalid_tool(f"{path}.name", "Tool name must match [A-Za-z0-9_-]{1,64}.")
    if any(other.name == name for other in others):
        raise _invalid_tool(f"{path}.name", f"Two tools are named '{name}'.")
    description = value.get("description")
    if description is not None and not isinstance(description, str):
        raise _invalid_tool(f"{path}.description", "Tool description must be a string.")
    parameters = value.get("parameters")
    if parameters is not None and not _may_be_object(parameters):
        raise RequestError(
            f"{path}.parameters: expected a JSON schema of an object.",
            code="invalid_schema",
            param=f"{path}.parameters",
        )
    check_type(value, "strict", bool, path)
    return Tool(
        name=name,
        parameters=parameters or {},
        definition=value,
        param=f"{path}.parameters",
    )


def _invalid_tool(param: str, message: str) -> RequestError:
    return RequestError(message, code="invalid_tool", param=param)


def _tool_choice(value: Any, tools: tuple[Tool, ...]) -> ToolChoice:
    match value:
        case None | "auto":
            return ToolChoice()
        case "none":
            return ToolChoice(mode="none")
        case "required":
            if not tools:
                raise invalid_value("tool_choice", "no tools are given to choose from.")
            return ToolChoice(mode="required")
        case {"type": "function", "function": {"name": str() as name}}:
            return _named("tool_choice", name, tools)
        case {"type": "function"}:
            raise invalid_value("tool_choice", "names no function.")
        case {"type": "allowed_tools"}:
            return _allowed(value.get("allowed_tools", value), tools)
        case {"type": str() as kind}:
            raise invalid_value("tool_choice.type", f"'{shorten(kind)}' is not function.")
        case dict():
            raise invalid_value("tool_choice", "names no function.")
        case str():
            raise invalid_value(
                "tool_choice", f"{quoted(value)} is not one of none, auto, required."
            )
        case _:
            raise wrong_type("tool_choice", "string or object", value)


def _allowed(value: Any, tools: tuple[Tool, ...]) -> ToolChoice:
    """Read a choice among some of the tools; the others stay known and are not offered."""
    path = "tool_choice.allowed_tools"
    if not isinstance(value, dict):
        raise wrong_type(path, "object", value)
    mode, listed = value.get("mode", "auto"), value.get("tools")
    if mode not in ("auto", "required"):
        raise invalid_value(f"{path}.mode", f"{quoted(mode)} is not one of auto, required.")
    if not isinstance(listed, list):
        raise wrong_type(f"{path}.tools", "array", listed)
    names = [_allowed_name(entry) for entry in listed]
    for index, name in enumerate(names):
        if name is None:
            raise invalid_value(f"{path}.tools[{index}]", "names no function.")
        _named(f"{path}.tools[{index}]", name, tools)
    if mode == "required" and not names:
        raise invalid_value(path, "no tools are given to choose from.")
    return ToolChoice(mode=mode, allowed=frozenset(name for name in names if name is not None))


def _allowed_name(entry: Any) -> str | None:
    match entry:
        case {"type": "function", "function": {"name": str() as name}}:
            return name
        case {"type": "function", "name": str() as name}:  # as in Responses
            return name
        case _:
            return None


def _function_call(value: Any, functions: tuple[Tool, ...]) -> ToolChoice:
    match value:
        case None | "auto":
            return ToolChoice()
        case "none":
            return ToolChoice(mode="none")
        case {"name": str() as name}:
            return _named("function_call", name, functions)
        case dict():
            raise invalid_value("function_call", "names no function.")
        case str():
            raise invalid_value("function_call", f"{quoted(value)} is not one of none, auto.")
        case _:
            raise wrong_type("function_call", "string or object", value)


def _named(path: str, name: str, tools: tuple[Tool, ...]) -> ToolChoice:
    if all(tool.name != name for tool in tools):
        raise invalid_value(path, f"No tool named '{shorten(name)}'.")
    return ToolChoice(mode="required", name=name)


def _response_format(value: Any, notices: list[Notice]) -> ResponseFormat | None:
    path = "response_format"
    if value is None:
        return None
    if not isinstance(value, dict):
        raise wrong_type(path, "object", value)
    if "type" not in value:
        raise missing_parameter(f"{path}.type")
    note_others(value, ("type", "schema", "json_schema"), path, notices)
    match value["type"]:
        case "text":
            return None
        case "json_object":
            schema = value.get("schema")
            if schema is not None and not isinstance(schema, dict | bool):
                raise wrong_type(f"{path}.schema", "object", schema)
            return ResponseFormat(schema=schema, param=f"{path}.schema")
        case "json_schema":
            return _json_schema(value.get("json_schema"), f"{path}.json_schema", notices)
        case other:
            raise invalid_value(
                f"{path}.type", f"{quoted(other)} is not one of text, json_object, json_schema."
            )


def _json_schema(value: Any, path: str, notices: list[Notice]) -> ResponseFormat:
    """Read a schema with its wrapper, or bare, as Dify passes on what its user pasted.

    Only a wrapper has a `schema`.
    """
    if value is None:
        raise missing_parameter(path)
    if not isinstance(value, dict):
        raise wrong_type(path, "object", value)
    if "schema" not in value and not value.keys() <= _WRAPPER_KEYS:
        if not any(map(_SCHEMA_WORD.fullmatch, value)):
            raise RequestError(
                f"{path}: neither a schema nor its wrapper; no keyword of JSON Schema is in it.",
                code="invalid_schema",
                param=path,
            )
        return ResponseFormat(schema=value, param=path)
    note_others(value, _WRAPPER_KEYS, path, notices)
    check_type(value, "name", str, path)
    check_type(value, "description", str, path)
    check_type(value, "strict", bool, path)
    schema: Mapping[str, Any] | bool | None = value.get("schema")
    if schema is None:
        raise missing_parameter(f"{path}.schema")
    if not isinstance(schema, dict | bool):
        raise wrong_type(f"{path}.schema", "object", schema)
    return ResponseFormat(schema=schema, param=f"{path}.schema")

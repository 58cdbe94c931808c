"""Fields of a chat request that this server does not use, and what becomes of each.

The fields it does use are those of `openai_schema.ChatBody`. For the others there are three
verdicts. *Pass*: the value asks for what happens anyway, as the defaults that Dify and LangChain
send. *Ignore*: named in the header `x-sightline-warnings` and in the log; `info` when the answer
cannot differ, else `warn`, which strict mode turns into a refusal. *Refuse*: 400
`unsupported_parameter`, where dropping the field would break a promise (a schema, a ban, a second
choice) or where it reaches for code. null always passes. A field that is not listed is ignored
with a `warn`.

    field                                        passes              otherwise
    presence_penalty, frequency_penalty          0                   warn; outside -2..2 refused
    repetition_penalty                           1                   warn; not above 0..10 refused
    top_k                                        0, -1               warn; below -1 refused
    min_p                                        0                   warn; outside 0..1 refused
    n, best_of                                   1                   refused
    logit_bias                                   {}                  refused
    logprobs; top_logprobs                       false; 0            refused
    response_format                              type text           refused
    tools, functions                             []                  warn
    tool_choice, function_call                   none, auto          refused
    parallel_tool_calls                          any boolean         -
    thinking switches                            -                   info: no model here thinks
    chat_template_kwargs                         {}                  info for a thinking switch,
                                                                     other keys refused
    mm_processor_kwargs                          {}                  warn for min_pixels and
                                                                     max_pixels, others refused
    user, safety_identifier, metadata,           -                   info; over 64 KiB refused
      prompt_cache_key; store                    store false         info; store true warn
    service_tier, prompt_cache_options,          -                   warn
      prompt_cache_retention, verbosity,
      prediction, moderation, web_search,
      web_search_options
    modalities                                   ["text"]            refused
    use_beam_search                              false               refused
    audio, chat_template, documents, grammar,    -                   refused
      prompt_embeds, image_embeds, guided_*,
      structured_outputs, structural_tag, regex,
      stop_regex, prompt_logprobs,
      media_io_kwargs
"""

from collections.abc import Callable, Mapping
from typing import Any

from sightline.core.chat import Notice
from sightline.core.errors import RequestError, shorten
from sightline.core.limits import Limits
from sightline.server import ascii_json
from sightline.server.openai_schema import json_type, missing_parameter, wrong_type

MAX_CHOICES = 8
MAX_TOOLS = 128
MAX_TOP_LOGPROBS = 20

Rule = Callable[[str, Any, Mapping[str, Any]], Notice | None]


def judge_unused_fields(fields: Mapping[str, Any], limits: Limits) -> list[Notice]:
    """Return a notice for every field that is ignored. Raises `RequestError` for the others."""
    notices = []
    for name, value in fields.items():
        if value is None:
            continue
        if name in _CALLER_DATA:
            _check_size(name, value, limits)
        notice = _rule_of(name)(name, value, fields)
        if notice is not None:
            notices.append(notice)
    return notices


def unsupported(name: str, what: str | None = None) -> RequestError:
    text = what or f"'{shorten(name)}' is not supported."
    return RequestError(text, code="unsupported_parameter", param=shorten(name))


def invalid_value(path: str, what: str) -> RequestError:
    return RequestError(f"{path}: {what}", code="invalid_value", param=path)


def _rule_of(name: str) -> Rule:
    rule = RULES.get(name)
    if rule is None:
        rule = _refuse if name.startswith("guided_") else _unknown
    return rule


def _unknown(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
    return Notice(field=shorten(name), reason="unknown-field")


def _refuse(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
    raise unsupported(name)


def _ignore(reason: str, *, info: bool = False) -> Rule:
    def rule(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
        return Notice(field=name, reason=reason, severity="info" if info else "warn")

    return rule


def _only(*harmless: Any) -> Rule:
    """Pass the harmless values and refuse all others."""

    def rule(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
        if not any(type(value) is type(other) and value == other for other in harmless):
            raise unsupported(name)
        return None

    return rule


def _number(
    default: float, low: float, high: float, *, above_low: bool = False, whole: bool = False
) -> Rule:
    """Check a sampling number that cannot be honoured yet, and ignore it unless it is idle."""

    def rule(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
        check_number(name, value, low, high, above_low=above_low, whole=whole)
        return None if value == default else Notice(field=name, reason="not-supported-yet")

    return rule


def check_number(
    path: str,
    value: Any,
    low: float,
    high: float,
    *,
    above_low: bool = False,
    whole: bool = False,
) -> None:
    """Raise `RequestError` unless `value` is a number in the range; bounds are inclusive.

    With `above_low` the lower bound itself is outside.
    """
    expected = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, expected):
        raise wrong_type(path, "integer" if whole else "number", value)
    shown = shorten(f"{value:g}" if isinstance(value, float) else str(value))
    if value != value or value < low or (above_low and value == low):
        bound = f"not above {low:g}" if above_low else f"below the minimum {low:g}"
        raise invalid_value(path, f"{shown} is {bound}.")
    if value > high:
        raise invalid_value(path, f"{shown} is above the maximum {high:g}.")


def _top_k(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
    check_number(name, value, -1, 2**31 - 1, whole=True)
    return None if value in (0, -1) else Notice(field=name, reason="not-supported-yet")


def _choices(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
    check_number(name, value, 1, MAX_CHOICES, whole=True)
    if value != 1:
        raise unsupported(name, f"{name}: {value} choices are not supported; send 1.")
    return None


def _best_of(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
    if value != 1 or isinstance(value, bool):
        raise unsupported(name)
    return None


def _logprobs(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
    if not isinstance(value, bool):
        raise wrong_type(name, "boolean", value)
    if value:
        raise unsupported(name)
    return None


def _logit_bias(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
    if not isinstance(value, dict):
        raise wrong_type(name, "object", value)
    if value:
        raise unsupported(name)
    return None


def _top_logprobs(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
    check_number(name, value, 0, MAX_TOP_LOGPROBS, whole=True)
    if value > 0 and fields.get("logprobs") is not True:
        raise invalid_value(name, "needs logprobs: true.")
    if value > 0:
        raise unsupported(name)
    return None


def _response_format(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
    if not isinstance(value, dict):
        raise wrong_type(name, "object", value)
    if "type" not in value:
        raise missing_parameter(f"{name}.type")
    kind = value["type"]
    if kind == "text":
        return None
    if kind == "json_schema" and not isinstance(value.get("json_schema"), dict):
        raise missing_parameter(f"{name}.json_schema")
    if kind in ("json_object", "json_schema"):
        raise unsupported(name, f"{name} of type '{kind}' is not supported; supported: text.")
    raise invalid_value(
        f"{name}.type", f"{_quoted(kind)} is not one of text, json_object, json_schema."
    )


def _tools(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
    if not isinstance(value, list):
        raise wrong_type(name, "array", value)
    if len(value) > MAX_TOOLS:
        raise invalid_value(name, f"{len(value)} given, at most {MAX_TOOLS}.")
    return Notice(field=name, reason="tools-not-supported-yet") if value else None


def _tool_choice(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
    if value in ("none", "auto"):
        return None
    tools = fields.get("tools" if name == "tool_choice" else "functions")
    if isinstance(value, dict) or (value == "required" and name == "tool_choice"):
        if not tools:
            raise invalid_value(name, "no tools are given to choose from.")
        raise unsupported(name, f"{name} other than 'none' and 'auto' is not supported.")
    raise invalid_value(name, f"{_quoted(value)} is not one of none, auto.")


def _boolean(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
    if not isinstance(value, bool):
        raise wrong_type(name, "boolean", value)
    return None


def _keys_of(known: frozenset[str], reason: str, *, info: bool = False) -> Rule:
    """Ignore an object of known keys and refuse any other key by its path."""

    def rule(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
        if not isinstance(value, dict):
            raise wrong_type(name, "object", value)
        for key in value:
            if key not in known:
                raise unsupported(f"{name}.{key}")
        return _ignore(reason, info=info)(name, value, fields) if value else None

    return rule


def _store(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
    _boolean(name, value, fields)
    return Notice(field=name, reason="nothing-is-kept", severity="warn" if value else "info")


def _check_size(name: str, value: Any, limits: Limits) -> None:
    if name == "metadata":
        if not isinstance(value, dict):
            raise wrong_type(name, "object", value)
    elif not isinstance(value, str):
        raise wrong_type(name, "string", value)
    size = len(ascii_json.encode(value))
    if size > limits.max_metadata_bytes:
        raise invalid_value(name, f"{size} bytes; limit {limits.max_metadata_bytes}.")


def _quoted(value: Any) -> str:
    return f"'{shorten(value)}'" if isinstance(value, str) else json_type(value)


_CALLER_DATA = frozenset({"user", "safety_identifier", "metadata", "prompt_cache_key"})
_THINKING_KEYS = frozenset({"enable_thinking", "thinking"})
_PIXEL_KEYS = frozenset({"min_pixels", "max_pixels"})

RULES: dict[str, Rule] = {
    "presence_penalty": _number(0, -2, 2),
    "frequency_penalty": _number(0, -2, 2),
    "repetition_penalty": _number(1, 0, 10, above_low=True),
    "min_p": _number(0, 0, 1),
    "top_k": _top_k,
    "n": _choices,
    "best_of": _best_of,
    "logit_bias": _logit_bias,
    "logprobs": _logprobs,
    "top_logprobs": _top_logprobs,
    "response_format": _response_format,
    "tools": _tools,
    "functions": _tools,
    "tool_choice": _tool_choice,
    "function_call": _tool_choice,
    "parallel_tool_calls": _boolean,
    "mm_processor_kwargs": _keys_of(_PIXEL_KEYS, "fixed-image-size"),
    "chat_template_kwargs": _keys_of(_THINKING_KEYS, "model-does-not-think", info=True),
    "store": _store,
    "modalities": _only(["text"]),
    "use_beam_search": _only(False),
    **dict.fromkeys(
        ("reasoning_effort", "enable_thinking", "thinking", "reasoning_format"),
        _ignore("model-does-not-think", info=True),
    ),
    **dict.fromkeys(sorted(_CALLER_DATA), _ignore("not-used", info=True)),
    **dict.fromkeys(
        (
            "service_tier",
            "prompt_cache_options",
            "prompt_cache_retention",
            "verbosity",
            "prediction",
            "moderation",
            "web_search",
            "web_search_options",
        ),
        _ignore("not-supported"),
    ),
    **dict.fromkeys(
        (
            "audio",
            "chat_template",
            "documents",
            "prompt_embeds",
            "image_embeds",
            "structured_outputs",
            "structural_tag",
            "grammar",
            "regex",
            "stop_regex",
            "prompt_logprobs",
            "media_io_kwargs",
        ),
        _refuse,
    ),
}

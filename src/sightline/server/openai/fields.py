"""Fields of a chat request that this server does not use, and what becomes of each.

The fields it does use are those of `schema.ChatBody`. For the others there are three
verdicts. *Pass*: the value asks for what happens anyway, as the defaults that Dify, LangChain and
vLLM's clients send. *Ignore*: named in the header `x-sightline-warnings` and in the log; `info`
when the answer cannot differ, else `warn`, which strict mode turns into a refusal. *Refuse*: 400
`unsupported_parameter`, where dropping the field would break a promise (a schema, a ban, a second
choice) or where it reaches for code. null always passes. A field that is not listed is ignored
with a `warn`.

    field                                        passes              otherwise
    best_of                                      1                   refused
    user, safety_identifier, metadata,           -                   info; over 64 KiB refused
      prompt_cache_key; store                    store false         info; store true warn
    service_tier, prompt_cache_options,          -                   warn
      prompt_cache_retention, verbosity,
      prediction, moderation, web_search,
      web_search_options
    modalities                                   ["text"]            refused
    use_beam_search                              false               refused
    add_generation_prompt, skip_special_tokens   true                warn
    continue_final_message, echo, ignore_eos,    false               warn
      include_stop_str_in_output,
      return_token_ids,
      return_tokens_as_token_ids
    length_penalty                               1                   warn
    min_tokens, priority                         0                   warn
    stop_token_ids                               []                  warn
    allowed_token_ids, bad_words,                []                  refused
      logits_processors
    audio, chat_template, documents, grammar,    -                   refused
      prompt_embeds, image_embeds, guided_*,
      structured_outputs, structural_tag, regex,
      stop_regex, prompt_logprobs, ebnf,
      json_schema, custom_logit_processor,
      media_io_kwargs
"""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from sightline.core.chat import Notice
from sightline.core.errors import RequestError, shorten
from sightline.core.limits import Limits
from sightline.server.openai.schema import json_type, wrong_type

MAX_TOP_LOGPROBS = Limits().max_top_logprobs

Rule = Callable[[str, Any, Mapping[str, Any]], Notice | None]


def judge_unused_fields(fields: Mapping[str, Any], limits: Limits) -> list[Notice]:
    """Return a notice for every field that is ignored. Raises `RequestError` for the others."""
    notices = []
    for name, value in fields.items():
        if value is None:
            continue
        if name in _CALLER_DATA:
            check_size(name, value, limits)
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


def _only(harmless: Any) -> Rule:
    """Pass the harmless value and refuse all others."""
    kind = json_type(harmless)

    def rule(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
        if json_type(value) != kind:
            raise wrong_type(name, kind, value)
        if value != harmless:
            raise unsupported(name)
        return None

    return rule


def _ignore_unless(harmless: Any) -> Rule:
    """Pass the harmless value and ignore all others."""

    def rule(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
        if json_type(value) == json_type(harmless) and value == harmless:
            return None
        return Notice(field=name, reason="not-supported")

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
    shown = shorten(_number(value))
    if value != value or value < low or (above_low and value == low):
        bound = "not above" if above_low else "below the minimum"
        raise invalid_value(path, f"{shown} is {bound} {_number(low)}.")
    if value > high:
        raise invalid_value(path, f"{shown} is above the maximum {_number(high)}.")


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _best_of(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
    if value != 1 or isinstance(value, bool):
        raise unsupported(name)
    return None


def _boolean(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
    if not isinstance(value, bool):
        raise wrong_type(name, "boolean", value)
    return None


def _store(name: str, value: Any, fields: Mapping[str, Any]) -> Notice | None:
    _boolean(name, value, fields)
    return Notice(field=name, reason="nothing-is-kept", severity="warn" if value else "info")


def note_others(
    values: Mapping[str, Any],
    known: Collection[str],
    path: str,
    notices: list[Notice],
    *,
    reason: str = "unknown-field",
) -> None:
    """Note what is in `values` besides `known` and is not null."""
    notices.extend(
        Notice(field=f"{path}.{shorten(name)}", reason=reason)
        for name, value in values.items()
        if name not in known and value is not None
    )


def check_size(name: str, value: Any, limits: Limits) -> None:
    """Raise `RequestError` unless `value` is data of the caller's that is small enough."""
    if name == "metadata":
        if not isinstance(value, dict):
            raise wrong_type(name, "object", value)
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        except ValueError:
            raise invalid_value(name, "has a number that is not finite.") from None
    elif not isinstance(value, str):
        raise wrong_type(name, "string", value)
    else:
        text = value
    size = len(text.encode())
    if size > limits.max_metadata_bytes:
        raise invalid_value(name, f"{size} bytes; limit {limits.max_metadata_bytes}.")


def quoted(value: Any) -> str:
    return f"'{shorten(value)}'" if isinstance(value, str) else json_type(value)


_CALLER_DATA = frozenset({"user", "safety_identifier", "metadata", "prompt_cache_key"})

RULES: dict[str, Rule] = {
    "best_of": _best_of,
    "store": _store,
    "modalities": _only(["text"]),
    "use_beam_search": _only(False),
    **dict.fromkeys(("add_generation_prompt", "skip_special_tokens"), _ignore_unless(True)),
    **dict.fromkeys(
        (
            "continue_final_message",
            "echo",
            "ignore_eos",
            "include_stop_str_in_output",
            "return_token_ids",
            "return_tokens_as_token_ids",
        ),
        _ignore_unless(False),
    ),
    "length_penalty": _ignore_unless(1),
    **dict.fromkeys(("min_tokens", "priority"), _ignore_unless(0)),
    "stop_token_ids": _ignore_unless([]),
    **dict.fromkeys(("allowed_token_ids", "bad_words", "logits_processors"), _only([])),
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
            "ebnf",
            "json_schema",
            "custom_logit_processor",
            "prompt_logprobs",
            "media_io_kwargs",
        ),
        _refuse,
    ),
}

"""How tokens are to be chosen and told: the numbers of a chat request."""

from typing import Any

from sightline.core.errors import shorten
from sightline.core.limits import Limits
from sightline.server.openai.fields import check_number, invalid_value
from sightline.server.openai.schema import ChatBody, wrong_type

_SEED_MIN, _SEED_MAX = -(2**63), 2**63 - 1
_MANY = 2**31 - 1


def sampling_fields(body: ChatBody, limits: Limits) -> dict[str, Any]:
    """Return the fields of a `ChatRequest` that say how to sample. Raises `RequestError`."""
    _check_bounds(body)
    number = body.n
    if number is not None:
        check_number("n", number, 1, limits.max_choices, whole=True)
    return {
        "max_tokens": _max_tokens(body),
        "max_tokens_param": (
            "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
        ),
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": None if body.top_k is None else max(0, body.top_k),
        "min_p": body.min_p,
        "presence_penalty": body.presence_penalty or 0.0,
        "frequency_penalty": body.frequency_penalty or 0.0,
        "repetition_penalty": body.repetition_penalty,
        "logit_bias": _logit_bias(body.logit_bias, limits),
        "logprobs": _logprobs(body, limits),
        "n": 1 if number is None else number,
        "seed": body.seed,
        "stop": _stop_strings(body.stop, limits),
    }


def _check_bounds(body: ChatBody) -> None:
    for name, low, high, above_low in (
        ("temperature", 0, 2, False),
        ("top_p", 0, 1, True),
        ("min_p", 0, 1, False),
        ("presence_penalty", -2, 2, False),
        ("frequency_penalty", -2, 2, False),
        ("repetition_penalty", 0, 10, True),
    ):
        value = getattr(body, name)
        if value is not None:
            check_number(name, value, low, high, above_low=above_low)
    if body.top_k is not None:
        check_number("top_k", body.top_k, -1, _MANY, whole=True)
    if body.seed is not None:
        check_number("seed", body.seed, _SEED_MIN, _SEED_MAX, whole=True)


def _max_tokens(body: ChatBody) -> int | None:
    given = {
        name: value
        for name, value in (
            ("max_completion_tokens", body.max_completion_tokens),
            ("max_tokens", body.max_tokens),
        )
        if value is not None
    }
    for name, value in given.items():
        if value < 1:
            raise invalid_value(name, f"{shorten(str(value))} is below the minimum 1.")
    if len(set(given.values())) > 1:
        raise invalid_value("max_completion_tokens", "differs from max_tokens; send one of them.")
    # Any number above the window means the rest of the window; the service says that it clamped.
    return min(*given.values(), _MANY) if given else None


def _logit_bias(bias: Any, limits: Limits) -> tuple[tuple[int, float], ...]:
    if bias is None:
        return ()
    if not isinstance(bias, dict):
        raise wrong_type("logit_bias", "object", bias)
    if len(bias) > limits.max_logit_biases:
        raise invalid_value(
            "logit_bias", f"{len(bias)} entries, at most {limits.max_logit_biases}."
        )
    pairs: dict[int, float] = {}
    for key, value in bias.items():
        # As many digits as no vocabulary needs; longer numbers are not worth reading.
        if not (key.isascii() and key.isdigit() and len(key) <= 10):
            raise invalid_value("logit_bias", f"'{shorten(key)}' is not a token id.")
        check_number(f"logit_bias.{shorten(key)}", value, -100, 100)
        pairs[int(key)] = float(value)
    return tuple(pairs.items())


def _logprobs(body: ChatBody, limits: Limits) -> int | None:
    asked, number = body.logprobs, body.top_logprobs
    if asked is not None and not isinstance(asked, bool):
        raise wrong_type("logprobs", "boolean", asked)
    if number is not None:
        check_number("top_logprobs", number, 0, limits.max_top_logprobs, whole=True)
        if number > 0 and not asked:
            raise invalid_value("top_logprobs", "needs logprobs: true.")
    return (number or 0) if asked else None


def _stop_strings(stop: Any, limits: Limits) -> tuple[str, ...]:
    if stop is None:
        return ()
    if isinstance(stop, str):
        strings, paths = [stop], ["stop"]
    elif isinstance(stop, list):
        if len(stop) > limits.max_stop_strings:
            raise invalid_value("stop", f"{len(stop)} given, at most {limits.max_stop_strings}.")
        strings, paths = stop, [f"stop[{index}]" for index in range(len(stop))]
    else:
        raise wrong_type("stop", "string or array", stop)
    for string, path in zip(strings, paths, strict=True):
        if not isinstance(string, str):
            raise wrong_type(path, "string", string)
        if not 1 <= len(string) <= limits.max_stop_chars:
            raise invalid_value(
                path, f"{len(string)} characters; allowed: 1 to {limits.max_stop_chars}."
            )
    return tuple(strings)

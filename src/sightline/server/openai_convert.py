"""From the OpenAI dialect to `core.chat` and back: pure functions, no I/O."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sightline
from sightline.core.chat import (
    ChatRequest,
    FinishReason,
    ImagePart,
    ImageReport,
    Message,
    Notice,
    Role,
    TextPart,
    Usage,
)
from sightline.core.errors import RequestError, shorten
from sightline.core.limits import Limits
from sightline.server.openai_fields import (
    check_number,
    invalid_value,
    judge_unused_fields,
    unsupported,
)
from sightline.server.openai_schema import (
    Body,
    ChatBody,
    ImagePartBody,
    ImageUrlBody,
    MessageBody,
    TextPartBody,
    json_type,
    missing_parameter,
    parse_part,
    wrong_type,
)
from sightline.service.chat import Measure
from sightline.service.request_log import timings
from sightline.service.served_model import ServedModel
from sightline.service.strict_mode import refuse_warnings

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_MAY_BE_EMPTY = frozenset({"assistant", "tool", "function"})
_DETAILS = ("auto", "low", "high", "original")
_SEED_MIN, _SEED_MAX = -(2**63), 2**63 - 1
_MANY_TOKENS = 2**31 - 1
_INFO_PART_KEYS = frozenset({"uuid", "content_hash"})
_INFO_MESSAGE_KEYS = frozenset({"reasoning_content", "reasoning"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCall:
    """A chat request, and what only this dialect cares about."""

    request: ChatRequest
    notices: tuple[Notice, ...]
    stream: bool
    include_usage: bool
    report: bool


def to_chat_call(
    body: ChatBody, *, request_id: str, strict: bool, cache_salt: bytes, limits: Limits
) -> ChatCall:
    """Convert a typed request. Raises `RequestError` with the exact path of what is wrong."""
    if not body.messages:
        raise missing_parameter("messages")
    if len(body.messages) > limits.max_messages:
        raise invalid_value(
            "messages", f"{len(body.messages)} given, at most {limits.max_messages}."
        )
    if body.temperature is not None:
        check_number("temperature", body.temperature, 0, 2)
    if body.top_p is not None:
        check_number("top_p", body.top_p, 0, 1, above_low=True)
    if body.seed is not None:
        check_number("seed", body.seed, _SEED_MIN, _SEED_MAX, whole=True)
    max_tokens = _max_tokens(body)
    stop = _stop_strings(body.stop, limits)
    notices = judge_unused_fields(body.unknown, limits)
    include_usage = _include_usage(body, notices)
    if body.sightline is not None:
        _note_unknown(body.sightline, "sightline", notices)
    messages = tuple(
        _message(message, f"messages[{index}]", limits, notices)
        for index, message in enumerate(body.messages)
    )
    if strict:
        refuse_warnings(notices)
    return ChatCall(
        request=ChatRequest(
            request_id=request_id,
            model=body.model,
            messages=messages,
            max_tokens=max_tokens,
            max_tokens_param=_max_tokens_param(body),
            temperature=body.temperature,
            top_p=body.top_p,
            seed=body.seed,
            stop=stop,
            strict=strict,
            cache_salt=cache_salt,
        ),
        notices=tuple(notices),
        stream=bool(body.stream),
        include_usage=include_usage,
        report=bool(body.sightline and body.sightline.report),
    )


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
    return min(*given.values(), _MANY_TOKENS) if given else None


def _max_tokens_param(body: ChatBody) -> str:
    return "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"


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


def _include_usage(body: ChatBody, notices: list[Notice]) -> bool:
    options = body.stream_options
    if options is None:
        return False
    if not body.stream:
        raise invalid_value("stream_options", "only with stream: true.")
    for name, value in options.unknown.items():
        if value is not None:
            known = name in ("include_obfuscation", "continuous_usage_stats")
            notices.append(
                Notice(
                    field=f"stream_options.{shorten(name)}",
                    reason="not-used" if known else "unknown-field",
                    severity="info" if known else "warn",
                )
            )
    return bool(options.include_usage)


def _message(body: MessageBody, path: str, limits: Limits, notices: list[Notice]) -> Message:
    role = _ROLES.get(body.role)
    if role is None:
        raise invalid_value(
            f"{path}.role", f"'{shorten(body.role)}' is not one of {', '.join(_ROLES)}."
        )
    for name, value in body.unknown.items():
        # The id of a tool's answer names a call; calls and answers are matched by their order.
        if value is None or value == [] or (name == "tool_call_id" and role == "tool"):
            continue
        info = name in _INFO_MESSAGE_KEYS
        reason = "not-supported-yet" if name in ("tool_calls", "function_call") else "not-used"
        notices.append(
            Notice(
                field=f"{path}.{shorten(name)}",
                reason=reason,
                severity="info" if info else "warn",
            )
        )
    return Message(role=role, parts=_parts(body, f"{path}.content", limits, notices))


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
                _part(part, f"{path}[{index}]", body.role, notices)
                for index, part in enumerate(parts)
            )
        case other:
            raise wrong_type(path, "string or array", other)


def _part(value: Any, path: str, role: str, notices: list[Notice]) -> TextPart | ImagePart:
    if not isinstance(value, dict):
        raise wrong_type(path, "object", value)
    if "type" not in value:
        raise missing_parameter(f"{path}.type")
    match value["type"]:
        case "text":
            part = parse_part(TextPartBody, value, path)
            _note_unknown(part, path, notices)
            return TextPart(text=part.text)
        case "image_url" | "input_image":
            if role != "user":
                raise RequestError(
                    f"Images are supported in user messages, not in '{role}' messages.",
                    code="unsupported_parameter",
                    param=f"{path}.type",
                )
            return _image(value, path, notices)
        case str() as kind:
            raise RequestError(
                f"Part type '{shorten(kind)}' is not supported; supported: text, image_url.",
                code="unsupported_parameter",
                param=f"{path}.type",
            )
        case other:
            raise wrong_type(f"{path}.type", "string", other)


def _image(value: Mapping[str, Any], path: str, notices: list[Notice]) -> ImagePart:
    if value.get("file_id") is not None:
        raise unsupported(f"{path}.file_id", "'file_id' is not supported; send image_url.")
    part = parse_part(ImagePartBody, value, path)
    param = f"{path}.image_url"
    _note_unknown(part, path, notices)
    match part.image_url:
        case str() as url:
            detail, detail_path = part.detail, f"{path}.detail"
        case dict() as address:
            image_url = parse_part(ImageUrlBody, address, param)
            _note_unknown(image_url, param, notices)
            _note_pixels(image_url, param, notices)
            url, detail, detail_path = image_url.url, image_url.detail, f"{param}.detail"
        case other:
            raise wrong_type(param, "string or object", other)
    return ImagePart(source=url, param=param, detail=_detail(detail, detail_path, notices))


def _detail(detail: Any, path: str, notices: list[Notice]) -> str | None:
    if detail is None:
        return None
    if detail not in _DETAILS:
        shown = f"'{shorten(detail)}'" if isinstance(detail, str) else json_type(detail)
        raise invalid_value(path, f"{shown} is not one of {', '.join(_DETAILS)}.")
    if detail != "auto":
        notices.append(Notice(field=path, reason="no-effect", severity="info"))
    return str(detail)


def _note_pixels(image_url: ImageUrlBody, path: str, notices: list[Notice]) -> None:
    for name in ("min_pixels", "max_pixels"):
        value = getattr(image_url, name)
        if value is not None:
            check_number(f"{path}.{name}", value, 1, _MANY_TOKENS, whole=True)
            notices.append(Notice(field=f"{path}.{name}", reason="fixed-image-size"))


def _note_unknown(body: Body, path: str, notices: list[Notice]) -> None:
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


def system_fingerprint(model: ServedModel) -> str:
    """Return one constant per build and model."""
    info = model.info
    identity = f"{sightline.__version__} {info.model_id} {info.dtype} {info.num_parameters}"
    return f"fp_{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def usage_object(usage: Usage) -> dict[str, object]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "text_tokens": usage.prompt_tokens - usage.image_tokens,
            "image_tokens": usage.image_tokens,
            "audio_tokens": 0,
            "cache_write_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "text_tokens": usage.completion_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def image_object(image: ImageReport) -> dict[str, object]:
    """Return what became of an image. `scale` leads from the picture that the model saw back."""
    return {
        "param": image.param,
        "original_width": image.original_width,
        "original_height": image.original_height,
        "width": image.width,
        "height": image.height,
        "scale": [
            round(image.original_width / image.width, 6),
            round(image.original_height / image.height, 6),
        ],
        "tokens": image.num_tokens,
        "cached": image.cached,
    }


def report_object(
    notices: Sequence[Notice], images: Sequence[ImageReport], facts: Mapping[str, object]
) -> dict[str, object]:
    """Return the `sightline` object that a request gets for `sightline: {"report": true}`.

    `facts` are those of the request, for its times.
    """
    return {
        "images": [image_object(image) for image in images],
        "timings": timings(facts),
        "warnings": [
            {"field": notice.field, "reason": notice.reason, "severity": notice.severity}
            for notice in notices
        ],
    }


def completion_object(
    *,
    completion_id: str,
    created: int,
    model: str,
    fingerprint: str,
    text: str,
    finish_reason: FinishReason,
    usage: Usage,
) -> dict[str, object]:
    return {
        "id": completion_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "system_fingerprint": fingerprint,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": finish_reason,
            }
        ],
        "usage": usage_object(usage),
    }


def count_object(measure: Measure) -> dict[str, object]:
    """Return what the prompt of a chat would cost, image by image."""
    counts = measure.counts
    return {
        "object": "chat.completion.input_tokens",
        "model": measure.model.id,
        "input_tokens": counts.total,
        "text_tokens": counts.text,
        "image_tokens": counts.image,
        "max_model_len": measure.model.info.max_model_len,
        "images": [
            {"param": slots.part.param, "tokens": slots.length} for slots in measure.layout.images
        ],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkWriter:
    """Builds the chunks of one stream; all share id, time and model.

    With `include_usage`, every chunk but the last has `usage: null`; without, none has the key.
    """

    completion_id: str
    created: int
    model: str
    fingerprint: str
    include_usage: bool

    def role(self) -> dict[str, object]:
        return self._choice({"role": "assistant", "content": ""}, None)

    def text(self, text: str) -> dict[str, object]:
        return self._choice({"content": text}, None)

    def finish(self, reason: FinishReason) -> dict[str, object]:
        return self._choice({}, reason)

    def usage(self, usage: Usage) -> dict[str, object]:
        return {**self._head(), "choices": [], "usage": usage_object(usage)}

    def _choice(
        self, delta: dict[str, str], finish_reason: FinishReason | None
    ) -> dict[str, object]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = {**self._head(), "choices": [choice]}
        if self.include_usage:
            chunk["usage"] = None
        return chunk

    def _head(self) -> dict[str, object]:
        return {
            "id": self.completion_id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def model_object(model: ServedModel, created: int) -> dict[str, object]:
    info, policy = model.info, model.info.image_policy
    return {
        "id": model.id,
        "object": "model",
        "created": created,
        "owned_by": "sightline",
        "max_model_len": info.max_model_len,
        "sightline": {
            "aliases": list(model.aliases),
            "input_modalities": ["text", "image"] if policy else ["text"],
            "max_images": policy.max_images if policy else 0,
            "tokens_per_image": policy.num_tokens if policy else None,
            "image_size": [policy.size, policy.size] if policy else None,
            "detail": dict.fromkeys(_DETAILS, "normal processing") if policy else {},
            "tools": False,
            "structured_output": False,
            "thinking": False,
        },
    }

"""From an OpenAI chat to `core.chat`, and the objects that several answers share: pure functions.

What becomes of messages, tools and sampling fields stands in modules of their own; the objects of
a chat's answer in `answers`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sightline
from sightline.core.chat import ChatRequest, ImageReport, Notice, Usage
from sightline.core.errors import shorten
from sightline.core.image_policy import ImagePolicy, PatchGridImagePolicy
from sightline.core.limits import Limits
from sightline.server.known_pictures import NOTHING, TakenOut
from sightline.server.openai.fields import invalid_value, judge_unused_fields
from sightline.server.openai.messages import DETAILS, note_unknown, to_messages
from sightline.server.openai.pixels import default_bounds
from sightline.server.openai.sampling import sampling_fields
from sightline.server.openai.schema import ChatBody, missing_parameter
from sightline.server.openai.tools import is_legacy, thinking_fields, tool_fields
from sightline.service.chat import Measure
from sightline.service.grounding import places_in
from sightline.service.request_log import timings
from sightline.service.served_model import ServedModel
from sightline.service.strict_mode import refuse_warnings


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCall:
    """A chat request, and what only this dialect cares about."""

    request: ChatRequest
    notices: tuple[Notice, ...]
    stream: bool
    include_usage: bool
    report: bool
    legacy_functions: bool = False


def to_chat_call(
    body: ChatBody,
    *,
    request_id: str,
    strict: bool,
    cache_salt: bytes,
    limits: Limits,
    taken: TakenOut = NOTHING,
) -> ChatCall:
    """Convert a typed request. Raises `RequestError` with the exact path of what is wrong.

    `taken` are the pictures that were left out of the body; they are put back.
    """
    if not body.messages:
        raise missing_parameter("messages")
    if len(body.messages) > limits.max_messages:
        raise invalid_value(
            "messages", f"{len(body.messages)} given, at most {limits.max_messages}."
        )
    sampling = sampling_fields(body, limits)
    notices = judge_unused_fields(body.unknown, limits)
    include_usage = _include_usage(body, notices)
    if body.sightline is not None:
        note_unknown(body.sightline, "sightline", notices)
    bounds = default_bounds(body.mm_processor_kwargs)
    messages = taken.put_back(to_messages(body.messages, limits, notices, bounds))
    tools = tool_fields(body, limits, notices)
    if strict:
        refuse_warnings(notices)
    return ChatCall(
        request=ChatRequest(
            request_id=request_id,
            model=body.model,
            messages=messages,
            **sampling,
            **tools,
            **thinking_fields(body),
            strict=strict,
            cache_salt=cache_salt,
        ),
        notices=tuple(notices),
        stream=bool(body.stream),
        include_usage=include_usage,
        report=bool(body.sightline and body.sightline.report),
        legacy_functions=is_legacy(body),
    )


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
            "reasoning_tokens": usage.reasoning_tokens,
            "text_tokens": usage.completion_tokens - usage.reasoning_tokens,
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
    notices: Sequence[Notice],
    images: Sequence[ImageReport],
    facts: Mapping[str, object],
    texts: Sequence[str],
) -> dict[str, object]:
    """Return the `sightline` object that a request gets for `sightline: {"report": true}`.

    `facts` are those of the request, for its times; `texts` those of the choices, for the boxes
    in them: corners in pixels of the pictures as they were sent.
    """
    return {
        "images": [image_object(image) for image in images],
        "boxes": [
            {
                "choice": choice,
                "image": place.image,
                "label": place.label,
                "points": [list(point) for point in place.points],
            }
            for choice, text in enumerate(texts)
            for place in places_in(text, images)
        ],
        "timings": timings(facts),
        "warnings": [
            {"field": notice.field, "reason": notice.reason, "severity": notice.severity}
            for notice in notices
        ],
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


def image_capabilities(policy: ImagePolicy | None) -> dict[str, object]:
    """Return what becomes of a picture: one size for all, or the bounds of any size."""
    grid = policy if isinstance(policy, PatchGridImagePolicy) else None
    return {
        "tokens_per_image": policy.tokens_per_image if policy else None,
        "image_size": list(policy.target_size(1, 1)) if policy and grid is None else None,
        "min_pixels": grid.min_pixels if grid else None,
        "max_pixels": grid.max_pixels if grid else None,
        "pixels_per_token": grid.factor**2 if grid else None,
    }


def _detail_meanings(model: ServedModel) -> dict[str, str]:
    if model.info.image_policy is None:
        return {}
    meanings: dict[str, str] = dict.fromkeys(DETAILS, "normal processing")
    if model.low_detail_pixels is not None:
        meanings["low"] = f"at most {model.low_detail_pixels} pixels"
    return meanings


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
            **image_capabilities(policy),
            "detail": _detail_meanings(model),
            "tools": True,
            "structured_output": True,
            "thinking": False,
        },
    }

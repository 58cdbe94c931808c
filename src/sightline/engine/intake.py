"""What comes in from the front: checked once more, and made a sequence. No torch here."""

from collections.abc import Sequence as Items

from sightline.core.engine import EngineInfo
from sightline.core.prompt import Image, ImageSpan
from sightline.core.wire import Generate
from sightline.engine.sequence import AnswerGrammar, Sequence
from sightline.engine.uniform import fresh_seed

Pixels = bytes | memoryview


def refusal(message: Generate, pixels: Items[Pixels], info: EngineInfo) -> str | None:
    """Return the code for a request that must not reach the device, or None.

    The front has checked all this; the engine does not depend on it.
    """
    policy = info.image_policy
    if not 0 < len(message.token_ids) < info.max_model_len:
        return "context_length_exceeded"
    if min(message.token_ids) < 0 or max(message.token_ids) >= info.vocab_size:
        return "internal_error"
    if message.params.max_tokens < 1 or len(pixels) != len(message.spans):
        return "internal_error"
    end = 0
    for span, raw in zip(message.spans, pixels, strict=True):
        if policy is None or span.start < end:
            return "internal_error"
        end = span.start + span.length
        if span.length != policy.count_tokens(span.width, span.height):
            return "internal_error"
        if len(raw) != 3 * span.width * span.height:
            return "internal_error"
    return None if end <= len(message.token_ids) else "internal_error"


def sequence_of(
    message: Generate,
    pixels: Items[Pixels],
    max_model_len: int,
    arrived_at: float,
    grammar: AnswerGrammar | None = None,
) -> Sequence:
    """Return the sequence of a request that was not refused."""
    seed = message.params.seed
    return Sequence(
        request_id=message.request_id,
        prompt=message.token_ids,
        images=tuple(
            ImageSpan(
                image=Image(
                    pixels=bytes(raw),
                    width=span.width,
                    height=span.height,
                    digest=span.digest,
                    original_width=span.original_width,
                    original_height=span.original_height,
                ),
                start=span.start,
                length=span.length,
            )
            for span, raw in zip(message.spans, pixels, strict=True)
        ),
        params=message.params,
        seed=fresh_seed() if seed is None else seed,
        max_model_len=max_model_len,
        arrived_at=arrived_at,
        cache_salt=message.cache_salt,
        grammar=grammar,
    )

"""What becomes of the numbers of pixels, or of the detail, that senders want for pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sightline.core.chat import ImagePart, Message, Notice, PixelBounds
from sightline.core.image_policy import ImagePolicy, PatchGridImagePolicy, policy_of


def bounds_notices(parts: Sequence[ImagePart], policy: ImagePolicy | None) -> tuple[Notice, ...]:
    """Return what was asked for and is done otherwise, each path once."""
    return tuple(dict.fromkeys(_notices(parts, policy)))


def heeded_low_detail(low_pixels: int | None, policy: ImagePolicy | None) -> int | None:
    """Return the most pixels of a picture sent with `detail: low`, as the model can heed it.

    None: it is processed as any other picture is.
    """
    if low_pixels is None or not isinstance(policy, PatchGridImagePolicy):
        return None
    return max(low_pixels, policy.min_pixels) if low_pixels < policy.max_pixels else None


def detail_notices(parts: Sequence[ImagePart], low_pixels: int | None) -> tuple[Notice, ...]:
    """Return which words about the detail change nothing, each path once."""
    idle = (
        part.detail.param
        for part in parts
        if part.detail is not None and part.detail.level != "auto" and not _is_low(part, low_pixels)
    )
    return tuple(
        Notice(field=path, reason="no-effect", severity="info") for path in dict.fromkeys(idle)
    )


def with_detail(message: Message, low_pixels: int | None) -> Message:
    """Return `message` with bounds for the pictures of which the model shall see less."""
    if not any(_is_low(image, low_pixels) for image in message.images):
        return message
    parts = (
        replace(part, bounds=PixelBounds(param=part.param, max_pixels=low_pixels))
        if isinstance(part, ImagePart) and _is_low(part, low_pixels)
        else part
        for part in message.parts
    )
    return replace(message, parts=tuple(parts))


def _is_low(part: ImagePart, low_pixels: int | None) -> bool:
    """Bounds that were sent in numbers are more exact than a word."""
    detail = part.detail
    return low_pixels is not None and part.bounds is None and (detail and detail.level) == "low"


def _notices(parts: Sequence[ImagePart], policy: ImagePolicy | None) -> Iterator[Notice]:
    for part in parts:
        if part.bounds is None or policy is None:
            continue
        given = policy_of(part, policy)
        for name in ("min_pixels", "max_pixels"):
            asked = getattr(part.bounds, name)
            path = f"{part.bounds.param}.{name}"
            if asked is None:
                continue
            if not isinstance(given, PatchGridImagePolicy):
                yield Notice(field=path, reason="fixed-image-size")
            elif getattr(given, name) != asked:
                yield Notice(field=path, reason=f"clamped-to-{getattr(given, name)}")

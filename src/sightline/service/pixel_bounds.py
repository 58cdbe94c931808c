"""What becomes of the numbers of pixels that senders want for their pictures."""

from collections.abc import Iterator, Sequence

from sightline.core.chat import ImagePart, Notice
from sightline.core.image_policy import ImagePolicy, PatchGridImagePolicy, policy_of


def bounds_notices(parts: Sequence[ImagePart], policy: ImagePolicy | None) -> tuple[Notice, ...]:
    """Return what was asked for and is done otherwise, each path once."""
    return tuple(dict.fromkeys(_notices(parts, policy)))


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

"""How many pixels of a picture the sender wants the model to see."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sightline.core.chat import ImagePart, Message, PixelBounds
from sightline.server.openai.fields import check_number, invalid_value, unsupported
from sightline.server.openai.schema import wrong_type

_NAMES = ("min_pixels", "max_pixels")
_MANY_PIXELS = 2**31 - 1


def bounds_of(values: Mapping[str, Any], path: str) -> PixelBounds | None:
    """Read `min_pixels` and `max_pixels` of the object at `path`; None when neither is there."""
    asked = {name: values[name] for name in _NAMES if values.get(name) is not None}
    for name, value in asked.items():
        check_number(f"{path}.{name}", value, 1, _MANY_PIXELS, whole=True)
    if len(asked) == 2 and asked["min_pixels"] > asked["max_pixels"]:
        raise invalid_value(f"{path}.min_pixels", "is above max_pixels.")
    return PixelBounds(param=path, **asked) if asked else None


def default_bounds(value: Any) -> PixelBounds | None:
    """Read `mm_processor_kwargs`, which is for all pictures that have no bounds of their own."""
    path = "mm_processor_kwargs"
    if value is None:
        return None
    if not isinstance(value, dict):
        raise wrong_type(path, "object", value)
    for name in value:
        if name not in _NAMES:
            raise unsupported(f"{path}.{name}")
    return bounds_of(value, path)


def with_bounds(message: Message, bounds: PixelBounds | None) -> Message:
    """Return `message` with `bounds` for its pictures that have none."""
    if bounds is None or not message.images:
        return message
    parts = (
        replace(part, bounds=bounds)
        if isinstance(part, ImagePart) and part.bounds is None
        else part
        for part in message.parts
    )
    return replace(message, parts=tuple(parts))

"""Places that a model names in its answer, in pixels of the picture that the client sent.

Qwen-VL writes `<ref>the dog</ref><box>(10,20),(300,400)</box>`, with numbers from 0 to 1000 of
the picture's width and height; a `<quad>` has four corners. Qwen2-VL's marks have other names.
A model with several pictures does not say which one it means: the latest is taken, as the
published tools do.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sightline.core.chat import ImageReport

UNITS = 1000
_PLACE = re.compile(
    r"(?:(?:<ref>|<\|object_ref_start\|>)(?P<label>(?:[^<]|<(?!/?(?:ref|box|quad)>|\|)){0,500})"
    r"(?:(?:</ref>|<\|object_ref_end\|>)\s*)+)?"
    r"(?:<box>|<\|box_start\|>|<quad>|<\|quad_start\|>)"
    r"(?P<points>[\d\s(),]{1,200})"
    r"(?:</box>|<\|box_end\|>|</quad>|<\|quad_end\|>)"
)
_POINT = re.compile(r"\(\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\)")


@dataclass(frozen=True, slots=True)
class Place:
    """Corners in pixels of the original picture number `image`: two of a box, four of a quad."""

    image: int
    label: str
    points: tuple[tuple[int, int], ...]


def places_in(text: str, images: Sequence[ImageReport]) -> list[Place]:
    """Return the places that `text` names. A place without a name has that of the one before."""
    if not images:
        return []
    last = len(images) - 1
    width, height = images[last].original_width, images[last].original_height
    places: list[Place] = []
    label, end = "", 0
    for found in _PLACE.finditer(text):
        if found["label"] is not None:
            label = found["label"].strip()
        elif text[end : found.start()].strip():
            label = ""  # words stand between: it is another thing
        end = found.end()
        points = tuple(
            (_pixel(x, width), _pixel(y, height)) for x, y in _POINT.findall(found["points"])
        )
        if len(points) in (2, 4):
            places.append(Place(last, label, points))
    return places


def _pixel(value: str, side: int) -> int:
    return min(side, round(int(value) * side / UNITS))

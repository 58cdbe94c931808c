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
_CORNERS = {"box": 2, "quad": 4}
_GAP = r"\s{0,9}"  # bounded, or a long row of blanks would be gone through again and again
_NUMBER = r"\d{1,4}"
_POINT = re.compile(rf"({_NUMBER}){_GAP},{_GAP}({_NUMBER})")


def _between_marks(kind: str) -> str:
    point = rf"{_GAP}\({_GAP}{_NUMBER}{_GAP},{_GAP}{_NUMBER}{_GAP}\){_GAP}"
    points = ",?".join([point] * _CORNERS[kind])
    return rf"(?:<{kind}>|<\|{kind}_start\|>)(?P<{kind}>{points})(?:</{kind}>|<\|{kind}_end\|>)"


_PLACE = re.compile(
    r"(?:(?:<ref>|<\|object_ref_start\|>)(?P<label>(?:[^<]|<(?!/?(?:ref|box|quad)>|\|)){0,500})"
    r"(?:(?:</ref>|<\|object_ref_end\|>)\s*)+)?"
    rf"(?:{_between_marks('box')}|{_between_marks('quad')})"
)


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
        corners = _POINT.findall(found["box"] or found["quad"])
        points = tuple((_pixel(x, width), _pixel(y, height)) for x, y in corners)
        places.append(Place(last, label, points))
    return places


def _pixel(value: str, side: int) -> int:
    return min(side, round(int(value) * side / UNITS))

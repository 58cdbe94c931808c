"""Places that a model names in its answer, in pixels of the picture that the client sent.

Qwen-VL writes `<ref>the dog</ref><box>(10,20),(300,400)</box>`, with numbers from 0 to 1000 of
the picture's width and height; a `<quad>` has four corners. Qwen2-VL's marks have other names.
Qwen2.5-VL means pixels of the resized picture, and mostly writes JSON:
`{"bbox_2d": [10, 20, 300, 400], "label": "the dog"}`. A model with several pictures does not say
which one it means: the latest is taken, as the published tools do.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sightline.core.chat import ImageReport

UNITS = 1000
_CORNERS = {"box": 2, "quad": 4}
_GAP = r"\s{0,9}"  # bounded, or a long row of blanks would be gone through again and again
_NUMBER = r"\d{1,4}"
_BEYOND = 10_000  # what more digits say is no place in a picture
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


# An object without another one in it, of a length in which one box and its label fit. Whatever has
# matched is not tried in another way, so a text without boxes takes no longer than reading it.
_STRING = r'"(?:[^"\\]|\\.){0,600}+"'
_INSIDE = rf'(?:[^{{}}"]{{1,600}}+|{_STRING})'
_OBJECT = rf'\{{(?P<object>(?:(?!"bbox_2d"){_INSIDE}){{0,40}}+"bbox_2d"{_INSIDE}{{0,40}}+)\}}'
_ANY = re.compile(rf"{_PLACE.pattern}|{_OBJECT}")


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
    places: list[Place] = []
    label, end = "", 0
    for found in _ANY.finditer(text):
        if found["object"] is not None:
            label, corners = _read_object(found["object"])
        else:
            if found["label"] is not None:
                label = found["label"].strip()
            elif text[end : found.start()].strip():
                label = ""  # words stand between: it is another thing
            corners = [(int(x), int(y)) for x, y in _POINT.findall(found["box"] or found["quad"])]
        end = found.end()
        if corners:
            places.append(Place(last, label, _in_pixels(corners, images[last])))
    return places


def _read_object(inside: str) -> tuple[str, list[tuple[float, float]]]:
    """Return label and corners of a JSON object; no corners where it is not one with a box."""
    try:
        value = json.loads(f"{{{inside}}}")
    except ValueError:
        return "", []
    numbers = value.get("bbox_2d")
    if not isinstance(numbers, list) or len(numbers) != 4:
        return "", []
    if not all(type(n) in (int, float) and 0 <= n < _BEYOND for n in numbers):
        return "", []
    label = value.get("label")
    return label if isinstance(label, str) else "", [tuple(numbers[:2]), tuple(numbers[2:])]


def _in_pixels(
    corners: Sequence[tuple[float, float]], image: ImageReport
) -> tuple[tuple[int, int], ...]:
    in_pixels = image.box_units == "pixels"
    width, height = (image.width, image.height) if in_pixels else (UNITS, UNITS)
    return tuple(
        (_pixel(x / width, image.original_width), _pixel(y / height, image.original_height))
        for x, y in corners
    )


def _pixel(share: float, side: int) -> int:
    return min(side, round(share * side))

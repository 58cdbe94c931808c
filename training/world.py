"""The bundled model's world: what can be in a picture, and where.

A scene is drawn on a canvas of any size and aspect; everything in a `Scene` is a fraction of the
canvas, so it stays true after the resize to the model's square. Drawing is in `drawing.py`,
pictures outside the world are in `offworld.py`.
"""

import colorsys
import math
from dataclasses import dataclass
from random import Random
from typing import Literal

SHAPES = ("circle", "square", "triangle", "star", "diamond", "cross")
COLORS = ("red", "green", "blue", "yellow", "orange", "purple", "black", "white")
MAX_THINGS = 4
MIN_RADIUS, MAX_RADIUS = 0.09, 0.30

RGB = tuple[int, int, int]
Box = tuple[float, float, float, float]  # the middle's x and y, half the width, half the height
Kind = Literal["shapes", "number", "other"]

# What people call by that name: CSS names, pure primaries, common interface palettes.
PROTOTYPES: dict[str, tuple[RGB, ...]] = {
    "red": ((255, 0, 0), (220, 20, 60), (200, 0, 0), (244, 67, 54), (231, 76, 60), (178, 34, 34)),
    "green": ((0, 128, 0), (0, 255, 0), (34, 139, 34), (76, 175, 80), (0, 200, 0), (46, 204, 113)),
    "blue": ((0, 0, 255), (30, 144, 255), (65, 105, 225), (33, 150, 243), (0, 0, 205),
             (52, 120, 219)),
    "yellow": ((255, 255, 0), (255, 215, 0), (255, 235, 59), (241, 205, 15), (250, 230, 40)),
    "orange": ((255, 165, 0), (255, 140, 0), (255, 152, 0), (230, 126, 34), (255, 120, 0)),
    "purple": ((128, 0, 128), (155, 89, 182), (156, 39, 176), (148, 0, 211),
               (138, 43, 226), (160, 32, 240)),
    "black": ((0, 0, 0), (12, 12, 12), (33, 33, 33)),
    "white": ((255, 255, 255), (250, 250, 250), (243, 243, 243)),
}  # fmt: skip
# Hue ranges in degrees (red wraps around), least saturation, least value: jitter stays inside.
_REGIONS: dict[str, tuple[float, float, float, float]] = {
    "red": (-14.0, 9.0, 0.65, 0.58),
    "green": (88.0, 152.0, 0.45, 0.38),
    "blue": (204.0, 246.0, 0.55, 0.50),
    "yellow": (47.0, 64.0, 0.60, 0.80),
    "orange": (17.0, 40.0, 0.70, 0.80),
    "purple": (266.0, 304.0, 0.42, 0.40),
}


@dataclass(frozen=True, slots=True)
class Thing:
    """One filled shape. `x`, `y`: its middle; `half_width`, `half_height`: its box."""

    shape: str
    color: str
    x: float
    y: float
    half_width: float
    half_height: float


@dataclass(frozen=True, slots=True)
class Scene:
    """The truth about one picture.

    `number` is its digits as printed; `number_color` a name of `COLORS` or "" when the colour
    has no name here; `digit_boxes` says where each digit stands. `family` names the kind of an
    "other" picture.
    """

    kind: Kind
    things: tuple[Thing, ...] = ()
    number: str = ""
    number_color: str = ""
    has_light_backdrop: bool = True
    family: str = ""
    digit_boxes: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """A thing before drawing, in pixels: `radius` is the circumscribed one except for squares.

    `angle` in radians. `proportion` is the free proportion of the shape: the inner radius of a
    star, the arm width of a cross, the depth of a triangle's base, the width of a diamond.
    """

    shape: str
    color: str
    rgb: RGB
    x: float
    y: float
    radius: float
    angle: float
    proportion: float


def name_of(rgb: RGB) -> str:
    """Return the colour name whose region holds `rgb`, or "" between regions."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in rgb))
    if value <= 0.16:
        return "black"
    if saturation <= 0.06 and value >= 0.92:
        return "white"
    degrees = hue * 360
    for name, (low, high, least_saturation, least_value) in _REGIONS.items():
        inside = low <= degrees <= high or low <= degrees - 360 <= high
        if inside and saturation >= least_saturation and value >= least_value:
            return name
    return ""


def sample_color(rng: Random, name: str) -> RGB:
    """Return a colour people call `name`: a prototype, as it is or jittered inside its region."""
    base = rng.choice(PROTOTYPES[name])
    if rng.random() < 0.4:
        return base
    for _ in range(8):
        hue, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in base))
        hue += rng.gauss(0, 5) / 360
        saturation = min(1.0, max(0.0, saturation + rng.gauss(0, 0.06)))
        value = min(1.0, max(0.0, value + rng.gauss(0, 0.06)))
        red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
        rgb = (round(red * 255), round(green * 255), round(blue * 255))
        if name_of(rgb) == name:
            return rgb
    return base


def distance(a: RGB, b: RGB) -> float:
    """Return how different two colours look: weighted RGB distance, 0 to about 765."""
    mean_red = (a[0] + b[0]) / 2
    red, green, blue = (a[i] - b[i] for i in range(3))
    return math.sqrt(
        (2 + mean_red / 256) * red * red
        + 4 * green * green
        + (2 + (255 - mean_red) / 256) * blue * blue
    )


def luminance(rgb: RGB) -> float:
    """Return the perceived brightness, 0 to 1 (Rec. 601 weights on gamma-coded values)."""
    return (0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]) / 255


def outline(
    shape: str, radius: float, angle: float, proportion: float
) -> list[tuple[float, float]]:
    """Return the corners of a shape around (0, 0), y pointing down."""
    points: list[tuple[float, float]]
    if shape == "circle":
        points = [(math.cos(a), math.sin(a)) for a in (math.tau * i / 96 for i in range(96))]
    elif shape == "square":
        points = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    elif shape == "triangle":
        half = 0.87 + 0.26 * (proportion - 0.5)
        points = [(0, -1), (half, proportion), (-half, proportion)]
    elif shape == "diamond":
        points = [(0, -1), (proportion, 0), (0, 1), (-proportion, 0)]
    elif shape == "star":
        points = []
        for i in range(10):
            reach = 1.0 if i % 2 == 0 else proportion
            a = math.pi * i / 5 - math.pi / 2
            points.append((reach * math.cos(a), reach * math.sin(a)))
    elif shape == "cross":
        w = proportion
        points = [
            (-w, -1), (w, -1), (w, -w), (1, -w), (1, w), (w, w),
            (w, 1), (-w, 1), (-w, w), (-1, w), (-1, -w), (-w, -w),
        ]  # fmt: skip
    else:
        raise ValueError(f"unknown shape {shape!r}")
    cos, sin = math.cos(angle) * radius, math.sin(angle) * radius
    return [(x * cos - y * sin, x * sin + y * cos) for x, y in points]


def _form(rng: Random, shape: str) -> tuple[float, float]:
    """Return the angle and the free proportion of one drawing of `shape`."""
    tilt = math.radians(rng.uniform(-12, 12)) if rng.random() < 0.25 else 0.0
    if shape == "triangle":
        proportion = rng.choice((0.5, 0.5, 1.0, 1.0, rng.uniform(0.4, 1.0)))
        if rng.random() < 0.06:
            tilt += rng.choice((math.pi, math.pi / 2, -math.pi / 2))
    elif shape == "diamond":
        proportion = 1.0 if rng.random() < 0.5 else rng.uniform(0.58, 1.0)
        tilt = tilt / 2
    elif shape == "star":
        proportion = rng.choice((0.382, 0.4, 0.45, 0.5, rng.uniform(0.35, 0.55)))
    elif shape == "cross":
        proportion = rng.uniform(0.2, 0.42)
    else:
        proportion = 1.0
    return tilt, proportion


def box_of(item: Placed) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom in pixels."""
    points = outline(item.shape, item.radius, item.angle, item.proportion)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return item.x + min(xs), item.y + min(ys), item.x + max(xs), item.y + max(ys)


def place(
    rng: Random, count: int, width: int, height: int, backdrop: tuple[RGB, ...]
) -> list[Placed]:
    """Return up to `count` shapes whose boxes neither touch each other nor leave the canvas.

    Every colour differs visibly from every colour of `backdrop`. Fewer than `count` come back
    only if the canvas is too crowded.
    """
    short = min(width, height)
    least = MIN_RADIUS if max(width, height) <= 1.3 * short else 0.11
    placed: list[Placed] = []
    boxes: list[tuple[float, float, float, float]] = []
    names = [name for name in COLORS if _has_contrast(PROTOTYPES[name][0], backdrop)]
    alike = rng.random()
    for _ in range(count):
        shape = rng.choice(SHAPES)
        name = rng.choice(names)
        # Scenes in which something repeats are the hard ones for counting and for colours.
        if placed and alike < 0.15:
            shape = placed[0].shape
        elif placed and alike < 0.3:
            name = placed[0].color
        elif placed and alike < 0.36:
            shape, name = placed[0].shape, placed[0].color
        rgb = sample_color(rng, name)
        for _ in range(6):
            if _has_contrast(rgb, backdrop):
                break
            rgb = sample_color(rng, name)
        else:
            name, rgb = names[0], PROTOTYPES[names[0]][0]
        most = MAX_RADIUS if count == 1 else min(MAX_RADIUS, 0.44 / math.sqrt(count))
        fraction = rng.uniform(least, most)
        angle, proportion = _form(rng, shape)
        gap = short * rng.choice((0.01, 0.02, 0.05))
        for attempt in range(40):
            radius = short * max(least, fraction * 0.97**attempt)
            if shape == "square":
                radius *= rng.choice((0.75, 0.886, 1.0))
            item = Placed(shape, name, rgb, 0.0, 0.0, radius, angle, proportion)
            left, top, right, bottom = box_of(item)
            edge = rng.choice((0.0, 0.01, 0.03)) * short
            if right - left + 2 * edge >= width or bottom - top + 2 * edge >= height:
                continue
            x = rng.uniform(edge - left, width - edge - right)
            y = rng.uniform(edge - top, height - edge - bottom)
            box = (x + left, y + top, x + right, y + bottom)
            if all(_apart(box, other, gap) for other in boxes):
                placed.append(Placed(shape, name, rgb, x, y, radius, angle, proportion))
                boxes.append(box)
                break
    return placed


def things_of(placed: list[Placed], width: int, height: int) -> tuple[Thing, ...]:
    """Return the truth about drawn shapes, in fractions of the canvas."""
    things = []
    for item in placed:
        left, top, right, bottom = box_of(item)
        things.append(
            Thing(
                shape=item.shape,
                color=item.color,
                x=(left + right) / 2 / width,
                y=(top + bottom) / 2 / height,
                half_width=(right - left) / 2 / width,
                half_height=(bottom - top) / 2 / height,
            )
        )
    return tuple(things)


def _has_contrast(rgb: RGB, backdrop: tuple[RGB, ...]) -> bool:
    return all(distance(rgb, other) >= 130 for other in backdrop)


def _apart(
    a: tuple[float, float, float, float], b: tuple[float, float, float, float], gap: float
) -> bool:
    return a[2] + gap <= b[0] or b[2] + gap <= a[0] or a[3] + gap <= b[1] or b[3] + gap <= a[1]

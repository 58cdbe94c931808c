"""More pictures outside the bundled model's world: signs, other shapes, and things made of shapes.

Each family is a function from a random stream to a picture, as in `offworld`, which lists them.
What could be taken for a shape or a digit of the world is left out: ovals are what a stretched
picture makes of circles, an O may be a zero.
"""

import math
from collections.abc import Sequence
from random import Random

from PIL import Image, ImageDraw

from training.drawing import backdrop_colors, canvas_size, paint_backdrop, pick_font
from training.world import RGB, distance, luminance

_LETTERS = "ACEFGHKMNPRTUVWYadefghkmnprtuwy"
_SIGNS = "?!&%@#$€=<>~§"

Point = tuple[float, float]


def any_color(rng: Random) -> RGB:
    return (rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255))


def ink_on(rng: Random, colors: tuple[RGB, ...]) -> RGB:
    """Return a colour that can be seen on all of these."""
    for _ in range(50):
        rgb = any_color(rng)
        if all(distance(rgb, c) > 180 for c in colors):
            return rgb
    return (0, 0, 0) if luminance(colors[0]) > 0.5 else (255, 255, 255)


def sheet(rng: Random) -> tuple[Image.Image, ImageDraw.ImageDraw, RGB, int, int]:
    """Return a backdrop, its pen, an ink, width and height."""
    width, height = canvas_size(rng)
    colors = backdrop_colors(rng)
    image = paint_backdrop(rng, width, height, colors)
    return image, ImageDraw.Draw(image), ink_on(rng, colors), width, height


class _Pen:
    """Draws in a square of its own, from -1 to 1 in both directions, y downwards."""

    def __init__(self, rng: Random) -> None:
        self.image, self._draw, self.ink, width, height = sheet(rng)
        self._size = min(width, height) * rng.uniform(0.25, 0.45)
        self._x, self._y = width * rng.uniform(0.45, 0.55), height * rng.uniform(0.45, 0.55)
        self._flip = rng.choice((-1, 1))

    def _at(self, x: float, y: float) -> Point:
        return self._x + self._flip * x * self._size, self._y + y * self._size

    def polygon(self, points: Sequence[Point], color: RGB) -> None:
        self._draw.polygon([self._at(*point) for point in points], fill=color)

    def box(self, left: float, top: float, right: float, bottom: float, color: RGB) -> None:
        self.polygon(((left, top), (right, top), (right, bottom), (left, bottom)), color)

    def disc(self, x: float, y: float, radius: float, color: RGB) -> None:
        cx, cy = self._at(x, y)
        r = radius * self._size
        self._draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=color)

    def line(self, points: Sequence[Point], color: RGB, width: float) -> None:
        spots = [self._at(*point) for point in points]
        self._draw.line(spots, fill=color, width=max(2, round(width * self._size)), joint="curve")


def glyph(rng: Random) -> Image.Image:
    """One large letter or sign."""
    image, draw, ink, width, height = sheet(rng)
    text = rng.choice(_SIGNS if rng.random() < 0.3 else _LETTERS)
    if rng.random() < 0.3:
        text += rng.choice(_LETTERS)
    font = pick_font(rng, round(height * rng.uniform(0.3, 0.8)))
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    x = rng.uniform(0, max(0, width - (right - left))) - left
    y = rng.uniform(0, max(0, height - (bottom - top))) - top
    draw.text((x, y), text, font=font, fill=ink)
    return image


def polygon(rng: Random) -> Image.Image:
    """A large pentagon, hexagon, L, trapezoid, chevron or half disc."""
    pen = _Pen(rng)
    kind = rng.choice(("five", "six", "l", "trapezoid", "chevron", "half"))
    if kind in ("five", "six"):
        corners, turn = 5 if kind == "five" else 6, rng.uniform(0, math.tau)
        angles = [turn + math.tau * i / corners for i in range(corners)]
        pen.polygon([(math.cos(a), math.sin(a)) for a in angles], pen.ink)
    elif kind == "l":
        arm = rng.uniform(0.4, 0.8)
        pen.polygon([(-1, -1), (-1 + arm, -1), (-1 + arm, 1 - arm), (1, 1 - arm), (1, 1), (-1, 1)],
                    pen.ink)  # fmt: skip
    elif kind == "trapezoid":
        top, slant = rng.uniform(0.3, 0.6), rng.uniform(-0.3, 0.3)
        pen.polygon([(slant - top, -0.6), (slant + top, -0.6), (1, 0.6), (-1, 0.6)], pen.ink)
    elif kind == "chevron":
        thick = rng.uniform(0.4, 0.7)
        pen.polygon([(-1, -1), (0, -1), (thick, 0), (0, 1), (-1, 1), (thick - 1, 0)], pen.ink)
    else:
        turn = rng.uniform(0, math.tau)
        angles = [turn + math.pi * i / 40 for i in range(41)]
        pen.polygon([(math.cos(a), math.sin(a)) for a in angles], pen.ink)
    return pen.image


def pie_chart(rng: Random) -> Image.Image:
    """A disc cut into pieces of several colours."""
    pen = _Pen(rng)
    cuts = sorted(rng.uniform(0, 1) for _ in range(rng.randint(2, 6)))
    for begin, end in zip(cuts, [*cuts[1:], cuts[0] + 1], strict=True):
        angles = [math.tau * (begin + (end - begin) * i / 30) for i in range(31)]
        pen.polygon([(0, 0), *((math.cos(a), math.sin(a)) for a in angles)], any_color(rng))
    return pen.image


def zigzag(rng: Random) -> Image.Image:
    """A thick line up and down, with corners or in waves."""
    pen = _Pen(rng)
    waves, high = rng.uniform(1.5, 5), rng.uniform(0.3, 0.8)
    if rng.random() < 0.5:
        count = round(waves * 2)
        points = [(-1.0 + 2 * i / count, high * (-1) ** i) for i in range(count + 1)]
    else:
        points = [(-1 + i / 60, high * math.sin(math.pi * waves * i / 60)) for i in range(121)]
    for row in range(rng.choice((1, 1, 2, 3))):
        pen.line([(x, y * 0.5 + row * 0.5 - 0.3) for x, y in points], pen.ink, 0.1)
    return pen.image


def tree(rng: Random) -> Image.Image:
    """A trunk with a crown."""
    pen = _Pen(rng)
    pen.box(-0.15, 0.1, 0.15, 1, (rng.randint(80, 130), rng.randint(50, 80), 30))
    green = (rng.randint(20, 110), rng.randint(110, 190), rng.randint(20, 90))
    if rng.random() < 0.5:
        for i in range(3):
            pen.polygon([(0, -1 + 0.4 * i), (0.4 + 0.15 * i, -0.3 + 0.4 * i),
                         (-0.4 - 0.15 * i, -0.3 + 0.4 * i)], green)  # fmt: skip
    else:
        for _ in range(rng.randint(4, 8)):
            pen.disc(rng.uniform(-0.5, 0.5), rng.uniform(-0.8, 0), rng.uniform(0.3, 0.5), green)
    return pen.image


def car(rng: Random) -> Image.Image:
    """A car or a lorry from the side."""
    pen = _Pen(rng)
    paint, tyre = any_color(rng), (rng.randint(0, 60),) * 3
    pen.box(-1, -0.1, 1, 0.45, paint)
    if rng.random() < 0.6:
        pen.polygon([(-0.6, -0.1), (-0.35, -0.55), (0.4, -0.55), (0.65, -0.1)], paint)
        pen.box(-0.3, -0.45, 0.35, -0.15, ink_on(rng, (paint,)))
    else:
        pen.box(-1, -0.7, 0.35, -0.05, any_color(rng))
    for x in (-0.55, 0.55):
        pen.disc(x, 0.45, 0.25, tyre)
        pen.disc(x, 0.45, 0.1, (180, 180, 180))
    return pen.image


def boat(rng: Random) -> Image.Image:
    """A hull with sails."""
    pen = _Pen(rng)
    pen.polygon([(-1, 0.4), (1, 0.4), (0.6, 0.9), (-0.6, 0.9)], any_color(rng))
    pen.box(-0.04, -1, 0.04, 0.4, (90, 60, 30))
    pen.polygon([(0.08, -0.9), (0.8, 0.3), (0.08, 0.3)], pen.ink)
    if rng.random() < 0.6:
        pen.polygon([(-0.08, -0.7), (-0.6, 0.3), (-0.08, 0.3)], any_color(rng))
    return pen.image


def flower(rng: Random) -> Image.Image:
    """Petals around a middle, on a stem."""
    pen = _Pen(rng)
    pen.line([(0, 0), (rng.uniform(-0.2, 0.2), 1)], (40, 140, 50), 0.08)
    petals, far = rng.randint(5, 9), rng.uniform(0.35, 0.45)
    for i in range(petals):
        a = math.tau * i / petals
        pen.disc(far * math.cos(a), -0.3 + far * math.sin(a), far * 0.55, pen.ink)
    pen.disc(0, -0.3, far * 0.5, ink_on(rng, (pen.ink,)))
    return pen.image


def person(rng: Random) -> Image.Image:
    """A figure of lines with a head."""
    pen = _Pen(rng)
    thin, arms = rng.uniform(0.05, 0.14), rng.uniform(-0.4, 0.3)
    pen.disc(0, -0.7, rng.uniform(0.2, 0.3), pen.ink)
    pen.line([(0, -0.5), (0, 0.3)], pen.ink, thin)
    pen.line([(-0.55, arms), (0, -0.25), (0.55, arms)], pen.ink, thin)
    pen.line([(-0.4, 1), (0, 0.3), (0.4, 1)], pen.ink, thin)
    return pen.image


def fish(rng: Random) -> Image.Image:
    """A body with a tail and an eye."""
    pen = _Pen(rng)
    high = rng.uniform(0.35, 0.55)
    body = [
        (0.75 * math.cos(a), high * math.sin(a)) for a in (math.tau * i / 40 for i in range(40))
    ]
    pen.polygon([(-0.55, 0), (-1, -0.45), (-1, 0.45)], any_color(rng))
    pen.polygon(body, pen.ink)
    pen.disc(0.45, -0.1, 0.08, ink_on(rng, (pen.ink,)))
    return pen.image


def table(rng: Random) -> Image.Image:
    """Rows and columns with a few words or bars in their cells."""
    image, draw, ink, width, height = sheet(rng)
    rows, columns = rng.randint(3, 8), rng.randint(2, 5)
    thin = max(1, round(height * 0.006))
    font = pick_font(rng, max(8, round(height / rows * 0.4)))
    for r in range(rows):
        for c in range(columns):
            x, y = width * (0.05 + 0.9 * c / columns), height * (0.05 + 0.9 * r / rows)
            w, h = width * 0.9 / columns, height * 0.9 / rows
            draw.rectangle((x, y, x + w, y + h), outline=ink, width=thin)
            if rng.random() < 0.7:
                word = "".join(rng.choice(_LETTERS) for _ in range(rng.randint(2, 5)))
                draw.text((x + w * 0.1, y + h * 0.2), word, font=font, fill=ink)
    return image


THINGS = (
    glyph, polygon, pie_chart, zigzag, tree, car, boat, flower, person, fish, table,
)  # fmt: skip

"""Pictures outside the bundled model's world: it must say so instead of guessing.

Each family is a function from a random stream to a picture. Families in `HELD_OUT` are never
trained on; evaluation measures refusals on both groups.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from training.drawing import (
    add_noise,
    backdrop_colors,
    canvas_size,
    draw_things,
    paint_backdrop,
    pick_font,
)
from training.offworld_things import THINGS, any_color, ink_on, sheet
from training.world import SHAPES, Placed, outline

PHOTO_FOLDER = Path(__file__).parent / "state" / "photos"
_WORDS = (
    "the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "server", "model", "picture",
    "hello", "world", "open", "private", "sale", "menu", "coffee", "street", "hotel", "exit",
    "stop", "welcome", "invoice", "total", "name", "date", "phone", "city",
)  # fmt: skip


def noise(rng: Random) -> Image.Image:
    """Independent pixels, coarse or fine."""
    cells = rng.choice((8, 16, 32, 64, 112, 200))
    how = np.random.default_rng(rng.getrandbits(32))
    if rng.random() < 0.5:
        pixels = how.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    else:
        pixels = how.integers(0, 256, (cells, cells, 1), dtype=np.uint8).repeat(3, axis=2)
    size = canvas_size(rng)
    return Image.fromarray(pixels).resize(size, rng.choice((0, 2, 3)))


def clouds(rng: Random) -> Image.Image:
    """Fractal noise in a few colours: what an out-of-focus photograph looks like."""
    how = np.random.default_rng(rng.getrandbits(32))
    size = 128
    total = np.zeros((size, size, 3), np.float32)
    weight = 1.0
    for cells in (3, 6, 12, 24, 48):
        layer = how.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        grown = Image.fromarray(layer).resize((size, size), Image.Resampling.BICUBIC)
        total += weight * (np.asarray(grown, np.float32) - 128)
        weight *= rng.uniform(0.4, 0.8)
    tint = np.array(any_color(rng), np.float32) * 0.5 + 64
    pixels = np.clip(tint + total * rng.uniform(0.5, 1.2), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize(canvas_size(rng), Image.Resampling.BICUBIC)


def blank(rng: Random) -> Image.Image:
    """One colour or one gradient, nothing on it."""
    width, height = canvas_size(rng)
    return paint_backdrop(rng, width, height, backdrop_colors(rng))


def full_gradient(rng: Random) -> Image.Image:
    """A strong gradient between any two colours."""
    width, height = canvas_size(rng)
    return paint_backdrop(rng, width, height, (any_color(rng), any_color(rng)))


def stripes(rng: Random) -> Image.Image:
    """Parallel bands at any angle."""
    width, height = canvas_size(rng)
    count, angle = rng.uniform(2.5, 20), rng.uniform(0, math.pi)
    if rng.random() < 0.5:
        angle = rng.choice((0, math.pi / 2))
    across = np.linspace(0, 1, width)[None, :] * math.cos(angle)
    down = np.linspace(0, 1, height)[:, None] * math.sin(angle)
    band = np.floor((across + down) * count + rng.random()).astype(int)
    palette = np.array([any_color(rng) for _ in range(rng.choice((2, 2, 3, 5)))], np.uint8)
    return Image.fromarray(palette[band % len(palette)])


def checkerboard(rng: Random) -> Image.Image:
    """Squares of two colours that fill the picture."""
    width, height = canvas_size(rng)
    cells = rng.randint(3, 14)
    across = (np.arange(width) * cells // width)[None, :]
    down = (np.arange(height) * cells // height)[:, None]
    first, second = (0, 0, 0), (255, 255, 255)
    if rng.random() < 0.5:
        first, second = any_color(rng), any_color(rng)
    return Image.fromarray(np.array([first, second], np.uint8)[(across + down) % 2])


def words(rng: Random) -> Image.Image:
    """A word or a few letters, large."""
    image, draw, ink, width, height = sheet(rng)
    text = rng.choice(_WORDS)
    if rng.random() < 0.3:
        text = "".join(rng.choice("ABCDEFGHKMNPRSTUVWXYZ") for _ in range(rng.randint(1, 4)))
    elif rng.random() < 0.5:
        text = text.upper()
    for attempt in range(30):
        font = pick_font(rng, max(10, round(height * rng.uniform(0.2, 0.7) * 0.9**attempt)))
        left, top, right, bottom = font.getbbox(text)
        if right - left < width * 0.95:
            break
    x = rng.uniform(0, max(1, width - right)) - left
    draw.text((x, rng.uniform(0, max(1, height - bottom)) - top), text, fill=ink, font=font)
    return image


def paragraph(rng: Random) -> Image.Image:
    """Lines of small text."""
    image, draw, ink, width, height = sheet(rng)
    font = pick_font(rng, max(8, round(height * rng.uniform(0.05, 0.12))))
    step = font.getbbox("Ag")[3] * 1.2
    y = height * 0.03
    while y < height - step:
        line = " ".join(rng.choice(_WORDS) for _ in range(rng.randint(3, 14)))
        draw.text((width * 0.03, y), line, fill=ink, font=font)
        y += step
    return image


def long_numbers(rng: Random) -> Image.Image:
    """Several lines of digits, or one number of five digits and more."""
    image, draw, ink, width, height = sheet(rng)
    lines = rng.choice((1, 1, 3, 5))
    for i in range(lines):
        digits = rng.randint(5, 9)
        text = "".join(rng.choice("0123456789") for _ in range(digits))
        font = pick_font(rng, max(9, round(min(height / lines * 0.8, width / digits * 1.35))))
        draw.text((width * 0.05, height * (i + 0.1) / lines), text, fill=ink, font=font)
    return image


def line_chart(rng: Random) -> Image.Image:
    """Axes and one to three curves."""
    image, draw, ink, width, height = sheet(rng)
    draw.line((width * 0.1, height * 0.05, width * 0.1, height * 0.9, width * 0.95, height * 0.9),
              fill=ink, width=max(1, width // 100))  # fmt: skip
    for _ in range(rng.randint(1, 3)):
        level, points = rng.random(), []
        for i in range(rng.randint(5, 30)):
            level = min(1.0, max(0.0, level + rng.gauss(0, 0.15)))
            points.append((level, i))
        last = points[-1][1]
        spots = [(width * (0.1 + 0.85 * i / last), height * (0.88 - 0.8 * v)) for v, i in points]
        draw.line(spots, fill=any_color(rng), width=max(1, round(width * rng.uniform(0.005, 0.03))))
    return image


def bar_chart(rng: Random) -> Image.Image:
    """Bars side by side on one ground line."""
    image, draw, _, width, height = sheet(rng)
    bars = rng.randint(4, 12)
    color = any_color(rng)
    for i in range(bars):
        left = width * (0.06 + 0.9 * i / bars)
        top = height * rng.uniform(0.08, 0.8)
        if rng.random() < 0.5:
            color = any_color(rng)
        draw.rectangle((left, top, left + width * 0.7 / bars, height * 0.93), fill=color)
    return image


def grid(rng: Random) -> Image.Image:
    """Crossing lines."""
    image, draw, ink, width, height = sheet(rng)
    columns, rows = rng.randint(3, 14), rng.randint(3, 14)
    thick = max(1, round(width * rng.uniform(0.004, 0.02)))
    for i in range(columns + 1):
        draw.line((width * i / columns, 0, width * i / columns, height), fill=ink, width=thick)
    for i in range(rows + 1):
        draw.line((0, height * i / rows, width, height * i / rows), fill=ink, width=thick)
    return image


def scribble(rng: Random) -> Image.Image:
    """Lines and arcs without a plan."""
    image, draw, ink, width, height = sheet(rng)
    for _ in range(rng.randint(4, 16)):
        thick = max(1, round(width * rng.uniform(0.005, 0.03)))
        spots = [(rng.random() * width, rng.random() * height) for _ in range(rng.randint(2, 5))]
        if rng.random() < 0.5:
            draw.line(spots, fill=ink, width=thick)
        else:
            (a, b), (c, d) = spots[:2]
            box = (min(a, c), min(b, d), max(a, c) + 2, max(b, d) + 2)
            draw.arc(box, rng.uniform(0, 360), rng.uniform(0, 360), fill=ink, width=thick)
        if rng.random() < 0.4:
            ink = any_color(rng)
    return image


def spiral(rng: Random) -> Image.Image:
    """One winding line."""
    image, draw, ink, width, height = sheet(rng)
    turns = rng.uniform(3, 8)
    spots = []
    for i in range(400):
        a = math.tau * turns * i / 400
        reach = 0.45 * i / 400
        spots.append((width * (0.5 + reach * math.cos(a)), height * (0.5 + reach * math.sin(a))))
    draw.line(spots, fill=ink, width=max(2, round(width * rng.uniform(0.01, 0.025))))
    return image


def outlines(rng: Random) -> Image.Image:
    """Shapes drawn as thin lines, not filled."""
    image, draw, ink, width, height = sheet(rng)
    short = min(width, height)
    for _ in range(rng.randint(1, 4)):
        radius = short * rng.uniform(0.15, 0.34)
        x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
        points = [(x + a, y + b) for a, b in outline(rng.choice(SHAPES), radius, 0.0, 0.5)]
        thick = max(1, round(short * rng.uniform(0.01, 0.025)))
        draw.line([*points, points[0]], fill=ink, width=thick)
    return image


def crowd(rng: Random) -> Image.Image:
    """Seven shapes and more, overlapping."""
    width, height = canvas_size(rng)
    colors = backdrop_colors(rng)
    short = min(width, height)
    placed = []
    for _ in range(rng.randint(8, 24)):
        radius = short * rng.uniform(0.05, 0.16)
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        shape, ink = rng.choice(SHAPES), ink_on(rng, colors)
        placed.append(Placed(shape, "", ink, x, y, radius, rng.uniform(0, 1), 0.5))
    return draw_things(rng, paint_backdrop(rng, width, height, colors), placed)


def heart(rng: Random) -> Image.Image:
    """A filled heart."""
    image, draw, ink, width, height = sheet(rng)
    size = min(width, height) * rng.uniform(0.012, 0.026)
    x, y = width * rng.uniform(0.4, 0.6), height * rng.uniform(0.4, 0.6)
    spots = []
    for i in range(80):
        a = math.tau * i / 80
        up = 13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)
        spots.append((x + size * 16 * math.sin(a) ** 3, y - size * up))
    draw.polygon(spots, fill=ink)
    return image


def arrow(rng: Random) -> Image.Image:
    """A thick arrow, any direction."""
    image, draw, ink, width, height = sheet(rng)
    size, turn = min(width, height) * rng.uniform(0.25, 0.42), rng.uniform(0, math.tau)
    thin, head = rng.uniform(0.08, 0.2), rng.uniform(0.35, 0.55)
    corners = [
        (-1, -thin),
        (0.2, -thin),
        (0.2, -head),
        (1, 0),
        (0.2, head),
        (0.2, thin),
        (-1, thin),
    ]
    x, y = width * rng.uniform(0.42, 0.58), height * rng.uniform(0.42, 0.58)
    cos, sin = math.cos(turn) * size, math.sin(turn) * size
    draw.polygon([(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in corners], fill=ink)
    return image


def ring(rng: Random) -> Image.Image:
    """A circle with a large hole."""
    image, draw, ink, width, height = sheet(rng)
    radius = min(width, height) * rng.uniform(0.2, 0.4)
    x, y = width * rng.uniform(0.42, 0.58), height * rng.uniform(0.42, 0.58)
    thick = round(radius * rng.uniform(0.15, 0.4))
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=ink, width=thick)
    return image


def crescent(rng: Random) -> Image.Image:
    """A moon."""
    width, height = canvas_size(rng)
    colors = backdrop_colors(rng)[:1]
    image = paint_backdrop(rng, width, height, colors)
    draw = ImageDraw.Draw(image)
    radius = min(width, height) * rng.uniform(0.2, 0.4)
    x, y = width * rng.uniform(0.42, 0.58), height * rng.uniform(0.42, 0.58)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink_on(rng, colors))
    x += radius * rng.uniform(0.35, 0.6)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colors[0])
    return image


def face(rng: Random) -> Image.Image:
    """A round face with eyes and a mouth."""
    image, draw, ink, width, height = sheet(rng)
    radius = min(width, height) * rng.uniform(0.28, 0.45)
    x, y = width / 2, height / 2
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    dark = ink_on(rng, (ink,))
    eye = radius * rng.uniform(0.1, 0.2)
    for side in (-0.4, 0.4):
        cx, cy = x + side * radius, y - 0.25 * radius
        draw.ellipse((cx - eye, cy - eye, cx + eye, cy + eye), fill=dark)
    box = (x - radius * 0.5, y - radius * 0.1, x + radius * 0.5, y + radius * 0.6)
    draw.arc(box, 20, 160, fill=dark, width=max(2, round(radius * 0.12)))
    return image


def house(rng: Random) -> Image.Image:
    """A house with a roof, a door and windows, on grass."""
    image, draw, ink, width, height = sheet(rng)
    left, right = width * rng.uniform(0.12, 0.25), width * rng.uniform(0.72, 0.9)
    top, ground = height * rng.uniform(0.4, 0.55), height * rng.uniform(0.82, 0.95)
    draw.rectangle((0, ground, width, height), fill=(60, rng.randint(110, 180), 50))
    draw.rectangle((left, top, right, ground), fill=ink)
    roof = [(left - width * 0.06, top), (right + width * 0.06, top), (width / 2, height * 0.1)]
    draw.polygon(roof, fill=any_color(rng))
    trim = ink_on(rng, (ink,))
    middle = (left + right) / 2
    draw.rectangle(
        (middle - width * 0.06, ground - height * 0.2, middle + width * 0.06, ground), fill=trim
    )
    for side in (-0.2, 0.2):
        x = middle + side * width
        draw.rectangle(
            (x - width * 0.05, top + height * 0.06, x + width * 0.05, top + height * 0.16),
            fill=trim,
        )
    return image


def landscape(rng: Random) -> Image.Image:
    """Sky, hills, perhaps a sun."""
    width, height = canvas_size(rng)
    sky = (rng.randint(90, 200), rng.randint(150, 220), rng.randint(200, 255))
    image = paint_backdrop(rng, width, height, (sky, (240, 230, 220)))
    draw = ImageDraw.Draw(image)
    for depth in range(rng.randint(2, 4)):
        base, phase = 0.45 + 0.15 * depth, rng.random() * 6
        green = (rng.randint(20, 90), rng.randint(80, 160), rng.randint(20, 80))
        spots = [(0.0, float(height))]
        for i in range(31):
            lift = 0.07 * math.sin(phase + i * rng.uniform(0.28, 0.32))
            spots.append((width * i / 30, height * (base + lift)))
        draw.polygon([*spots, (width, height)], fill=green)
    return add_noise(rng, image, rng.uniform(0, 12))


def qr_like(rng: Random) -> Image.Image:
    """Black and white cells with a margin."""
    cells = rng.randint(15, 33)
    how = np.random.default_rng(rng.getrandbits(32))
    bits = np.pad(how.integers(0, 2, (cells, cells), dtype=np.uint8), 2, constant_values=1)
    image = Image.fromarray((bits * 255)[..., None].repeat(3, axis=2))
    return image.resize(canvas_size(rng), Image.Resampling.NEAREST)


def collage(rng: Random) -> Image.Image:
    """Large rectangles of many colours that cover the picture."""
    image, draw, _, width, height = sheet(rng)
    for _ in range(rng.randint(12, 30)):
        x, y = rng.uniform(-0.2, 0.9) * width, rng.uniform(-0.2, 0.9) * height
        w, h = rng.uniform(0.15, 0.5) * width, rng.uniform(0.15, 0.5) * height
        if rng.random() < 0.6:
            draw.rectangle((x, y, x + w, y + h), fill=any_color(rng))
        else:
            draw.ellipse((x, y, x + w, y + h), fill=any_color(rng))
    return image


def window(rng: Random) -> Image.Image:
    """A screen of an application: bars, panels, lines of text."""
    width, height = canvas_size(rng)
    shade = rng.randint(225, 255) if rng.random() < 0.6 else rng.randint(20, 50)
    image = Image.new("RGB", (width, height), (shade, shade, shade))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width, height * rng.uniform(0.06, 0.13)), fill=any_color(rng))
    side = width * rng.uniform(0.15, 0.3)
    draw.rectangle((0, height * 0.12, side, height), fill=any_color(rng))
    for i in range(rng.randint(5, 14)):
        y = height * (0.18 + 0.07 * i)
        end = side + (width - side) * rng.uniform(0.3, 0.95)
        draw.rectangle((side + width * 0.04, y, end, y + height * 0.025), fill=(128, 128, 128))
    return image


@lru_cache(maxsize=1)
def _photos() -> tuple[Image.Image, ...]:
    files = sorted([*PHOTO_FOLDER.glob("*.jpg"), *PHOTO_FOLDER.glob("*.png")])
    drawn = ("chessboard", "logo", "page", "text", "phantom", "horse", "color")
    opened = []
    for file in files:
        if not file.name.startswith(drawn):
            image = Image.open(file).convert("RGB")
            image.thumbnail((700, 700))
            opened.append(image)
    return tuple(opened)


def photograph(rng: Random) -> Image.Image:
    """A crop of a real photograph where some are in the work folder, else fractal clouds."""
    photos = _photos()
    if not photos:
        return clouds(rng)
    photo = rng.choice(photos)
    share = rng.uniform(0.25, 1.0)
    w, h = max(40, round(photo.width * share)), max(40, round(photo.height * share))
    x, y = rng.randint(0, photo.width - w), rng.randint(0, photo.height - h)
    cut = photo.crop((x, y, x + w, y + h))
    if rng.random() < 0.5:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.3:
        order = [0, 1, 2]
        rng.shuffle(order)
        bands = cut.split()
        cut = Image.merge("RGB", [bands[i] for i in order])
    return cut


FAMILIES: dict[str, Callable[[Random], Image.Image]] = {
    function.__name__: function
    for function in (
        noise, clouds, blank, full_gradient, stripes, checkerboard, words, paragraph,
        long_numbers, line_chart, grid, scribble, outlines, crowd, heart, arrow, ring, face,
        landscape, collage, photograph, bar_chart, spiral, crescent, house, qr_like, window,
        *THINGS,
    )
}  # fmt: skip
HELD_OUT = ("bar_chart", "spiral", "house", "qr_like", "window")
TRAINED = tuple(name for name in FAMILIES if name not in HELD_OUT)
_WEIGHTS = {"photograph": 5.0, "clouds": 2.0, "words": 3.0, "blank": 1.5, "noise": 1.5}


def draw_other(rng: Random, families: tuple[str, ...] = TRAINED) -> tuple[Image.Image, str]:
    """Return a picture outside the world, before wear, and the name of its family."""
    family = rng.choices(families, [_WEIGHTS.get(name, 1.0) for name in families])[0]
    return FAMILIES[family](rng), family

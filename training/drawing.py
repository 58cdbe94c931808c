"""Draws scenes the many ways that programs and people draw them, and wears the picture down.

No two renderers agree on antialiasing, palettes, canvas sizes or file formats; a model trained on
one renderer learns that renderer. Every choice here comes from the random stream it is given.
"""

import io
import math
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from training.world import (
    COLORS,
    PROTOTYPES,
    RGB,
    Box,
    Placed,
    Scene,
    distance,
    luminance,
    name_of,
    outline,
    place,
    sample_color,
    things_of,
)

FONT_FOLDERS = (Path("/usr/share/fonts"), Path("/Library/Fonts"), Path.home() / ".fonts")
_REFUSED_FONTS = ("emoji", "symbol", "math", "music", "braille", "cuneiform", "dingbat", "icon")


def canvas_size(rng: Random) -> tuple[int, int]:
    """Return a canvas of 64 to 1024 pixels; three in four are square."""
    width = round(math.exp(rng.uniform(math.log(96), math.log(520))))
    if rng.random() < 0.05:
        width = rng.randint(520, 1024)
    elif rng.random() < 0.15:
        width = rng.choice((112, 128, 200, 224, 256, 300, 320, 400, 512))
    if rng.random() < 0.74:
        return width, width
    ratio = math.exp(rng.uniform(-0.55, 0.55))
    return max(64, round(width * math.sqrt(ratio))), max(64, round(width / math.sqrt(ratio)))


def backdrop_colors(rng: Random) -> tuple[RGB, ...]:
    """Return one colour for a plain backdrop, two for a graded one."""
    base = _backdrop_color(rng)
    if rng.random() < 0.72:
        return (base,)
    for _ in range(20):
        other = _backdrop_color(rng)
        if 25 < distance(base, other) < 220:
            return (base, other)
    return (base,)


def _backdrop_color(rng: Random) -> RGB:
    pick = rng.random()
    if pick < 0.24:
        return (255, 255, 255)
    if pick < 0.30:
        return (0, 0, 0)
    if pick < 0.48:
        gray = rng.randint(170, 254)
        return (gray, gray, gray)
    if pick < 0.56:
        gray = rng.randint(10, 80)
        return (gray, gray, gray)
    if pick < 0.62:
        gray = rng.randint(80, 170)
        return (gray, gray, gray)
    low, high = (185, 255) if pick < 0.84 else (0, 75) if pick < 0.95 else (70, 190)
    return (rng.randint(low, high), rng.randint(low, high), rng.randint(low, high))


def paint_backdrop(rng: Random, width: int, height: int, colors: tuple[RGB, ...]) -> Image.Image:
    """Return a plain picture, or one graded between two colours in a line or a ring."""
    if len(colors) == 1:
        return Image.new("RGB", (width, height), colors[0])
    across = np.linspace(0, 1, width, dtype=np.float32)[None, :]
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    if rng.random() < 0.7:
        angle = rng.choice((0.0, math.pi / 2, rng.uniform(0, math.tau)))
        share = (across - 0.5) * math.cos(angle) + (down - 0.5) * math.sin(angle) + 0.5
    else:
        x, y = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8)
        share = np.sqrt((across - x) ** 2 + (down - y) ** 2)
    share = np.clip(np.broadcast_to(share, (height, width)), 0, 1)[..., None]
    first, second = (np.asarray(c, np.float32) for c in colors)
    return Image.fromarray((first + (second - first) * share).astype(np.uint8))


def draw_things(rng: Random, image: Image.Image, placed: list[Placed]) -> Image.Image:
    """Return `image` with the shapes on it; smooth edges or hard ones, sometimes outlined."""
    width, height = image.size
    scale = rng.choice((1, 1, 1, 2, 2, 3, 4))
    while scale > 1 and max(width, height) * scale > 900:
        scale -= 1
    if scale > 1:
        image = image.resize((width * scale, height * scale), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    has_border = rng.random() < 0.10
    thickness = max(1, round(min(width, height) * scale * rng.uniform(0.004, 0.014)))
    for item in placed:
        border: RGB | None = None
        if has_border:
            dark = tuple(c // 3 for c in item.rgb)
            border = (dark[0], dark[1], dark[2]) if rng.random() < 0.6 else (40, 40, 40)
        x, y, radius = item.x * scale, item.y * scale, item.radius * scale
        if item.shape == "circle":
            box = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(box, fill=item.rgb, outline=border, width=thickness if border else 0)
        elif item.shape == "square" and item.angle == 0.0:
            box = (x - radius, y - radius, x + radius, y + radius)
            draw.rectangle(box, fill=item.rgb, outline=border, width=thickness if border else 0)
        else:
            corners = outline(item.shape, radius, item.angle, item.proportion)
            points = [(x + dx, y + dy) for dx, dy in corners]
            draw.polygon(points, fill=item.rgb)
            if border:
                draw.line([*points, points[0], points[1]], fill=border, width=thickness)
    if scale > 1:
        how = rng.choice((Image.Resampling.BOX, Image.Resampling.LANCZOS))
        image = image.resize((width, height), how)
    return image


@lru_cache(maxsize=1)
def font_files() -> tuple[str, ...]:
    """Return the fonts of this machine that have all ten digits, in a stable order."""
    usable = []
    for folder in FONT_FOLDERS:
        for file in sorted([*folder.rglob("*.ttf"), *folder.rglob("*.otf")]):
            name = file.name.lower()
            if any(word in name for word in _REFUSED_FONTS):
                continue
            if "noto" in name and not name.startswith(("notosans-", "notoserif-", "notomono")):
                continue
            try:
                font = ImageFont.truetype(str(file), 24)
                shapes = {bytes(font.getmask(digit)) for digit in "0123456789"}
            except (OSError, ValueError):
                continue
            if len(shapes) == 10:
                usable.append(str(file))
    return tuple(usable)


@lru_cache(maxsize=512)
def load_font(file: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return a font at a size in pixels; "" is Pillow's own."""
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)


def pick_font(rng: Random, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return any font; one in four is Pillow's own, one in four DejaVu where it is installed."""
    files = font_files()
    pick = rng.random()
    if pick < 0.25 or not files:
        return load_font("", size)
    if pick < 0.45:
        common = [f for f in files if "DejaVu" in f or "Liberation" in f]
        return load_font(rng.choice(common or list(files)), size)
    return load_font(rng.choice(files), size)


def draw_number(
    rng: Random, image: Image.Image, colors: tuple[RGB, ...], text: str
) -> tuple[Image.Image, str, tuple[Box, ...]]:
    """Return `image` with `text` printed on it, its colour's name ("" if it has none), its digits.

    The boxes of the digits are in fractions of the picture.
    """
    width, height = image.size
    rgb = _ink(rng, colors)
    layer = min(4, max(1, round(220 / max(width, height)))) if rng.random() < 0.4 else 1
    for attempt in range(30):
        share = rng.uniform(0.18, 0.85) * 0.92**attempt
        font = pick_font(rng, max(10, round(height * layer * share * 1.25)))
        stroke = 0
        if rng.random() < 0.12:
            stroke = max(1, round(height * layer * share * 0.02))
        left, top, right, bottom = font.getbbox(text, stroke_width=stroke)
        if right - left < width * layer * 0.94 and bottom - top < height * layer * 0.94:
            break
    if layer > 1:
        image = image.resize((width * layer, height * layer), Image.Resampling.NEAREST)
    free_x, free_y = width * layer - (right - left), height * layer - (bottom - top)
    if rng.random() < 0.45:
        x, y = free_x / 2 + free_x * rng.gauss(0, 0.04), free_y / 2 + free_y * rng.gauss(0, 0.04)
    else:
        x, y = rng.uniform(0.02, 0.98) * free_x, rng.uniform(0.02, 0.98) * free_y
    draw = ImageDraw.Draw(image)
    draw.text((x - left, y - top), text, fill=rgb, font=font, stroke_width=stroke)
    angle = 0.0
    if rng.random() < 0.12:
        angle = rng.uniform(-8, 8)
        image = image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=colors[0])
    edges = [(x - left + font.getlength(text[:i])) / layer for i in range(len(text) + 1)]
    boxes = _digit_boxes(edges, y / layer, (y + bottom - top) / layer, angle, (width, height))
    if layer > 1:
        image = image.resize((width, height), Image.Resampling.BOX)
    return image, name_of(rgb), boxes


def _digit_boxes(
    edges: list[float], top: float, bottom: float, angle: float, size: tuple[int, int]
) -> tuple[Box, ...]:
    """Return where digits between neighbouring `edges` stand once the canvas is turned.

    Pixels in, fractions of `size` out; `angle` in degrees, against the clock. A small turn moves
    the middle of a digit and leaves its size about as it was.
    """
    width, height = size
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    down = (top + bottom) / 2 - height / 2
    boxes = []
    for begin, end in pairwise(edges):
        across = (begin + end) / 2 - width / 2
        boxes.append(
            (
                0.5 + (across * cos + down * sin) / width,
                0.5 + (down * cos - across * sin) / height,
                (end - begin) / 2 / width,
                (bottom - top) / 2 / height,
            )
        )
    return tuple(boxes)


def _ink(rng: Random, colors: tuple[RGB, ...]) -> RGB:
    for _ in range(60):
        pick = rng.random()
        if pick < 0.35:
            rgb: RGB = PROTOTYPES["black"][0] if luminance(colors[0]) > 0.5 else (255, 255, 255)
        elif pick < 0.85:
            rgb = sample_color(rng, rng.choice(COLORS))
        else:
            rgb = (rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255))
        if all(
            distance(rgb, c) > 150 and abs(luminance(rgb) - luminance(c)) > 0.08 for c in colors
        ):
            return rgb
    return (0, 0, 0) if luminance(colors[0]) > 0.5 else (255, 255, 255)


@lru_cache(maxsize=1)
def _noise_sheet() -> np.ndarray:
    return np.random.default_rng(7).standard_normal((700, 700, 3)).astype(np.float32)


def add_noise(rng: Random, image: Image.Image, strength: float) -> Image.Image:
    """Return `image` with Gaussian noise of standard deviation `strength` (of 255)."""
    width, height = image.size
    sheet = _noise_sheet()
    if width > 690 or height > 690:
        image = image.resize((min(width, 690), min(height, 690)), Image.Resampling.BICUBIC)
        width, height = image.size
    x, y = rng.randrange(700 - width), rng.randrange(700 - height)
    noise = sheet[y : y + height, x : x + width]
    if rng.random() < 0.4:
        noise = noise[..., :1]
    pixels = np.asarray(image, np.float32) + noise * strength
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def wear(rng: Random, image: Image.Image) -> Image.Image:
    """Return `image` as it looks after a camera, a file format or a thumbnailer."""
    if rng.random() < 0.22:
        image = add_noise(rng, image, rng.uniform(1, 14))
    if rng.random() < 0.10:
        image = image.filter(ImageFilter.GaussianBlur(min(image.size) * rng.uniform(0.001, 0.008)))
    if rng.random() < 0.06:
        factor = rng.uniform(0.4, 0.9)
        size = (max(56, round(image.width * factor)), max(56, round(image.height * factor)))
        how = rng.choice((Image.Resampling.NEAREST, Image.Resampling.BILINEAR))
        image = image.resize(size, how)
    pick = rng.random()
    if pick < 0.30:
        image = _through(image, "JPEG", quality=rng.randint(40, 95))
    elif pick < 0.34:
        image = _through(image, "WEBP", quality=rng.randint(45, 95))
    elif pick < 0.37:
        image = image.quantize(rng.choice((16, 64, 256))).convert("RGB")
    return image


def _through(image: Image.Image, form: str, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, form, quality=quality)
    return Image.open(buffer).convert("RGB")


def fit(image: Image.Image, size: int) -> np.ndarray:
    """Return uint8 [size, size, 3], resized as the server does: bicubic, straight to the square."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image, np.uint8)


def draw_shapes_scene(rng: Random) -> tuple[Image.Image, Scene]:
    """Return a picture of one to four shapes, before wear."""
    width, height = canvas_size(rng)
    colors = backdrop_colors(rng)
    count = rng.choices((1, 2, 3, 4), (0.31, 0.24, 0.23, 0.22))[0]
    placed = place(rng, count, width, height, colors)
    image = draw_things(rng, paint_backdrop(rng, width, height, colors), placed)
    light = sum(luminance(c) for c in colors) / len(colors) >= 0.5
    scene = Scene("shapes", things_of(placed, width, height), has_light_backdrop=light)
    return image, scene


def draw_number_scene(rng: Random) -> tuple[Image.Image, Scene]:
    """Return a picture of one printed number of one to three digits, before wear."""
    width, height = canvas_size(rng)
    colors = backdrop_colors(rng)
    digits = rng.choices((1, 2, 3), (0.22, 0.36, 0.42))[0]
    low = 0 if digits == 1 else 10 ** (digits - 1)
    text = str(rng.randrange(low, 10**digits))
    backdrop = paint_backdrop(rng, width, height, colors)
    image, color, boxes = draw_number(rng, backdrop, colors, text)
    light = sum(luminance(c) for c in colors) / len(colors) >= 0.5
    return image, Scene("number", (), text, color, light, digit_boxes=boxes)

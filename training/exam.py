"""The examiner's own pictures: plain Pillow drawing that shares no code with training's renderers.

Sizes, palettes, fonts, formats and the random stream differ from training on purpose.
"""

import io
import math
from random import Random

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from training.world import Scene, Thing

CANVASES = (200, 224, 256, 300, 336, 400, 448, 512, 640, 800, 1000)
PALETTE = {
    "red": ("#ff0000", "#e53935", "#cc1111", "#dc143c"),
    "green": ("#008000", "#00c800", "#43a047", "#228b22"),
    "blue": ("#0000ff", "#1e88e5", "#2244cc", "#4169e1"),
    "yellow": ("#ffff00", "#fdd835", "#ffd700", "#f5e000"),
    "orange": ("#ffa500", "#fb8c00", "#ff8000", "#ff8c00"),
    "purple": ("#800080", "#8e24aa", "#9932cc", "#7b1fa2"),
    "black": ("#000000", "#101010", "#1a1a1a"),
    "white": ("#ffffff", "#fafafa", "#f8f8f8"),
}
LIGHT = ("#ffffff", "#f0f0f0", "#dddddd", "#ffe4e1", "#e0f7fa", "#fff8dc", "#e6e6fa", "#cfd8dc")
DARK = ("#000000", "#202020", "#303030", "#1a237e", "#263238", "#3e2723", "#2e4a2e")
SHAPE_NAMES = ("circle", "square", "triangle", "star", "diamond", "cross")


def _avoided(backdrop: str) -> tuple[str, ...]:
    red, green, blue = (int(backdrop[i : i + 2], 16) for i in (1, 3, 5))
    brightness = (red + green + blue) / 3
    if brightness > 195:
        return ("white",)
    avoided = ["black"]
    if blue > red + 40:
        avoided += ["blue", "purple"]
    return tuple(avoided)


def _draw(draw: ImageDraw.ImageDraw, shape: str, x: float, y: float, r: float, fill: str) -> None:
    if shape == "circle":
        draw.ellipse([x - r, y - r, x + r, y + r], fill=fill)
    elif shape == "square":
        draw.rectangle([x - r, y - r, x + r, y + r], fill=fill)
    elif shape == "triangle":
        draw.polygon(
            [(x, y - r), (x - r * 0.9, y + r * 0.8), (x + r * 0.9, y + r * 0.8)], fill=fill
        )
    elif shape == "diamond":
        draw.polygon([(x, y - r), (x + r * 0.75, y), (x, y + r), (x - r * 0.75, y)], fill=fill)
    elif shape == "star":
        corners = []
        for i in range(10):
            reach = r if i % 2 == 0 else r * 0.42
            corners.append(
                (x + reach * math.sin(math.pi * i / 5), y - reach * math.cos(math.pi * i / 5))
            )
        draw.polygon(corners, fill=fill)
    else:
        w = r * 0.33
        draw.rectangle([x - w, y - r, x + w, y + r], fill=fill)
        draw.rectangle([x - r, y - w, x + r, y + w], fill=fill)


def _backdrop(rng: Random, width: int, height: int) -> tuple[Image.Image, str, bool]:
    is_light = rng.random() < 0.65
    color = rng.choice(LIGHT if is_light else DARK)
    image = Image.new("RGB", (width, height), color)
    if rng.random() < 0.15:
        mask = Image.linear_gradient("L").resize((width, height)).point(lambda v: v // 6)
        image.paste(Image.new("RGB", (width, height), "#808080"), mask=mask)
    return image, color, is_light


def _finish(rng: Random, image: Image.Image) -> bytes:
    """Encode as a client would send it: PNG, JPEG or WebP, at times grainy or soft."""
    if rng.random() < 0.15:
        grain = Image.effect_noise(image.size, rng.uniform(8, 25)).convert("RGB")
        image = Image.blend(image, grain, 0.08)
    if rng.random() < 0.1:
        image = image.filter(ImageFilter.GaussianBlur(image.width / 300))
    buffer = io.BytesIO()
    form = rng.choice(("PNG", "PNG", "JPEG", "WEBP"))
    image.save(buffer, form, **({} if form == "PNG" else {"quality": rng.randint(55, 92)}))
    return buffer.getvalue()


def shapes_picture(rng: Random, count: int) -> tuple[bytes, Scene]:
    """Return an encoded picture of `count` shapes and its truth."""
    side = rng.choice(CANVASES)
    scale = rng.choice((1, 1, 2)) if side <= 512 else 1
    width = side * scale
    image, backdrop, is_light = _backdrop(rng, width, width)
    names = [name for name in PALETTE if name not in _avoided(backdrop)]
    draw = ImageDraw.Draw(image)
    things: list[Thing] = []
    while len(things) < count:
        r = rng.uniform(0.09, 0.30 if count == 1 else 0.20 if count == 2 else 0.16)
        x, y = rng.uniform(r + 0.01, 0.99 - r), rng.uniform(r + 0.01, 0.99 - r)
        if any(math.hypot(x - t.x, y - t.y) < 1.45 * (r + t.half_width) for t in things):
            if rng.random() < 0.02:
                return shapes_picture(rng, count)
            continue
        shape, color = rng.choice(SHAPE_NAMES), rng.choice(names)
        _draw(draw, shape, x * width, y * width, r * width, rng.choice(PALETTE[color]))
        things.append(Thing(shape, color, x, y, r, r))
    if scale > 1:
        image = image.resize((side, side), Image.Resampling.LANCZOS)
    return _finish(rng, image), Scene("shapes", tuple(things), has_light_backdrop=is_light)


def number_picture(rng: Random, fonts: tuple[str, ...]) -> tuple[bytes, Scene]:
    """Return an encoded picture of one number of one to three digits and its truth."""
    side = rng.choice(CANVASES)
    image, backdrop, is_light = _backdrop(rng, side, side)
    text = str(rng.randrange(10 ** rng.randint(1, 3)))
    size = round(side * rng.uniform(0.25, 0.62))
    file = rng.choice(("", *fonts))
    font = ImageFont.truetype(file, size) if file else ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    if right - left > side * 0.92:
        return number_picture(rng, fonts)
    x, y = (side - right + left) / 2, (side - bottom + top) / 2
    if rng.random() < 0.5:
        x, y = x * rng.uniform(0.1, 1.9), y * rng.uniform(0.1, 1.9)
    plain = "black" if is_light else "white"
    named = [
        n for n in PALETTE if n not in (*_avoided(backdrop), "yellow" if is_light else "purple")
    ]
    color = plain if rng.random() < 0.6 else rng.choice(named)
    ImageDraw.Draw(image).text((x - left, y - top), text, font=font, fill=PALETTE[color][0])
    return _finish(rng, image), Scene(
        "number", number=text, number_color=color, has_light_backdrop=is_light
    )


def encode(rng: Random, image: Image.Image) -> bytes:
    """Return a picture drawn elsewhere (an off-world one) as a client would send it."""
    return _finish(rng, image)

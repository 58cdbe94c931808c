"""From encoded bytes to the RGB pixels that a human sees. Runs in decode workers only.

First frame; orientation applied; whatever is transparent lies on white; 16-bit samples scaled;
other colour models converted. Memory is the worry here: of a picture at the limit every copy costs
160 MB, so no step holds more than two.
"""

import contextlib
import io
import warnings

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageChops,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from sightline.media.orientation import read_orientation

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
WHITE = (255, 255, 255)

# Imported for what they register; a worker that knows all its plugins never loads the others.
_PLUGINS = (
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

_GRAY16_TO_GRAY8 = [(v * 255 + 32_767) // 65_535 for v in range(65_536)]
_GRAY_KEY_SCALE = {"1": 255, "L;2": 85, "L;4": 17}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def limit_pixels(max_pixels: int) -> None:
    """Make Pillow itself refuse, with `DecompressionBomb*`, whatever has more pixels."""
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def open_image(data: bytes) -> Image.Image:
    """Read the header of an image; no pixel is decoded yet. Raises whatever Pillow raises."""
    return Image.open(io.BytesIO(data), formats=FORMATS)


def is_animated(image: Image.Image, data: bytes) -> bool:
    """Whether a freshly opened image, read from `data`, shows more than its first frame.

    JPEG files of several pictures hold previews and depth maps, which nobody sees.
    """
    if image.format not in ("GIF", "PNG", "WEBP"):
        return False
    if image.format == "GIF":  # looking for a second frame moves on
        image = open_image(data)
    with contextlib.suppress(Exception):  # what follows the first frame may be damaged
        return bool(getattr(image, "is_animated", False))
    return False


def displayed_pixels(image: Image.Image) -> Image.Image:
    """Decode the first frame of a freshly opened image; return it in mode RGB, as displayed."""
    rawmode, box = _first_tile(image)
    is_gif = image.format == "GIF"
    image = _load(image)
    turn = _TURNS.get(read_orientation(image.info.get("exif") or b""))
    rgb = _on_white(image, rawmode)
    del image
    if is_gif and box != (0, 0, *rgb.size):
        rgb = _frame_on_white(rgb, box)
    return rgb if turn is None else rgb.transpose(turn)


def _load(image: Image.Image) -> Image.Image:
    """Decode the first frame.

    Pillow's own `load` of a WebP holds the decoder's two canvases next to two copies of the frame:
    640 MB for a picture at the limit. Taking the frame and dropping the decoder needs 480.
    """
    decoder = getattr(image, "_decoder", None)
    if image.format != "WEBP" or decoder is None:
        image.load()
        return image
    mode, info = image.rawmode, image.info  # type: ignore[attr-defined]
    frame = decoder.get_next()
    if frame is None:
        raise OSError("no frame")
    image._decoder = None  # type: ignore[attr-defined]
    del decoder
    loaded = Image.frombuffer(mode, image.size, frame[0], "raw", mode, 0, 1)
    loaded.info = info
    return loaded


def _first_tile(image: Image.Image) -> tuple[str, tuple[int, ...]]:
    """How the samples are stored, and which part of the picture the first frame covers."""
    tiles = getattr(image, "tile", [])
    if not tiles:
        return "", (0, 0, *image.size)
    args = tiles[0].args
    rawmode = args if isinstance(args, str) else args[0] if isinstance(args, tuple) else ""
    return str(rawmode), tuple(tiles[0].extents or (0, 0, *image.size))


def _frame_on_white(rgb: Image.Image, box: tuple[int, ...]) -> Image.Image:
    """A GIF frame smaller than its screen: viewers show nothing around it, so it is white."""
    left, top, right, bottom = box
    canvas = Image.new("RGB", rgb.size, WHITE)
    canvas.paste(rgb.crop((left, top, right, bottom)), (left, top))
    return canvas


def _on_white(image: Image.Image, rawmode: str) -> Image.Image:
    """Convert any mode that the five formats give to RGB, transparency composited on white."""
    key = image.info.pop("transparency", None)
    if image.mode == "P":
        return _palette_on_white(image, key)
    if image.mode in ("RGBA", "LA"):
        return _alpha_on_white(image)
    if image.mode.startswith("I"):
        return _gray16_on_white(image, key)
    if image.mode in ("1", "L"):
        gray = image.convert("L") if image.mode == "1" else image
        if isinstance(key, int):
            gray = _replace_gray(gray, key * _GRAY_KEY_SCALE.get(rawmode, 1))
        return gray.convert("RGB")
    if image.mode == "RGB":
        return _colour_key_on_white(image, key, rawmode) if isinstance(key, tuple) else image
    return image.convert("RGB")


def _alpha_on_white(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", image.size, WHITE)
    canvas.paste(image, (0, 0), image)
    return canvas


def _palette_on_white(image: Image.Image, key: object) -> Image.Image:
    """Composite the palette rather than the picture: the same pixels for a quarter of the memory.

    `key` is an alpha per entry, or the one entry that is transparent.
    """
    alphas = [255] * 256
    if isinstance(key, bytes):
        alphas[: len(key)] = key[:256]
    elif isinstance(key, int) and 0 <= key < 256:
        alphas[key] = 0
    colours = image.getpalette("RGBA") or []
    opaque = [
        _blend_with_white(colours[i], alphas[i // 4] * colours[i - i % 4 + 3] // 255)
        for i in range(len(colours))
        if i % 4 != 3
    ]
    image.putpalette(opaque, "RGB")
    return image.convert("RGB")


def _blend_with_white(value: int, alpha: int) -> int:
    """The rounding of Pillow's own paste, so that a palette and its RGBA twin agree to the bit."""
    sum_ = 255 * (255 - alpha) + value * alpha + 128
    return (sum_ + (sum_ >> 8)) >> 8


def _gray16_on_white(image: Image.Image, key: object) -> Image.Image:
    table = _GRAY16_TO_GRAY8
    if isinstance(key, int) and 0 <= key < len(table):
        table = table.copy()
        table[key] = 255
    return image.convert("I").point(table, "L").convert("RGB")


def _replace_gray(gray: Image.Image, key: int) -> Image.Image:
    return gray.point([255 if value == key else value for value in range(256)])


def _colour_key_on_white(image: Image.Image, key: tuple[int, ...], rawmode: str) -> Image.Image:
    if rawmode.endswith(";16B"):  # Pillow keeps the high byte of 16-bit colours, but not of the key
        key = tuple(value >> 8 for value in key)
    other = Image.new("L", image.size)  # 0 where all three bands equal the key
    for band, value in zip(image.split(), key, strict=True):
        differs = [0 if v == value else 255 for v in range(256)]
        other = ImageChops.lighter(other, band.point(differs))
    canvas = Image.new("RGB", image.size, WHITE)
    canvas.paste(image, (0, 0), other)
    return canvas

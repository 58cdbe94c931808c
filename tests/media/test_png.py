import io

import pytest
from PIL import Image

from sightline.media.png import encode_png


def test_a_png_holds_exactly_the_pixels() -> None:
    pixels = bytes(value % 256 for value in range(5 * 3 * 3))
    with Image.open(io.BytesIO(encode_png(pixels, 5, 3))) as image:
        assert image.format == "PNG"
        assert (image.size, image.mode) == ((5, 3), "RGB")
        assert image.tobytes() == pixels


def test_pixels_of_another_size_are_an_error() -> None:
    with pytest.raises(ValueError, match="5 x 3"):
        encode_png(b"\0" * 44, 5, 3)

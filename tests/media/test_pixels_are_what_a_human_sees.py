"""Meaning: orientation, transparency, sample depth and colour model, checked by pixel."""

import struct

import picture_files as files
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import BLUE, GREEN, QUARTERS, RED, WHITE, YELLOW, encode, png, quarters
from PIL import Image, ImageOps

from sightline.core.image_policy import SquareImagePolicy
from sightline.core.limits import Limits
from sightline.media.decode_worker import decode
from sightline.media.frames import Status

# Where the stored quarters (0 1 / 2 3) are seen under each orientation.
SQUARE = SquareImagePolicy(size=32, num_tokens=18)
SEEN = {
    1: (0, 1, 2, 3),
    2: (1, 0, 3, 2),
    3: (3, 2, 1, 0),
    4: (2, 3, 0, 1),
    5: (0, 2, 1, 3),
    6: (2, 0, 3, 1),
    7: (3, 1, 2, 0),
    8: (1, 3, 0, 2),
}


def assert_close(found, wanted, tolerance):
    for colour, expected in zip(found, wanted, strict=True):
        assert all(abs(a - b) <= tolerance for a, b in zip(colour, expected, strict=True)), found


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", SEEN)
def test_section_5_decoding_a_picture_is_turned_as_its_exif_says(
    album, quarter_colours, kind, orientation
):
    options = {"JPEG": {"quality": 92, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = album.load(encode(quarters(), kind, exif=exif.tobytes(), **options))

    assert_close(quarter_colours(image), [QUARTERS[i] for i in SEEN[orientation]], 24)
    displayed = (48, 64) if orientation >= 5 else (64, 48)
    assert (image.original_width, image.original_height) == displayed


def moving(kind: str, **options) -> bytes:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_a_picture_that_moves_shows_its_first_frame_and_says_so(kind):
    data = moving(kind, **({"lossless": True} if kind == "WEBP" else {}))
    reply, pixels = decode(data, SQUARE, Limits())
    assert reply.status is Status.FIRST_FRAME
    assert pixels[:3] == bytes(RED)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "JPEG", "BMP", "MPO"])
def test_a_picture_that_stands_still_says_nothing(kind):
    data = moving("MPO") if kind == "MPO" else getattr(files, kind)
    assert decode(data, SQUARE, Limits())[0].status is Status.OK


def test_a_second_frame_that_is_cut_short_leaves_the_first_one_alone():
    data = moving("GIF")
    for end in range(len(data) - 40, len(data)):
        reply, pixels = decode(data[:end], SQUARE, Limits())
        assert reply.is_ok
        assert pixels[:3] == bytes(RED)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_each_format_shows_the_same_picture(album, quarter_colours, kind):
    image = album.load(getattr(files, kind))
    assert_close(quarter_colours(image), QUARTERS, 3 if kind == "JPEG" else 0)
    assert (image.original_width, image.original_height) == (files.WIDTH, files.HEIGHT)
    assert len(image.pixels) == image.width * image.height * 3


def test_a_progressive_jpeg_shows_the_same_picture(album, quarter_colours):
    data = encode(quarters(), "JPEG", quality=92, subsampling=0, progressive=True)
    assert_close(quarter_colours(album.load(data)), QUARTERS, 3)


def with_alpha(alpha: int) -> Image.Image:
    image = quarters()
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_what_is_wholly_transparent_is_white(album, quarter_colours, kind):
    data = encode(
        with_alpha(0), kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {})
    )
    assert quarter_colours(album.load(data)) == [WHITE] * 4


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_section_5_decoding_what_is_half_transparent_lies_on_white(album, quarter_colours, kind):
    data = encode(with_alpha(128), kind, **({"lossless": True} if kind == "WEBP" else {}))
    blended = [tuple(round(c * 128 / 255 + 127) for c in colour) for colour in QUARTERS]
    assert_close(quarter_colours(album.load(data)), blended, 1)


def test_gray_with_alpha_lies_on_white(album, quarter_colours):
    image = Image.new("LA", (64, 48), (0, 128))
    assert quarter_colours(album.load(encode(image, "PNG"))) == [(127, 127, 127)] * 4


def indexed_quarters() -> tuple[Image.Image, int]:
    """The quarters with a palette, and the index of red in it."""
    image = quarters().quantize(4)
    palette = image.getpalette()
    red = next(i for i in range(4) if tuple(palette[3 * i : 3 * i + 3]) == RED)
    return image, red


def test_an_alpha_table_makes_palette_colours_invisible(album, quarter_colours):
    image, red = indexed_quarters()
    table = bytes(0 if i == red else 255 for i in range(4))
    data = encode(image, "PNG", transparency=table)
    assert quarter_colours(album.load(data)) == [WHITE, GREEN, BLUE, YELLOW]


def test_the_transparent_index_of_a_gif_is_white(album, quarter_colours):
    image, red = indexed_quarters()
    data = encode(image, "GIF", transparency=red)
    assert quarter_colours(album.load(data)) == [WHITE, GREEN, BLUE, YELLOW]


def test_around_a_gif_frame_smaller_than_its_screen_is_white(album, quarter_colours):
    table = bytes(BLUE) + bytes(RED)
    screen = struct.pack("<HHBBB", 64, 64, 0x80, 0, 0) + table
    pixels = encode(Image.new("P", (32, 32)), "GIF")
    start = pixels.index(b",") + 10
    if pixels[start - 1] & 0x80:
        start += 3 << (pixels[start - 1] & 7) + 1
    frame = b"," + struct.pack("<HHHHB", 32, 32, 32, 32, 0)
    image = album.load(b"GIF89a" + screen + frame + pixels[start:])
    assert quarter_colours(image) == [WHITE, WHITE, WHITE, BLUE]


def test_a_colour_key_makes_that_colour_invisible(album, quarter_colours):
    data = encode(quarters(), "PNG", transparency=RED)
    assert quarter_colours(album.load(data)) == [WHITE, GREEN, BLUE, YELLOW]


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_gray_key_is_understood_at_every_depth(album, quarter_colours, depth):
    row = bytes(8 * depth // 8)  # eight black pixels
    chunks = [files.ihdr(8, 8, depth=depth, colour=0), (b"tRNS", b"\0\0")]
    assert quarter_colours(album.load(png(*chunks, files.idat(files.rows(row, 8))))) == [WHITE] * 4


@pytest.mark.parametrize("depth", [2, 4])
def test_a_gray_key_is_scaled_like_the_samples(album, quarter_colours, depth):
    row = bytes([0x55 if depth == 2 else 0x11] * depth)  # every sample is 1
    chunks = [files.ihdr(8, 8, depth=depth, colour=0), (b"tRNS", b"\0\1")]
    assert quarter_colours(album.load(png(*chunks, files.idat(files.rows(row, 8))))) == [WHITE] * 4


def test_a_colour_key_of_16_bits_is_understood(album, quarter_colours):
    chunks = [files.ihdr(8, 8, depth=16), (b"tRNS", b"\x80\0\x40\0\x20\0")]
    data = png(*chunks, files.idat(files.rows(b"\x80\0\x40\0\x20\0" * 8, 8)))
    assert quarter_colours(album.load(data)) == [WHITE] * 4


@pytest.mark.parametrize(
    ("header", "sample", "colour"),
    [
        (files.ihdr(8, 8, depth=16, colour=0), b"\x80\0", (128, 128, 128)),
        (files.ihdr(8, 8, depth=16, colour=2), b"\x80\0\x40\0\x20\0", (128, 64, 32)),
        (files.ihdr(8, 8, depth=16, colour=4), b"\x80\0\xff\xff", (128, 128, 128)),
        (files.ihdr(8, 8, depth=16, colour=6), b"\x80\0\x40\0\x20\0\0\0", WHITE),
    ],
    ids=["gray", "RGB", "gray with alpha", "RGBA"],
)
def test_section_5_decoding_samples_of_16_bits_are_scaled_not_clipped(
    album, quarter_colours, header, sample, colour
):
    data = png(header, files.idat(files.rows(sample * 8, 8)))
    assert_close(quarter_colours(album.load(data)), [colour] * 4, 1)


def test_one_bit_and_gray_pictures_become_rgb(album, quarter_colours):
    assert quarter_colours(album.load(encode(Image.new("1", (9, 9), 1), "PNG"))) == [WHITE] * 4
    gray = encode(Image.new("L", (64, 48), 90), "PNG")
    assert quarter_colours(album.load(gray)) == [(90, 90, 90)] * 4
    jpeg = encode(Image.new("L", (64, 48), 90), "JPEG", quality=95)
    assert_close(quarter_colours(album.load(jpeg)), [(90, 90, 90)] * 4, 3)


def test_section_5_decoding_a_cmyk_jpeg_keeps_its_colours(album, quarter_colours):
    data = encode(quarters().convert("CMYK"), "JPEG", quality=95, subsampling=0)
    assert_close(quarter_colours(album.load(data)), QUARTERS, 24)


def test_the_first_of_two_pictures_in_a_phone_file_counts(album, quarter_colours):
    second = quarters(colours=QUARTERS[::-1])
    data = encode(
        quarters(), "MPO", save_all=True, append_images=[second], quality=92, subsampling=0
    )
    assert_close(quarter_colours(album.load(data)), QUARTERS, 3)


def test_resizing_is_bicubic_and_does_not_keep_the_aspect(album):
    noise = Image.effect_noise((100, 37), 90).convert("RGB")
    resized = noise.resize((64, 64), Image.Resampling.BICUBIC)
    assert album.load(encode(noise, "PNG")).pixels == resized.tobytes()


small_pictures = st.builds(
    lambda size, seed: Image.frombytes(
        "RGBA", size, files.random.Random(seed).randbytes(size[0] * size[1] * 4)
    ),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.integers(0, 2**32),
)


def pixels_of(data: bytes) -> bytes:
    reply, pixels = decode(data, SQUARE, Limits())
    assert reply.status is Status.OK
    return pixels


@settings(max_examples=25)
@given(small_pictures)
def test_section_5_cache_key_lossless_encodings_of_one_picture_are_one_picture(picture):
    opaque = picture.convert("RGB")
    wide = b"".join(
        b"\0" + b"".join(bytes((v, v)) for v in row)
        for row in (
            opaque.tobytes()[i : i + opaque.width * 3]
            for i in range(0, opaque.width * opaque.height * 3, opaque.width * 3)
        )
    )
    encodings = [
        encode(opaque, "PNG"),
        encode(opaque, "BMP"),
        encode(opaque, "WEBP", lossless=True),
        png(files.ihdr(*opaque.size, depth=16), files.idat(wide)),
        encode(opaque.transpose(Image.Transpose.ROTATE_90), "PNG", exif=files.exif(6)),
        encode(opaque.transpose(Image.Transpose.ROTATE_180), "PNG", exif=files.exif(3, ">")),
    ]
    assert {pixels_of(data) for data in encodings} == {pixels_of(encodings[0])}


@settings(max_examples=25)
@given(small_pictures)
def test_lossless_encodings_of_one_transparent_picture_are_one_picture(picture):
    encodings = [encode(picture, "PNG"), encode(picture, "WEBP", lossless=True, exact=True)]
    assert pixels_of(encodings[0]) == pixels_of(encodings[1])


@settings(max_examples=25)
@given(st.binary(min_size=12, max_size=12), st.binary(min_size=4, max_size=4))
def test_a_palette_with_alpha_is_the_same_picture_as_its_rgba_twin(palette, alphas):
    indexed = Image.frombytes("P", (4, 1), bytes(range(4)))
    indexed.putpalette(palette)
    twin = Image.frombytes(
        "RGBA", (4, 1), b"".join(palette[3 * i : 3 * i + 3] + alphas[i : i + 1] for i in range(4))
    )
    data = encode(indexed, "PNG", transparency=alphas)
    assert pixels_of(data) == pixels_of(encode(twin, "PNG"))


@pytest.mark.parametrize("orientation", SEEN)
def test_our_turns_are_those_of_pillow(orientation):
    data = encode(quarters(20, 30), "PNG", exif=files.exif(orientation))
    with Image.open(files.io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    assert pixels_of(data) == pixels_of(encode(upright, "PNG"))

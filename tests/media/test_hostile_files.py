"""Cut, damaged and oversized files, bombs, and things that are no pictures at all."""

import re
import struct
import time

import picture_files as files
import pytest
from picture_files import GIF, GRAY, JPEG, PNG, WEBP, idat, ihdr, jpeg_with_segment, png

from sightline.core.errors import RequestError

NO_PICTURES = files.not_pictures()


def test_an_empty_file_is_refused_as_empty(album):
    with pytest.raises(RequestError) as caught:
        album.load_source("data:image/png;base64,")
    assert caught.value.code == "empty_image_file"
    assert caught.value.message == "The image is empty."


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_accepted_format_is_refused_by_its_bytes(album, name):
    data, code = NO_PICTURES[name]
    error = album.refusal(data)
    assert error.code == code
    if code == "invalid_image_format":
        assert error.message == "Accepted: JPEG, PNG, WebP, GIF, BMP."
    else:
        assert re.fullmatch(r"Found [a-z/+.-]+\d?; this model takes images only\.", error.message)


DAMAGED = {
    "signature only": PNG[:8],
    "header only": PNG[:33],
    "half a png": PNG[: len(PNG) // 2],
    "half a jpeg": JPEG[: len(JPEG) // 2],
    "half a webp": WEBP[: len(WEBP) // 2],
    "half a gif": GIF[: len(GIF) // 2],
    "wrong checksum of the header": PNG[:29] + bytes((PNG[29] ^ 0xFF,)) + PNG[30:],
    "no width": png(ihdr(0, 10), idat(b"\0")),
    "no frame": b"GIF89a" + struct.pack("<HHBBB", 10, 10, 0, 0, 0) + b";",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_refused_and_never_completed(album, name):
    error = album.refusal(DAMAGED[name])
    assert error.code == "image_parse_error"
    assert error.message == "The image is damaged or cut short."


TOO_LARGE = {
    "png of 200000x200000": (png(ihdr(200_000, 200_000), idat(b"\0")), "40000000 pixels"),
    "one-bit png of 169 Mpx": (
        png(ihdr(13_000, 13_000, depth=1, colour=0), (b"IDAT", files.deflated_run(1626 * 13_000))),
        "40000000 pixels",
    ),
    "png of 2^31-1 x 1": (png(ihdr(0x7FFFFFFF, 1), idat(b"\0")), "40000000 pixels"),
    "jpeg": (files.jpeg_that_declares(65_500, 65_500), "40000000 pixels"),
    "gif screen": (files.gif_of_one_pixel(65_535, 65_535), "40000000 pixels"),
    "webp": (files.webp_that_declares(16_000, 16_000), "40000000 pixels"),
    "bmp": (files.bmp_that_declares(50_000, -50_000), "40000000 pixels"),
    "1x100000": (
        png(ihdr(1, 100_000, colour=0), idat(b"\0\x7f" * 100_000)),
        "16384 pixels per side",
    ),
    "100000x1": (png(ihdr(100_000, 1, colour=0), idat(b"\0\x7f")), "16384 pixels per side"),
    "2010x10": (png(ihdr(2010, 10), idat(b"\0")), "a ratio of 200:1"),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_too_large_is_told_from_the_header_with_the_size_and_the_limit(album, name):
    data, limit = TOO_LARGE[name]
    error = album.refusal(data)
    assert error.code == "image_too_large"
    assert re.fullmatch(rf"\d+x\d+; limit {limit}\.", error.message)


def test_a_bomb_costs_no_decoder(album):
    """The worker is not even asked: refused before a pool could be, in a few milliseconds."""
    album.load(PNG)
    data, _ = TOO_LARGE["png of 200000x200000"]
    durations = []
    for _ in range(20):
        start = time.perf_counter()
        album.refusal(data)
        durations.append(time.perf_counter() - start)
    assert min(durations) < 0.005


def test_a_gif_frame_larger_than_its_screen_is_still_bounded(album):
    frame = b"," + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\x02\x02\x4c\x01\0;"
    data = b"GIF89a" + struct.pack("<HHBBB", 10, 10, 0, 0, 0) + frame
    assert album.refusal(data).code == "image_too_large"


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (1, 3), (3, 1), (1000, 10), (200, 1)])
def test_small_and_narrow_pictures_are_pictures(album, size):
    image = album.load(files.encode(files.Image.new("RGB", size, files.BLUE), "PNG"))
    assert set(zip(*[iter(image.pixels)] * 3, strict=True)) == {files.BLUE}
    assert (image.original_width, image.original_height) == size


HARMLESS = {
    "20000 text chunks": png(GRAY[0], *[(b"tEXt", b"k\0" + b"v" * 8)] * 20_000, GRAY[1]),
    "300 frames": files.gif_frames(300),
    "garbage for a colour profile": png(GRAY[0], (b"iCCP", b"icc\0\0not zlib"), GRAY[1]),
    "garbage for EXIF": jpeg_with_segment(
        JPEG, 0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xee" * 12
    ),
    "an EXIF tag without end": jpeg_with_segment(
        JPEG,
        0xE1,
        b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x9286, 7, 0xFFFFFFFF, 8) + bytes(4),
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_odd_but_harmless_files_are_pictures(album, name):
    assert album.load(HARMLESS[name]).original_width in (8, 16, 64)


@pytest.mark.parametrize(
    "tail", [bytes(1 << 20), b"PK\x03\x04" + bytes(26), b"<script>alert(1)</script>"]
)
@pytest.mark.parametrize("data", [PNG, JPEG])
def test_what_follows_a_picture_changes_nothing(album, data, tail):
    assert album.load(data + tail).digest == album.load(data).digest


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (b"zTXt", b"Comment\0\0" + files.deflated_run(64 << 20, b"A")),
        (b"iCCP", b"icc\0\0" + files.deflated_run(32 << 20)),
    ],
)
def test_what_inflates_is_refused_or_ignored_but_never_kills(album, kind, payload):
    album.load(PNG)
    pids = album.loader.worker_pids
    assert outcome(album, png(GRAY[0], (kind, payload), GRAY[1])) in (
        "image_parse_error",
        album.load(png(*GRAY)).digest,
    )
    assert album.loader.worker_pids >= pids


def outcome(album, data: bytes) -> bytes | str:
    """Return the digest of a picture, or the code of its refusal."""
    try:
        return album.load(data).digest
    except RequestError as error:
        return error.code


@pytest.mark.parametrize(
    "data",
    [
        *[pytest.param(data, id=name) for name, data in files.mutants(40)],
        pytest.param(files.damaged_png(), id="damaged data"),
        pytest.param(png(ihdr(8, 8, interlaced=True), GRAY[1]), id="not really interlaced"),
    ],
)
def test_a_mutant_is_a_picture_or_refused_and_always_the_same(album, data):
    first = outcome(album, data)
    assert isinstance(first, bytes) or first in (
        "image_parse_error",
        "invalid_image_format",
        "image_too_large",
        "unsupported_image_media_type",
    )
    assert outcome(album, data) == first


def test_twins_of_equal_bytes_do_not_share_a_digest(album):
    tall = album.load(files.encode(files.Image.new("L", (30, 100), 7), "PNG"))
    wide = album.load(files.encode(files.Image.new("L", (100, 30), 7), "PNG"))
    assert tall.digest != wide.digest


def test_twins_that_differ_in_the_palette_only_differ_in_pixels(album):
    images = []
    for colour in (files.RED, files.BLUE):
        indexed = files.Image.new("P", (16, 16))
        indexed.putpalette([*colour, 0, 0, 0])
        images.append(album.load(files.encode(indexed, "PNG")))
    assert images[0].pixels != images[1].pixels
    assert images[0].digest != images[1].digest


def test_the_declared_type_does_not_decide(album):
    assert album.load_source(files.data_url(JPEG, "image/png")).original_width == files.WIDTH
    assert album.load_source(files.data_url(JPEG, "video/mp4")).original_width == files.WIDTH


def test_the_limit_on_bytes_is_inclusive(album):
    limit = album.loader.limits.max_image_bytes
    assert album.load(files.padded_png(limit)).original_width == 8
    error = album.refusal(files.padded_png(limit + 1))
    assert error.code == "image_file_too_large"
    assert error.message == "20.1 MiB; limit 20 MiB."

"""Sizes and orientations read from headers in plain Python."""

import time

import picture_files as files
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sightline.media.headers import declared_size
from sightline.media.orientation import read_orientation

FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP"]


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (64, 48), (300, 7)])
def test_the_declared_size_is_read(image_format, size):
    data = files.encode(Image.new("RGB", size), image_format)
    assert declared_size(data, image_format) == size


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 50}, {"exif": files.exif(6)}])
def test_all_three_kinds_of_webp_tell_their_size(options):
    data = files.encode(files.quarters(), "WEBP", **options)
    assert declared_size(data, "WEBP") == (files.WIDTH, files.HEIGHT)


def test_a_jpeg_with_much_before_its_frame_tells_its_size():
    data = files.JPEG
    for _ in range(20):
        data = files.jpeg_with_segment(data, 0xE2, bytes(60_000))
    assert declared_size(data, "JPEG") == (files.WIDTH, files.HEIGHT)


@pytest.mark.parametrize("filling", [b"\xff", b"\xff\xd0", b"\xff\xe0\x00\x02"])
def test_a_jpeg_of_nothing_but_filling_is_given_up_at_once(filling):
    start = time.process_time()
    assert declared_size(b"\xff\xd8\xff" + filling * (20_000_000 // len(filling)), "JPEG") is None
    assert time.process_time() - start < 0.1


@given(st.sampled_from(FORMATS), st.data())
def test_no_bytes_make_it_raise(image_format, data):
    base = getattr(files, image_format)
    cut = data.draw(st.integers(0, len(base)))
    tail = data.draw(st.binary(max_size=40))
    size = declared_size(base[:cut] + tail, image_format)
    assert size is None or all(side >= 0 for side in size)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_read_in_both_byte_orders(order, prefix, orientation):
    assert read_orientation(prefix + files.exif(orientation, order)) == orientation


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_that_does_not_exist_is_upright(orientation):
    assert read_orientation(files.exif(orientation)) == 1


@given(st.binary(max_size=80), st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
def test_garbage_is_upright_or_an_orientation(garbage, prefix):
    assert 1 <= read_orientation(prefix + garbage) <= 8

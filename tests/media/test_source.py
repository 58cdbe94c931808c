"""What an image reference is, and base64 as clients write it."""

import base64
import time

import picture_files as files
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.core.errors import RequestError
from sightline.core.limits import Limits
from sightline.media.base64_text import decode_base64
from sightline.media.source import Base64Source, FileSource, UrlSource, parse_source

LIMITS = Limits()


def bytes_of(text: str) -> bytes:
    source = parse_source(text, LIMITS, files=False)
    assert isinstance(source, Base64Source)
    return decode_base64(source.text[source.start :], LIMITS)


PAYLOAD = base64.b64encode(files.JPEG).decode()


@pytest.mark.parametrize(
    "header",
    [
        "data:image/jpeg;base64,",
        "DATA:image/jpeg;BASE64,",
        "data:;base64,",
        "data:image/jpeg;name=cat.jpg;base64,",
        "data:image/jpeg; charset=utf-8 ; base64 ,",
        "data:image/jpeg;base64;name=cat.jpg,",
        " \n data:image/jpeg;base64, ",
        "",
    ],
)
def test_data_urls_and_bare_base64_are_understood(header):
    assert bytes_of(header + PAYLOAD) == files.JPEG


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_bare_base64_of_every_format_is_understood(name):
    data = getattr(files, name)
    assert bytes_of(base64.b64encode(data).decode()) == data
    assert bytes_of(base64.urlsafe_b64encode(data).decode().rstrip("=")) == data


@pytest.mark.parametrize(
    "text",
    ["data:image/png;base64", "data:image/png,abc", "data:,x", "data:" + "a" * 2000 + ";base64,"],
)
def test_a_broken_header_of_a_data_url_is_a_bad_url(text):
    with pytest.raises(RequestError) as caught:
        parse_source(text, LIMITS, files=False)
    assert caught.value.code == "invalid_image_url"


@pytest.mark.parametrize(
    "text",
    [
        *("file:///etc/passwd", "/etc/passwd", "C:\\x.png", "..", "~/x.png", "x.png", ""),
        *("ftp://a/b", "gopher://a/", "jar:http://a/b", "blob:http://a/b", "javascript:alert(1)"),
        *("s3://a/b", "unix:/run/x", "!!!!", "\u732b", "a" * 9000, "data", "iVBORw0"),
    ],
)
def test_paths_and_other_schemes_are_bad_urls(text):
    with pytest.raises(RequestError) as caught:
        parse_source(text, LIMITS, files=False)
    assert caught.value.code == "invalid_image_url"
    assert "passwd" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("cat.png", "cat.png"),
        ("/srv/cat.png", "/srv/cat.png"),
        ("file:///srv/a%20cat.png", "/srv/a cat.png"),
        ("FILE://localhost/srv/cat.png", "/srv/cat.png"),
        ("file:/srv/cat.png", "/srv/cat.png"),
    ],
)
def test_files_may_be_named_when_that_is_allowed(text, path):
    assert parse_source(text, LIMITS, files=True) == FileSource(path)


@pytest.mark.parametrize(
    "text", ["file://host/x", "ftp://a/b", "", "file:x", "a\0b", "file:///a%00b"]
)
def test_even_then_other_references_are_bad_urls(text):
    with pytest.raises(RequestError) as caught:
        parse_source(text, LIMITS, files=True)
    assert caught.value.code == "invalid_image_url"


def test_megabytes_of_blanks_are_a_bad_url_at_once():
    blanks, times = " " * 30_000_000, []
    for _ in range(5):
        start = time.process_time()
        with pytest.raises(RequestError):
            parse_source(blanks, LIMITS, files=True)
        times.append(time.process_time() - start)
    assert min(times) < 0.05  # the best of a few: what the machine allows


def test_urls_are_parsed_at_once():
    source = parse_source("HTTP://Good/x", LIMITS, files=False)
    assert isinstance(source, UrlSource)
    assert source.url.host == "good"


@given(st.binary(min_size=1, max_size=200), st.integers(1, 90), st.booleans(), st.booleans())
def test_base64_is_understood_however_it_was_written(data, width, url_safe, padded):
    text = (base64.urlsafe_b64encode if url_safe else base64.b64encode)(data).decode()
    text = text if padded else text.rstrip("=")
    lines = "\r\n ".join(text[i : i + width] for i in range(0, len(text), width))
    assert decode_base64(lines, LIMITS) == data
    assert decode_base64(text.replace("+", "%2B").replace("=", "%3d"), LIMITS) == data


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("!!!!", 1),
        ("AAAA*AAA", 5),
        ("AA\nA\uff21", 5),
        ("AA=A", 3),
        ("AAAAA", 6),
        ("AAA====", 8),
        ("AAAA" * 100_000 + "?", 400_001),
        ("=" * 3_000_000, 3_000_001),
        ("=" * 3_000_000 + "A", 1),
        ("AA%zzAA", 3),
    ],
)
def test_the_first_wrong_character_is_named(text, position):
    with pytest.raises(RequestError) as caught:
        decode_base64(text, LIMITS)
    assert caught.value.code == "invalid_base64_image"
    assert caught.value.message == f"Base64 is invalid at character {position}."


@pytest.mark.parametrize("text", ["", "  \n", "=", "=="])
def test_nothing_is_an_empty_image(text):
    with pytest.raises(RequestError) as caught:
        decode_base64(text, LIMITS)
    assert caught.value.code == "empty_image_file"


def test_the_limit_on_bytes_is_inclusive():
    limits = Limits(max_image_bytes=1024)
    assert len(decode_base64(base64.b64encode(bytes(1024)).decode(), limits)) == 1024
    with pytest.raises(RequestError) as caught:
        decode_base64(base64.b64encode(bytes(1025)).decode(), limits)
    assert caught.value.message == "1.1 KiB; limit 1 KiB."


@given(st.text(max_size=80))
def test_any_text_is_base64_or_refused(text):
    try:
        outcome = type(decode_base64(text, LIMITS)).__name__
    except RequestError as error:
        outcome = error.code
    assert outcome in ("bytes", "invalid_base64_image", "empty_image_file")

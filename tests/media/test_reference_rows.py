"""The rows of the API about pictures, under the names that its description gives them."""

import picture_files as files
import pytest
from picture_files import data_url

from sightline.core.errors import RequestError

PARAM = "messages[0].content[1].image_url"

ROWS: dict[str, tuple[str, str]] = {
    "URL malformed": ("http://", "invalid_image_url"),
    "other scheme": ("ftp://a.example/x.png", "invalid_image_url"),
    "local path": ("/etc/passwd", "invalid_image_url"),
    "over 8 KiB": ("http://a.example/" + "x" * 9000, "invalid_image_url"),
    "broken data-URI header": ("data:image/png;base64", "invalid_image_url"),
    "Address private": ("http://127.0.0.1/x.png", "image_url_blocked"),
    "DNS": ("http://no-such-host.invalid/x.png", "failed_to_download_image"),
    "Base64 does not decode": ("data:image/png;base64,!!!!", "invalid_base64_image"),
    "Zero bytes": ("data:image/png;base64,", "empty_image_file"),
    "too many bytes": (data_url(files.padded_png(20 * 2**20 + 1)), "image_file_too_large"),
    "Bytes are video": (
        data_url(b"\0\0\0\x18ftypmp42" + bytes(64)),
        "unsupported_image_media_type",
    ),
    "Bytes are no accepted image format": (data_url(b"II*\0" + bytes(64)), "invalid_image_format"),
    "Truncated": (data_url(files.PNG[: len(files.PNG) // 2]), "image_parse_error"),
    "Pixels, side or ratio too large": (
        data_url(files.jpeg_that_declares(60_000, 60_000)),
        "image_too_large",
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_section_3_row(album, row: str) -> None:
    source, code = ROWS[row]
    with pytest.raises(RequestError) as refused:
        album.load_source(source)
    assert (refused.value.code, refused.value.param) == (code, PARAM)
    assert len(refused.value.message) <= 300


FORMS: dict[str, str] = {
    "any letter case in the prefix": data_url(files.PNG).replace("data:image", "DaTa:IMAGE"),
    "extra parameters": data_url(files.PNG).replace(";base64", ";name=a.png;base64"),
    "whitespace": data_url(files.PNG)[:200] + "\n " + data_url(files.PNG)[200:],
    "url-safe alphabet": data_url(files.PNG)[:22]
    + data_url(files.PNG)[22:].replace("+", "-").replace("/", "_"),
    "missing padding": data_url(files.PNG).rstrip("="),
    "bare base64": data_url(files.PNG)[22:],
    "type comes from the bytes": data_url(files.PNG, "image/jpeg"),
}


@pytest.mark.parametrize("form", FORMS)
def test_section_5_form(album, form: str) -> None:
    assert album.load_source(FORMS[form]).digest == album.load(files.PNG).digest

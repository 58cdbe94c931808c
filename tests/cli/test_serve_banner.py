import json
import re
import socket
from io import BytesIO

from PIL import Image
from pybase64 import b64decode

from sightline.assembly import Listener, plan
from sightline.backends.fake import fake_info
from sightline.cli.serve import EXAMPLE_PICTURE, banner
from sightline.settings import resolve


def banner_of(**flags: object) -> str:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        settings = resolve({"engine": "fake"} | flags, environ={})
        decided = plan(settings, Listener(bound, settings.server.host))
        return "\n".join(banner(decided, fake_info(), ("sightline-fake", "glm-4v"), 1.0))


def test_the_command_to_paste_holds_a_valid_request_with_a_picture():
    body = json.loads(re.search(r"-d '(.*)'", banner_of())[1])
    assert body["model"] == "sightline-fake"
    assert body["messages"][0]["content"][1]["image_url"]["url"] == EXAMPLE_PICTURE


def test_the_example_picture_is_a_red_circle_on_white():
    picture = Image.open(BytesIO(b64decode(EXAMPLE_PICTURE.partition(",")[2]))).convert("RGB")
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    red, green, blue = picture.getpixel((32, 32))
    assert red > 200 > 50 > max(green, blue)


def test_a_server_with_keys_shows_where_the_key_goes_and_no_key():
    shown = banner_of(api_key=["sl-secret"])
    assert "Authorization: Bearer KEY" in shown
    assert "sl-secret" not in shown
    assert "Authorization" not in banner_of()

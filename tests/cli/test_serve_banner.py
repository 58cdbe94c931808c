import json
import re
import socket
from dataclasses import replace
from io import BytesIO

from PIL import Image
from pybase64 import b64decode

from sightline.backends.fake import fake_info
from sightline.cli.fitting import as_estimated
from sightline.cli.serve import EXAMPLE_PICTURE, banner, memory_line
from sightline.demo import MODEL_DIR
from sightline.engine.fit import Wish, judge
from sightline.hub.facts import facts_of
from sightline.models.device_memory import DeviceMemory
from sightline.models.facts import read_facts
from sightline.plan import Listener, plan
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


def test_measured_memory_stands_beside_the_estimate():
    info = replace(
        fake_info(),
        weight_bytes=23_329_792,
        kv_bytes=268_435_456,
        kv_slots=65_536,
        held_bytes=10**9,
    )
    assert memory_line(info, None) == (
        "Memory: weights 23.33 MB, keys and values 268.44 MB for 65,536 tokens; held in all 1.00 GB"
    )
    facts = read_facts(MODEL_DIR)
    device = DeviceMemory(device="cpu", name="a CPU", total=10**10, free=10**10)
    told = memory_line(info, judge(facts, device, Wish(dtype="float32")))
    assert "(estimated: weights 23.33 MB, at most" in told


def test_float32_that_would_not_fit_is_not_left_to_the_loader():
    facts = facts_of("qwen2-vl-2b", ()).facts
    settings = resolve({"model": "qwen2-vl-2b"}, environ={})
    for free, dtype in ((18 * 10**9, "bfloat16"), (64 * 10**9, "auto")):
        device = DeviceMemory(
            device="cpu", name="a CPU", total=64 * 10**9, free=free, has_bfloat16=False
        )
        estimate = judge(facts, device, Wish())
        assert as_estimated(settings, estimate).model.dtype == dtype
    assert as_estimated(settings, None) is settings

"""A tiny checkpoint of every other family: pulled from a hub, served, asked about pictures."""

import base64
import io
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from PIL import Image
from served import Served, serving
from stand_in_hub import stand_in_hub
from tests.conftest import CommandLine
from tiny_families import QWEN2, QWEN25, qwen2_files, qwen_vl_files

pytestmark = pytest.mark.live


def picture(width: int, height: int) -> dict[str, object]:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def usage(served: Served, *content: object) -> dict[str, int]:
    body = {
        "model": served_name(served),
        "messages": [{"role": "user", "content": list(content)}],
        "max_tokens": 5,
        "temperature": 0,
    }
    response = served.post(body)
    assert response.status_code == 200, response.text
    details = response.json()["usage"]["prompt_tokens_details"]
    with httpx2.Client(trust_env=False) as client:
        path = f"{served.url}/v1/chat/completions/input_tokens"
        counted = client.post(path, json=body).json()
    assert counted["image_tokens"] == details["image_tokens"]
    return details


def served_name(served: Served) -> str:
    with httpx2.Client(trust_env=False) as client:
        return client.get(f"{served.url}/v1/models").json()["data"][0]["id"]


@pytest.mark.parametrize(
    ("name", "files", "tokens"),
    [
        ("qwen-vl-chat", qwen_vl_files, (256, 512)),
        # 150 x 90 becomes 140 x 84, 5 x 3 rows; 30 x 300 becomes 28 x 308, 1 x 11 rows.
        ("qwen2-vl-7b", lambda: qwen2_files(QWEN2), (15, 26)),
        ("qwen2.5-vl-3b", lambda: qwen2_files(QWEN25), (15, 26)),
    ],
)
def test_a_model_of_the_family_is_pulled_served_and_asked(
    tmp_path: Path, name: str, files: Callable[[], dict[str, bytes]], tokens: tuple[int, int]
) -> None:
    with stand_in_hub(files()) as hub:
        pulled = CommandLine(tmp_path)(
            "pull", name, HF_ENDPOINT=hub.url, MODELSCOPE_ENDPOINT=hub.url
        )
    assert pulled.status == 0, pulled.err
    assert f"sightline serve {name}" in pulled.out
    text = {"type": "text", "text": "Compare."}
    with serving(tmp_path, name) as served:
        one = usage(served, picture(150, 90), text)
        two = usage(served, picture(150, 90), picture(30, 300), text)
        assert (one["image_tokens"], two["image_tokens"]) == tokens
        assert usage(served, text)["image_tokens"] == 0

"""A tiny checkpoint of every family: pulled from a hub, served, asked about pictures."""

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
from tiny_model import glm_files

from sightline.cli.main import build

# Each starts a server; a busy machine may take long over it.
pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]


def picture(width: int, height: int, **beside: int | str) -> dict[str, object]:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url, **beside}}


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


FAMILIES = [
    ("glm-4v-9b", glm_files, 18),
    ("glm-4-9b-chat", lambda: glm_files(text_only=True), None),
    ("qwen-vl-chat", qwen_vl_files, 256),
    # 150 x 90 becomes 140 x 84: 5 x 3 rows.
    ("qwen2-vl-7b", lambda: qwen2_files(QWEN2), 15),
    ("qwen2.5-vl-3b", lambda: qwen2_files(QWEN25), 15),
]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs a command in this process, as if at home in `tmp_path`; returns all that it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def command(*arguments: str) -> str:
        build()(args=list(arguments), standalone_mode=False)
        told = capsys.readouterr()
        return told.out + told.err

    return command


@pytest.mark.parametrize(("name", "files", "tokens"), FAMILIES, ids=[row[0] for row in FAMILIES])
def test_a_model_of_each_family_is_pulled_served_and_asked(
    run: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    files: Callable[[], dict[str, bytes]],
    tokens: int | None,
) -> None:
    Image.new("RGB", (150, 90), "teal").save(tmp_path / "teal.png")
    with stand_in_hub(files()) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
        assert f"sightline serve {name}" in run("pull", name)
    pictures = [] if tokens is None else ["teal.png"]
    # Six squares of 28 pixels.
    with serving(tmp_path, name, "--low-detail-pixels", "4704") as served:
        told = run("ask", *pictures, "Compare.", "--url", served.url, "--max-tokens", "5", "-v")
        assert f"image tokens {tokens or 0} " in told
        text = {"type": "text", "text": "Compare."}
        if tokens is not None:
            assert usage(served, text)["image_tokens"] == 0
        if name.startswith("qwen"):
            # 30 x 300 becomes 28 x 308: 1 x 11 rows.
            second = 256 if name == "qwen-vl-chat" else 11
            two = usage(served, picture(150, 90), picture(30, 300), text)
            assert two["image_tokens"] == (tokens or 0) + second
        if name.startswith("qwen2"):
            # Within six squares 150 x 90 becomes 84 x 28: 3 x 1.
            assert usage(served, picture(150, 90, max_pixels=4704), text)["image_tokens"] == 3
            assert usage(served, picture(150, 90, detail="low"), text)["image_tokens"] == 3
            assert usage(served, picture(150, 90, detail="high"), text)["image_tokens"] == 15


def test_a_model_that_is_not_here_is_downloaded_by_serve(tmp_path: Path) -> None:
    with stand_in_hub(glm_files()) as hub:
        mirrors = {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url}
        with serving(tmp_path, "THUDM/glm-4v-9b", "--force", **mirrors) as served:
            log = "".join(served.log)
            assert "glm-4v-9b is not on this machine yet" in log
            assert "Licence: GLM-4 licence" in log
            assert served_name(served) == "glm-4v-9b"


def test_what_cannot_fit_is_refused_before_a_byte_comes(tmp_path: Path) -> None:
    with stand_in_hub({}) as hub:
        told = CommandLine(tmp_path)(
            "serve",
            "glm-4-9b-chat-1m",
            *("--port", "0", "--device", "cpu", "--kv-cache-memory", "9000GiB"),
            HF_ENDPOINT=hub.url,
            MODELSCOPE_ENDPOINT=hub.url,
        )
    assert told.status == 2
    assert "--force loads it all the same" in told.err
    assert not hub.asked

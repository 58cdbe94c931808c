"""What keeps a server from starting: one line, status 2, no traceback, nothing loaded."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.backends.fake import TOKENIZER_FILE


@pytest.fixture
def taken_port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield str(listener.getsockname()[1])


def refused(sightline, *arguments: str) -> str:
    """Run `serve`, which must fail with one line; return the line."""
    outcome = sightline("serve", *arguments)
    assert outcome.status == 2
    assert "Traceback" not in outcome.err
    lines = [line for line in outcome.err.splitlines() if line.startswith("sightline: ")]
    assert len(lines) == 1
    assert len(outcome.err.splitlines()) <= 2
    return lines[0]


def test_a_port_in_use(sightline, taken_port):
    assert f"Port {taken_port} on 127.0.0.1 is in use" in refused(sightline, "--port", taken_port)
    outcome = sightline("--lang", "zh", "serve", "--port", taken_port)
    assert f"端口 {taken_port} 已被占用" in outcome.err


def test_a_port_in_use_is_known_before_the_model_is_touched(sightline, taken_port):
    assert "is in use" in refused(sightline, "/nonexistent", "--port", taken_port)


def test_an_address_of_another_machine(sightline):
    assert "not an address of this machine" in refused(sightline, "--host", "192.0.2.1")


def test_a_host_that_is_no_name(sightline):
    assert "not an address of this machine" in refused(sightline, "--host", "no such host")


def test_a_missing_model(sightline):
    assert "There is no model folder nowhere" in refused(sightline, "nowhere", "--port", "0")


def test_a_model_that_is_a_file(sightline):
    (sightline.folder / "weights").write_text("x")
    assert "is a file" in refused(sightline, "weights", "--port", "0")


def test_a_folder_without_config(sightline):
    (sightline.folder / "empty").mkdir()
    assert "config.json is missing" in refused(sightline, "empty", "--port", "0")


def test_a_media_root_that_is_no_folder(sightline):
    line = refused(sightline, "--engine", "fake", "--media-root", "nowhere", "--port", "0")
    assert "nowhere is not a folder" in line


def test_a_port_that_is_no_number(sightline):
    assert "'http' is not a whole number" in refused(sightline, "--port", "http")


def test_a_limit_that_does_not_exist(sightline):
    assert "no limit speed" in refused(sightline, "--limit", "speed=3")
    assert "NAME=VALUE" in refused(sightline, "--limit", "max_images")


@pytest.mark.live
def test_corrupt_weights(sightline):
    folder: Path = sightline.folder / "broken"
    folder.mkdir()
    config = Path(__file__).parents[1] / "data" / "golden" / "glm4v-a" / "config.json"
    (folder / "config.json").write_text(json.dumps(json.loads(config.read_text())))
    (folder / "tokenizer.model").write_bytes(TOKENIZER_FILE.read_bytes())
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    assert "model.safetensors" in refused(sightline, "broken", "--port", "0")

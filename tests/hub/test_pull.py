"""`pull` with the hubs' own client libraries, against a server that speaks both protocols."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from sightline.core.errors import StartupError
from sightline.hub.names import KNOWN_MODELS, find_model, known_model
from sightline.hub.pull import Pulled, pull
from sightline.hub.remote import HubName

SHA = "a" * 40
FILES = {
    "config.json": b'{"model_type": "chatglm"}',
    "tokenizer.model": b"IQ== 0\n",
    "model.safetensors": bytes(range(256)) * 4000,
    "modeling_chatglm.py": b"raise SystemExit('remote code')",
    "README.md": b"# Model",
}


class StandIn(BaseHTTPRequestHandler):
    """The parts of both hubs' HTTP interfaces that their libraries use for one model."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]
    lies: dict[str, bytes]
    asked: list[str]
    url: str

    def do_HEAD(self) -> None:
        self.answer(head=True)

    def do_GET(self) -> None:
        self.answer(head=False)

    def answer(self, *, head: bool) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        if not head:
            self.asked.append(self.path)
        if re.fullmatch(r"/api/models/[^/]+/[^/]+(/revision/\w+)?", path):
            self.send(json.dumps(self.huggingface_info()).encode(), head)
        elif found := re.fullmatch(r"/[^/]+/[^/]+/resolve/\w+/(.+)", path):
            self.send_file(found[1], head)
        elif re.fullmatch(r"/api/v1/models/[^/]+/[^/]+/repo/files", path):
            self.send(json.dumps(self.modelscope_listing()).encode(), head)
        elif re.fullmatch(r"/api/v1/models/[^/]+/[^/]+/repo", path):
            self.send_file(query["FilePath"][0], head)
        else:
            self.send(b"{}", head, status=404)

    def huggingface_info(self) -> dict[str, Any]:
        rows = []
        for name, data in self.files.items():
            row: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": "b"}
            if name.endswith(".safetensors"):
                digest = hashlib.sha256(data).hexdigest()
                row["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 1}
            rows.append(row)
        return {"id": "x/y", "modelId": "x/y", "sha": SHA, "siblings": rows, "tags": []}

    def modelscope_listing(self) -> dict[str, Any]:
        rows = [
            {
                "Path": name,
                "Name": name,
                "Size": len(data),
                "Type": "blob",
                "Sha256": hashlib.sha256(data).hexdigest(),
                "Revision": SHA,
            }
            for name, data in self.files.items()
        ]
        return {"Code": 200, "Success": True, "Data": {"Files": rows}}

    def send_file(self, name: str, head: bool) -> None:
        if name not in self.files:
            self.send(b"", head, status=404)
            return
        data = self.lies.get(name, self.files[name])
        status, start = 200, 0
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            status, start = 206, int(found[1])
        etag = hashlib.sha256(data).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": SHA, "Accept-Ranges": "bytes"}
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.send(data[start:], head, status=status, **headers)

    def send(self, body: bytes, head: bool, *, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not head:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[StandIn]]:
    handler = type("Hub", (StandIn,), {"files": dict(FILES), "lies": {}, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        handler.url = url
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HOME", str(tmp_path))
        yield handler
        server.shutdown()


GLM = find_model("glm-4v-9b")


def download(hub: type[StandIn], into: Path, **options: Any) -> Pulled:
    endpoints: dict[HubName, str] = {"huggingface": hub.url, "modelscope": hub.url}
    return pull(GLM, into, endpoints=endpoints, **options)


@pytest.mark.parametrize("name", ["huggingface", "modelscope"])
def test_a_model_arrives_whole_without_code(
    hub: type[StandIn], tmp_path: Path, name: HubName
) -> None:
    pulled = download(hub, tmp_path, hubs=[name])
    assert pulled.hub == name
    found = {file.name for file in pulled.folder.iterdir()}
    assert found == {"config.json", "tokenizer.model", "model.safetensors", "sightline-model.json"}
    assert (pulled.folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert pulled.size_bytes == sum(len(FILES[f]) for f in found & FILES.keys())
    assert download(hub, tmp_path, hubs=[name]).hub is None


@pytest.mark.parametrize("name", ["huggingface", "modelscope"])
def test_a_file_that_is_not_what_was_listed_never_becomes_a_model(
    hub: type[StandIn], tmp_path: Path, name: HubName
) -> None:
    good = FILES["model.safetensors"]
    hub.lies["model.safetensors"] = good[:-1] + b"!"
    with pytest.raises(StartupError):
        download(hub, tmp_path, hubs=[name])
    assert not (tmp_path / GLM.name).exists()
    hub.lies.clear()
    assert (download(hub, tmp_path, hubs=[name]).folder / "model.safetensors").read_bytes() == good


def test_what_is_there_already_is_not_fetched_again(hub: type[StandIn], tmp_path: Path) -> None:
    hub.lies["model.safetensors"] = b"short"
    with pytest.raises(StartupError):
        download(hub, tmp_path, hubs=["huggingface"])
    hub.lies.clear()
    hub.asked.clear()
    download(hub, tmp_path, hubs=["huggingface"])
    assert not [path for path in hub.asked if path.endswith("config.json")]
    assert [path for path in hub.asked if path.endswith("model.safetensors")]


def test_the_first_hub_that_has_it_wins(hub: type[StandIn], tmp_path: Path) -> None:
    assert download(hub, tmp_path).hub in ("huggingface", "modelscope")


def test_no_hub_no_model_and_no_folder(
    hub: type[StandIn], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files.clear()
    with pytest.raises(StartupError, match=r"no config\.json or no weights"):
        download(hub, tmp_path, hubs=["huggingface"])
    with pytest.raises(StartupError, match="offline"):
        download(hub, tmp_path, offline=True)
    assert not (tmp_path / GLM.name).exists()


def test_a_disk_that_is_too_small_is_said_before_a_byte_comes(
    hub: type[StandIn], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.hub.pull.SPARE_BYTES", 1 << 60)
    with pytest.raises(StartupError, match="GB more"):
        download(hub, tmp_path, hubs=["huggingface"])
    assert not [path for path in hub.asked if "resolve" in path]


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("glm-4v", "glm-4v-9b"),
        ("THUDM/glm-4v-9b", "glm-4v-9b"),
        ("zhipuai/GLM-4v-9B", "glm-4v-9b"),
        ("qwen2-vl-7b", "qwen2-vl-7b"),
        ("Qwen/Qwen2.5-VL-3B-Instruct", "qwen2.5-vl-3b"),
        ("qwen-vl-chat", "qwen-vl-chat"),
        ("somebody/own-model", "own-model"),
    ],
)
def test_names_of_both_hubs_mean_the_same_model(name: str, means: str) -> None:
    assert find_model(name).name == means


def test_an_unknown_name_gives_the_three_nearest() -> None:
    with pytest.raises(StartupError, match=r"Nearest: glm-4v-9b, glm-4-9b-chat, \S+\.") as caught:
        find_model("glm4v9b")
    assert caught.value.code == "model_unknown"


def test_no_name_means_two_models() -> None:
    names = [name.lower() for model in KNOWN_MODELS for name in set(map(str.lower, model.names))]
    assert len(names) == len(set(names))
    assert all(known_model(name) for name in names)

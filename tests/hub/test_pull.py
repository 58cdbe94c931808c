"""`pull` with the hubs' own client libraries, against a server that speaks both protocols."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in_hub import StandIn, stand_in_hub

from sightline.core.errors import StartupError
from sightline.hub.names import KNOWN_MODELS, find_model, known_model
from sightline.hub.pull import Pulled, pull
from sightline.hub.remote import HubName

FILES = {
    "config.json": b'{"model_type": "chatglm"}',
    "tokenizer.model": b"IQ== 0\n",
    "model.safetensors": bytes(range(256)) * 4000,
    "modeling_chatglm.py": b"raise SystemExit('remote code')",
    "README.md": b"# Model",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[StandIn]]:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with stand_in_hub(FILES) as served:
        yield served


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

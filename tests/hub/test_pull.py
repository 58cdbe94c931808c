"""`pull` with the hubs' own client libraries, against a server that speaks both protocols."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in_hub import StandIn, stand_in_hub
from weight_bytes import safetensors

from sightline.core.errors import StartupError
from sightline.hub.names import KNOWN_MODELS, find_model, split_quantisation
from sightline.hub.pull import Pulled, pull
from sightline.hub.remote import HubName

FILES = {
    "config.json": b'{"model_type": "chatglm"}',
    "tokenizer.model": b"IQ== 0\n",
    "model.safetensors": safetensors(bytes(range(256)) * 4000),
    "modeling_chatglm.py": b"raise SystemExit('remote code')",
    "README.md": b"# Model",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[StandIn]]:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sightline.hub.transfer.FIRST_PAUSE_S", 0.01)
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


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_what_pictures_become_arrives_with_the_model(tmp_path: Path, name: str) -> None:
    with stand_in_hub(FILES | {name: b"{}"}) as hub:
        pulled = download(hub, tmp_path, hubs=["huggingface"])
    assert (pulled.folder / name).read_bytes() == b"{}"


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


def test_a_model_of_an_unknown_family_is_refused_before_its_weights_come(
    hub: type[StandIn], tmp_path: Path
) -> None:
    hub.files["config.json"] = b'{"model_type": "mamba"}'
    with pytest.raises(StartupError, match="'mamba' is not supported yet"):
        download(hub, tmp_path, hubs=["huggingface"])
    assert not [path for path in hub.asked if "safetensors" in path]


def test_a_disk_that_is_too_small_is_said_before_a_byte_comes(
    hub: type[StandIn], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.hub.pull.SPARE_SHARE", 1e12)
    with pytest.raises(StartupError, match="GB more"):
        download(hub, tmp_path, hubs=["huggingface"])
    assert not [path for path in hub.asked if "resolve" in path]


SPELLINGS = {
    "glm-4v-9b": ["glm-4v", "ZhipuAI/glm-4v-9b", "THUDM/glm-4v-9b", "zai-org/glm-4v-9b"],
    "glm-4-9b-chat": ["ZhipuAI/glm-4-9b-chat", "THUDM/glm-4-9b-chat", "zai-org/glm-4-9b-chat"],
    "glm-4-9b-chat-1m": ["ZhipuAI/glm-4-9b-chat-1m", "THUDM/glm-4-9b-chat-1m"],
    "qwen-vl-chat": ["Qwen/Qwen-VL-Chat", "qwen/Qwen-VL-Chat", "Qwen-VL-Chat"],
    "qwen2-vl-2b": ["Qwen/Qwen2-VL-2B-Instruct", "qwen/Qwen2-VL-2B-Instruct"],
    "qwen2-vl-7b": ["Qwen/Qwen2-VL-7B-Instruct", "qwen2-vl-7b-instruct"],
    "qwen2.5-vl-3b": ["Qwen/Qwen2.5-VL-3B-Instruct", "qwen/Qwen2.5-VL-3B-Instruct"],
    "qwen2.5-vl-7b": ["Qwen/Qwen2.5-VL-7B-Instruct", "Qwen2.5-VL-7B-Instruct"],
}


@pytest.mark.parametrize(
    ("spelled", "means"),
    [(spelled, name) for name, others in SPELLINGS.items() for spelled in (name, *others)],
)
def test_every_spelling_of_both_hubs_means_its_model(spelled: str, means: str) -> None:
    for suffix in ("", ":int8", ":int4", ":INT8"):
        for written in (spelled, spelled.lower(), spelled.upper()):
            assert find_model(written + suffix).name == means


def test_there_is_no_other_model_than_those_spelled_here() -> None:
    assert [model.name for model in KNOWN_MODELS] == list(SPELLINGS)


def test_how_a_model_is_run_stands_behind_its_name() -> None:
    assert split_quantisation("glm-4v:int4") == ("glm-4v", "int4")
    assert split_quantisation("glm-4v:int3") == ("glm-4v:int3", None)
    with pytest.raises(StartupError, match="There is no model glm-4v:int3"):
        find_model("glm-4v:int3")


def test_any_other_repository_is_taken_by_its_name() -> None:
    for written in ("somebody/own-model", "https://hf.co/somebody/own-model/blob/main/config.json"):
        model = find_model(written)
        assert (model.name, model.huggingface) == ("own-model", "somebody/own-model")


@pytest.mark.parametrize(
    ("page", "means"),
    [
        ("https://huggingface.co/zai-org/glm-4v-9b", "glm-4v-9b"),
        ("https://huggingface.co/Qwen/Qwen2-VL-7B-Instruct/tree/main", "qwen2-vl-7b"),
        ("https://hf-mirror.com/Qwen/Qwen-VL-Chat?library=transformers", "qwen-vl-chat"),
        ("https://www.modelscope.cn/models/ZhipuAI/glm-4v-9b/summary", "glm-4v-9b"),
        ("http://modelscope.cn/models/Qwen/Qwen2.5-VL-3B-Instruct#files", "qwen2.5-vl-3b"),
        ("modelscope.cn/models/qwen/Qwen-VL-Chat/", "qwen-vl-chat"),
        ("hf.co/Qwen/Qwen2-VL-2B-Instruct", "qwen2-vl-2b"),
        ("https://huggingface.co/THUDM/glm-4v-9b.git", "glm-4v-9b"),
        ("https://www.modelscope.cn/ZhipuAI/glm-4v-9b.git", "glm-4v-9b"),
        ("git@hf.co:THUDM/glm-4v-9b.git", "glm-4v-9b"),
        ("hf://zai-org/glm-4v-9b", "glm-4v-9b"),
        (" glm-4v-9b ", "glm-4v-9b"),
    ],
)
def test_the_page_of_a_model_means_the_model(page: str, means: str) -> None:
    assert find_model(page).name == find_model(page + ":int4").name == means


def test_pages_elsewhere_are_no_models() -> None:
    elsewhere = ("https://example.com/Qwen/Qwen-VL-Chat", "https://huggingface.co/Qwen")
    of_others = ("https://huggingface.co/datasets/Qwen/x", "https://modelscope.cn/studios/Qwen/x")
    for page in (*elsewhere, *of_others, "https://www.modelscope.cn/models/ZhipuAI"):
        with pytest.raises(StartupError, match="There is no model"):
            find_model(page)


def test_an_unknown_name_gives_the_three_nearest() -> None:
    with pytest.raises(StartupError, match=r"Nearest: glm-4v-9b, glm-4-9b-chat, \S+\.") as caught:
        find_model("glm4v9b")
    assert caught.value.code == "model_unknown"


def test_no_name_means_two_models() -> None:
    names = [name for model in KNOWN_MODELS for name in {name.lower() for name in model.names}]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("repository", ["evil/glm-4v-9b", "evil/GLM-4V", "x/Qwen2-VL-7B-Instruct"])
def test_what_others_call_by_the_name_of_a_known_model_keeps_its_owner(repository: str) -> None:
    """Else their weights would be served under that name."""
    model = find_model(repository)
    assert model.name == repository.replace("/", "--")
    assert (model.huggingface, model.modelscope) == (repository, repository)


def test_a_folder_of_another_repository_is_not_taken_for_this_one(
    hub: type[StandIn], tmp_path: Path
) -> None:
    def bring(repository: str) -> Pulled:
        endpoints: dict[HubName, str] = {"huggingface": hub.url}
        model = find_model(repository)
        return pull(model, tmp_path, hubs=["huggingface"], endpoints=endpoints)

    bring("somebody/foo")
    assert bring("Somebody/foo").hub is None
    hub.asked.clear()
    with pytest.raises(StartupError, match="holds somebody/foo, not other/foo"):
        bring("other/foo")
    assert not hub.asked


def test_a_known_model_is_the_same_from_either_hub(hub: type[StandIn], tmp_path: Path) -> None:
    download(hub, tmp_path, hubs=["modelscope"])
    endpoints: dict[HubName, str] = {"huggingface": hub.url}
    again = pull(find_model("THUDM/glm-4v-9b"), tmp_path, endpoints=endpoints)
    assert again.hub is None

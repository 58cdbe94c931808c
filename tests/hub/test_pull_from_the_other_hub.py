"""Both hubs list a model, and the one that was faster does not give it."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in_hub import StandIn, stand_in_hub
from weight_bytes import safetensors

from sightline.cli import catalogue
from sightline.core.errors import StartupError
from sightline.hub.names import KnownModel, find_model
from sightline.hub.pull import Download, Pulled, pull
from sightline.hub.remote import HubName, Listing, ModelScope

MIB = 1024 * 1024
FILES = {
    "config.json": b'{"model_type": "chatglm"}',
    "tokenizer.model": b"IQ== 0\n",
    "model.safetensors": safetensors(bytes(range(256)) * (3 * MIB // 256)),
}
GLM = find_model("glm-4v-9b")


class Hubs:
    """Hugging Face, which answers first, and ModelScope."""

    def __init__(self, first: type[StandIn], second: type[StandIn]) -> None:
        self.first, self.second = first, second
        self.reasons: list[StartupError] = []
        self.announced: list[Download] = []

    def pull(self, into: Path, model: KnownModel = GLM, **options: Any) -> Pulled:
        endpoints: dict[HubName, str] = {
            "huggingface": self.first.url,
            "modelscope": self.second.url,
        }
        return pull(
            model,
            into,
            endpoints=endpoints,
            announce=self.announced.append,
            turned_away=self.reasons.append,
            **options,
        )


@pytest.fixture
def hubs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hubs]:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sightline.hub.transfer.FIRST_PAUSE_S", 0.01)
    with stand_in_hub(FILES) as first, stand_in_hub(FILES) as second:
        first_was_chosen = threading.Event()
        answer_file = StandIn.send_file
        list_theirs = ModelScope.list

        def tell(self: StandIn, name: str, head: bool) -> None:
            first_was_chosen.set()
            answer_file(self, name, head)

        def list_later(self: ModelScope, repository: str) -> Listing:
            first_was_chosen.wait(60)
            return list_theirs(self, repository)

        monkeypatch.setattr(first, "send_file", tell)
        monkeypatch.setattr(ModelScope, "list", list_later)
        yield Hubs(first, second)
        first_was_chosen.set()


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_model_that_one_hub_lists_and_does_not_give_comes_from_the_other(
    hubs: Hubs, tmp_path: Path, file: str, status: int
) -> None:
    hubs.first.faults[file] = status
    pulled = hubs.pull(tmp_path)
    assert pulled.hub == "modelscope"
    assert all((pulled.folder / name).read_bytes() == data for name, data in FILES.items())
    (reason,) = hubs.reasons
    assert f"huggingface: zai-org/glm-4v-9b/{file} is not there" in reason.message
    assert hubs.announced[-1].listing.hub == "modelscope"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_the_hub_that_was_asked_for_is_the_only_one(
    hubs: Hubs, tmp_path: Path, status: int
) -> None:
    hubs.first.faults["config.json"] = status
    with pytest.raises(StartupError, match=f"huggingface: .*config.json is not there.*{status}"):
        hubs.pull(tmp_path, hubs=["huggingface"])
    assert not hubs.second.asked


def test_a_damaged_copy_is_fetched_from_the_other_hub(hubs: Hubs, tmp_path: Path) -> None:
    hubs.first.lies["model.safetensors"] = FILES["model.safetensors"][:-1] + b"?"
    assert hubs.pull(tmp_path).hub == "modelscope"
    assert hubs.reasons[0].code == "pull_damaged"


def test_a_file_that_trickles_goes_on_from_the_other_hub(
    hubs: Hubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.hub.remote.SLOW_S", 0.05)
    hubs.first.trickles["model.safetensors"] = 100
    assert hubs.pull(tmp_path).hub == "modelscope"
    assert [reason.code for reason in hubs.reasons] == ["hub_slow"]
    [start] = [start for name, start in hubs.second.ranges if name == "model.safetensors"]
    assert start > 100


def test_half_a_file_goes_on_from_the_other_hub(hubs: Hubs, tmp_path: Path) -> None:
    hubs.first.cuts["model.safetensors"] = [2 * MIB] + [0] * 9
    assert hubs.pull(tmp_path).hub == "modelscope"
    starts = [start for name, start in hubs.second.ranges if name == "model.safetensors"]
    assert starts == [2 * MIB]


def test_when_neither_gives_it_both_reasons_and_remedies_are_told(
    hubs: Hubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubs.first.faults["config.json"] = 401
    hubs.second.faults["config.json"] = 403
    with pytest.raises(StartupError, match=r"^No hub gave the model\. ") as caught:
        hubs.pull(tmp_path)
    for told in (
        "huggingface: zai-org/glm-4v-9b/config.json",
        "(401); set HF_TOKEN, and accept the licence at https://huggingface.co/zai-org/glm-4v-9b",
        "modelscope: ZhipuAI/glm-4v-9b/config.json",
        "(403); set MODELSCOPE_API_TOKEN",
        "at https://modelscope.cn/models/ZhipuAI/glm-4v-9b if",
    ):
        assert told in caught.value.message
    monkeypatch.setattr(catalogue, "_language", "zh")
    chinese = catalogue.error(caught.value)
    assert chinese.startswith(
        "没有模型站给出该模型。huggingface: zai-org/glm-4v-9b/config.json 不存在"
    )
    assert "请设置 MODELSCOPE_API_TOKEN" in chinese
    assert "No hub" not in chinese


def test_a_licence_that_nobody_accepted_is_called_so(
    hubs: Hubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: StandIn, name: str, head: bool) -> None:
        self.send(b"", head, status=403, **{"X-Error-Code": "GatedRepo"})

    monkeypatch.setattr(hubs.first, "send_file", refuse)
    with pytest.raises(StartupError, match=r"is behind a licence \(403\)") as caught:
        hubs.pull(tmp_path, hubs=["huggingface"])
    remedy = "accept it at https://huggingface.co/zai-org/glm-4v-9b and set HF_TOKEN to a key of"
    assert remedy in caught.value.message


def test_a_repository_that_nobody_has_is_told_with_the_nearest_names(
    hubs: Hubs, tmp_path: Path
) -> None:
    """Hugging Face answers 401 to strangers who ask for what does not exist."""
    hubs.first.faults["list"] = 401
    hubs.second.faults["list"] = 404
    with pytest.raises(StartupError) as caught:
        hubs.pull(tmp_path, find_model("Qwen/Qwen2-VL-7B-Instrct"), hubs=["huggingface"])
    told = caught.value.message
    assert "Nearest known names: qwen2-vl-7b, " in told
    assert "`sightline models --all`" in told

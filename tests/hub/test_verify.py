"""A model that rots where it lies: its files are held against the hashes that came with them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in_hub import StandIn, stand_in_hub
from weight_bytes import safetensors

from sightline.cli import catalogue
from sightline.core.errors import StartupError
from sightline.hub.local import check_folder
from sightline.hub.names import find_model
from sightline.hub.pull import pull
from sightline.hub.remote import HubName
from sightline.hub.verify import Verified, verify
from sightline.models.hub_files import RECORD_FILE

SHARD = "model-00002-of-00002.safetensors"
FILES = {
    "config.json": b'{"model_type": "chatglm"}',
    "tokenizer.model": b"IQ== 0\n",
    "model.safetensors.index.json": b'{"weight_map": {"a": "model-00001-of-00002.safetensors", '
    b'"b": "model-00002-of-00002.safetensors"}}',
    "model-00001-of-00002.safetensors": safetensors(bytes(range(256)) * 100),
    SHARD: safetensors(bytes(range(255, -1, -1)) * 100),
}
GLM = find_model("glm-4v-9b")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[StandIn]]:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sightline.hub.transfer.FIRST_PAUSE_S", 0.01)
    with stand_in_hub(FILES) as served:
        yield served


@pytest.fixture(params=["huggingface", "modelscope"])
def folder(hub: type[StandIn], tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A model that was pulled from one of the hubs, which has been asked for nothing since."""
    endpoints: dict[HubName, str] = {"huggingface": hub.url, "modelscope": hub.url}
    found = pull(GLM, tmp_path / "models", hubs=[request.param], endpoints=endpoints).folder
    hub.asked.clear()
    return found


def rot(folder: Path, name: str) -> None:
    """Change one bit, as disks do."""
    content = bytearray((folder / name).read_bytes())
    content[-7] ^= 1
    (folder / name).write_bytes(content)


def check(hub: type[StandIn], folder: Path, **options: Any) -> Verified:
    endpoints: dict[HubName, str] = {"huggingface": hub.url, "modelscope": hub.url}
    return verify(GLM, folder, endpoints=endpoints, **options)


def names(found: Verified) -> list[str]:
    return [file.name for file in found.anew]


def require_as_it_came(folder: Path) -> None:
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert {file.name for file in folder.iterdir()} == {*FILES, RECORD_FILE}


def test_what_did_not_rot_needs_no_hub(hub: type[StandIn], folder: Path) -> None:
    check_folder(folder)
    found = check(hub, folder)
    assert (names(found), len(found.files), found.num_without_hash) == ([], 5, 0)
    assert found.size_bytes == sum(map(len, FILES.values()))
    assert not hub.asked


@pytest.mark.parametrize("name", [SHARD, "config.json"])
def test_only_what_rotted_comes_again(hub: type[StandIn], folder: Path, name: str) -> None:
    rot(folder, name)
    assert names(check(hub, folder)) == [name]
    require_as_it_came(folder)
    assert [name for name, _ in hub.ranges[5:]] == [name]


def test_a_file_that_is_gone_or_cut_comes_again(hub: type[StandIn], folder: Path) -> None:
    (folder / SHARD).unlink()
    (folder / "tokenizer.model").write_bytes(b"")
    assert names(check(hub, folder)) == ["tokenizer.model", SHARD]
    require_as_it_came(folder)


def test_what_people_put_beside_it_stays(hub: type[StandIn], folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    rot(folder, SHARD)
    check(hub, folder)
    assert (folder / "notes.txt").read_text() == "mine"


def test_offline_only_tells(hub: type[StandIn], folder: Path) -> None:
    rot(folder, SHARD)
    rotten = (folder / SHARD).read_bytes()
    with pytest.raises(StartupError, match=rf"{SHARD}\. This is offline") as caught:
        check(hub, folder, offline=True)
    assert (folder / SHARD).read_bytes() == rotten
    assert not hub.asked
    catalogue.use("zh")
    try:
        assert catalogue.error(caught.value).endswith("当前为离线模式，不会重新下载。")
    finally:
        catalogue.use("en")


def test_a_hub_that_has_something_else_by_now_is_not_believed(
    hub: type[StandIn], folder: Path
) -> None:
    """Nor is the damaged file left where it would be taken for a good one."""
    rot(folder, SHARD)
    hub.lies[SHARD] = FILES[SHARD][:-1] + b"?"
    reasons: list[StartupError] = []
    with pytest.raises(StartupError, match=r"No hub gave the model\. .* comes damaged"):
        check(hub, folder, turned_away=reasons.append)
    assert len(reasons) == 1
    with pytest.raises(StartupError, match=f"{SHARD} is missing"):
        check_folder(folder)
    hub.lies.clear()
    assert names(check(hub, folder)) == [SHARD]
    require_as_it_came(folder)


def test_the_other_hub_has_the_same_file(hub: type[StandIn], folder: Path) -> None:
    origin: HubName = json.loads((folder / RECORD_FILE).read_text())["hub"]
    rot(folder, SHARD)
    endpoints: dict[HubName, str] = {"huggingface": hub.url, "modelscope": hub.url}
    endpoints[origin] = "http://127.0.0.1:9"
    assert names(verify(GLM, folder, endpoints=endpoints)) == [SHARD]
    require_as_it_came(folder)


@pytest.mark.parametrize(
    "record",
    [
        None,
        "[]",
        '{"hub": "huggingface", "repository": "x/y", "revision": "main", "files": []}',
        '{"hub": "elsewhere", "repository": "x/y", "revision": "main", "files": [%s]}',
        '{"hub": "huggingface", "repository": "x/y", "files": [%s]}',
        '{"hub": "huggingface", "repository": "x/y", "revision": "main", '
        '"files": [{"name": "../config.json", "size": 3}]}',
        '{"hub": "huggingface", "repository": "x/y", "revision": "main", '
        '"files": [{"name": "modeling_chatglm.py", "size": 3}]}',
        '{"hub": "huggingface", "repository": "x/y", "revision": "main", '
        '"files": [{"name": "config.json", "size": 3, "sha256": "no"}]}',
    ],
)
def test_a_folder_that_pull_did_not_bring_is_left_alone(
    record: str | None, hub: type[StandIn], tmp_path: Path
) -> None:
    """A record that `pull` would not have written could name any file."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    if record is not None:
        text = record.replace("%s", '{"name": "config.json", "size": 3}').replace("x/y", "THUDM/x")
        (tmp_path / RECORD_FILE).write_text(text.replace("THUDM/x", GLM.huggingface))
    with pytest.raises(StartupError, match="Nothing is known of what"):
        check(hub, tmp_path)
    assert not hub.asked
    assert (tmp_path / "config.json").read_bytes() == FILES["config.json"]


def test_where_the_hub_told_no_hash_form_and_size_are_what_is_known(
    hub: type[StandIn], tmp_path: Path
) -> None:
    hub.tells_no_hashes = True
    endpoints: dict[HubName, str] = {"huggingface": hub.url, "modelscope": hub.url}
    folder = pull(GLM, tmp_path / "models", endpoints=endpoints).folder
    assert check(hub, folder).num_without_hash == 5
    (folder / SHARD).write_bytes(bytes(len(FILES[SHARD])))
    assert names(check(hub, folder)) == [SHARD]


def test_the_command_tells_what_it_finds(hub: type[StandIn], sightline: Any) -> None:
    environ = {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url}
    words = ("pull", "glm-4v-9b", "--verify")
    assert sightline(*words, **environ).status == 0  # it is not here: it comes
    told = sightline(*words, **environ)
    assert told.out.startswith("glm-4v-9b is as it was downloaded: 5 files, ")
    folder = sightline.folder / ".cache" / "sightline" / "models" / "glm-4v-9b"
    rot(folder, SHARD)
    offline = sightline(*words, "--offline", **environ)
    assert (offline.status, f"{SHARD}. This is offline" in offline.err) == (2, True)
    told = sightline(*words, **environ)
    assert f"  {SHARD} is not what was downloaded.\n" in told.err
    assert told.out.startswith("glm-4v-9b is whole again: 1 of 5 files were fetched anew")
    require_as_it_came(folder)
    assert sightline("pull", "somebody/mine", "--quiet", **environ).status == 0
    assert sightline("pull", "mine", "--verify", **environ).out.startswith("mine is as it was")
    rot(folder, SHARD)
    quiet = sightline(*words, "--quiet", **environ)
    assert (quiet.status, quiet.out, quiet.err) == (0, "", "")
    require_as_it_came(folder)

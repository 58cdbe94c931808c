"""Downloads that break off, lie, or stall: there is a whole model in the end, or none."""

import errno
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in_hub import StandIn, stand_in_hub
from tests.conftest import CommandLine
from weight_bytes import safetensors

from sightline.cli import catalogue
from sightline.core.errors import StartupError
from sightline.hub.local import check_folder
from sightline.hub.names import find_model
from sightline.hub.pull import Pulled, pull, remove
from sightline.hub.remote import HubFailed, HubName, Subject, while_it_flows
from sightline.hub.transfer import MAX_FRUITLESS, disk_failed

MIB = 1024 * 1024
WEIGHTS = "model-00002-of-00002.safetensors"
FILES = {
    "config.json": b'{"model_type": "chatglm"}',
    "tokenizer.model": b"IQ== 0\n",
    "model.safetensors.index.json": b'{"weight_map": {"a": "model-00001-of-00002.safetensors", '
    b'"b": "model-00002-of-00002.safetensors"}}',
    "model-00001-of-00002.safetensors": safetensors(bytes(range(256)) * 100),
    WEIGHTS: safetensors(hashlib.sha512(b"weights").digest() * (5 * MIB // 64)),
}
GLM = find_model("glm-4v-9b")
BOTH: list[HubName] = ["huggingface", "modelscope"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[StandIn]]:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sightline.hub.transfer.FIRST_PAUSE_S", 0.01)
    with stand_in_hub(FILES) as served:
        yield served


def download(hub: type[StandIn], into: Path, **options: Any) -> Pulled:
    endpoints: dict[HubName, str] = {"huggingface": hub.url, "modelscope": hub.url}
    return pull(GLM, into, endpoints=endpoints, **options)


def require_whole(folder: Path) -> None:
    names = {file.name for file in folder.iterdir()}
    assert names == {*FILES, "sightline-model.json"}
    assert all((folder / name).read_bytes() == data for name, data in FILES.items())


def starts(hub: type[StandIn]) -> list[int]:
    return [start for name, start in hub.ranges if name == WEIGHTS]


@pytest.mark.parametrize("name", BOTH)
def test_a_line_that_breaks_again_and_again_is_taken_up_where_it_broke(
    hub: type[StandIn], tmp_path: Path, name: HubName
) -> None:
    hub.cuts[WEIGHTS] = [MIB + 7, 0, 2 * MIB, 1]
    require_whole(download(hub, tmp_path, hubs=[name]).folder)
    first, *further = starts(hub)
    assert first == 0
    assert further == sorted(further)
    assert further[-1] >= 3 * MIB


@pytest.mark.parametrize("name", BOTH)
def test_a_server_that_knows_no_ranges_starts_again(
    hub: type[StandIn], tmp_path: Path, name: HubName
) -> None:
    hub.cuts[WEIGHTS] = [2 * MIB]
    hub.ignores_ranges = True
    require_whole(download(hub, tmp_path, hubs=[name]).folder)
    assert starts(hub) == [0, 0]


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "set (HF_TOKEN|MODELSCOPE_API_TOKEN)"),
        (403, "needs a key"),
        (404, r"is not there \(404\)"),
        (500, "answers 500"),
    ],
)
def test_what_a_hub_answers_instead_is_said_in_one_line(
    hub: type[StandIn],
    tmp_path: Path,
    name: HubName,
    status: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("modelscope_hub._legacy_api.REPO_TREE_PAGE_MAX_ATTEMPTS", 1)
    hub.faults["list"] = status
    with pytest.raises(StartupError, match=message) as caught:
        download(hub, tmp_path, hubs=[name])
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("name", BOTH)
def test_a_file_that_cannot_be_had_ends_it_and_keeps_the_rest(
    hub: type[StandIn], tmp_path: Path, name: HubName
) -> None:
    hub.faults[WEIGHTS] = 404
    with pytest.raises(StartupError, match=f"/{WEIGHTS} is not there"):
        download(hub, tmp_path, hubs=[name])
    assert not (tmp_path / GLM.name).exists()
    hub.faults.clear()
    hub.ranges.clear()
    require_whole(download(hub, tmp_path, hubs=[name]).folder)
    assert "config.json" not in [asked for asked, _ in hub.ranges]


def test_a_hub_that_fails_for_a_while_is_asked_again(hub: type[StandIn], tmp_path: Path) -> None:
    hub.faults[WEIGHTS] = 503

    def mend() -> None:
        while not [path for path in hub.asked if WEIGHTS in path]:
            time.sleep(0.001)
        hub.faults.clear()

    mender = threading.Thread(target=mend)
    mender.start()
    require_whole(download(hub, tmp_path, hubs=["huggingface"]).folder)
    mender.join()


@pytest.mark.parametrize("name", BOTH)
def test_a_line_that_goes_silent_is_given_up(
    hub: type[StandIn], tmp_path: Path, name: HubName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.hub.remote.STALL_TIMEOUT_S", 0.2)
    monkeypatch.setattr("modelscope_hub._legacy_api.DOWNLOAD_TIMEOUT", 0.2)
    hub.holds[WEIGHTS] = 0
    with pytest.raises(StartupError, match=f"{name}: .* cannot be reached: ") as caught:
        download(hub, tmp_path, hubs=[name])
    assert caught.value.code == "hub_unreachable"
    hub.holds.clear()
    require_whole(download(hub, tmp_path, hubs=[name]).folder)


@pytest.mark.parametrize("name", BOTH)
def test_what_came_before_a_line_went_silent_is_kept(
    hub: type[StandIn], tmp_path: Path, name: HubName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.hub.remote.STALL_TIMEOUT_S", 0.2)
    monkeypatch.setattr("modelscope_hub._legacy_api.DOWNLOAD_TIMEOUT", 0.2)
    hub.holds[WEIGHTS] = 2 * MIB - 1
    require_whole(download(hub, tmp_path, hubs=[name]).folder)
    assert starts(hub) == [0, 2 * MIB - 1, 4 * MIB - 2]


@pytest.mark.parametrize("name", BOTH)
def test_a_line_that_trickles_is_given_up_and_what_came_is_kept(
    hub: type[StandIn], tmp_path: Path, name: HubName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.hub.remote.SLOW_S", 0.2)
    hub.trickles[WEIGHTS] = 100
    with pytest.raises(StartupError, match=f"{name}: .*/{WEIGHTS} comes too slowly") as caught:
        download(hub, tmp_path, hubs=[name])
    assert caught.value.code == "hub_slow"
    assert len(starts(hub)) == MAX_FRUITLESS
    assert starts(hub) == sorted(starts(hub))
    assert starts(hub)[-1] > 100
    hub.trickles.clear()
    require_whole(download(hub, tmp_path, hubs=[name]).folder)


@pytest.mark.parametrize("name", BOTH)
def test_a_line_that_trickles_now_and_then_is_taken_up_again(
    hub: type[StandIn], tmp_path: Path, name: HubName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.hub.remote.SLOW_S", 0.05)
    monkeypatch.setattr("sightline.hub.transfer.MAX_FRUITLESS", 2)
    hub.trickles[WEIGHTS] = MIB
    require_whole(download(hub, tmp_path, hubs=[name]).folder)
    assert len(starts(hub)) >= 5  # a busy machine trickles by itself, too


def test_a_rate_is_that_of_waiting_not_of_whoever_takes_the_bytes() -> None:
    now = [0.0]

    def arriving(seconds: float) -> Iterator[bytes]:
        for _ in range(100):
            now[0] += seconds
            yield bytes(1000)

    asked = Subject("huggingface", "a/b", "c", " (HF_ENDPOINT=http://m)")
    for data in while_it_flows(arriving(0.9), asked, lambda: now[0]):
        assert len(data) == 1000
        now[0] += 3600
    with pytest.raises(HubFailed) as caught:
        list(while_it_flows(arriving(1.0), asked, lambda: now[0]))
    assert caught.value.message == (
        "huggingface: a/b/c comes too slowly (HF_ENDPOINT=http://m): 1000 bytes a second for 30 s."
    )


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    "lie",
    [
        FILES[WEIGHTS][:-1] + b"?",
        FILES[WEIGHTS] + b"?",
        FILES[WEIGHTS][:-1],
        b"<!doctype html><title>Log in to the hotel</title>",
        b"",
    ],
    ids=["flipped", "longer", "shorter", "web page", "empty"],
)
def test_another_file_than_was_listed_is_never_taken(
    hub: type[StandIn], tmp_path: Path, name: HubName, lie: bytes
) -> None:
    hub.lies[WEIGHTS] = lie
    with pytest.raises(StartupError):
        download(hub, tmp_path, hubs=[name])
    assert not (tmp_path / GLM.name).exists()
    hub.lies.clear()
    require_whole(download(hub, tmp_path, hubs=[name]).folder)


def test_a_small_file_is_known_by_its_git_hash(hub: type[StandIn], tmp_path: Path) -> None:
    hub.lies["config.json"] = FILES["config.json"].replace(b"chatglm", b"chatgpt")
    with pytest.raises(StartupError, match=r"config\.json comes damaged"):
        download(hub, tmp_path, hubs=["huggingface"])


def test_one_damaged_copy_is_fetched_again(hub: type[StandIn], tmp_path: Path) -> None:
    part = tmp_path / f".partial-{GLM.name}" / f"{WEIGHTS}.part"
    hub.cuts[WEIGHTS] = [2 * MIB] * 5
    hub.faults["model-00001-of-00002.safetensors"] = 404
    with pytest.raises(StartupError):
        download(hub, tmp_path, hubs=["huggingface"])
    hub.cuts.clear()
    hub.faults.clear()
    part.write_bytes(b"\0" * MIB)  # a bad block, or whatever it was
    require_whole(download(hub, tmp_path, hubs=["huggingface"]).folder)


def test_half_a_model_goes_on_from_the_hub_it_came_from(hub: type[StandIn], tmp_path: Path) -> None:
    hub.faults[WEIGHTS] = 404
    with pytest.raises(StartupError):
        download(hub, tmp_path, hubs=["modelscope"])
    hub.faults.clear()
    assert download(hub, tmp_path).hub == "modelscope"


def test_whole_files_of_one_hub_serve_the_other(
    hub: type[StandIn], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.hub.pull.NUM_AT_ONCE", 1)
    hub.faults[WEIGHTS] = 404
    with pytest.raises(StartupError):
        download(hub, tmp_path, hubs=["huggingface"])
    hub.faults.clear()
    hub.ranges.clear()
    assert download(hub, tmp_path, hubs=["modelscope"]).hub == "modelscope"
    assert "model-00001-of-00002.safetensors" not in [name for name, _ in hub.ranges]


def test_files_that_a_new_revision_changed_come_anew(hub: type[StandIn], tmp_path: Path) -> None:
    hub.cuts[WEIGHTS] = [2 * MIB]
    hub.faults["tokenizer.model"] = 404
    with pytest.raises(StartupError):
        download(hub, tmp_path, hubs=["modelscope"])
    hub.faults.clear()
    hub.cuts.clear()
    hub.files[WEIGHTS] = safetensors(FILES[WEIGHTS][::-1])
    pulled = download(hub, tmp_path, hubs=["modelscope"])
    assert (pulled.folder / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


@pytest.mark.parametrize("name", BOTH)
def test_where_no_hash_is_told_a_file_of_weights_must_have_its_form(
    hub: type[StandIn], tmp_path: Path, name: HubName
) -> None:
    """Another file of the right length, or a cut one on a hub that tells no sizes either."""
    hub.tells_no_hashes = True
    for shard in ("model-00001-of-00002.safetensors", WEIGHTS):
        hub.files[shard] = safetensors(bytes(70_000))
    hub.lies[WEIGHTS] = b"Log in".ljust(len(hub.files[WEIGHTS]))
    with pytest.raises(StartupError, match=f"{WEIGHTS} comes damaged"):
        download(hub, tmp_path, hubs=[name])
    assert not (tmp_path / GLM.name).exists()
    hub.lies.clear()
    pulled = download(hub, tmp_path, hubs=[name])
    assert (pulled.folder / WEIGHTS).read_bytes() == safetensors(bytes(70_000))


def test_without_a_hash_halves_of_two_files_are_never_joined(
    hub: type[StandIn], tmp_path: Path
) -> None:
    hub.tells_no_hashes = True
    for shard in ("model-00001-of-00002.safetensors", WEIGHTS):
        hub.files[shard] = safetensors(bytes(70_000))
    hub.files["tokenizer.model"] = b"first".ljust(MIB)
    hub.cuts["tokenizer.model"] = [1000, 0, 0, 0, 0, 0]
    with pytest.raises(StartupError):
        download(hub, tmp_path, hubs=["modelscope"])
    hub.cuts.clear()
    hub.files["tokenizer.model"] = b"other".ljust(MIB)
    pulled = download(hub, tmp_path, hubs=["modelscope"])
    assert (pulled.folder / "tokenizer.model").read_bytes() == b"other".ljust(MIB)


def test_without_a_hash_a_file_of_another_repository_is_not_kept(
    hub: type[StandIn], tmp_path: Path
) -> None:
    """Both are gathered under the name `foo`, and their configurations are of one length."""
    endpoints: dict[HubName, str] = {"huggingface": hub.url}
    hub.tells_no_hashes = True
    for shard in ("model-00001-of-00002.safetensors", WEIGHTS):
        hub.files[shard] = safetensors(bytes(70_000))
    hub.files["config.json"] = b'{"model_type": "chatglm", "a": 1}'
    hub.faults[WEIGHTS] = 404
    with pytest.raises(StartupError):
        pull(find_model("one/foo"), tmp_path, hubs=["huggingface"], endpoints=endpoints)
    hub.faults.clear()
    hub.files["config.json"] = b'{"model_type": "chatglm", "a": 2}'
    pulled = pull(find_model("two/foo"), tmp_path, hubs=["huggingface"], endpoints=endpoints)
    assert (pulled.folder / "config.json").read_bytes() == hub.files["config.json"]


@pytest.mark.parametrize("name", BOTH)
def test_a_listing_cannot_name_a_file_of_another_folder(
    hub: type[StandIn], tmp_path: Path, name: HubName
) -> None:
    for evil in ("../../evil", "..", "/etc/passwd", "a/config.json", "modeling_chatglm.py"):
        hub.more_rows[evil] = 10
    require_whole(download(hub, tmp_path / "models", hubs=[name]).folder)
    assert {path.name for path in tmp_path.iterdir()} <= {"models", "hf", ".cache", ".modelscope"}


def test_an_index_cannot_name_a_file_of_another_folder(hub: type[StandIn], tmp_path: Path) -> None:
    (tmp_path / "evil.safetensors").write_bytes(b"evil")
    hub.files["model.safetensors.index.json"] = json.dumps(
        {"weight_map": {"a": WEIGHTS, "b": "../../evil.safetensors"}}
    ).encode()
    with pytest.raises(StartupError, match=r"names \.\./\.\./evil\.safetensors, which is not"):
        download(hub, tmp_path / "models", hubs=["huggingface"])
    assert not (tmp_path / "models" / GLM.name).exists()


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    ("file", "size"),
    [
        ("generation_config.json", 10**12),
        ("generation_config.json", -1),
        ("model-00003-of-00003.safetensors", 0),
        ("model-00003-of-00003.safetensors", -1),
    ],
)
def test_files_of_impossible_sizes_are_refused_before_a_byte_comes(
    hub: type[StandIn], tmp_path: Path, name: HubName, file: str, size: int
) -> None:
    hub.more_rows[file] = size
    with pytest.raises(StartupError, match=rf"{file} .* {size} bytes, which cannot be"):
        download(hub, tmp_path, hubs=[name])
    assert not hub.ranges


@pytest.mark.parametrize("name", BOTH)
def test_what_a_hub_answers_instead_is_said_in_chinese_too(
    hub: type[StandIn], tmp_path: Path, name: HubName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "_language", "zh")
    hub.faults["config.json"] = 418
    with pytest.raises(StartupError) as caught:
        download(hub, tmp_path, hubs=[name])
    assert catalogue.error(caught.value).endswith("/config.json：模型站返回 418。")


@pytest.mark.parametrize("name", BOTH)
def test_a_crowded_hub_is_asked_again_when_it_says(
    hub: type[StandIn], tmp_path: Path, name: HubName
) -> None:
    hub.next_statuses[WEIGHTS] = [429, 416, 503, 429]
    require_whole(download(hub, tmp_path, hubs=[name]).folder)
    assert not hub.next_statuses[WEIGHTS]


@pytest.mark.parametrize(("name", "status"), [(hub, code) for hub in BOTH for code in (401, 403)])
def test_a_file_behind_a_gate_says_which_key_is_missing(
    hub: type[StandIn], tmp_path: Path, name: HubName, status: int
) -> None:
    hub.faults[WEIGHTS] = status
    with pytest.raises(StartupError, match=r"needs a key .*set (HF_TOKEN|MODELSCOPE_API_TOKEN)"):
        download(hub, tmp_path, hubs=[name])
    assert not (tmp_path / GLM.name).exists()


@pytest.mark.parametrize("name", BOTH)
def test_a_file_may_lie_on_another_host_which_never_gets_the_key(
    hub: type[StandIn], tmp_path: Path, name: HubName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-secret")
    with stand_in_hub(FILES) as warehouse:
        hub.elsewhere[WEIGHTS] = warehouse.url.replace("127.0.0.1", "localhost")
        warehouse.cuts[WEIGHTS] = [2 * MIB]
        require_whole(download(hub, tmp_path, hubs=[name]).folder)
        assert starts(warehouse) == [0, 2 * MIB]
        assert warehouse.keys == [None, None]
    if name == "huggingface":
        assert set(hub.keys) == {"Bearer hf_secret"}


@pytest.mark.parametrize("name", BOTH)
def test_a_file_that_is_always_elsewhere_is_given_up(
    hub: type[StandIn], tmp_path: Path, name: HubName
) -> None:
    hub.elsewhere[WEIGHTS] = hub.url
    with pytest.raises(StartupError, match=f"{name}: ") as caught:
        download(hub, tmp_path, hubs=[name])
    assert "\n" not in caught.value.message
    assert not (tmp_path / GLM.name).exists()


def test_a_linked_cache_is_as_good_as_any(hub: type[StandIn], tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "models").symlink_to(tmp_path / "disk")
    require_whole(download(hub, tmp_path / "models").folder)
    require_whole(tmp_path / "disk" / GLM.name)


def test_a_link_to_nothing_is_said_before_a_byte_comes(hub: type[StandIn], tmp_path: Path) -> None:
    (tmp_path / GLM.name).symlink_to(tmp_path / "unmounted")
    with pytest.raises(StartupError, match="is a link to nothing"):
        download(hub, tmp_path)
    assert not hub.asked


def test_a_model_whose_file_was_cut_since_is_not_taken_for_whole(
    hub: type[StandIn], tmp_path: Path
) -> None:
    folder = download(hub, tmp_path).folder
    (folder / WEIGHTS).write_bytes(FILES[WEIGHTS][:-9])
    with pytest.raises(StartupError, match=f"{WEIGHTS} .* bytes; {len(FILES[WEIGHTS])} were"):
        download(hub, tmp_path)
    with pytest.raises(StartupError, match="--verify` fetches such files again"):
        check_folder(folder)
    assert remove(GLM.name, tmp_path)
    require_whole(download(hub, tmp_path).folder)


# The command, as a process of its own.


def start(
    sightline: CommandLine,
    hub: type[StandIn],
    *arguments: str,
    **options: Any,
) -> "subprocess.Popen[str]":
    mirrors = {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url}
    return subprocess.Popen(
        sightline.command(*(arguments or ("pull", "glm-4v-9b"))),
        cwd=sightline.folder,
        env=sightline.environ | mirrors,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def pulled_by(sightline: CommandLine, hub: type[StandIn]) -> Path:
    done = sightline("pull", "glm-4v-9b", HF_ENDPOINT=hub.url, MODELSCOPE_ENDPOINT=hub.url)
    assert done.status == 0, done.err
    return models(sightline) / "glm-4v-9b"


def models(sightline: CommandLine) -> Path:
    return sightline.folder / ".cache" / "sightline" / "models"


def wait_for_part(sightline: CommandLine, size: int) -> None:
    part = models(sightline) / ".partial-glm-4v-9b" / f"{WEIGHTS}.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size >= size):
        assert time.monotonic() < deadline, "nothing comes"
        time.sleep(0.005)


@pytest.mark.live
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_killed_in_the_middle_leaves_no_model_and_loses_little(
    hub: type[StandIn], sightline: CommandLine, number: signal.Signals
) -> None:
    hub.holds[WEIGHTS] = 3 * MIB
    with start(sightline, hub) as process:
        wait_for_part(sightline, 3 * MIB)
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert ("goes on from here" in told) == (number == signal.SIGINT)
    assert "Traceback" not in told
    assert not (models(sightline) / "glm-4v-9b").exists()
    listed = sightline("models")
    assert "glm-4v-9b" not in listed.out
    hub.holds.clear()
    hub.may_go_on.set()
    hub.ranges.clear()
    require_whole(pulled_by(sightline, hub))
    assert starts(hub) == [3 * MIB]


@pytest.mark.live
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_is_stopped_while_it_downloads_ends_well(
    hub: type[StandIn], sightline: CommandLine, number: signal.Signals
) -> None:
    hub.holds[WEIGHTS] = MIB
    with start(sightline, hub, "serve", "glm-4v-9b", "--port", "0", "--force") as process:
        wait_for_part(sightline, MIB)
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0
    assert told.splitlines()[-1].startswith("Stopped. What has come is kept")


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", BOTH)
def test_after_fifty_kills_the_model_is_whole_and_little_came_twice(
    hub: type[StandIn], sightline: CommandLine, name: HubName
) -> None:
    chance = random.Random(7)
    weights = safetensors(chance.randbytes(80 * MIB))
    hub.files[WEIGHTS] = weights
    came = 0
    for _ in range(50):
        hub.is_held.clear()
        hub.may_go_on.clear()
        hub.holds[WEIGHTS] = chance.randrange(3 * MIB // 2)
        with start(sightline, hub, "pull", "glm-4v-9b", "--from", name, "-q") as process:
            if not hub.is_held.wait(300):
                process.kill()
                pytest.fail(f"{len(hub.asked)} {hub.ranges[-3:]} {process.communicate()}")
            time.sleep(chance.random() * 0.02)  # before, while or after it is written
            process.kill()
            process.communicate()
        came += hub.holds[WEIGHTS]
        hub.may_go_on.set()
        assert not (models(sightline) / "glm-4v-9b").exists()
    hub.holds.clear()
    hub.ranges.clear()
    assert (pulled_by(sightline, hub) / WEIGHTS).read_bytes() == weights
    came += len(weights) - starts(hub)[0]
    assert starts(hub)[0] > 5 * MIB
    assert came - len(weights) <= 50 * 2 * MIB


@pytest.mark.live
def test_a_model_that_is_being_downloaded_is_not_removed(
    hub: type[StandIn], sightline: CommandLine
) -> None:
    hub.holds[WEIGHTS] = MIB
    with start(sightline, hub) as process:
        wait_for_part(sightline, MIB)
        removed = sightline("rm", "glm-4v-9b")
        process.kill()
        process.communicate()
    assert removed.status == 2
    assert "being downloaded by another process" in removed.err
    assert sightline("rm", "glm-4v-9b").status == 0
    assert not list(models(sightline).iterdir())


@pytest.mark.live
def test_two_at_once_do_not_meet(hub: type[StandIn], sightline: CommandLine) -> None:
    hub.holds[WEIGHTS] = MIB
    with start(sightline, hub) as process:
        wait_for_part(sightline, MIB)
        second = sightline("pull", "glm-4v-9b", HF_ENDPOINT=hub.url, MODELSCOPE_ENDPOINT=hub.url)
        assert second.status == 2
        assert "being downloaded by another process" in second.err
        hub.may_go_on.set()
        out, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert "sightline serve glm-4v-9b" in out
    require_whole(models(sightline) / "glm-4v-9b")


@pytest.mark.live
def test_a_full_disk_keeps_what_came(hub: type[StandIn], sightline: CommandLine) -> None:
    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, 2 * MIB))

    with start(sightline, hub, preexec_fn=no_large_files) as process:
        _, told = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "What has come is kept" in told
    assert "Traceback" not in told
    assert not (models(sightline) / "glm-4v-9b").exists()
    hub.ranges.clear()
    require_whole(pulled_by(sightline, hub))
    assert starts(hub)[0] > 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_named(hub: type[StandIn], tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(StartupError, match=r"Cannot write to .*locked"):
        download(hub, locked / "models")


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    ("index", "message"),
    [
        (b'{"weight_map": {"a": "%s", "b": "model-3.safetensors"}}', "names model-3.safetensors"),
        (b"<html>", "web page"),
        (b"[1]", "not a JSON object"),
        (None, "no model.safetensors.index.json"),
    ],
    ids=["a shard that is not there", "web page", "list", "missing"],
)
def test_an_index_that_is_no_good_is_said_before_the_weights_come(
    hub: type[StandIn], tmp_path: Path, name: HubName, index: bytes | None, message: str
) -> None:
    if index is None:
        del hub.files["model.safetensors.index.json"]
    else:
        hub.files["model.safetensors.index.json"] = index.replace(b"%s", WEIGHTS.encode())
    with pytest.raises(StartupError, match=message):
        download(hub, tmp_path, hubs=[name])
    assert not [asked for asked, _ in hub.ranges if asked.endswith(".safetensors")]


def test_a_repository_without_a_tokenizer_is_refused_before_a_byte_comes(
    hub: type[StandIn], tmp_path: Path
) -> None:
    del hub.files["tokenizer.model"]
    with pytest.raises(StartupError, match="no tokenizer"):
        download(hub, tmp_path, hubs=["huggingface"])
    assert not hub.ranges


def test_a_hub_whose_repository_is_no_model_loses_to_the_other(
    hub: type[StandIn], tmp_path: Path
) -> None:
    with stand_in_hub({"README.md": b"It has moved."}) as empty:
        endpoints: dict[HubName, str] = {"huggingface": hub.url, "modelscope": empty.url}
        with pytest.raises(StartupError, match=r"no config\.json"):
            pull(GLM, tmp_path, hubs=["modelscope"], endpoints=endpoints)
        endpoints = {"huggingface": empty.url, "modelscope": hub.url}
        assert pull(GLM, tmp_path / "a", endpoints=endpoints).hub == "modelscope"
        endpoints = {"huggingface": hub.url, "modelscope": empty.url}
        assert pull(GLM, tmp_path / "b", endpoints=endpoints).hub == "huggingface"


@pytest.mark.parametrize("name", BOTH)
def test_a_half_that_a_hub_will_not_go_on_from_is_begun_anew(
    hub: type[StandIn], tmp_path: Path, name: HubName
) -> None:
    """Else every further call would end at the same 416."""
    hub.cuts[WEIGHTS] = [2 * MIB]
    hub.next_statuses[WEIGHTS] = [500]
    hub.faults["tokenizer.model"] = 404
    with pytest.raises(StartupError):
        download(hub, tmp_path, hubs=[name])
    part = tmp_path / f".partial-{GLM.name}" / f"{WEIGHTS}.part"
    part.write_bytes(FILES[WEIGHTS][: 2 * MIB])
    hub.faults.clear()
    hub.cuts.clear()
    hub.ranges.clear()
    hub.next_statuses[WEIGHTS] = [416] * MAX_FRUITLESS
    require_whole(download(hub, tmp_path, hubs=[name]).folder)
    assert starts(hub) == [0]


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    "answer", [b"<html>Log in to the hotel</html>", b"[]", b"null", b"[" * 100_000]
)
def test_a_list_that_is_none_is_called_so(
    hub: type[StandIn],
    tmp_path: Path,
    name: HubName,
    answer: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub, "answer", lambda self, *, head: self.send(answer, head))
    with pytest.raises(StartupError, match="is not what a hub says; is a login page or a proxy"):
        download(hub, tmp_path, hubs=[name])


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    "page",
    [
        b"<!doctype html><title>Log in to the hotel</title>",
        b"<HTML>".ljust(len(FILES[WEIGHTS])),
        b'{"Code": 10010, "Message": "busy"}',
    ],
    ids=["page", "page of the same length", "message"],
)
def test_a_login_page_costs_nothing_that_came(
    hub: type[StandIn], tmp_path: Path, name: HubName, page: bytes
) -> None:
    """It answers 200 to whoever asks for the rest of a file."""
    hub.faults[WEIGHTS] = 404
    with pytest.raises(StartupError):
        download(hub, tmp_path, hubs=[name])
    part = tmp_path / f".partial-{GLM.name}" / f"{WEIGHTS}.part"
    part.write_bytes(FILES[WEIGHTS][: 3 * MIB])
    hub.faults.clear()
    hub.lies[WEIGHTS] = page
    hub.ignores_ranges = True
    with pytest.raises(StartupError, match=r"not the file that was listed; is a login page"):
        download(hub, tmp_path, hubs=[name])
    assert part.stat().st_size == 3 * MIB
    hub.lies.clear()
    hub.ignores_ranges = False
    hub.ranges.clear()
    require_whole(download(hub, tmp_path, hubs=[name]).folder)
    assert starts(hub) == [3 * MIB]


@pytest.mark.parametrize("key", ["ms-sec\nret", "ms-sec…ret"])
def test_a_key_that_cannot_be_one_is_never_told(
    hub: type[StandIn], tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", key)
    monkeypatch.setenv("HF_TOKEN", "hf-sec…ret")
    for name, variable in (("huggingface", "HF_TOKEN"), ("modelscope", "MODELSCOPE_API_TOKEN")):
        with pytest.raises(StartupError, match=f"{variable} holds characters") as caught:
            download(hub, tmp_path, hubs=[name])
        assert "sec" not in caught.value.message


def test_a_record_that_cannot_be_written_costs_nothing_that_came(
    hub: type[StandIn], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk; without the record of it, what is here would be thrown away next time."""
    hub.faults[WEIGHTS] = 404
    monkeypatch.setattr("sightline.hub.pull.NUM_AT_ONCE", 1)
    with pytest.raises(StartupError):
        download(hub, tmp_path, hubs=["huggingface"])
    write = Path.write_text

    def full(self: Path, text: str, *args: Any, **options: Any) -> int:
        write(self, "")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(StartupError, match="What has come is kept; free some space"):
            download(hub, tmp_path, hubs=["huggingface"])
    hub.faults.clear()
    hub.ranges.clear()
    require_whole(download(hub, tmp_path, hubs=["huggingface"]).folder)
    assert [name for name, _ in hub.ranges] == [WEIGHTS]


@pytest.mark.parametrize(
    ("number", "code", "advice"),
    [
        (errno.ENOSPC, "pull_disk", "free some space"),
        (errno.EDQUOT, "pull_disk", "free some space"),
        (errno.EROFS, "pull_write", "look at the disk and its permissions"),
        (errno.EIO, "pull_write", "look at the disk and its permissions"),
    ],
)
def test_only_a_full_disk_wants_space(number: int, code: str, advice: str) -> None:
    error = disk_failed(OSError(number, os.strerror(number)))
    assert error.code == code
    assert advice in error.message

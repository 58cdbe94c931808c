"""`pull`, `rm`, and the download that `serve` and `ask` begin with."""

import os
import pty
import re
import subprocess

import pytest
from stand_in_hub import stand_in_hub
from weight_bytes import safetensors

from sightline.cli.downloading import Rate, duration, progress_line


def small_model(num_bytes: int) -> dict[str, bytes]:
    """Files of a repository whose weights are zeros; its tokenizer is no good."""
    return {
        "config.json": b'{"model_type": "chatglm"}',
        "tokenizer.model": b"IQ== 0\n",
        "model.safetensors": safetensors(bytes(num_bytes)),
    }


def test_every_known_model_is_listed_with_its_licence(sightline):
    lines = sightline("models", "--all").out.splitlines()
    assert any(line.startswith("glm-4v-9b           27.8 GB  zai-org/glm-4v-9b ") for line in lines)
    assert any(line.startswith("qwen2.5-vl-3b ") and "commercial" in line for line in lines)


def test_an_unknown_name_gives_the_nearest_ones(sightline):
    outcome = sightline("pull", "glm4v")
    assert outcome.status == 2
    assert "Nearest: glm-4v-9b" in outcome.err
    assert "最接近" in sightline("--lang", "zh", "pull", "glm4v").err


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        (["pull", "glm-4v"], {"HF_HUB_OFFLINE": "1"}),
        (["pull", "glm-4v", "--offline"], {}),
        (["serve", "glm-4v-9b", "--offline", "--port", "0"], {}),
        (["serve", "THUDM/glm-4v-9b", "--port", "0"], {"SIGHTLINE_OFFLINE": "1"}),
        (["ask", "Hi", "--model", "glm-4v-9b", "--offline"], {}),
    ],
)
def test_offline_asks_no_hub(sightline, arguments, environ):
    outcome = sightline(*arguments, **environ)
    assert outcome.status == 2
    assert "sightline: glm-4v-9b is not here, and this is offline." in outcome.err.splitlines()


def test_what_is_to_be_served_and_cannot_be_had_is_one_line(sightline):
    with stand_in_hub({}) as hub:
        mirrors = {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url}
        hub.faults["list"] = 404
        for name in ("somebody/own-model", "https://huggingface.co/somebody/own-model"):
            outcome = sightline("serve", name, "--port", "0", **mirrors)
            assert outcome.status == 2
            last = outcome.err.splitlines()[-1]
            assert last.startswith("sightline: No hub gave the model.")
            assert last.count("somebody/own-model is not there (404)") == 2
        hub.asked.clear()
        (sightline.folder / "somebody").mkdir()
        outcome = sightline("serve", "somebody/own-model", "--port", "0", **mirrors)
        assert "There is no model folder somebody/own-model" in outcome.err
        assert not hub.asked


def test_hubs_that_cannot_be_reached_are_named_once_each_in_chinese(sightline):
    nowhere = "http://127.0.0.1:9"
    mirrors = {"HF_ENDPOINT": nowhere, "MODELSCOPE_ENDPOINT": nowhere}
    told = sightline("--lang", "zh", "pull", "glm-4v-9b", **mirrors).err
    assert told.startswith("sightline: 没有模型站给出该模型。无法连接 ")
    assert told.count("没有模型站") == 1
    assert told.count("连接被拒绝") == 2
    assert "无法连接 huggingface: zai-org/glm-4v-9b (HF_ENDPOINT=http://127.0.0.1:9)：" in told
    assert (
        "无法连接 modelscope: ZhipuAI/glm-4v-9b (MODELSCOPE_ENDPOINT=http://127.0.0.1:9)：" in told
    )


def test_what_decides_how_a_hub_is_reached_is_named_where_it_is_not(sightline):
    nowhere = "http://127.0.0.1:9"
    proxies = {"HTTP_PROXY": "http://me:secret@127.0.0.1:7", "NO_PROXY": "elsewhere"}
    words = ("pull", "glm-4v-9b", "--from")
    told = sightline(*words, "huggingface", HF_ENDPOINT=nowhere, **proxies).err
    assert told == (
        "sightline: huggingface: zai-org/glm-4v-9b cannot be reached (HF_ENDPOINT="
        "http://127.0.0.1:9, HTTP_PROXY=http://127.0.0.1:7): Connection refused.\n"
    )
    direct = {"MODELSCOPE_DOMAIN": nowhere, "HTTP_PROXY": "http://x", "NO_PROXY": "127.0.0.1"}
    told = sightline(*words, "modelscope", **direct).err
    assert "cannot be reached (MODELSCOPE_DOMAIN=http://127.0.0.1:9): Connection refused" in told


@pytest.mark.parametrize(("hub", "scheme"), [("huggingface", "http"), ("modelscope", "https")])
def test_a_proxy_that_wants_a_password_is_told_from_a_hub_that_does(sightline, hub, scheme):
    with stand_in_hub({}) as proxy:
        proxy.faults["list"] = proxy.faults["proxy"] = 407
        mirrors = {"HF_ENDPOINT": f"{scheme}://hub.invalid", f"{scheme.upper()}_PROXY": proxy.url}
        mirrors["MODELSCOPE_ENDPOINT"] = mirrors["HF_ENDPOINT"]
        words = ("pull", "glm-4v-9b", "--from", hub)
        told = sightline(*words, **mirrors).err
        assert told.endswith(f"{scheme.upper()}_PROXY={proxy.url}): the proxy answers 407.\n")
        assert "代理返回 407。" in sightline("--lang", "zh", *words, **mirrors).err


def test_a_quantised_name_is_no_other_model_and_never_run_as_the_whole_one(sightline):
    assert "glm-4v-9b is not here" in sightline("pull", "glm-4v:int4", "--offline").err


def test_a_log_has_lines_instead_of_bars():
    assert progress_line(7_000_000_000, 28_000_000_000, 50e6) == (
        "   25%  7.00 of 28.00 GB  50.0 MB/s  7 min 00 s left"
    )
    assert progress_line(0, 28_000_000_000, 0) == "    0%  0.00 of 28.00 GB"


@pytest.mark.live
def test_a_terminal_gets_bars_for_the_whole_and_for_each_file(sightline):
    with stand_in_hub(small_model(3_000_000)) as hub:
        hub.holds["model.safetensors"] = 2_500_000
        mirrors = {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url, "TERM": "xterm"}
        ours, theirs = pty.openpty()
        command = sightline.command("pull", "glm-4v-9b")
        environ = sightline.environ | mirrors | {"COLUMNS": "100"}
        with subprocess.Popen(command, env=environ, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            seen = ""
            while piece := _read(ours):
                seen += piece
                if "model.safetensors" in seen:
                    hub.may_go_on.set()
        os.close(ours)
    assert process.returncode == 0
    assert "Licence: GLM-4 licence" in seen
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    assert re.search(r"  model\.safetensors .* \d\.\d/3\.0 MB", plain)
    assert re.search(r"glm-4v-9b .* \d+% \d\.\d/3\.0 MB", plain)
    assert "glm-4v-9b is here (3.0 MB" in plain.splitlines()[-1]


def _read(terminal: int) -> str:
    try:
        return os.read(terminal, 65536).decode(errors="replace")
    except OSError:  # its other end is closed
        return ""


def test_the_rate_is_that_of_the_last_seconds():
    now = [0.0]
    rate = Rate(lambda: now[0])
    for second in range(100):
        now[0] = float(second)
        rate.mark(second * 10 if second < 50 else 490 + (second - 49) * 1000)
    assert rate.bytes_per_s == pytest.approx(1000)


def test_durations_are_said_as_people_do():
    assert [duration(s) for s in (5, 61, 3725)] == ["5 s", "1 min 01 s", "1 h 02 min"]


def test_a_downloaded_model_is_removed_with_its_leftovers(sightline):
    cache = sightline.folder / ".cache" / "sightline" / "models"
    for name in ("glm-4v-9b", ".partial-glm-4v-9b", "glm-4-9b-chat"):
        (cache / name).mkdir(parents=True)
        (cache / name / "config.json").write_text("{}")
    assert sightline("rm", "glm-4v").out.count("Removed") == 2
    assert [folder.name for folder in cache.iterdir()] == ["glm-4-9b-chat"]
    assert sightline("rm", "glm-4v").status == 2


@pytest.mark.live
def test_a_repository_that_was_pulled_is_run_and_removed_by_either_name(sightline):
    with stand_in_hub(small_model(3_000_000)) as hub:
        mirrors = {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url}
        # Its tokenizer is no good: what matters is that it gets so far.
        served = sightline("serve", "somebody/own-model", "--port", "0", **mirrors)
        assert "tokenizer.model is broken" in served.err.splitlines()[-1]
        assert "own-model" in sightline("models").out
        assert "Removed" in sightline("rm", "own-model").out
        assert sightline("pull", "somebody/own-model", **mirrors).status == 0
    assert "Removed" in sightline("models", "rm", "somebody/own-model").out
    assert sightline("models", "rm", "somebody/own-model").status == 2
    outcome = sightline("rm", "own-model")
    assert outcome.status == 2
    assert "There is no model own-model." in outcome.err


@pytest.mark.parametrize("name", ["", ".", "..", "../models", "/", ".lock-x", "x/../y"])
def test_only_a_model_in_the_cache_is_removed(sightline, name):
    cache = sightline.folder / ".cache" / "sightline" / "models"
    (cache / "glm-4v-9b").mkdir(parents=True)
    (cache / ".lock-x").touch()
    outcome = sightline("rm", name)
    assert outcome.status == 2
    assert outcome.err.startswith("sightline: There is no ")
    assert sorted(path.name for path in cache.iterdir()) == [".lock-x", "glm-4v-9b"]


def test_a_link_to_a_model_is_removed_and_the_model_stays(sightline):
    cache = sightline.folder / ".cache" / "sightline" / "models"
    elsewhere = sightline.folder / "elsewhere"
    for folder in (cache, elsewhere):
        folder.mkdir(parents=True)
    (cache / "glm-4v-9b").symlink_to(elsewhere)
    (cache / "glm-4-9b-chat").symlink_to(sightline.folder / "unmounted")
    assert "Removed" in sightline("rm", "glm-4v").out
    assert "Removed" in sightline("rm", "glm-4-9b-chat").out
    assert elsewhere.is_dir()
    assert not [path for path in cache.iterdir() if not path.name.startswith(".lock-")]


@pytest.mark.live
def test_the_folder_of_a_download_may_have_any_name(sightline):
    with stand_in_hub(small_model(1000)) as hub:
        mirrors = {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url}
        outcome = sightline("pull", "glm-4v-9b", "--into=~/my models", **mirrors)
    folder = sightline.folder / "my models"
    assert (folder / "glm-4v-9b").is_dir()
    assert f"sightline serve glm-4v-9b --model-dir '{folder}'" in outcome.out

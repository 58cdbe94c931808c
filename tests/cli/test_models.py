import json
from pathlib import Path

from weight_bytes import safetensors


def make_model(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "chatglm"}')
    (folder / "tokenizer.model").touch()
    (folder / "model.safetensors").write_bytes(safetensors(bytes(2_500_000)))


def test_the_bundled_model_is_listed_first(sightline):
    outcome = sightline("models")
    assert outcome.status == 0
    name, size, unit, model_type, place = outcome.out.splitlines()[0].split()
    assert (name, unit, model_type, place) == ("sightline-demo", "MB", "chatglm", "bundled")
    assert 1 < float(size) <= 14


def test_folders_on_this_machine_are_listed(sightline):
    make_model(sightline.folder / "models" / "glm-4v-9b")
    make_model(sightline.folder / "elsewhere" / "mine")
    lines = sightline("models", "elsewhere").out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["glm-4v-9b", "mine"]
    assert "2.5 MB" in lines[1]


def test_nothing_else_found_names_where_was_looked(sightline):
    assert "No other models in: models" in sightline("models").out


def test_the_name_of_a_folder_cannot_steer_the_terminal(sightline):
    make_model(sightline.folder / "models" / "\x1b[31mred\nline")
    out = sightline("models").out
    assert "\x1b" not in out
    assert len(out.splitlines()) == 2


def test_a_folder_whose_weights_are_cut_is_listed_as_incomplete_and_not_served(sightline):
    folder = sightline.folder / "models" / "我的 glm"
    make_model(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1_000_000])
    why = "model.safetensors is cut off: it has 1,000,000 bytes, its header tells of 2,500,"
    line = sightline("models").out.splitlines()[1]
    assert "models/我的 glm  incomplete: " in line
    assert why in line
    served = sightline("serve", "我的 glm", "--port", "0")
    assert served.status == 2
    assert why in served.err.splitlines()[-1]
    line = sightline("--lang", "zh", "models").out.splitlines()[1]
    assert "不完整：" in line
    assert "model.safetensors 被截断" in line


def test_lists_are_told_to_programs_too(sightline):
    make_model(sightline.folder / "models" / "whole")
    make_model(sightline.folder / "models" / "half")
    (sightline.folder / "models" / "half" / "model.safetensors").write_bytes(b"")
    rows = json.loads(sightline("models", "--json").out)
    assert [row["name"] for row in rows] == ["sightline-demo", "half", "whole"]
    assert [row["problem"] is None for row in rows] == [True, False, True]
    assert rows[2]["path"].endswith("models/whole")
    assert rows[2]["size_bytes"] > 2_500_000
    known = {row["name"]: row for row in json.loads(sightline("models", "--all", "--json").out)}
    assert known["glm-4v-9b"]["size_bytes"] == 27_812_641_792
    assert "THUDM/glm-4v-9b" in known["glm-4v-9b"]["aliases"]


def test_a_link_to_a_model_has_its_own_name(sightline):
    make_model(sightline.folder / "disk" / "snapshots" / "5f3a")
    (sightline.folder / "models").mkdir()
    (sightline.folder / "models" / "mine").symlink_to(sightline.folder / "disk/snapshots/5f3a")
    lines = sightline("models", "disk/snapshots").out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["5f3a", "mine"]
    assert "tokenizer.model is empty" in sightline("serve", "mine", "--port", "0").err


def test_one_folder_by_two_ways_is_listed_once(sightline):
    make_model(sightline.folder / "disk" / "mine")
    (sightline.folder / "models").symlink_to("disk")
    assert len(sightline("models", "disk").out.splitlines()) == 2


def test_columns_stand_straight_beside_chinese_names(sightline):
    make_model(sightline.folder / "models" / "我的模型")
    make_model(sightline.folder / "models" / "mine")
    mine, other = sightline("models").out.splitlines()[1:]
    assert mine.index(" MB") == other.index(" MB") + len("我的模型")


def test_several_models_are_removed_at_once(sightline):
    cache = sightline.folder / ".cache" / "sightline" / "models"
    for name in ("a", "b", "c", "d"):
        make_model(cache / name)
    assert sightline("models", "rm", "a/", "b").out.count("Removed") == 2
    assert sightline("rm", "c", "d").out.count("Removed") == 2


def test_what_is_not_a_download_is_not_removed_and_said_to_be_elsewhere(sightline):
    make_model(sightline.folder / "models" / "mine")
    for words in (["rm", "mine"], ["models", "rm", "mine"]):
        outcome = sightline(*words)
        assert outcome.status == 2
        assert "mine is in models/mine, where `sightline pull` did not put it" in outcome.err
    assert (sightline.folder / "models" / "mine").is_dir()
    assert "sightline-demo is part of sightline" in sightline("rm", "sightline-demo").err
    assert "Which one?" in sightline("models", "rm").err

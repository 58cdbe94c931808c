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

import json
from pathlib import Path

import pytest

from sightline.core.errors import StartupError
from sightline.hub import check_folder, find_models, resolve_model
from sightline.hub.facts import facts_of


def make_model(path: Path, **config: object) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"model_type": "chatglm"} | config))
    (path / "model.safetensors").write_bytes(b"\0" * 100)
    (path / "tokenizer.model").write_bytes(b"")
    return path


def test_a_model_folder_is_described(tmp_path):
    model = check_folder(make_model(tmp_path / "glm"))
    assert (model.name, model.model_type, model.size_bytes) == ("glm", "chatglm", 100)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / "config.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not a JSON object"),
        (lambda folder: (folder / "config.json").write_text("[" * 100_000), "not JSON"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda folder: (folder / "tokenizer.model").unlink(), "no tokenizer"),
    ],
)
def test_a_folder_that_lacks_something_is_refused_by_name(spoil, message, tmp_path):
    folder = make_model(tmp_path / "glm")
    spoil(folder)
    with pytest.raises(StartupError) as caught:
        check_folder(folder)
    assert message in caught.value.message


def test_a_shard_that_the_index_names_must_be_there(tmp_path):
    folder = make_model(tmp_path / "glm")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {str(i): f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(StartupError, match=r"model-00002-of-00002\.safetensors is missing"):
        check_folder(folder)


def test_a_missing_folder_and_a_file_are_refused(tmp_path):
    with pytest.raises(StartupError, match="There is no model folder"):
        check_folder(tmp_path / "none")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StartupError, match="is a file"):
        check_folder(file)


def test_models_are_found_in_a_folder_and_its_subfolders(tmp_path):
    make_model(tmp_path / "b")
    make_model(tmp_path / "a")
    (tmp_path / "notes").mkdir()
    assert [model.name for model in find_models([tmp_path, tmp_path / "a"])] == ["a", "b"]


def test_a_name_means_the_folder_of_that_name(tmp_path, monkeypatch):
    folder = make_model(tmp_path / "models" / "glm")
    monkeypatch.chdir(tmp_path)
    assert resolve_model("glm", [tmp_path / "models"]) == folder
    assert resolve_model(str(folder), []) == folder
    with pytest.raises(StartupError, match="There is no model folder qwen"):
        resolve_model("qwen", [tmp_path / "models"])


def test_a_known_name_that_is_not_here_says_how_to_fetch_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StartupError, match="`sightline pull qwen2-vl-7b` fetches it"):
        resolve_model("Qwen/Qwen2-VL-7B-Instruct", [tmp_path])
    folder = make_model(tmp_path / "qwen2-vl-7b")
    assert resolve_model("Qwen/Qwen2-VL-7B-Instruct", [tmp_path]) == folder
    make_model(tmp_path / ".partial-glm-4v-9b")
    assert [model.name for model in find_models([tmp_path])] == ["qwen2-vl-7b"]


def test_a_folder_may_have_any_spelling_of_the_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = make_model(tmp_path / "models" / "Qwen2-VL-7B-Instruct")
    assert resolve_model("qwen2-vl-7b:int8", [tmp_path / "models"]) == folder


def test_a_folder_may_have_its_number_format_behind_it(tmp_path, monkeypatch):
    folder = make_model(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert resolve_model(f"{folder}:int8", []) == folder
    assert resolve_model("./mine/:INT4", []) == Path("mine")
    very = make_model(tmp_path / "mine:int8")
    assert resolve_model(f"{folder}:int8", []) == very


def test_a_slash_behind_a_name_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert facts_of("THUDM/glm-4v-9b/", []).name == "glm-4v-9b"
    assert facts_of("glm-4v-9b/:int8", []).name == "glm-4v-9b"
    folder = make_model(tmp_path / "models" / "mine")
    assert resolve_model("mine/", [tmp_path / "models"]) == folder
    with pytest.raises(StartupError, match="can be had: glm-4v-9b, "):
        resolve_model("THUDM/glm-4v/", [])


def test_a_model_that_was_pulled_tells_its_licence_and_origin(tmp_path):
    folder = make_model(tmp_path / "glm")
    assert check_folder(folder).licence is None
    record = {"hub": "modelscope", "repository": "ZhipuAI/glm-4v-9b", "licence": "GLM-4 licence"}
    (folder / "sightline-model.json").write_text(json.dumps(record))
    model = check_folder(folder)
    assert (model.licence, model.origin) == ("GLM-4 licence", "modelscope:ZhipuAI/glm-4v-9b")


def test_a_model_that_was_pulled_is_found_by_its_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parents = [tmp_path / "one", tmp_path / "two"]
    for parent, repository in zip(parents, ("a/foo", "b/foo"), strict=True):
        folder = make_model(parent / "foo")
        record = {"hub": "modelscope", "repository": repository}
        (folder / "sightline-model.json").write_text(json.dumps(record))
    assert resolve_model("B/foo:int8", parents) == tmp_path / "two" / "foo"
    assert resolve_model("foo", parents) == tmp_path / "one" / "foo"
    with pytest.raises(StartupError, match="There is no model folder c/foo"):
        resolve_model("c/foo", parents)


@pytest.mark.parametrize("name", ["~nobody-of-that-name/glm", "g" * 300, "x/" * 3000])
def test_a_name_that_no_file_can_have_is_no_model(name, tmp_path):
    with pytest.raises(StartupError, match="There is no model folder"):
        resolve_model(name, [tmp_path])
    with pytest.raises(StartupError, match="There is no model folder"):
        facts_of(name, [tmp_path])
    with pytest.raises(StartupError, match="There is no model folder"):
        check_folder(Path("g" * 300))


def test_a_folder_that_nobody_may_look_into_is_not_called_empty(tmp_path, monkeypatch):
    folder = make_model(tmp_path / "glm")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "resolve", refuse)
    with pytest.raises(StartupError, match=r"^config\.json cannot be read; check who may see "):
        check_folder(folder)


def test_a_link_that_leads_to_itself_holds_no_models(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert find_models([tmp_path / "loop", tmp_path]) == []

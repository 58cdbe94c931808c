import io
import json
import re
import time
import zipfile
from pathlib import Path

import pytest
from weight_bytes import safetensors

from sightline.cli import catalogue
from sightline.core.errors import StartupError
from sightline.hub import check_folder, find_models, resolve_model
from sightline.hub.facts import facts_of

WEIGHTS = safetensors(bytes(100))


def make_model(path: Path, **config: object) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"model_type": "chatglm"} | config))
    (path / "model.safetensors").write_bytes(WEIGHTS)
    (path / "tokenizer.model").write_bytes(b"")
    return path


def test_a_model_folder_is_described(tmp_path):
    model = check_folder(make_model(tmp_path / "glm"))
    assert (model.name, model.model_type, model.size_bytes) == ("glm", "chatglm", len(WEIGHTS))


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


def test_what_is_only_called_like_a_model_is_said_to_hide_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qwen2-vl-2b").mkdir()
    (tmp_path / "glm-4v").touch()
    for name in ("qwen2-vl-2b", "qwen2-vl-2b/:int8", "glm-4v"):
        for find in (resolve_model, facts_of):
            with pytest.raises(StartupError, match=r"no model folder.* hides the model"):
                find(name, [])
    assert resolve_model("./qwen2-vl-2b", []) == Path("qwen2-vl-2b")
    (tmp_path / "qwen2-vl-2b").rmdir()
    make_model(tmp_path / "qwen2-vl-2b")
    assert resolve_model("qwen2-vl-2b:int8", []) == Path("qwen2-vl-2b")


def test_a_page_names_what_was_pulled_from_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = make_model(tmp_path / "models" / "own")
    record = {"hub": "huggingface", "repository": "somebody/own"}
    (folder / "sightline-model.json").write_text(json.dumps(record))
    for page in ("https://huggingface.co/somebody/own/tree/main", "hf.co/somebody/own:int8"):
        assert resolve_model(page, [tmp_path / "models"]) == folder
    with pytest.raises(StartupError, match="There is no model folder else/own"):
        resolve_model("https://huggingface.co/else/own", [tmp_path / "models"])


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


def cut(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(WEIGHTS[:-10])


def cut_in_the_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(WEIGHTS[:20])


def lengthen(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(WEIGHTS + b"?")


def empty(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def put_a_pointer(folder: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:1"
    (folder / "model.safetensors").write_bytes(pointer)


def put_pickle(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)


def cut_pickle(folder: Path) -> None:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(10_000))
    put_pickle(folder, whole.getvalue()[:5000])


def take_old_pickle(folder: Path) -> None:
    put_pickle(folder, b"\x80\x02" + bytes(1000))


def take_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {str(i): f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))


def take_a_page_for_the_config(folder: Path) -> None:
    (folder / "config.json").write_text("<!doctype html><title>Log in</title>")


def take_the_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.model").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, f"is cut off: it has {len(WEIGHTS) - 10} bytes, its header tells of {len(WEIGHTS)}"),
        (cut_in_the_header, "is cut off: it has 20 bytes, its header tells of at least"),
        (lengthen, "is not what it was: it has"),
        (empty, "is empty, not a safetensors file"),
        (put_a_pointer, "is a git-lfs pointer"),
        (cut_pickle, "pytorch_model.bin is cut off"),
        (take_old_pickle, "save it again with a torch from 1.6 on"),
        (take_a_shard, "model-00002-of-00002.safetensors is missing"),
        (take_the_tokenizer, "no tokenizer"),
        (take_a_page_for_the_config, "config.json is a web page"),
    ],
)
def test_a_folder_that_is_not_whole_is_listed_with_its_problem_and_refused(
    spoil, message, tmp_path
):
    folder = make_model(tmp_path / "glm")
    spoil(folder)
    with pytest.raises(StartupError, match=re.escape(message)):
        check_folder(folder)
    (listed,) = find_models([tmp_path])
    assert listed.name == "glm"
    assert message in listed.problem.message


def test_the_weights_themselves_are_not_read_for_the_list(tmp_path):
    """A file of 40 GB, almost all of it a hole."""
    folder = make_model(tmp_path / "glm")
    size = 40 * 10**9
    row = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"a": row}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    began = time.process_time()
    assert check_folder(folder).size_bytes > size
    assert time.process_time() - began < 1


def test_a_whole_folder_goes_before_one_of_the_same_name_that_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cut(make_model(tmp_path / "a" / "glm"))
    assert resolve_model("glm", [tmp_path / "a"]) == tmp_path / "a" / "glm"
    whole = make_model(tmp_path / "b" / "glm")
    assert resolve_model("glm", [tmp_path / "a", tmp_path / "b"]) == whole


def test_a_folder_with_another_kind_of_config_is_no_broken_model(tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "config.json").write_text('{"port": 80}')
    assert find_models([tmp_path]) == []


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "没有 config.json"),
        ({"config.json": b""}, "不是 JSON（空文件）"),
        ({"config.json": b"<!doctype html>"}, "网页，可能是下载失败"),
        ({"config.json": b"[]"}, "实际是 list"),
        ({"config.json": b"{}"}, "没有 model.safetensors"),
        ({"config.json": b"{}", "model.safetensors": WEIGHTS}, "没有分词器"),
        (
            {
                "config.json": b"{}",
                "model.safetensors": b"version https://git-lfs.github.com/spec/v1\n",
                "tokenizer.model": b"",
            },
            "git-lfs 指针，真正的文件没有下载",
        ),
        (
            {
                "config.json": b"{}",
                "model.safetensors.index.json": b'{"weight_map": {"a": "b.safetensors"}}',
                "tokenizer.model": b"",
            },
            "没有 b.safetensors",
        ),
    ],
)
def test_what_a_folder_lacks_is_said_in_one_language(files, says, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StartupError) as caught:
        check_folder(tmp_path)
    catalogue.use("zh")
    try:
        told = catalogue.error(caught.value)
    finally:
        catalogue.use("en")
    assert says in told
    assert not re.search(r"[a-z]+ [a-z]+ [a-z]+", told.replace(str(tmp_path), ""))

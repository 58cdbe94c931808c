"""What the hubs' own tools have downloaded is used where it lies."""

import json
from pathlib import Path

import pytest
from weight_bytes import safetensors

from sightline.hub.caches import cached_model, cached_models
from sightline.settings import hub_caches

FILES = {
    "config.json": json.dumps({"model_type": "chatglm"}).encode(),
    "tokenizer.model": b"IQ== 0\n",
    "model.safetensors": safetensors(bytes(100)),
}


def write_files(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def huggingface_cache(root: Path, repository: str, revision: str = "5f3a") -> Path:
    """As its tool writes it: links of a snapshot into blobs, and what `main` meant."""
    kept = root / ("models--" + repository.replace("/", "--"))
    blobs = write_files(kept / "blobs")
    snapshot = kept / "snapshots" / revision
    snapshot.mkdir(parents=True)
    for name in FILES:
        (snapshot / name).symlink_to(Path("..", "..", "blobs", name))
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(revision)
    assert blobs.is_dir()
    return snapshot


@pytest.mark.parametrize(
    ("environ", "hub"),
    [
        ({"HF_HOME": "own"}, "own/hub"),
        ({"HF_HUB_CACHE": "own"}, "own"),
        ({"XDG_CACHE_HOME": "own"}, "own/huggingface/hub"),
    ],
)
def test_the_cache_of_hugging_face_is_known(environ, hub, tmp_path):
    caches = hub_caches({name: str(tmp_path / place) for name, place in environ.items()})
    assert cached_model("glm-4v-9b", caches) is None
    snapshot = huggingface_cache(tmp_path / hub, "THUDM/glm-4v-9b")
    for name in ("glm-4v:int8", "zai-org/glm-4v-9b", "https://hf.co/THUDM/glm-4v-9b"):
        assert cached_model(name, caches) == snapshot
    assert cached_model("glm-4-9b-chat", caches) is None
    assert cached_model("somebody/glm-4v-9b", caches) is None
    assert [model.name for model in cached_models(caches)] == ["glm-4v-9b"]


@pytest.mark.parametrize("place", ["hub/models", "models", "hub"])
def test_the_cache_of_modelscope_is_known(place, tmp_path):
    caches = hub_caches({"MODELSCOPE_CACHE": str(tmp_path), "HF_HOME": str(tmp_path / "none")})
    folder = write_files(tmp_path / place / "Qwen" / "Qwen2___5-VL-3B-Instruct")
    assert cached_model("qwen2.5-vl-3b", caches) == folder
    assert [model.name for model in cached_models(caches)] == ["Qwen2.5-VL-3B-Instruct"]


def test_half_a_download_is_not_used(tmp_path):
    caches = hub_caches({"HF_HUB_CACHE": str(tmp_path)})
    snapshot = huggingface_cache(tmp_path, "somebody/own")
    assert cached_model("somebody/own", caches) == snapshot
    (snapshot / "model.safetensors").resolve().unlink()
    assert cached_model("somebody/own", caches) is None


@pytest.mark.parametrize("revision", ["../../elsewhere", "", "gone", "\0"])
def test_a_cache_cannot_name_a_folder_outside(revision, tmp_path):
    caches = hub_caches({"HF_HUB_CACHE": str(tmp_path / "hub")})
    snapshot = huggingface_cache(tmp_path / "hub", "somebody/own")
    write_files(tmp_path / "hub" / "elsewhere")
    (snapshot.parent.parent / "refs" / "main").write_text(revision)
    assert cached_model("somebody/own", caches) is None
    (snapshot.parent.parent / "refs" / "main").unlink()
    assert cached_model("somebody/own", caches) == snapshot


def test_the_commands_use_what_is_cached(sightline):
    hub = sightline.folder / ".cache" / "huggingface" / "hub"
    snapshot = huggingface_cache(hub, "zai-org/glm-4v-9b")
    assert sightline("pull", "glm-4v").out == f"glm-4v-9b was here already: {snapshot}\n"
    lines = sightline("models").out.splitlines()
    assert [line.split()[0] for line in lines] == ["sightline-demo", "glm-4v-9b"]
    # It is looked into, not fetched.
    refused = sightline("serve", "glm-4v-9b", "--port", "0", "--force")
    assert (refused.status, "downloading" in refused.err) == (2, False)
    assert "tokenizer.model is broken" in refused.err

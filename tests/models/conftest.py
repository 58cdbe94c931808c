import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

GOLDEN = Path(__file__).parent.parent / "data" / "golden"


@pytest.fixture
def golden() -> Path:
    return GOLDEN


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A writable copy of a tiny GLM-4V checkpoint in hub layout."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(GOLDEN / "glm4v-a" / name, folder / name)
    return folder


@pytest.fixture
def change_config(model_folder: Path) -> Callable[..., None]:
    """Set keys of the copy's config.json; None removes a key."""

    def change(**changes: Any) -> None:
        path = model_folder / "config.json"
        config = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))

    return change


@pytest.fixture
def change_weights(model_folder: Path) -> Callable[[Callable[[dict[str, Tensor]], None]], None]:
    """Rewrite the copy's weights after a function has changed the dict of tensors."""

    def change(edit: Callable[[dict[str, Tensor]], None]) -> None:
        path = model_folder / "model.safetensors"
        tensors = load_file(path)
        edit(tensors)
        save_file(tensors, path)

    return change


@pytest.fixture
def shard(model_folder: Path) -> Callable[[], dict[str, str]]:
    """Split the copy's weights over three files with an index; returns the weight map."""

    def split() -> dict[str, str]:
        tensors = load_file(model_folder / "model.safetensors")
        (model_folder / "model.safetensors").unlink()
        weight_map = {}
        for part in range(3):
            name = f"model-{part + 1:05}-of-00003.safetensors"
            rows = {key: tensors[key] for key in sorted(tensors)[part::3]}
            save_file(rows, model_folder / name)
            weight_map |= dict.fromkeys(rows, name)
        write_index(model_folder, weight_map)
        return weight_map

    return split


def write_index(folder: Path, weight_map: object) -> None:
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.fixture
def set_index(model_folder: Path) -> Callable[[object], None]:
    return lambda weight_map: write_index(model_folder, weight_map)


@pytest.fixture
def ranks() -> dict[bytes, int]:
    """All bytes, and a few longer pieces: enough for merges in English and Chinese."""
    pieces = [bytes([byte]) for byte in range(256)]
    pieces += [
        b"he",
        b"ll",
        b"hell",
        b"hello",
        b" w",
        b" wo",
        b"  ",
        b"    ",
        b"\n\n",
        b"aa",
        b"aaaa",
    ]
    pieces += ["你".encode()[:2], "你".encode(), "好".encode()[:2], "好".encode(), "你好".encode()]
    return {piece: rank for rank, piece in enumerate(pieces)}


@pytest.fixture
def write_ranks() -> Callable[[Path, dict[bytes, int]], None]:
    def write(folder: Path, ranks: dict[bytes, int]) -> None:
        lines = [base64.b64encode(piece) + b" %d\n" % rank for piece, rank in ranks.items()]
        (folder / "tokenizer.model").write_bytes(b"".join(lines))

    return write

"""What is told of a model before it is loaded is what it takes when it is."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_families import QWEN2, QWEN25, qwen2_files, qwen_vl_files
from torch import nn

from sightline.demo import MODEL_DIR
from sightline.engine.memory import weight_bytes
from sightline.models.facts import DTYPES, Dtype, read_facts
from sightline.models.footprint import Footprint
from sightline.models.hub_files import read_config
from sightline.models.linear import Linear, TiedLinear
from sightline.models.loading import load_model
from sightline.models.packed_weight import can_round
from sightline.models.packing import pack_linears
from sightline.models.quantization import choose_quantization

pytestmark = pytest.mark.engine

Folders = Callable[[str], Path]
FAMILIES = ("bundled", "glm4v", "glm4 text", "qwen_vl", "qwen2_vl", "qwen2_5_vl")


@pytest.fixture
def folder_of(golden: Path, tmp_path: Path) -> Folders:
    """Folders with a checkpoint of each family."""

    def find(family: str) -> Path:
        here = {
            "bundled": MODEL_DIR,
            "glm4v": golden / "glm4v-a",
            "glm4 text": golden / "glm4v-c-text",
        }
        if family in here:
            return here[family]
        files = {
            "qwen_vl": qwen_vl_files,
            "qwen2_vl": lambda: qwen2_files(QWEN2),
            "qwen2_5_vl": lambda: qwen2_files(QWEN25),
        }[family]()
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        return tmp_path

    return find


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_estimate_is_what_loading_takes(family: str, dtype: Dtype, folder_of: Folders) -> None:
    folder = folder_of(family)
    told = Footprint(facts=read_facts(folder), dtype=dtype)
    loaded = load_model(folder, dtype=dtype, device="cpu")
    assert isinstance(loaded.model, nn.Module)
    assert told.weight_bytes == sum(tensor.nbytes for tensor in loaded.model.parameters())
    assert told.facts.num_parameters == loaded.num_parameters
    pool = loaded.model.allocate_pool(4, 16)
    assert told.kv_token_bytes * 4 * 16 == pool.size_bytes
    assert told.facts.image_policy == loaded.description.image_policy
    assert told.facts.blueprint.max_positions == loaded.description.max_model_len


@pytest.mark.parametrize(
    ("language", "vision"), [("int8", "none"), ("int8", "int8"), ("int4", "int4")]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_so_it_is_when_weights_are_quantised(
    family: str, language: str, vision: str, folder_of: Folders
) -> None:
    folder = folder_of(family)
    chosen = choose_quantization(language, vision)
    facts = read_facts(folder)
    told = Footprint(facts=facts, dtype="bfloat16", quantization=chosen)
    loaded = load_model(folder, dtype="bfloat16", device="cpu", quantization=chosen)
    assert told.weight_bytes == weight_bytes(loaded.model)
    assert told.weight_bytes < Footprint(facts=facts, dtype="bfloat16").weight_bytes
    assert told.kv_token_bytes * 16 == loaded.model.allocate_pool(1, 16).size_bytes


@pytest.mark.skipif(not can_round(), reason="rows of bfloat16 are widened where they are rounded")
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_widened_beside_the_matrices_is_counted(family: str, folder_of: Folders) -> None:
    """134 MB of Qwen-VL-Chat: its tower asks questions through matrices of no linear layer."""
    folder = folder_of(family)
    loaded = load_model(folder, dtype="bfloat16", device="cpu")
    assert isinstance(loaded.model, nn.Module)
    matrices = sum(
        module.weight.nbytes
        for module in loaded.model.modules()
        if isinstance(module, Linear) and not isinstance(module, TiedLinear)
    )
    convolutions = sum(
        module.weight.nbytes for module in loaded.model.modules() if isinstance(module, nn.Conv2d)
    )
    pack_linears(loaded.model)
    widened = sum(parameter.nbytes for parameter in loaded.model.parameters())
    told = Footprint(facts=read_facts(folder), dtype="bfloat16", keeps_halves=True)
    assert told.weight_bytes - matrices + convolutions == widened


def test_a_checkpoint_without_a_named_type_is_told_by_its_size(
    golden: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.safetensors").write_bytes(
        (golden / "glm4v-a/model.safetensors").read_bytes()
    )
    config = read_config(golden / "glm4v-a")
    del config["torch_dtype"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_facts(tmp_path).dtype == "bfloat16"

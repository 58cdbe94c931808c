"""What is told without torch is what torch builds: every tensor of every family, by name."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_families import QWEN2, QWEN25, QWEN_VL
from torch import nn

from sightline.hub.known import known_folder
from sightline.hub.names import KNOWN_MODELS
from sightline.models.families import find_family
from sightline.models.hub_files import read_config
from sightline.models.outline import PARTS, Part, tensor_shapes, weights
from sightline.models.registry import build_model

pytestmark = pytest.mark.engine

NUM_PARAMETERS = {
    "glm-4v-9b": 13_906_320_896,
    "glm-4-9b-chat": 9_399_951_360,
    "glm-4-9b-chat-1m": 9_483_857_920,
    "qwen-vl-chat": 9_656_935_168,
    "qwen2-vl-2b": 2_208_985_600,
    "qwen2-vl-7b": 8_291_375_616,
    "qwen2.5-vl-3b": 3_754_622_976,
    "qwen2.5-vl-7b": 8_292_166_656,
}
GOLDEN = sorted((Path(__file__).parent.parent / "data" / "golden").glob("*/config.json"))
CONFIGS: dict[str, dict[str, Any]] = {
    **{model.name: read_config(known_folder(model)) for model in KNOWN_MODELS},
    **{path.parent.name: read_config(path.parent) for path in GOLDEN},
    "tiny qwen_vl": QWEN_VL,
    "tiny qwen2_vl": QWEN2,
    "tiny qwen2_5_vl": QWEN25,
}


def build_on_meta(config: dict[str, Any]) -> nn.Module:
    with torch.device("meta"):
        model = build_model(config)
    assert isinstance(model, nn.Module)
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_the_outline_names_every_tensor_of_the_module_and_no_other(name: str) -> None:
    outline = find_family(CONFIGS[name]).blueprint(CONFIGS[name]).outline
    model = build_on_meta(CONFIGS[name])
    shapes = {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}
    assert tensor_shapes(outline) == shapes
    assert outline.num_parameters == sum(tensor.numel() for tensor in model.parameters())


@pytest.mark.parametrize("name", NUM_PARAMETERS)
def test_the_known_models_have_their_published_numbers_of_parameters(name: str) -> None:
    config = CONFIGS[name]
    assert find_family(config).blueprint(config).outline.num_parameters == NUM_PARAMETERS[name]


@pytest.mark.parametrize("name", NUM_PARAMETERS)
def test_a_model_is_called_what_its_config_calls_it(name: str) -> None:
    config = CONFIGS[name]
    assert [find_family(config).blueprint(config).outline.kind] == config["architectures"]


def test_the_modules_of_qwen2_5_vl_are_called_what_transformers_calls_them() -> None:
    config = CONFIGS["qwen2.5-vl-7b"]
    tower = find_family(config).blueprint(config).outline.children["visual"]
    block = tower.children["blocks"].children[""]
    assert tower.kind == "Qwen2_5_VisionTransformerPretrainedModel"
    assert (block.kind, block.children["attn"].kind, block.children["mlp"].kind) == (
        "Qwen2_5_VLVisionBlock",
        "Qwen2_5_VLVisionAttention",
        "Qwen2_5_VLMLP",
    )
    assert tower.children["patch_embed"].kind == "Qwen2_5_VisionPatchEmbed"
    assert tower.children["merger"].kind == "Qwen2_5_VLPatchMerger"


def test_the_parts_of_glm_4v_9b_add_up() -> None:
    config = CONFIGS["glm-4v-9b"]
    parts: dict[Part, int] = dict.fromkeys(PARTS, 0)
    for weight in weights(find_family(config).blueprint(config).outline):
        parts[weight.part] += weight.size * weight.count
    assert parts == {
        "vision": 4_291_915_264,
        "connector": 214_454_272,
        "language": 8_158_437_376,
        "embeddings": 620_756_992,
        "head": 620_756_992,
    }


def test_no_torch_is_needed_to_tell_it() -> None:
    modules = "sightline.models.families, sightline.hub.known"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

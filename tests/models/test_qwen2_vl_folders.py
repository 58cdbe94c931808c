"""Folders of Qwen2-VL and Qwen2.5-VL as tools write them: other names, keys left out or moved."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_families
import torch
from safetensors.torch import load_file, save_file

from sightline.core.errors import StartupError
from sightline.core.image_policy import PatchGridImagePolicy
from sightline.models.facts import read_facts
from sightline.models.loading import LoadedModel, load_model
from sightline.models.qwen2_vl_blueprint import Qwen2VLConfig

pytestmark = pytest.mark.engine

KNOWN = Path(__file__).parents[2] / "src" / "sightline" / "hub" / "known"
TIED = tiny_families.QWEN2 | {"tie_word_embeddings": True}

Weights = dict[str, torch.Tensor]
MakeFolder = Callable[..., Path]


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    def make(config: dict[str, Any], change: Callable[[Weights], Weights] | None = None) -> Path:
        for name, content in tiny_families.qwen2_files(config).items():
            (tmp_path / name).write_bytes(content)
        file = tmp_path / "model.safetensors"
        if change is not None:
            save_file(change(load_file(file)), file)
        return tmp_path

    return make


def score(loaded: LoadedModel) -> torch.Tensor:
    model = loaded.model
    with torch.inference_mode():
        embeds = model.embed(torch.arange(20))
        return model.logits(model.forward(embeds, model.positions(20, [])))


def as_modules_are_called(weights: Weights) -> Weights:
    return {
        (
            f"model.{name}"
            if name.startswith("visual.")
            else name.replace("model.", "model.language_model.")
        ): tensor
        for name, tensor in weights.items()
    }


@pytest.mark.parametrize("config", [tiny_families.QWEN2, tiny_families.QWEN25], ids=["2", "2.5"])
def test_tensors_may_be_called_as_transformers_calls_its_modules(
    make_folder: MakeFolder, config: dict[str, Any]
) -> None:
    expected = score(load_model(make_folder(config), device="cpu"))
    folder = make_folder(config, as_modules_are_called)
    assert "model.language_model.norm.weight" in load_file(folder / "model.safetensors")
    assert torch.equal(score(load_model(folder, device="cpu")), expected)


def test_pickled_tensors_may_be_called_so_too(make_folder: MakeFolder) -> None:
    folder = make_folder(tiny_families.QWEN2)
    expected = score(load_model(folder, device="cpu"))
    weights = folder / "model.safetensors"
    torch.save(as_modules_are_called(load_file(weights)), folder / "pytorch_model.bin")
    weights.unlink()
    assert torch.equal(score(load_model(folder, device="cpu")), expected)


def test_a_tensor_under_both_of_its_names_is_refused(make_folder: MakeFolder) -> None:
    twice = "model.language_model.norm.weight"
    folder = make_folder(
        tiny_families.QWEN2, lambda weights: weights | {twice: weights["model.norm.weight"] + 1}
    )
    with pytest.raises(StartupError, match="two names of one tensor"):
        load_model(folder, device="cpu")


def test_a_copy_of_the_table_that_is_the_output_layer_too_is_not_read(
    make_folder: MakeFolder,
) -> None:
    expected = score(load_model(make_folder(TIED), device="cpu"))
    folder = make_folder(
        TIED, lambda w: w | {"lm_head.weight": torch.zeros_like(w["model.embed_tokens.weight"])}
    )
    assert torch.equal(score(load_model(folder, device="cpu")), expected)


def test_an_output_layer_of_its_own_is_read_and_missed(make_folder: MakeFolder) -> None:
    folder = make_folder(tiny_families.QWEN2)
    scores = score(load_model(folder, device="cpu"))
    half = make_folder(
        tiny_families.QWEN2, lambda w: w | {"lm_head.weight": w["lm_head.weight"] / 2}
    )
    assert torch.equal(score(load_model(half, device="cpu")), scores / 2)
    make_folder(
        tiny_families.QWEN2, lambda w: {k: v for k, v in w.items() if k != "lm_head.weight"}
    )
    with pytest.raises(StartupError, match=r"lack tensor lm_head\.weight"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize("text", [True, False], ids=["beside the language model's keys", "on top"])
def test_ties_may_be_told_in_either_place(*, text: bool) -> None:
    values = {
        key: value for key, value in tiny_families.QWEN2.items() if key != "tie_word_embeddings"
    }
    config = {"tie_word_embeddings": True} if not text else {}
    inner = values | ({"tie_word_embeddings": True} if text else {})
    config = {
        "model_type": "qwen2_vl",
        "vision_config": values["vision_config"],
        "text_config": inner,
    } | config
    assert Qwen2VLConfig.from_hub(config).ties_embeddings
    assert not Qwen2VLConfig.from_hub(values).ties_embeddings


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("qwen2-vl-2b", "depth embed_dim mlp_ratio num_heads patch_size spatial_merge_size"),
        ("qwen2-vl-7b", "depth embed_dim hidden_size num_heads temporal_patch_size"),
        ("qwen2.5-vl-3b", "depth fullatt_block_indexes intermediate_size num_heads window_size"),
        ("qwen2.5-vl-7b", "depth fullatt_block_indexes out_hidden_size num_heads window_size"),
    ],
)
def test_towers_are_those_of_transformers_where_the_config_is_silent(
    name: str, left_out: str
) -> None:
    """transformers 4.45 to 4.51 writes only what differs from its own defaults."""
    values = json.loads((KNOWN / name / "config.json").read_text())
    expected = Qwen2VLConfig.from_hub(values)
    for key in left_out.split():
        values["vision_config"].pop(key, None)
    assert Qwen2VLConfig.from_hub(values) == expected


def test_bounds_of_pixels_may_stand_where_transformers_5_writes_them(
    make_folder: MakeFolder,
) -> None:
    folder = make_folder(tiny_families.QWEN2)
    (folder / "processor_config.json").write_text(
        '{"image_processor": {"size": {"shortest_edge": 6272, "longest_edge": 50176}}}'
    )
    for policy in (read_facts(folder).image_policy, load_model(folder).description.image_policy):
        assert isinstance(policy, PatchGridImagePolicy)
        assert (policy.min_pixels, policy.max_pixels) == (6272, 50176)


def test_a_processor_that_says_nothing_of_pictures_leaves_them_to_the_older_file(
    make_folder: MakeFolder,
) -> None:
    folder = make_folder(tiny_families.QWEN2)
    (folder / "processor_config.json").write_text('{"processor_class": "Qwen2VLProcessor"}')
    policy = read_facts(folder).image_policy
    assert isinstance(policy, PatchGridImagePolicy)
    assert policy.max_pixels == 78400


def test_what_transformers_saves_is_loaded(tmp_path: Path, make_folder: MakeFolder) -> None:
    from transformers import Qwen2_5_VLForConditionalGeneration

    source = make_folder(tiny_families.QWEN25 | {"tie_word_embeddings": True})
    theirs = Qwen2_5_VLForConditionalGeneration.from_pretrained(source).float().eval()
    theirs.save_pretrained(tmp_path / "saved")
    ours = load_model(tmp_path / "saved", device="cpu")
    with torch.inference_mode():
        expected = theirs(input_ids=torch.arange(20)[None]).logits[0]
    torch.testing.assert_close(score(ours), expected, atol=1e-4, rtol=0)

"""The phases of training, a step each: what they save is a model that the server loads."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

if not hasattr(torch.optim, "Muon"):
    pytest.skip("training needs torch.optim.Muon, of torch 2.9 and newer", allow_module_level=True)

import training.pictures
import training.source
import training.train
from training.average import average
from training.package import DEMO_FOLDER, TOKENIZER_FILES, package
from training.recipes import RECIPES
from training.source import hard_number_odds, hard_odds
from training.start import PATCHES, resample_patches
from training.train import Trainer

from sightline.models.loading import load_model

NUM_PICTURES = 24


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a tokenizer and a few rendered pictures, as training finds it."""
    folder = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch:
        for module in (training.pictures, training.source):
            patch.setattr(module, "SHARD", NUM_PICTURES)
        for module in (training.source, training.train):
            patch.setattr(module, "WORK", folder)
        for name in ("pictures", "tokenizer", "run"):
            (folder / name).mkdir()
        for name in TOKENIZER_FILES:
            shutil.copyfile(DEMO_FOLDER / name, folder / "tokenizer" / name)
        training.pictures.write_shard(folder / "pictures", seed=1, index=0)
        yield folder


@pytest.mark.engine
def test_each_phase_goes_on_from_the_one_before(work, capsys):
    for phase in RECIPES:
        recipe = replace(RECIPES[phase], steps=1, pictures=4)
        trainer = Trainer(work / "run", phase, recipe, seed=1)
        trainer.run()
        parts = trainer.losses(trainer.source.draw(1))
        assert all(loss.isfinite() for loss in parts.values())
        assert ("language" in parts, "centre" in parts) == (phase != "tower", phase != "language")
        again = Trainer(work / "run", phase, recipe, seed=1)
        assert again.step == 1, "a phase that was stopped goes on"

    package(work / "run" / "refine.pt", work / "tokenizer", work / "model")
    model = load_model(work / "model", dtype="float32").model
    assert sum(parameter.numel() for parameter in model.parameters()) > 5e6


@pytest.mark.engine
def test_an_average_of_two_runs_goes_on_like_a_run(work):
    states = []
    for seed in (1, 2):
        (folder := work / f"run{seed}").mkdir()
        recipe = replace(RECIPES["joint"], steps=1, pictures=4, after="")
        Trainer(folder, "joint", recipe, seed).run()
        states.append(torch.load(folder / "joint.pt", weights_only=True))
    mixed = average(*states, share=0.25)
    name = "transformer.output_layer.weight"
    wanted = 0.75 * states[0]["average"][name] + 0.25 * states[1]["average"][name]
    assert torch.allclose(mixed["average"][name], wanted)
    torch.save(mixed, folder / "joint.pt")
    again = Trainer(folder, "joint", recipe, seed=2)
    assert torch.equal(again.model.state_dict()[name], mixed["model"][name])
    assert again.step == 1


def test_larger_patches_see_what_the_old_ones_saw_after_resampling():
    random = torch.Generator().manual_seed(0)
    old = {PATCHES: torch.randn(5, 3, 4, 4, generator=random), "other": torch.ones(2)}
    picture = torch.rand(1, 3, 7, 7, generator=random)
    seen_small = F.interpolate(picture, size=(4, 4), mode="bilinear", antialias=True)

    new = resample_patches(old, 7)

    torch.testing.assert_close(
        F.conv2d(picture, new[PATCHES], stride=7), F.conv2d(seen_small, old[PATCHES], stride=4)
    )
    assert new["other"] is old["other"]
    assert torch.equal(resample_patches(old, 4)[PATCHES], old[PATCHES])


def test_small_things_and_full_scenes_are_drawn_more_often_and_single_large_ones_too():
    scenes = np.zeros(4, training.pictures.RECORD)
    scenes["count"] = [1, 2, 2, 4]
    for scene, half_width in zip(scenes, (0.25, 0.15, 0.1, 0.1), strict=True):
        scene["box"][: scene["count"], 2:] = half_width

    large, usual, small, full = hard_odds(scenes)

    assert usual < small < full < large
    assert hard_odds(scenes).sum() == pytest.approx(1)


def test_long_numbers_and_light_ones_on_dark_are_drawn_more_often():
    pictures = np.zeros(4, training.pictures.RECORD)
    pictures["number"] = [7, 42, 421, 7]
    pictures["is_light"] = [1, 1, 1, 0]

    short, longer, long, dark = hard_number_odds(pictures)

    assert short < longer < long
    assert short < dark

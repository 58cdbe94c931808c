"""The three phases of training, a step each: what they save is a model that the server loads."""

import shutil
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import training.pictures
import training.train
from training.package import DEMO_FOLDER, TOKENIZER_FILES, package
from training.start import PATCHES, resample_patches
from training.train import RECIPES, Trainer

from sightline.models.loading import load_model

NUM_PICTURES = 24


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a tokenizer and a few rendered pictures, as training finds it."""
    folder = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch:
        for module in (training.pictures, training.train):
            patch.setattr(module, "SHARD", NUM_PICTURES)
        patch.setattr(training.train, "WORK", folder)
        for name in ("pictures", "tokenizer", "run"):
            (folder / name).mkdir()
        for name in TOKENIZER_FILES:
            shutil.copyfile(DEMO_FOLDER / name, folder / "tokenizer" / name)
        training.pictures.write_shard(folder / "pictures", seed=1, index=0)
        yield folder


@pytest.mark.engine
def test_each_phase_goes_on_from_the_one_before(work, capsys):
    for phase in ("tower", "language", "joint"):
        recipe = replace(RECIPES[phase], steps=1, pictures=4)
        trainer = Trainer(work / "run", phase, recipe, seed=1)
        trainer.run()
        parts = trainer.losses(trainer.source.draw(1))
        assert all(loss.isfinite() for loss in parts.values())
        assert ("language" in parts, "centre" in parts) == (phase != "tower", phase != "language")
        again = Trainer(work / "run", phase, recipe, seed=1)
        assert again.step == 1, "a phase that was stopped goes on"

    package(work / "run" / "joint.pt", work / "tokenizer", work / "model")
    model = load_model(work / "model", dtype="float32").model
    assert sum(parameter.numel() for parameter in model.parameters()) > 5e6


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

"""The three phases of training, a step each: what they save is a model that the server loads."""

import shutil
from dataclasses import replace

import pytest
import training.pictures
import training.train
from training.package import DEMO_FOLDER, TOKENIZER_FILES, package
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

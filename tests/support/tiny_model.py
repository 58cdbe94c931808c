"""A tiny random model with GLM-4V's real wiring, in a folder as a hub would have it."""

import json
import shutil
import tempfile
from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "glm4v-a"


def write_tiny_model(folder: Path, *, text_only: bool = False) -> Path:
    """Fill `folder` with a model of random weights and the vocabulary of `backends.fake`.

    Without its vision tower it is what GLM-4-9B-Chat is.
    """
    import torch
    from safetensors.torch import save_file

    from sightline.backends.fake import END_OF_TEXT, OBSERVATION, TOKENIZER_FILE, USER
    from sightline.models.glm_4v_9b import Glm4v, Glm4vConfig

    config = json.loads((GOLDEN / "config.json").read_text())
    config |= {
        "padded_vocab_size": 272,
        "vocab_size": 272,
        "seq_length": 512,
        "eos_token_id": [END_OF_TEXT, USER, OBSERVATION],
        "boi_token_id": 266,
        "eoi_token_id": 267,
    }
    if text_only:
        del config["vision_config"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    for file in TOKENIZER_FILE.parent.iterdir():
        shutil.copy(file, folder)
    generator = torch.Generator().manual_seed(0)
    model = Glm4v(Glm4vConfig.from_hub(config))
    weights = {}
    for name, parameter in model.state_dict().items():
        values = torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5
        weights[name] = values + 1 if "norm" in name and name.endswith("weight") else values
    save_file(weights, folder / "model.safetensors")
    return folder


def glm_files(*, text_only: bool = False) -> dict[str, bytes]:
    """The same as files that a hub would have."""
    with tempfile.TemporaryDirectory() as place:
        folder = write_tiny_model(Path(place), text_only=text_only)
        return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}

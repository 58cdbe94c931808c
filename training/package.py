"""Writes the trained model as a hub folder: bf16 weights, config, tokenizer. The heads stay behind.

python -m training.package --run training/state/run --target src/sightline/demo/model
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from training.config import hub_config
from training.pictures import WORK
from training.recipes import RECIPES

DEMO_FOLDER = Path(__file__).parents[1] / "src" / "sightline" / "demo" / "model"
TOKENIZER_FILES = ("tokenizer.model", "tokenizer_config.json")


def generation_config() -> dict[str, object]:
    """Return GLM-4V's sampling defaults with this model's own ids."""
    config = hub_config()
    return {
        "do_sample": True,
        "eos_token_id": config["eos_token_id"],
        "max_length": config["seq_length"],
        "pad_token_id": config["pad_token_id"],
        "temperature": 0.8,
        "top_p": 0.8,
    }


def package(checkpoint: Path, tokenizer: Path, target: Path) -> int:
    """Write the folder and return its size in bytes."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    weights = {name: w.to(torch.bfloat16).contiguous() for name, w in state["average"].items()}
    target.mkdir(parents=True, exist_ok=True)
    unfinished = target / "model.safetensors.unfinished"
    save_file(weights, unfinished, metadata={"format": "pt"})
    unfinished.rename(target / "model.safetensors")
    for name, content in (
        ("config.json", hub_config()),
        ("generation_config.json", generation_config()),
    ):
        (target / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer / name, target / name)
    return sum(file.stat().st_size for file in target.iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=WORK / "run")
    parser.add_argument("--target", type=Path, default=DEMO_FOLDER)
    options = parser.parse_args()
    last = next(phase for phase in reversed(RECIPES) if (options.run / f"{phase}.pt").exists())
    size = package(options.run / f"{last}.pt", WORK / "tokenizer", options.target)
    print(f"{options.target}: {size:,} bytes, as {last} left it")


if __name__ == "__main__":
    main()

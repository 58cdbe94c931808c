"""Compare a port with numbers from the original code.

    python -m sightline.models.parity FOLDER

FOLDER holds config.json and the weights in hub layout, inputs.safetensors (`input_ids`,
`pixel_values`) and expected.safetensors (`image_features`, `position_ids`, `logits`, one row per
slot). Everything is computed in fp32 on the CPU. Prints one JSON line:

    features_max_abs_diff       rows of the vision tower; null for a model without one
    logits_max_abs_diff         one forward over the whole sequence
    cached_logits_max_abs_diff  a prefill, then one token at a time from the KV cache
    positions_equal             whether positions are the same; null where none are given

A difference that is not a finite number is null too. Exits with 1, and one line on standard
error, if the folder cannot be read.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.core.errors import StartupError, shorten
from sightline.models.glm_4v_9b import Glm4v
from sightline.models.hub_config import ConfigReader
from sightline.models.hub_files import checked_file, read_config
from sightline.models.loading import load_model
from sightline.models.packing import pack_linears
from sightline.models.qwen_vl import QwenVL
from sightline.models.qwen_vl_blueprint import NUM_QUESTIONS
from sightline.models.safetensors_file import SafetensorsFile

INPUTS_FILE = "inputs.safetensors"
EXPECTED_FILE = "expected.safetensors"
IDS_PER_IMAGE = 3

Port = Glm4v | QwenVL


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How far a port is from the expected numbers; None where there is no finite number."""

    features_max_abs_diff: float | None
    logits_max_abs_diff: float | None
    cached_logits_max_abs_diff: float | None
    positions_equal: bool | None


class GoldenTensors:
    """The tensors of one golden file, each checked when it is asked for."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        with SafetensorsFile(checked_file(folder, name)) as file:
            self._tensors = {tensor: file.read(tensor) for tensor in file.entries}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def get(self, name: str, dtype: torch.dtype, shape: tuple[int | None, ...]) -> Tensor:
        """Return a tensor of that type and shape, where None stands for any size but 0.

        Raises StartupError, naming file and tensor, for any other.
        """
        expected = f"{str(dtype).removeprefix('torch.')} {_show(shape)}"
        tensor = self._tensors.get(name)
        if tensor is None:
            raise StartupError(f"{self.name} lacks {name!r}, expected {expected}.")
        fits = len(tensor.shape) == len(shape) and all(
            size == wanted if wanted is not None else size > 0
            for size, wanted in zip(tensor.shape, shape, strict=True)
        )
        if tensor.dtype != dtype or not fits:
            found = f"{str(tensor.dtype).removeprefix('torch.')} {_show(tuple(tensor.shape))}"
            raise StartupError(f"{self.name}: {name!r} is {found}, expected {expected}.")
        return tensor


@torch.inference_mode()
def check_folder(folder: Path) -> Parity:
    """Run the model in `folder` both ways. Raises StartupError if the folder cannot be read."""
    config = read_config(folder)
    model = load_model(folder, dtype="float32", device="cpu").model
    pack_linears(model)
    if not isinstance(model, Port):
        raise StartupError(f"There is no parity check for {type(model).__name__} yet.")
    inputs = GoldenTensors(folder, INPUTS_FILE)
    expected = GoldenTensors(folder, EXPECTED_FILE)

    features, features_diff = None, None
    vision = model.config.vision if isinstance(model, Glm4v) else model.config.visual
    if vision is not None:
        size = vision.image_size
        features = model.encode_pixel_values(
            inputs.get("pixel_values", torch.float32, (None, 3, size, size))
        )
        reference = expected.get("image_features", torch.float32, tuple(features.shape))
        features_diff = _max_abs_diff(features, reference)

    token_ids = inputs.get("input_ids", torch.int64, (1, None))[0]
    if not 0 <= int(token_ids.min()) <= int(token_ids.max()) < model.config.vocab_size:
        raise StartupError(f"{INPUTS_FILE}: 'input_ids' has ids outside the vocabulary.")
    if isinstance(model, Glm4v):
        embeds, spans = _splice(model, token_ids, features, config)
    else:
        embeds, spans = _overlay(model, token_ids, features, config)
    shape = (1, len(embeds), model.config.vocab_size)
    logits = expected.get("logits", torch.float32, shape)[0]
    positions = model.positions(len(embeds), spans)
    num_prefilled = max((len(embeds) + 1) // 2, *(start + length for start, length in spans), 1)
    return Parity(
        features_max_abs_diff=features_diff,
        logits_max_abs_diff=_max_abs_diff(model.logits(model.forward(embeds, positions)), logits),
        cached_logits_max_abs_diff=_max_abs_diff(
            _cached_logits(model, embeds, positions, num_prefilled), logits
        ),
        positions_equal=torch.equal(
            positions, expected.get("position_ids", torch.int64, shape[:2])[0]
        )
        if "position_ids" in expected or isinstance(model, Glm4v)
        else None,
    )


def _splice(
    model: Glm4v, token_ids: Tensor, features: Tensor | None, config: Mapping[str, Any]
) -> tuple[Tensor, list[tuple[int, int]]]:
    """Return embeddings `[T, D]` with the images' rows in them, and the images' (start, length).

    The ids hold an image as hubs write it: begin, filler, end.
    """
    embeds = model.embed(token_ids)
    if features is None:
        return embeds, []
    boi_token_id = ConfigReader(config, "config.json").integer(
        "boi_token_id", low=0, high=model.config.vocab_size - 1
    )
    begins: list[int] = (token_ids == boi_token_id).nonzero().flatten().tolist()
    if len(begins) > len(features):
        raise StartupError(
            f"{INPUTS_FILE}: 'input_ids' has {len(begins)} images, "
            f"'pixel_values' has {len(features)}."
        )
    parts: list[Tensor] = []
    spans: list[tuple[int, int]] = []
    done = num_slots = 0
    for begin, rows in zip(begins, features, strict=False):
        if begin < done:
            raise StartupError(f"{INPUTS_FILE}: 'input_ids' has an image begin inside an image.")
        parts += [embeds[done:begin], rows]
        num_slots += begin - done
        spans.append((num_slots, len(rows)))
        num_slots += len(rows)
        done = begin + IDS_PER_IMAGE
    return torch.cat((*parts, embeds[done:])), spans


def _overlay(
    model: QwenVL, token_ids: Tensor, features: Tensor | None, config: Mapping[str, Any]
) -> tuple[Tensor, list[tuple[int, int]]]:
    """Return the same as `_splice` for ids that have a place for every row of an image."""
    embeds = model.embed(token_ids)
    visual = ConfigReader(config, "config.json").section("visual")
    if features is None or visual is None:
        return embeds, []
    begin_id = visual.integer("image_start_id", low=0, high=model.config.vocab_size - 1)
    begins: list[int] = (token_ids == begin_id).nonzero().flatten().tolist()
    spans = [(begin + 1, NUM_QUESTIONS) for begin in begins]
    if len(spans) > len(features) or any(sum(span) > len(embeds) for span in spans):
        raise StartupError(f"{INPUTS_FILE}: 'input_ids' and 'pixel_values' disagree on images.")
    for (start, length), rows in zip(spans, features, strict=False):
        embeds[start : start + length] = rows
    return embeds, spans


def _cached_logits(model: Port, embeds: Tensor, positions: Tensor, num_prefilled: int) -> Tensor:
    cache = model.allocate_cache(len(embeds))
    hidden = [model.forward(embeds[:num_prefilled], positions[..., :num_prefilled], cache)]
    for slot in range(num_prefilled, len(embeds)):
        one = slice(slot, slot + 1)
        hidden.append(model.forward(embeds[one], positions[..., one], cache))
    return model.logits(torch.cat(hidden))


def _max_abs_diff(found: Tensor, expected: Tensor) -> float | None:
    difference = float((found - expected).abs().max())
    return difference if math.isfinite(difference) else None


def _show(shape: Sequence[int | None]) -> str:
    return shorten("[" + ", ".join("N" if size is None else str(size) for size in shape) + "]")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sightline.models.parity",
        description="Compare a model folder with numbers from the original code.",
    )
    parser.add_argument("folder", type=Path, help="a folder in the golden format")
    folder: Path = parser.parse_args(arguments).folder
    try:
        parity = check_folder(folder)
    except StartupError as error:
        print(f"parity: {error.message}", file=sys.stderr)
        return 1
    print(json.dumps(asdict(parity)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a model's small files tell, before a weight is read: sizes, pictures, number format.

No torch, so it is told in milliseconds, also of models that are not downloaded.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from sightline.core.errors import StartupError
from sightline.core.image_policy import ImagePolicy, PatchGridImagePolicy
from sightline.models.families import Family, find_family
from sightline.models.hub_config import ConfigReader
from sightline.models.hub_files import checked_file, read_config, read_json
from sightline.models.outline import Blueprint, Outline
from sightline.models.quantization import Quantization, stored_quantization
from sightline.models.weight_files import weight_files

PREPROCESSOR_FILE = "preprocessor_config.json"
# What transformers 5 writes in its place, an object in it for each part.
PROCESSOR_FILE, PROCESSOR_KEY = "processor_config.json", "image_processor"
MAX_PIXELS = 1 << 28

Dtype = Literal["bfloat16", "float16", "float32"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
ITEM_BYTES: Mapping[Dtype, int] = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """`dtype` is the checkpoint's; `stored` is how its weights are quantised already, if so."""

    family: Family
    blueprint: Blueprint
    outline: Outline
    image_policy: ImagePolicy | None
    dtype: Dtype
    stored: Quantization | None = None

    @property
    def num_parameters(self) -> int:
        return self.outline.num_parameters


def read_facts(folder: Path) -> ModelFacts:
    """Read config.json and, where there is one, what pictures become. Raises StartupError.

    The weights need not be there.
    """
    config = read_config(folder)
    stored = stored_quantization(config)
    family = find_family(config)
    blueprint = family.blueprint(config)
    outline = blueprint.outline
    policy = blueprint.image_policy
    if stored is not None:
        stored = stored.of_model(sees=policy is not None)
    return ModelFacts(
        family=family,
        blueprint=blueprint,
        outline=outline,
        image_policy=None if policy is None else with_pixel_bounds(policy, folder),
        dtype=named_dtype(config) or _dtype_by_size(folder, outline.num_parameters),
        stored=stored,
    )


def named_dtype(config: Mapping[str, Any]) -> Dtype | None:
    """Return the number format that config.json names. Raises StartupError for an unknown one."""
    key = "torch_dtype" if "torch_dtype" in config else "dtype"
    named = config.get(key)
    if named is None:
        return None
    for dtype in DTYPES:
        if named == dtype:
            return dtype
    raise ConfigReader(config, "config.json").refusal(key, ", ".join(DTYPES))


def with_pixel_bounds(policy: ImagePolicy, folder: Path) -> ImagePolicy:
    """Apply what the folder says of pictures, where it does, to models that see any size.

    Where both files say it, processor_config.json counts, as in transformers.
    """
    if not isinstance(policy, PatchGridImagePolicy):
        return policy
    reader = _picture_settings(folder)
    if reader is None:
        return policy
    size = reader.section("size")
    least, most = policy.min_pixels, policy.max_pixels
    if size is not None:
        least = size.integer("shortest_edge", high=MAX_PIXELS, default=least)
        most = size.integer("longest_edge", high=MAX_PIXELS, default=most)
    least = reader.integer("min_pixels", high=MAX_PIXELS, default=least)
    most = reader.integer("max_pixels", low=least, high=MAX_PIXELS, default=most)
    return replace(policy, min_pixels=least, max_pixels=most)


def _picture_settings(folder: Path) -> ConfigReader | None:
    if (folder / PROCESSOR_FILE).exists():
        whole = ConfigReader(read_json(folder, PROCESSOR_FILE), PROCESSOR_FILE)
        if (reader := whole.section(PROCESSOR_KEY)) is not None:
            return reader
    if (folder / PREPROCESSOR_FILE).exists():
        return ConfigReader(read_json(folder, PREPROCESSOR_FILE), PREPROCESSOR_FILE)
    return None


def _dtype_by_size(folder: Path, num_parameters: int) -> Dtype:
    """Tell the format by the bytes of the weight files, where config.json names none."""
    try:
        size = sum(checked_file(folder, name).stat().st_size for name in weight_files(folder))
    except (StartupError, OSError):
        return "bfloat16"
    return "float32" if math.isclose(size / num_parameters, 4, rel_tol=0.2) else "bfloat16"

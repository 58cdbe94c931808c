"""From a hub folder to a model ready to run.

The model is built without memory for its weights, the headers of all weight files are compared
with it, and only when everything fits is data read, tensor by tensor, into its final place: on a
CPU into the layouts of its kernels, on all cores. A folder that is refused has cost nothing, and a
model is never half loaded.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from sightline.core.errors import StartupError, shorten
from sightline.models.activations import settle_vector_functions
from sightline.models.contract import ModelDescription, VisionLanguageModel
from sightline.models.device import dtype_for_device, find_device
from sightline.models.facts import named_dtype, with_pixel_bounds
from sightline.models.hub_config import ConfigReader
from sightline.models.hub_files import read_config, read_json
from sightline.models.quantization import (
    NO_QUANTIZATION,
    Quantization,
    stored_quantization,
)
from sightline.models.registry import build_model, find_family
from sightline.models.weight_filling import Progress, WeightFilling
from sightline.models.weight_match import DTYPES, WeightFile, match, open_weights

__all__ = ["LoadedModel", "Progress", "load_model", "read_config"]

GENERATION_FILE = "generation_config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model in evaluation mode, its weights without gradients, all on one device."""

    model: VisionLanguageModel
    description: ModelDescription
    device: torch.device
    dtype: torch.dtype
    num_parameters: int
    quantization: Quantization = NO_QUANTIZATION


def load_model(
    folder: Path,
    *,
    dtype: str = "auto",
    device: str = "auto",
    quantization: Quantization | None = None,
    progress: Progress | None = None,
    packed: bool = False,
) -> LoadedModel:
    """Load the model in `folder`.

    `dtype` is auto (what config.json names, else what the weights are, but see
    `device.dtype_for_device`), bfloat16, float16 or float32; for `device` see
    `device.find_device`. `quantization` is made while the weights are read; None takes them as
    they are stored. With `packed`, on a CPU, linear layers get their kernels as their weights come,
    and the table of tokens stays in the files' format where the other holds it, which takes half
    the time and memory; `pack_linears` does the rest. Raises StartupError naming file and tensor,
    what was expected and what was found.
    """
    settle_vector_functions()
    config = read_config(folder)
    family = find_family(config)
    target = find_device(device)
    with torch.device("meta"), _WithoutInitialisation():
        model = build_model(config)
    description = _with_generation_defaults(model.description, folder)
    policy = description.image_policy
    if policy is not None:
        description = replace(description, image_policy=with_pixel_bounds(policy, folder))
    module = cast(nn.Module, model)
    shapes = {name: tuple(weight.shape) for name, weight in module.named_parameters()}
    stored = stored_quantization(config)
    chosen = _chosen(quantization, stored, sees=policy is not None)
    schemes = chosen.schemes(shapes)
    with ExitStack() as stack:
        files = open_weights(folder, stack, newer_names=family.newer_names)
        places = match(
            files, shapes, stored=schemes if stored else {}, recomputed=family.recomputed
        )
        plain = {name: place for name, place in places.items() if name not in schemes}
        weight_dtype = _dtype(dtype, config, plain)
        if dtype == "auto":
            num_plain = sum(math.prod(shapes[name]) for name in shapes if name not in schemes)
            weight_dtype = dtype_for_device(weight_dtype, target, num_plain)
        is_packed = packed and target.type == "cpu"
        WeightFilling(module, places, schemes, weight_dtype, target, progress, is_packed).run()
    module.eval()
    return LoadedModel(
        model=model,
        description=description,
        device=target,
        dtype=weight_dtype,
        num_parameters=sum(map(math.prod, shapes.values())),
        quantization=chosen,
    )


def _chosen(
    wanted: Quantization | None, stored: Quantization | None, *, sees: bool
) -> Quantization:
    wanted = None if wanted is None else wanted.of_model(sees=sees)
    if stored is None:
        return wanted or NO_QUANTIZATION
    stored = stored.of_model(sees=sees)
    if wanted is not None and wanted != stored:
        raise StartupError(
            f"The weights in this folder are quantised already ({stored}); they cannot be loaded "
            f"as {wanted}. Leave the option off, or take the original folder."
        )
    return stored


class _WithoutInitialisation(TorchFunctionMode):
    """Builds modules without drawing their first values, which files are about to replace.

    On the meta device drawing them would change nothing, but it makes torch import its compiler,
    a second of start-up. Ones and zeros do the same with torch 2.6, and cost 30 MiB besides.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else None
        if func in (torch.ones, torch.zeros):
            func = torch.empty
        return func(*args, **(kwargs or {}))


def _dtype(name: str, config: Mapping[str, Any], places: Mapping[str, WeightFile]) -> torch.dtype:
    if name in DTYPES:
        return DTYPES[name]
    if name != "auto":
        raise StartupError(
            f"dtype {shorten(name)!r} is not supported; use auto, {', '.join(DTYPES)}."
        )
    named = named_dtype(config)
    if named is None:
        tensor, file = next(iter(places.items()))
        return file.entries[tensor].dtype
    return DTYPES[named]


def _with_generation_defaults(description: ModelDescription, folder: Path) -> ModelDescription:
    """Apply generation_config.json, where there is one."""
    if not (folder / GENERATION_FILE).exists():
        return description
    values = read_json(folder, GENERATION_FILE)
    reader = ConfigReader(values, GENERATION_FILE)
    temperature = reader.number("temperature", low=0.0, high=2.0, default=1.0)
    if not reader.flag("do_sample", default=True):
        temperature = 0.0
    eos_token_ids = (
        reader.token_ids("eos_token_id", vocab_size=description.vocab_size)
        if values.get("eos_token_id") is not None
        else description.eos_token_ids
    )
    return replace(
        description,
        default_temperature=temperature,
        default_top_p=reader.number("top_p", low=0.0, high=1.0, default=1.0),
        default_top_k=max(0, reader.integer("top_k", low=-1, high=2**31 - 1, default=0)),
        default_repetition_penalty=reader.number(
            "repetition_penalty", low=0.01, high=10.0, default=1.0
        ),
        eos_token_ids=eos_token_ids,
    )

"""Do the weight files hold what config.json asks for? Told from their headers, before data is read.

A quantised matrix stands in files as two tensors: its numbers under the matrix's own name, and its
scales.
"""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from sightline.core.errors import StartupError, shorten
from sightline.models.hub_files import checked_file
from sightline.models.pickle_file import PickleFile
from sightline.models.quantization import Scheme
from sightline.models.quantized import stored_tensors
from sightline.models.safetensors_file import SafetensorsFile
from sightline.models.weight_files import weight_files

WeightFile = SafetensorsFile | PickleFile
Shape = tuple[int, ...]

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def open_weights(
    folder: Path, stack: ExitStack, *, newer_names: Mapping[str, str]
) -> list[WeightFile]:
    """Open the weight files of a model folder; `stack` will close them. Raises StartupError.

    A tensor whose name begins with a key of `newer_names` is known by the value and the rest.
    """
    files: list[WeightFile] = []
    for name in weight_files(folder):
        path = checked_file(folder, name)
        file = PickleFile(path) if path.suffix == ".bin" else SafetensorsFile(path)
        stack.push(file)
        if newer_names:
            file.rename(partial(_published_name, newer_names=newer_names))
        files.append(file)
    return files


def _published_name(name: str, *, newer_names: Mapping[str, str]) -> str:
    for beginning, published in newer_names.items():
        if name.startswith(beginning):
            return published + name.removeprefix(beginning)
    return name


def match(
    files: Iterable[WeightFile],
    shapes: Mapping[str, Shape],
    *,
    stored: Mapping[str, Scheme],
    recomputed: frozenset[str],
) -> dict[str, WeightFile]:
    """Return which file holds each tensor, in the files' order, or raise StartupError.

    `shapes` are the model's parameters, `stored` those that the files hold quantised. Tensors of
    the names in `recomputed` may be there though the model has none.
    """
    floats = tuple(DTYPES.values())
    expected: dict[str, tuple[Shape, tuple[torch.dtype, ...]]] = {}
    for name, shape in shapes.items():
        if name not in stored:
            expected[name] = (shape, floats)
            continue
        for part, tensor in stored_tensors(name, shape, stored[name]).items():
            expected[part] = (tensor.shape, (tensor.dtype,))
    places: dict[str, WeightFile] = {}
    for file in files:
        for name, entry in file.entries.items():
            if name in recomputed and name not in expected:
                continue
            if name in places:
                raise StartupError(
                    f"{file.name}: tensor {shorten(name, 128)} is also in {places[name].name}."
                )
            places[name] = file
            if name not in expected:
                raise StartupError(
                    f"{file.name}: unexpected tensor {shorten(name, 128)}; "
                    "a model of this config.json has none of that name."
                )
            shape, dtypes = expected[name]
            if entry.shape != shape:
                raise StartupError(
                    f"{file.name}: tensor {shorten(name, 128)} has shape "
                    f"{_shape(entry.shape)}, expected {_shape(shape)} by config.json."
                )
            if entry.dtype not in dtypes:
                raise StartupError(
                    f"{file.name}: tensor {shorten(name, 128)} is {_dtype_name(entry.dtype)}; "
                    f"expected {', '.join(map(_dtype_name, dtypes))}."
                )
    missing = [name for name in expected if name not in places]
    if missing:
        names = ", ".join(shorten(name, 80) for name in missing[:2])
        more = f" and {len(missing) - 2} more" if len(missing) > 2 else ""
        raise StartupError(f"The weight files lack tensor {names}{more}, which config.json needs.")
    return places


def _shape(shape: Shape) -> str:
    return shorten("[" + ", ".join(map(str, shape)) + "]")


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

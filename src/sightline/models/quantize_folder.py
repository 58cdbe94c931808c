"""Writing a quantised copy of a model folder, tensor by tensor: never a whole model in memory.

The copy is gathered in a hidden folder beside its place and takes its name when it is whole.
"""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from torch import Tensor

from sightline.core.errors import StartupError
from sightline.models.facts import read_facts
from sightline.models.hub_files import (
    CONFIG_FILE,
    RECORD_FILE,
    checked_file,
    read_config,
    read_json,
)
from sightline.models.loading import Progress
from sightline.models.outline import tensor_shapes
from sightline.models.quantization import CONFIG_KEY, Quantization, Scheme, weight_bytes
from sightline.models.quantized import StoredTensor, quantize, stored_tensors
from sightline.models.safetensors_writer import SafetensorsWriter
from sightline.models.weight_files import INDEX_SUFFIX
from sightline.models.weight_match import WeightFile, match, open_weights

FILE_BYTES = 4 * 1024**3
SPARE_BYTES = 256 * 1024**2
# What is copied as it is: configuration and tokenizer, never weights, never code.
_COPIED_SUFFIXES = (".json", ".model", ".tiktoken", ".txt", ".md")
_COPIED_NAMES = ("LICENSE", "NOTICE")
_WEIGHTS = "model.safetensors"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def quantize_folder(
    folder: Path,
    target: Path,
    quantization: Quantization,
    *,
    progress: Progress = lambda done, total: None,
) -> int:
    """Write the model in `folder`, quantised, into the new folder `target`; return its bytes.

    `progress` is told the bytes that were written. Raises StartupError: `folder` is no model or is
    quantised already, nothing of it would be, `target` is there, or the disk is too small.
    """
    facts = read_facts(folder)
    if facts.stored is not None:
        raise StartupError(
            f"{folder} is quantised already ({facts.stored}); take the original folder.",
            code="quantized_already",
            values={"folder": str(folder), "stored": str(facts.stored)},
        )
    quantization = quantization.of_model(sees=facts.image_policy is not None)
    shapes = tensor_shapes(facts.outline)
    schemes = quantization.schemes(shapes)
    if not schemes:
        raise StartupError("Nothing to do: every weight is left as it is.", code="quantize_none")
    _require_new(target)
    # Not the name under which a download gathers.
    partial = target.parent / f".quantizing-{target.name}"
    with ExitStack() as stack:
        files = open_weights(folder, stack, newer_names=facts.family.newer_names)
        places = match(files, shapes, stored={}, recomputed=facts.family.recomputed)
        total = sum(
            weight_bytes(
                name, shape, quantization, itemsize=places[name].entries[name].dtype.itemsize
            )
            for name, shape in shapes.items()
        )
        try:
            stack.enter_context(_held(partial, target))
            _require_room(target, partial, total)
            _copy_small_files(folder, partial)
            _write_weights(partial, places, shapes, schemes, total, progress)
            config = read_config(folder) | {CONFIG_KEY: quantization.to_config()}
            if "dtype" not in config:
                config.setdefault("torch_dtype", facts.dtype)
            (partial / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
            partial.rename(target)
        except OSError as error:
            raise StartupError(
                f"Writing {target} failed: {error.strerror}.",
                code="quantize_full" if error.errno in _FULL else "quantize_disk",
                values={"target": str(target), "reason": str(error.strerror)},
            ) from None
    return total


@contextmanager
def _held(partial: Path, target: Path) -> Iterator[None]:
    """Make the folder `partial`, empty, and keep other processes out; nothing is left of a failure.

    What a killed process left in it goes. Raises OSError, and StartupError if another one has it.
    """
    while True:
        partial.mkdir(parents=True, exist_ok=True)
        folder = os.open(partial, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(folder)
            raise StartupError(
                f"{target} is being written by another process; wait for it.",
                code="quantize_locked",
                values={"target": str(target)},
            ) from None
        except OSError:
            pass  # a file system that knows no locks
        # The one who had it may just have given it its name.
        if partial.exists() and os.path.samestat(os.fstat(folder), partial.stat()):
            break
        os.close(folder)
    try:
        _require_new(target)
        for left in partial.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        os.close(folder)


def _require_new(target: Path) -> None:
    if os.path.lexists(target):
        raise StartupError(
            f"{target} is there already; name a new folder.",
            code="quantize_there",
            values={"target": str(target)},
        )


def _require_room(target: Path, partial: Path, size: int) -> None:
    free = shutil.disk_usage(partial).free
    needed = size + SPARE_BYTES
    if free < needed:
        raise StartupError(
            f"The quantised weights need {needed / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are "
            f"free at {target.parent}.",
            code="quantize_no_room",
            values={"size": f"{needed / 1e9:.1f}", "free": f"{free / 1e9:.1f}"},
        )


def _copy_small_files(folder: Path, partial: Path) -> None:
    for path in folder.iterdir():
        is_wanted = path.suffix in _COPIED_SUFFIXES or path.name in _COPIED_NAMES
        if is_wanted and not path.name.endswith(INDEX_SUFFIX) and path.is_file():
            shutil.copyfile(checked_file(folder, path.name), partial / path.name)
    if (partial / RECORD_FILE).exists():
        # The copy has the same origin and licence, and other files.
        record = {
            key: value for key, value in read_json(partial, RECORD_FILE).items() if key != "files"
        }
        (partial / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n")


def _write_weights(
    partial: Path,
    places: Mapping[str, WeightFile],
    shapes: Mapping[str, tuple[int, ...]],
    schemes: Mapping[str, Scheme],
    total: int,
    progress: Progress,
) -> None:
    """Write one file, or several and an index, in the order in which tensors are read."""
    parts = [
        (name, _layout(name, places[name], shapes[name], schemes.get(name)))
        for name in places
        if name in shapes
    ]
    shards = list(_shards(parts))
    weight_map: dict[str, str] = {}
    done = 0
    for number, shard in enumerate(shards, 1):
        file = (
            _WEIGHTS if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        )
        layout = {key: tensor for _, stored in shard for key, tensor in stored.items()}
        weight_map |= dict.fromkeys(layout, file)
        with SafetensorsWriter(partial / file, layout) as writer:
            for name, stored in shard:
                for key, tensor in zip(
                    stored, _stored(places[name], name, schemes.get(name)), strict=True
                ):
                    writer.write(key, tensor)
                    done += tensor.nbytes
                    progress(done, total)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (partial / (_WEIGHTS + INDEX_SUFFIX)).write_text(json.dumps(index, indent=2), "utf-8")


def _layout(
    name: str, file: WeightFile, shape: tuple[int, ...], scheme: Scheme | None
) -> dict[str, StoredTensor]:
    if scheme is not None:
        return stored_tensors(name, shape, scheme)
    return {name: StoredTensor(file.entries[name].dtype, shape)}


def _stored(file: WeightFile, name: str, scheme: Scheme | None) -> tuple[Tensor, ...]:
    values = torch.empty(file.entries[name].shape, dtype=file.entries[name].dtype)
    file.read_into(values, name)
    if scheme is None:
        return (values,)
    weight = quantize(values, scheme)
    return weight.values, weight.scales


_Part = tuple[str, dict[str, StoredTensor]]


def _shards(parts: list[_Part]) -> Iterator[list[_Part]]:
    """Cut the parts into files of about `FILE_BYTES`."""
    shard: list[_Part] = []
    size = 0
    for name, stored in parts:
        part_bytes = sum(tensor.num_bytes for tensor in stored.values())
        if shard and size + part_bytes > FILE_BYTES:
            yield shard
            shard, size = [], 0
        shard.append((name, stored))
        size += part_bytes
    yield shard

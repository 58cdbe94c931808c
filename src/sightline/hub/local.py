"""Model folders on this machine: recognise them, list them, find one by name.

What is checked here is what can be known without torch in a few milliseconds, so that a wrong
path fails before anything heavy starts. The loader judges the rest.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.core.errors import StartupError, shorten
from sightline.hub.names import (
    known_model,
    nearest_names,
    own_name,
    plain_name,
    split_quantisation,
)
from sightline.hub.weight_form import require_form
from sightline.models.families import find_family
from sightline.models.hub_files import (
    CONFIG_FILE,
    RECORD_FILE,
    checked_file,
    read_config,
    read_json,
)
from sightline.models.quantization import Quantization, stored_quantization
from sightline.models.tokenizer_files import tokenizer_file
from sightline.models.weight_files import INDEX_SUFFIX, WEIGHT_SUFFIXES, WHOLE_FILES, weight_files


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A folder that looks like a model; `size_bytes` counts its weights.

    `quantization` says how these are stored, if not in floats. `licence` and `origin` (hub and
    repository) are known of models that `pull` brought. `problem` says why it cannot be run.
    """

    name: str
    path: Path
    model_type: str
    size_bytes: int
    quantization: str | None = None
    licence: str | None = None
    origin: str | None = None
    problem: StartupError | None = None


def check_folder(path: Path) -> LocalModel:
    """Return what `path` holds, or raise StartupError that says what it lacks."""
    if not _exists(path):
        where = shorten(str(path), 160)
        raise _refused(f"There is no model folder {where}; `sightline models` lists what is here.")
    if not path.is_dir():
        raise _refused(f"{path} is a file; give the folder that holds config.json and the weights.")
    try:
        config = read_config(path)
        model_type, stored = config.get("model_type"), _stored(config)
        files = [checked_file(path, name) for name in weight_files(path)]
        tokenizer_file(path)
        sizes = {file.name: file.stat().st_size for file in files}
    except StartupError as error:
        raise StartupError(error.message, code="model_unusable", causes=[error]) from None
    except OSError as error:
        raise _refused(f"Cannot read the weights in {path}: {error.strerror}.") from None
    record = _record(path)
    for name, size in _recorded_sizes(record).items():
        if sizes.get(name, size) != size:
            raise _refused(
                f"{name} in {path} has {sizes[name]} bytes; {size} were downloaded. "
                "`sightline pull --verify` fetches such files again."
            )
    _require_form(path, files)
    licence, origin = _origin(record)
    return LocalModel(
        licence=licence,
        origin=origin,
        name=name_of(path),
        path=path,
        model_type=shorten(model_type) if isinstance(model_type, str) else "unknown",
        size_bytes=sum(sizes.values()),
        quantization=None if stored is None else str(stored),
    )


def name_of(folder: Path) -> str:
    """Return what a folder is called; a link has a name of its own.

    In the caches of the hubs' own tools that is what the repository is called.
    """
    whole = Path(os.path.abspath(folder))
    kept = whole.parent.parent.name
    if whole.parent.name == "snapshots" and kept.startswith("models--"):
        repository = kept.removeprefix("models--").replace("--", "/", 1)
        known = known_model(repository)
        return own_name(repository) if known is None else known.name
    return whole.name.replace("___", ".") or folder.name


def find_models(folders: Sequence[Path]) -> list[LocalModel]:
    """List the models among `folders` and their direct subfolders, by name.

    A folder that is meant to be one and cannot be run is listed with its `problem`.
    """
    found: dict[tuple[Path, str], LocalModel] = {}
    for folder in folders:
        for candidate in (folder, *_subfolders(folder)):
            try:
                model = _look_at(candidate)
                if model is not None:
                    found.setdefault((candidate.resolve(), model.name), model)
            except (OSError, RuntimeError):
                continue
    return sorted(found.values(), key=lambda model: (model.name, str(model.path)))


def _look_at(path: Path) -> LocalModel | None:
    """Return what `path` holds, also if it cannot be run; None if it is not meant as a model."""
    try:
        return check_folder(path)
    except StartupError as error:
        problem = error
    if not (path / CONFIG_FILE).is_file():
        return None
    try:
        model_type = read_config(path).get("model_type")
    except StartupError:
        model_type = "unknown" if _has_weights(path) else None
    if not isinstance(model_type, str):
        return None
    weights = [file for file in path.iterdir() if file.suffix in WEIGHT_SUFFIXES and file.is_file()]
    return LocalModel(
        name=name_of(path),
        path=path,
        model_type=shorten(model_type),
        size_bytes=sum(file.stat().st_size for file in weights),
        problem=problem,
    )


def _stored(config: dict[str, Any]) -> Quantization | None:
    """Return how the weights are quantised. Raises StartupError for a damaged entry of that."""
    stored = stored_quantization(config)
    if stored is None:
        return None
    try:
        sees = find_family(config).blueprint(config).image_policy is not None
    except StartupError:  # the loader says what is wrong with it
        sees = True
    return stored.of_model(sees=sees)


def _has_weights(path: Path) -> bool:
    names = [name for whole in WHOLE_FILES for name in (whole, whole + INDEX_SUFFIX)]
    return any((path / name).exists() for name in names)


def _require_form(path: Path, files: Sequence[Path]) -> None:
    """Raise StartupError for weights that are cut, or are none; only headers are read."""
    for file in files:
        try:
            require_form(file, file.name)
        except StartupError as error:
            where = shorten(str(path), 160)
            raise StartupError(
                f"The weights in {where} are not whole: {error.message}",
                code="model_not_whole",
                values={"folder": where},
                causes=[error],
            ) from None
        except OSError as error:
            raise _refused(f"Cannot read the weights in {path}: {error.strerror}.") from None


def spelled_path(name: str) -> Path:
    """Return `name` as a path; a ~ of somebody who is not known here stays as it is."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def existing_path(name: str) -> Path | None:
    """Return the path that `name` spells, None if nothing is there."""
    path = spelled_path(name)
    return path if _exists(path) else None


def resolve_model(name: str, folders: Sequence[Path]) -> Path:
    """Return the folder that `name` means: a path, or the name of a model in `folders`.

    A folder at that very path wins, then one without `:int8` or `:int4`. One that was pulled from
    another repository than `name` means is another model. Raises StartupError if there is none.
    """
    whole, (name, _) = name, split_quantisation(name)
    path = existing_path(whole) or existing_path(name)
    if path is not None:
        _require_meant(path, name)
        return path
    name = plain_name(name)
    known = known_model(name)
    wanted = {
        spelled.lower() for spelled in (name, own_name(name), *(known.names if known else ()))
    }
    names_repository = known is not None or "/" in name
    # One that can be run goes before one that cannot.
    for model in sorted(find_models(folders), key=lambda model: model.problem is not None):
        came_from = repository_of(model.path) if names_repository else None
        if model.name.lower() in wanted and (came_from is None or came_from.lower() in wanted):
            return model.path
    if known is not None:
        raise StartupError(
            f"{known.name} is not here yet; `sightline pull {known.name}` fetches it.",
            code="model_not_here",
            values={"name": known.name},
        )
    near = ", ".join(nearest_names(name))
    raise StartupError(
        f"There is no model folder {shorten(name)}; `sightline models` lists what is here. "
        f"Nearest names that can be had: {near}; `sightline models --all` lists them all.",
        code="model_nowhere",
        values={"name": shorten(name), "near": near},
    )


def _require_meant(path: Path, name: str) -> None:
    """Raise StartupError for what only happens to be called like a known model."""
    known = known_model(name)
    if known is None or _exists(path / CONFIG_FILE):
        return
    values = {"path": shorten(str(path), 160), "name": known.name}
    raise StartupError(
        "{path} is here, and is no model folder: it holds no config.json. It hides the model "
        "{name}; rename it, or run this from another folder.".format(**values),
        code="model_hidden",
        values=values,
    )


def repository_of(folder: Path) -> str | None:
    """Return the repository that `pull` noted; None for folders that came in another way."""
    repository = _record(folder).get("repository")
    return repository if isinstance(repository, str) else None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # no file can have that name, or nobody may look
        return False


def _record(path: Path) -> dict[str, Any]:
    """Return what `pull` noted; nothing for folders that came in another way."""
    try:
        return read_json(path, RECORD_FILE)
    except StartupError:
        return {}


def _recorded_sizes(record: dict[str, Any]) -> dict[str, int]:
    rows = record.get("files")
    return {
        row["name"]: row["size"]
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, dict)
        and isinstance(row.get("name"), str)
        and type(row.get("size")) is int
    }


def _origin(record: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return licence and origin."""
    if not record:
        return None, None
    texts = {key: value for key, value in record.items() if isinstance(value, str)}
    origin = f"{texts.get('hub', '?')}:{texts.get('repository', '?')}"
    licence = texts.get("licence")
    return licence and shorten(licence, 120), shorten(origin, 120)


def _subfolders(folder: Path) -> list[Path]:
    try:
        # Hidden ones are downloads that have not ended.
        return sorted(
            child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")
        )
    except OSError:
        return []


def _refused(message: str) -> StartupError:
    return StartupError(message, code="model_unusable")

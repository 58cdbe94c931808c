"""Which files of a model folder hold its weights. No torch: the front and the hub ask, too."""

from pathlib import Path

from sightline.core.errors import StartupError
from sightline.models.hub_files import read_json

INDEX_SUFFIX = ".index.json"
# Safetensors first: where a folder has both kinds, they hold the same.
WHOLE_FILES = ("model.safetensors", "pytorch_model.bin")
WEIGHT_SUFFIXES = (".safetensors", ".bin")
OTHER_PICKLES = (".pt", ".pth", ".ckpt", ".pkl")


def weight_files(folder: Path) -> list[str]:
    """Return the names of the files that hold the weights: one, or those of the index.

    The files need not be there. Raises StartupError when there is neither a file nor an index, or
    when the index is broken.
    """
    for whole in WHOLE_FILES:
        if (folder / whole).exists():
            return [whole]
        if (folder / (whole + INDEX_SUFFIX)).exists():
            return _named_by(folder, whole + INDEX_SUFFIX, Path(whole).suffix)
    whole = WHOLE_FILES[0]
    hint = "; pickles other than .bin are never loaded" if _has_other_pickles(folder) else ""
    raise StartupError(
        f"The model folder has no {whole} and no {whole}{INDEX_SUFFIX}{hint}.",
        code="weights_absent",
        values={"file": whole},
    )


def _named_by(folder: Path, index_file: str, suffix: str) -> list[str]:
    weight_map = read_json(folder, index_file).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise StartupError(f"{index_file}: 'weight_map' is not an object that names files.")
    if not all(isinstance(name, str) and name.endswith(suffix) for name in weight_map.values()):
        raise StartupError(f"{index_file}: 'weight_map' names other files than *{suffix}.")
    return sorted(set(weight_map.values()))


def _has_other_pickles(folder: Path) -> bool:
    try:
        return any(file.suffix in OTHER_PICKLES for file in folder.iterdir())
    except OSError:
        return False

"""Models that the hubs' own tools have downloaded: they are used where they lie.

`huggingface_hub` keeps `models--OWNER--NAME/snapshots/REVISION`, whose files are links into
`blobs`; modelscope keeps `models/OWNER/NAME` with `___` for a dot.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sightline.core.errors import StartupError
from sightline.hub.local import LocalModel, check_folder
from sightline.hub.names import known_model, plain_name, split_quantisation
from sightline.models.families import find_family
from sightline.models.hub_files import read_config

_PREFIX = "models--"


def cached_model(name: str, caches: Mapping[str, Sequence[Path]]) -> Path | None:
    """Return the folder of a whole model that `name` means: a known one, or OWNER/NAME.

    `caches` are the folders in which the tools of each hub keep repositories.
    """
    wanted = plain_name(split_quantisation(name)[0])
    known = known_model(wanted)
    repositories = {
        spelled.lower() for spelled in (known.names if known else (wanted,)) if "/" in spelled
    }
    for repository, folder in _cached(caches):
        if repository.lower() in repositories and _look_at(folder) is not None:
            return folder
    return None


def cached_models(caches: Mapping[str, Sequence[Path]]) -> list[LocalModel]:
    """List the whole models in `caches`."""
    found = (_look_at(folder) for _, folder in _cached(caches))
    return [model for model in found if model is not None]


def _cached(caches: Mapping[str, Sequence[Path]]) -> Iterator[tuple[str, Path]]:
    """Yield repositories and their folders, whole or not."""
    for folder in (folder for root in caches["huggingface"] for folder in _folders(root)):
        owner, _, name = folder.name.removeprefix(_PREFIX).partition("--")
        if folder.name.startswith(_PREFIX) and name:
            for revision in _revisions(folder):
                yield f"{owner}/{name}", folder / "snapshots" / revision
    for owned in (owned for root in caches["modelscope"] for owned in _folders(root)):
        for folder in _folders(owned):
            yield f"{owned.name}/{folder.name.replace('___', '.')}", folder


def _revisions(folder: Path) -> list[str]:
    """Return the revision that `main` meant when it was downloaded last, or the only one."""
    found = [child.name for child in _folders(folder / "snapshots")]
    try:
        latest = (folder / "refs" / "main").read_text("utf-8").strip()
    except (OSError, ValueError):
        return found if len(found) == 1 else []
    return [latest] if latest in found else []


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(folder for folder in root.iterdir() if folder.is_dir())
    except OSError:
        return []


def _look_at(folder: Path) -> LocalModel | None:
    """Return what the folder holds, None for half a download and what is no model of ours."""
    try:
        find_family(read_config(folder))
        return check_folder(folder)
    except StartupError:
        return None

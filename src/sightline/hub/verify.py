"""A model that was pulled, held against what the hub told of it then; damaged files come anew.

A file that rots keeps its size: only its hash tells. What is damaged is removed before it is
fetched, so that nobody takes the model for whole meanwhile.
"""

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sightline.core.errors import StartupError, shorten
from sightline.hub.choice import PICKLES, SAFETENSORS, SMALL_FILES, no_hub_gave
from sightline.hub.local import check_folder
from sightline.hub.names import KnownModel
from sightline.hub.pull import (
    Download,
    Progress,
    bring_all,
    bytes_here,
    hubs_named,
    locked,
    record_of,
    require_room,
    require_same_model,
)
from sightline.hub.remote import HUBS, Hub, HubFailed, HubName, Listing, RemoteFile
from sightline.hub.transfer import disk_failed, is_whole
from sightline.models.hub_files import RECORD_FILE

# Where a repository is looked into on a hub that the model did not come from.
_REVISIONS: dict[HubName, str] = {"huggingface": "main", "modelscope": "master"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A whole model, in which `anew` had to be fetched again."""

    folder: Path
    files: tuple[RemoteFile, ...]
    anew: tuple[RemoteFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def num_without_hash(self) -> int:
        """Files of which the hub told no hash: only their size and form are known to be right."""
        return sum(1 for file in self.files if file.sha256 is None and file.git_sha1 is None)


def verify(
    model: KnownModel,
    folder: Path,
    *,
    hubs: Sequence[HubName] = ("huggingface", "modelscope"),
    endpoints: Mapping[HubName, str] | None = None,
    variables: Mapping[HubName, str] | None = None,
    checking: Callable[[Sequence[RemoteFile]], None] = lambda files: None,
    damaged: Callable[[RemoteFile], None] = lambda file: None,
    announce: Callable[[Download], None] = lambda download: None,
    progress: Progress = lambda file, done: None,
    turned_away: Callable[[StartupError], None] = lambda reason: None,
    offline: bool = False,
) -> Verified:
    """Check every file that was pulled into `folder`, and fetch again those that are damaged.

    They come from the repository and revision of the first time, else from the other hub; what is
    there now under the same name is only taken if it has the same hash. `checking` hears what is
    read, `damaged` each file that is not what came; the rest is as in `pull`. Raises StartupError:
    nothing is known of the folder's files, one is damaged and this is `offline`, or no hub has it.
    """
    require_same_model(folder, model)
    listing = _recorded(folder)
    checking(listing.files)
    broken = []
    for file in listing.files:
        if not is_whole(folder / file.name, file):
            damaged(file)
            broken.append(file)
    if broken and offline:
        names = ", ".join(file.name for file in broken)
        values = {"folder": shorten(str(folder), 160), "files": shorten(names, 200)}
        raise StartupError(
            "Not what was downloaded, in {folder}: {files}. This is offline, so nothing is fetched "
            "again.".format(**values),
            code="verify_offline",
            values=values,
        )
    if broken:
        with locked(folder.parent, folder.name):
            try:
                for file in broken:
                    (folder / file.name).unlink(missing_ok=True)
                require_room(folder, broken)
                left = hubs_named(hubs, endpoints, variables)
                left.sort(key=lambda hub: hub.name != listing.hub)
                _fetch(model, folder, listing, broken, left, announce, progress, turned_away)
            except OSError as error:
                raise disk_failed(error) from None
    check_folder(folder)
    return Verified(folder=folder, files=listing.files, anew=tuple(broken))


def _fetch(
    model: KnownModel,
    folder: Path,
    listing: Listing,
    files: Sequence[RemoteFile],
    hubs: Sequence[Hub],
    announce: Callable[[Download], None],
    progress: Progress,
    turned_away: Callable[[StartupError], None],
) -> None:
    """Bring `files` from the first hub that gives them. Raises OSError, StartupError."""
    refusals: list[StartupError] = []
    for hub in hubs:
        if refusals:
            turned_away(refusals[-1])
        asked = listing
        if hub.name != listing.hub:
            repository, revision = model.repository(hub.name), _REVISIONS[hub.name]
            asked = replace(listing, hub=hub.name, repository=repository, revision=revision)
        announce(
            Download(
                model=model,
                listing=asked,
                files=tuple(files),
                folder=folder,
                gathered=folder,
                here_bytes=bytes_here(folder, files),
                free_bytes=shutil.disk_usage(folder).free,
            )
        )
        try:
            return bring_all(hub, asked, files, folder, progress)
        except HubFailed as error:
            refusals.append(error)
    raise no_hub_gave(model, refusals)


def _recorded(folder: Path) -> Listing:
    """Return what `pull` noted of a folder's files. Raises StartupError where it did not."""
    record = record_of(folder)
    rows = record.get("files")
    files = [_file(row) for row in rows] if isinstance(rows, list) else []
    hub = next((name for name in HUBS if name == record.get("hub")), None)
    repository, revision = record.get("repository"), record.get("revision")
    is_told = isinstance(repository, str) and isinstance(revision, str)
    found = [file for file in files if file is not None]
    if hub is None or not is_told or not found or len(found) < len(files):
        where = shorten(str(folder), 160)
        raise StartupError(
            f"Nothing is known of what {where} should hold: it has no {RECORD_FILE} of "
            "`sightline pull`.",
            code="verify_no_record",
            values={"folder": where, "file": RECORD_FILE},
        )
    return Listing(hub=hub, repository=str(repository), revision=str(revision), files=tuple(found))


def _file(row: Any) -> RemoteFile | None:
    """Return a file of the record; None for a row that `pull` would not have written."""
    if not isinstance(row, dict):
        return None
    name, size = row.get("name"), row.get("size")
    sha256, git_sha1 = row.get("sha256"), row.get("git_sha1")
    is_ours = isinstance(name, str) and (
        name in SMALL_FILES or SAFETENSORS.fullmatch(name) or PICKLES.fullmatch(name)
    )
    if not is_ours or type(size) is not int or size < 0:
        return None
    for value, digits in ((sha256, 64), (git_sha1, 40)):
        if value is not None and not re.fullmatch(rf"[0-9a-f]{{{digits}}}", str(value)):
            return None
    return RemoteFile(name=str(name), size=size, sha256=sha256, git_sha1=git_sha1)

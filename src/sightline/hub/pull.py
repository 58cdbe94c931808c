"""Downloading a model: the files that are needed, checked, and put in place as one.

Files are gathered in a hidden folder beside the model's place. Only when every one of them has
the size and the hash that the hub told, the folder takes the model's name. So whatever interrupts
it, there is a whole model or none, and the next call goes on where this one stopped.
"""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, Queue

from sightline.core.errors import StartupError, shorten
from sightline.hub.choice import choose_hub, is_small, needed_files, no_hub_gave
from sightline.hub.local import check_folder, repository_of
from sightline.hub.names import KnownModel, find_model
from sightline.hub.remote import HUBS, Hub, HubFailed, HubName, Listing, RemoteFile
from sightline.hub.transfer import PART, Stopped, bring, disk_failed, is_whole
from sightline.models.families import find_family
from sightline.models.hub_files import RECORD_FILE, read_config
from sightline.models.weight_files import WHOLE_FILES, weight_files

# Of the download, left free when it has ended.
SPARE_SHARE = 0.05
NUM_AT_ONCE = 4
# How long an interrupted download waits for its threads to notice.
PATIENCE_S = 2.0

Progress = Callable[[RemoteFile, int], None]
"""Called with a file and how much of it is here, from the thread that brings it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """A whole model. `hub` is None when it was there already."""

    folder: Path
    hub: HubName | None
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """What is about to come. `gathered` holds what is here of it: config.json at least.

    `here_bytes` of `size_bytes` are here; `free_bytes` are free on that disk.
    """

    model: KnownModel
    listing: Listing
    files: tuple[RemoteFile, ...]
    folder: Path
    gathered: Path
    here_bytes: int
    free_bytes: int

    @property
    def size_bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def weights_have_begun(self) -> bool:
        """Whether more is here than the small files, which always come first."""
        return self.here_bytes > sum(file.size for file in self.files if is_small(file))


def pull(
    model: KnownModel,
    into: Path,
    *,
    hubs: Sequence[HubName] = ("huggingface", "modelscope"),
    endpoints: Mapping[HubName, str] | None = None,
    variables: Mapping[HubName, str] | None = None,
    announce: Callable[[Download], None] = lambda download: None,
    progress: Progress = lambda file, done: None,
    turned_away: Callable[[StartupError], None] = lambda reason: None,
    offline: bool = False,
) -> Pulled:
    """Put `model` into the folder `into`/NAME, unless it is there.

    With several hubs the first that lists the repository is taken, and the next where that one does
    not give its files, which `turned_away` hears; `endpoints` are mirrors, `variables` what
    errors name because it decides how a hub is reached. `announce` is called before the weights
    come from a hub, and may raise StartupError to refuse them.
    Raises StartupError: no hub has it, a file that is needed is missing there, it is of no family
    that sightline runs, the disk is too small, or what came is not what was listed.
    """
    folder = into / model.name
    if folder.is_symlink() and not folder.exists():
        where = shorten(str(folder), 160)
        raise StartupError(
            f"{where} is a link to nothing; remove it, or bring back what it leads to.",
            code="pull_dead_link",
            values={"folder": where},
        )
    if folder.exists():
        return _here_already(folder, model)
    if offline:
        raise StartupError(
            f"{model.name} is not here, and this is offline.",
            code="pull_offline",
            values={"name": model.name},
        )
    with locked(into, model.name):
        if folder.exists():  # somebody else was faster
            return _here_already(folder, model)
        gathered = into / f".partial-{model.name}"
        left, refusals = hubs_named(hubs, endpoints, variables), list[StartupError]()
        while True:
            hub, listing = _go_on_or_choose(gathered, model, left, refusals)
            try:
                size_bytes = _gather(hub, listing, model, folder, gathered, announce, progress)
                break
            except HubFailed as error:
                refusals.append(error)
                left.remove(hub)
                if not left:
                    raise no_hub_gave(model, refusals) from None
                turned_away(error)
            except OSError as error:
                raise disk_failed(error) from None
        return Pulled(folder=folder, hub=hub.name, size_bytes=size_bytes)


def hubs_named(
    names: Sequence[HubName],
    endpoints: Mapping[HubName, str] | None,
    variables: Mapping[HubName, str] | None,
) -> list[Hub]:
    endpoints, variables = endpoints or {}, variables or {}
    return [HUBS[name](endpoints.get(name), variables.get(name, "")) for name in names]


def _gather(
    hub: Hub,
    listing: Listing,
    model: KnownModel,
    folder: Path,
    gathered: Path,
    announce: Callable[[Download], None],
    progress: Progress,
) -> int:
    """Bring all that `listing` has of the model into `gathered`, and that to its place.

    Returns the bytes of the model. Raises OSError, StartupError, and HubFailed if it is the hub
    that does not give it.
    """
    files = needed_files(listing)
    _keep_what_fits(gathered, listing, files, model)
    require_room(gathered, files)
    small = [file for file in files if is_small(file)]
    bring_all(hub, listing, small, gathered, progress)
    find_family(read_config(gathered))
    _require_all_shards(gathered, listing, files)
    announce(
        Download(
            model=model,
            listing=listing,
            files=tuple(files),
            folder=folder,
            gathered=gathered,
            here_bytes=bytes_here(gathered, files),
            free_bytes=shutil.disk_usage(gathered).free,
        )
    )
    bring_all(hub, listing, files, gathered, progress)
    check_folder(gathered)
    gathered.rename(folder)
    return sum(file.size for file in files)


def name_of_download(name: str, into: Path) -> str:
    """Return the folder in `into` that `name` means: the folder's own name, or any of the model's.

    Raises StartupError with the nearest names if there is no such model at all, or if the folder
    holds one from another repository.
    """
    name = name.rstrip("/") or name  # as shells complete it
    is_folder_name = bool(name) and Path(name).name == name and not name.startswith(".")
    if is_folder_name and any(os.path.lexists(folder) for folder in _folders(name, into)):
        return name
    model = find_model(name)
    require_same_model(into / model.name, model)
    return model.name


def remove(name: str, into: Path) -> list[tuple[Path, int]]:
    """Remove the folder `name` and what is left of its download; return the folders and bytes.

    Of a link only the link goes. Raises StartupError while the model is being downloaded.
    """
    there = [folder for folder in _folders(name, into) if folder.is_dir() or folder.is_symlink()]
    if not there:
        return []
    with locked(into, name):
        removed = []
        for folder in there:
            try:
                size = _remove(folder)
            except OSError as error:
                where, reason = shorten(str(folder), 160), _reason(error)
                raise StartupError(
                    f"{where} cannot be removed: {reason}.",
                    code="pull_not_removed",
                    values={"folder": where, "reason": reason},
                ) from None
            removed.append((folder, size))
        (into / f".lock-{name}").unlink(missing_ok=True)
    return removed


def _folders(name: str, into: Path) -> list[Path]:
    return [into / name, into / f".partial-{name}"]


def _remove(folder: Path) -> int:
    """Return the bytes that are free now. Raises OSError."""
    if folder.is_symlink():
        folder.unlink()
        return 0
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    shutil.rmtree(folder)
    return size


def _here_already(folder: Path, model: KnownModel) -> Pulled:
    found = check_folder(folder)
    require_same_model(folder, model)
    return Pulled(folder=folder, hub=None, size_bytes=found.size_bytes)


def require_same_model(folder: Path, model: KnownModel) -> None:
    """Raise StartupError if `folder` was pulled from a repository that is not the model's."""
    held = repository_of(folder)
    if held is None or held.lower() in (name.lower() for name in model.names):
        return
    values = {"folder": shorten(str(folder), 160), "held": shorten(held), "name": model.huggingface}
    raise StartupError(
        "{folder} holds {held}, not {name}; remove it, or download into another folder with "
        "`sightline pull --into`.".format(**values),
        code="pull_other_model",
        values=values,
    )


def _require_all_shards(gathered: Path, listing: Listing, files: Sequence[RemoteFile]) -> None:
    """Raise StartupError if the index is none, or names weights that the hub has not listed."""
    names = {file.name for file in files}
    if not names.isdisjoint(WHOLE_FILES):
        return
    for name in weight_files(gathered):
        if name not in names:
            raise HubFailed(
                f"The index of {shorten(listing.repository)} on {listing.hub} names "
                f"{shorten(name)}, which is not there; try the other hub (--from).",
                code="pull_no_shard",
                values={
                    "repository": shorten(listing.repository),
                    "hub": listing.hub,
                    "file": shorten(name),
                },
            )


def bring_all(
    hub: Hub, listing: Listing, files: Sequence[RemoteFile], folder: Path, progress: Progress
) -> None:
    """Bring the files that are not here, several at once; the first failure ends them all."""
    pending: Queue[RemoteFile] = Queue()
    for file in files:
        pending.put(file)
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while not stop.is_set():
                file = pending.get_nowait()
                if not is_whole(folder / file.name, file):
                    report = _reporter(progress, file)
                    bring(hub, listing, file, folder, report=report, stop=stop)
                progress(file, file.size)
        except (Empty, Stopped):
            return
        except BaseException as error:
            failures.append(error)
            stop.set()

    # Not a pool: its threads would have to end before an interrupted process could.
    threads = [
        threading.Thread(target=work, daemon=True, name="download")
        for _ in range(min(NUM_AT_ONCE, len(files)))
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1)
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)
    if failures:
        raise failures[0]


def _reason(error: OSError) -> str:
    return shorten(error.strerror or type(error).__name__)


def _reporter(progress: Progress, file: RemoteFile) -> Callable[[int], None]:
    return lambda done: progress(file, done)


@contextmanager
def locked(into: Path, name: str) -> Iterator[None]:
    """Nobody else brings or removes the model `name` meanwhile. Raises StartupError if one does."""
    from filelock import FileLock, Timeout

    lock = FileLock(into / f".lock-{name}", timeout=0)
    try:
        into.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise StartupError(
            f"{name} is being downloaded by another process; wait for it.",
            code="pull_locked",
            values={"name": name},
        ) from None
    except OSError as error:
        reason = _reason(error)
        raise StartupError(
            f"Cannot write to {shorten(str(into), 160)}: {reason}.",
            code="pull_folder",
            values={"folder": shorten(str(into), 160), "reason": reason},
        ) from None
    try:
        yield
    finally:
        lock.release()


def _go_on_or_choose(
    gathered: Path,
    model: KnownModel,
    hubs: Sequence[Hub],
    refusals: Sequence[StartupError],
) -> tuple[Hub, Listing]:
    """Return the hub that half of the model came from, if it still has it, else the fastest."""
    begun = [hub for hub in hubs if hub.name == record_of(gathered).get("hub")]
    if begun and len(hubs) > 1:
        try:
            return choose_hub(model, begun)
        except StartupError:
            pass
    return choose_hub(model, hubs, refusals)


def _keep_what_fits(
    gathered: Path, listing: Listing, files: Sequence[RemoteFile], model: KnownModel
) -> None:
    """Throw away what an earlier call gathered of other files than these, and note what comes."""
    record = {
        "hub": listing.hub,
        "repository": listing.repository,
        "revision": listing.revision,
        "licence": model.licence,
        "files": [asdict(file) for file in files],
    }
    before = record_of(gathered)
    same_place = all(before.get(key) == record[key] for key in ("hub", "repository", "revision"))
    rows = before.get("files")
    known = [row for row in rows if row in record["files"]] if isinstance(rows, list) else []
    kept = {RECORD_FILE}
    for row in known:
        # Whole files are known by their hash wherever they come from, and so are halves in the end.
        # Without one, nothing tells a file from another of its length but where it came from.
        if row["sha256"] or row["git_sha1"]:
            kept |= {row["name"], row["name"] + PART}
        elif same_place:
            kept.add(row["name"])
    gathered.mkdir(parents=True, exist_ok=True)
    for found in gathered.iterdir():
        if found.name not in kept:
            shutil.rmtree(found) if found.is_dir() else found.unlink()
    # Never half: what is here would be thrown away for lack of it.
    written = gathered / (RECORD_FILE + PART)
    written.write_text(json.dumps(record, indent=2) + "\n")
    written.replace(gathered / RECORD_FILE)


def record_of(folder: Path) -> dict[str, object]:
    """Return what was noted of a download, whole or not; nothing where nothing was."""
    try:
        record = json.loads((folder / RECORD_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def bytes_here(gathered: Path, files: Sequence[RemoteFile]) -> int:
    """Return how much of `files` is in a folder, halves included."""
    names = [name for file in files for name in (file.name, file.name + PART)]
    paths = [gathered / name for name in names]
    return sum(path.stat().st_size for path in paths if path.exists())


def require_room(gathered: Path, files: Sequence[RemoteFile]) -> None:
    """Raise StartupError if what is missing of `files` has no room on that disk."""
    total = sum(file.size for file in files)
    needed = total - bytes_here(gathered, files) + round(total * SPARE_SHARE)
    free = shutil.disk_usage(gathered).free
    if free < needed:
        where = shorten(str(gathered.parent), 160)
        needed_gb, free_gb = f"{needed / 1e9:.1f}", f"{free / 1e9:.1f}"
        raise StartupError(
            f"The download needs {needed_gb} GB more, {free_gb} GB are free at {where}; free some, "
            "or name another disk with `sightline pull --into`.",
            code="pull_no_room",
            values={"needed": needed_gb, "free": free_gb, "folder": where},
        )

"""Downloading a model: the files that are needed, checked, and put in place as one.

Files are gathered in a hidden folder beside the model's place. Only when every one of them has
the size, and where the hub tells it the SHA-256, that the hub named, the folder takes the model's
name. So whatever interrupts it, there is a whole model or none, and the next call goes on where
this one stopped.
"""

import hashlib
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, Queue

from sightline.core.errors import StartupError
from sightline.hub.local import check_folder
from sightline.hub.names import KnownModel
from sightline.hub.remote import HUBS, Hub, HubFailed, HubName, Listing, RemoteFile

RECORD_FILE = "sightline-model.json"
RACE_S = 30.0
HASH_BYTES = 4 * 1024 * 1024
# What is left free when a download has ended.
SPARE_BYTES = 512 * 1024 * 1024

SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "tokenizer.json",
    "qwen.tiktoken",
    "LICENSE",
)
SAFETENSORS = re.compile(r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json")
PICKLES = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin|pytorch_model\.bin\.index\.json")

WATCH_S = 0.25

Progress = Callable[[int, int], None]
"""Called from a thread with (bytes that are there, bytes in total), a few times a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """A whole model. `hub` is None when it was there already."""

    folder: Path
    hub: HubName | None
    size_bytes: int


def pull(
    model: KnownModel,
    into: Path,
    *,
    hubs: Sequence[HubName] = ("huggingface", "modelscope"),
    endpoints: Mapping[HubName, str] | None = None,
    progress: Progress = lambda done, total: None,
    offline: bool = False,
) -> Pulled:
    """Put `model` into the folder `into`/NAME, unless it is there.

    With several hubs the first that lists the repository is taken; `endpoints` are mirrors.
    Raises StartupError: no hub has it, a file that is needed is missing there, the disk is too
    small, or what came is not what was listed.
    """
    folder = into / model.name
    if folder.exists():
        return Pulled(folder=folder, hub=None, size_bytes=check_folder(folder).size_bytes)
    if offline:
        raise StartupError(f"{model.name} is not here, and this is offline.", code="pull_offline")
    with _locked(into, model.name):
        if folder.exists():  # somebody else was faster
            return Pulled(folder=folder, hub=None, size_bytes=check_folder(folder).size_bytes)
        hub, listing = choose_hub(model, hubs, endpoints or {})
        wanted = needed_files(listing)
        partial = into / f".partial-{model.name}"
        _require_same(partial, listing)
        _require_room(partial, wanted)
        total = sum(file.size for file in wanted)
        with _watched(partial, total, progress):
            for file in wanted:
                if not is_whole(partial / file.name, file):
                    hub.fetch(listing, file, partial)
                    _require_whole(partial, file, hub)
        for leftover in (".cache", ".mdl", ".msc", ".mv", "._____temp"):
            shutil.rmtree(partial / leftover, ignore_errors=True)
        check_folder(partial)
        _record(partial, listing, wanted, model)
        partial.rename(folder)
        return Pulled(folder=folder, hub=hub.name, size_bytes=total)


def choose_hub(
    model: KnownModel, hubs: Sequence[HubName], endpoints: Mapping[HubName, str]
) -> tuple[Hub, Listing]:
    """Ask all at once and take the first that lists the model. Raises StartupError if none does."""
    answers: Queue[tuple[Hub, Listing | StartupError]] = Queue()

    def ask(hub: Hub) -> None:
        repository = model.huggingface if hub.name == "huggingface" else model.modelscope
        try:
            answers.put((hub, hub.list(repository)))
        except StartupError as error:
            answers.put((hub, error))

    for name in hubs:
        threading.Thread(target=ask, args=(HUBS[name](endpoints.get(name)),), daemon=True).start()
    refusals: list[str] = []
    try:
        while len(refusals) < len(hubs):
            hub, answer = answers.get(timeout=RACE_S)
            if isinstance(answer, Listing):
                return hub, answer
            refusals.append(answer.message)
    except Empty:
        refusals.append(f"no answer within {RACE_S:g} s")
    raise HubFailed("No hub gave the model. " + " ".join(refusals), code="hub_failed")


def needed_files(listing: Listing) -> list[RemoteFile]:
    """Return weights, configuration and tokenizer, small ones first; never code.

    Safetensors go before pickles. Raises StartupError if the repository is no model.
    """
    by_name = {file.name: file for file in listing.files}
    weights = [by_name[name] for name in sorted(by_name) if SAFETENSORS.fullmatch(name)]
    if not weights:
        weights = [by_name[name] for name in sorted(by_name) if PICKLES.fullmatch(name)]
    if "config.json" not in by_name or not weights:
        raise StartupError(
            f"{listing.repository} on {listing.hub} holds no config.json or no weights that "
            "sightline reads (model*.safetensors, pytorch_model*.bin).",
            code="pull_no_model",
        )
    return [by_name[name] for name in SMALL_FILES if name in by_name] + weights


def is_whole(path: Path, file: RemoteFile) -> bool:
    """Say whether `path` has the size and, where it is known, the hash of `file`."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    if file.sha256 is None:
        return True
    digest = hashlib.sha256()
    with path.open("rb") as opened:
        while piece := opened.read(HASH_BYTES):
            digest.update(piece)
    return digest.hexdigest() == file.sha256


def _require_whole(partial: Path, file: RemoteFile, hub: Hub) -> None:
    if is_whole(partial / file.name, file):
        return
    (partial / file.name).unlink(missing_ok=True)
    raise StartupError(
        f"{file.name} came damaged from {hub.name}; run the command again.", code="pull_damaged"
    )


@contextmanager
def _watched(partial: Path, total: int, progress: Progress) -> Iterator[None]:
    """Tell `progress` what the folder weighs: both libraries write there, each in its own way."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(WATCH_S):
            progress(min(_weight(partial), total), total)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _weight(folder: Path) -> int:
    weight = 0
    for file in folder.rglob("*"):
        try:
            weight += file.stat().st_size if file.is_file() else 0
        except OSError:  # it has just moved
            continue
    return weight


@contextmanager
def _locked(into: Path, name: str) -> Iterator[None]:
    from filelock import FileLock, Timeout

    try:
        into.mkdir(parents=True, exist_ok=True)
        with FileLock(into / f".lock-{name}", timeout=0):
            yield
    except Timeout:
        raise StartupError(
            f"{name} is being downloaded by another process.", code="pull_locked"
        ) from None
    except OSError as error:
        raise StartupError(f"Cannot write to {into}: {error.strerror}.", code="pull_disk") from None


def _require_same(partial: Path, listing: Listing) -> None:
    """Begin anew if what was gathered came from elsewhere, or from another revision."""
    origin = {"hub": listing.hub, "repository": listing.repository, "revision": listing.revision}
    note = partial / ".origin.json"
    try:
        if json.loads(note.read_bytes()) == origin:
            return
    except (OSError, ValueError):
        pass
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    note.write_text(json.dumps(origin))


def _require_room(partial: Path, wanted: Sequence[RemoteFile]) -> None:
    needed = sum(file.size for file in wanted) - _weight(partial) + SPARE_BYTES
    free = shutil.disk_usage(partial).free
    if free < needed:
        raise StartupError(
            f"The download needs {needed / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free at "
            f"{partial.parent}; free some, or name another folder with --into.",
            code="pull_no_room",
        )


def _record(
    partial: Path, listing: Listing, wanted: Sequence[RemoteFile], model: KnownModel
) -> None:
    """Write down where the model came from and what was checked."""
    record = {
        "hub": listing.hub,
        "repository": listing.repository,
        "revision": listing.revision,
        "licence": model.licence,
        "files": [asdict(file) for file in wanted],
    }
    (partial / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n")
    (partial / ".origin.json").unlink(missing_ok=True)

"""Opening the files of a model folder: regular files inside it, of a bounded size, no others.

A folder comes from somewhere else. Its links may not lead out of it, with one exception: the
download cache of the Hugging Face hub keeps every file of `snapshots/REVISION` as a link into the
`blobs` folder beside `snapshots`.
"""

import json
from pathlib import Path
from typing import Any

from sightline.core.errors import StartupError, shorten

CONFIG_FILE = "config.json"
# What `sightline pull` writes into a folder: where it came from, and the files that came.
RECORD_FILE = "sightline-model.json"
MAX_JSON_BYTES = 64 * 1024 * 1024


def checked_folder(folder: Path) -> Path:
    """Return `folder` if it is one. Raises StartupError if not."""
    try:
        if folder.is_dir():
            return folder
        problem = "is a file, not a folder" if folder.exists() else "does not exist"
    except OSError:
        problem = "cannot be reached"
    where = shorten(str(folder), 160)
    raise _refused(f"Model folder {{folder}} {problem}.", "folder_absent", folder=where)


def checked_file(folder: Path, name: str) -> Path:
    """Return the path of the regular file `name` directly inside `folder`.

    Raises StartupError when it is missing, is something else than a file, or is a link that leads
    out of the folder.
    """
    if not name or name != Path(name).name or "\\" in name or "\0" in name:
        raise StartupError(f"{shorten(name)!r} is not the name of a file in the model folder.")
    path = folder / name
    try:
        target = path.resolve(strict=True)
        root = folder.resolve(strict=True)
    except PermissionError:
        raise _refused(
            "{file} cannot be read; check who may see {folder}.",
            "file_unreadable",
            file=shorten(name),
            folder=shorten(str(folder), 160),
        ) from None
    except (OSError, RuntimeError):
        where = shorten(str(folder), 160)
        raise _refused(
            "{file} is missing in {folder}.", "file_missing", file=shorten(name), folder=where
        ) from None
    inside = target.is_relative_to(root)
    in_blobs = root.parent.name == "snapshots" and target.is_relative_to(
        root.parent.parent / "blobs"
    )
    if not inside and not in_blobs:
        raise _refused(
            "{file} is a link that leads out of the model folder; refused.",
            "file_leads_out",
            file=shorten(name),
        )
    if not target.is_file():
        raise _refused("{file} is not a regular file.", "file_irregular", file=shorten(name))
    return path


def read_file(folder: Path, name: str, *, max_bytes: int) -> bytes:
    """Return the content of a checked file. Raises StartupError, also above `max_bytes`."""
    path = checked_file(folder, name)
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError:
        raise _refused(
            "{file} cannot be read; check its permissions.", "file_unreadable", file=name
        ) from None
    if len(content) > max_bytes:
        raise _refused(
            "{file} is larger than {most} bytes, too large for what it is.",
            "file_too_large",
            file=name,
            most=max_bytes,
        )
    return content


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return the JSON object in a checked file. Raises StartupError if it holds none."""
    content = read_file(folder, name, max_bytes=MAX_JSON_BYTES)
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        looks = what_it_looks_like(content)
        raise _refused(
            "{file} is {what}, not JSON.", "file_no_json", file=name, what=looks
        ) from None
    if not isinstance(values, dict):
        raise _refused(
            "{file} holds {kind}, not a JSON object.",
            "file_no_object",
            file=name,
            kind=type(values).__name__,
        )
    return values


def read_config(folder: Path) -> dict[str, Any]:
    """Return a model folder's config.json. Raises StartupError if there is none."""
    return read_json(checked_folder(folder), CONFIG_FILE)


def _refused(message: str, code: str, **values: str | int) -> StartupError:
    return StartupError(message.format(**values), code=code, values=values)


def what_it_looks_like(content: bytes) -> str:
    """Name what stands where something else was expected, from its first bytes."""
    start = content[:512].lstrip().lower()
    if not content:
        return "empty"
    if start.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer (the real file was never downloaded)"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page (a failed download?)"
    if start.startswith(b"pk\x03\x04") or start.startswith(b"\x80"):
        return "a pickle or zip archive"
    return "broken"

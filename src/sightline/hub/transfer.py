"""Bringing one file here: resumed where it stopped, retried while bytes come, hashed on the way.

A file grows under `NAME.part`. It gets its name when it has the size and the hash that the hub
told, and is on the disk. So a file of that name is whole, whatever killed the process.
"""

import errno
import hashlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Protocol

from sightline.core.errors import StartupError, shorten
from sightline.hub.remote import Hub, HubFailed, Listing, RemoteFile
from sightline.hub.weight_form import has_its_form
from sightline.models.weight_files import WEIGHT_SUFFIXES

PART = ".part"
READ_BYTES = 4 * 1024 * 1024
# Of bytes that come in small pieces, so many are told at a time, or what came in so long.
REPORT_BYTES, REPORT_S = 1024 * 1024, 0.2
# An attempt that ended because it was too slow counts for one if it brought as much.
ENOUGH_BYTES = 1024 * 1024
# Attempts in a row that bring no byte before a file is given up, and the pauses between them.
MAX_FRUITLESS = 5
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
# A mirror may hand out one damaged copy; a second one is no accident.
MAX_DAMAGED = 2
_PAGE = re.compile(rb"\s*<(!doctype|html)", re.IGNORECASE)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Report = Callable[[int], None]
"""Called with the bytes of the file that are here, from the thread that brings them."""


class Stopped(Exception):
    """Somebody else wants the download to end."""


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class _Damaged(Exception): ...


def bring(
    hub: Hub, listing: Listing, file: RemoteFile, folder: Path, *, report: Report, stop: Event
) -> None:
    """Put `file` into `folder`, whole. Raises HubFailed, StartupError, or Stopped."""
    part = folder / (file.name + PART)
    num_damaged = num_fruitless = 0
    while True:
        before = _size(part)
        try:
            _append(hub, listing, file, part, report, stop)
            break
        except _Damaged:
            part.unlink(missing_ok=True)
            num_damaged += 1
            if num_damaged == MAX_DAMAGED:
                raise HubFailed(
                    f"{file.name} comes damaged from {hub.name}; try again later, or with the "
                    "other hub (--from).",
                    code="pull_damaged",
                    values={"file": file.name, "hub": hub.name},
                ) from None
        except HubFailed as error:
            # What is too slow brings bytes, too, and would for ever.
            is_fruitful = _size(part) - before >= (ENOUGH_BYTES if error.is_slow else 1)
            num_fruitless = 1 if is_fruitful else num_fruitless + 1
            if not error.is_passing or num_fruitless == MAX_FRUITLESS:
                if not error.refuses_range or not _size(part) or num_damaged:
                    raise
                # It will not go on from there, today or tomorrow: from the beginning, once.
                part.unlink()
                num_damaged, num_fruitless = 1, 0
            pause = max(FIRST_PAUSE_S * 2**num_fruitless / 2, error.retry_after_s)
            if stop.wait(min(pause, LONGEST_PAUSE_S)):
                raise Stopped from None
        except OSError as error:
            raise disk_failed(error) from None
    part.rename(folder / file.name)


def is_whole(path: Path, file: RemoteFile) -> bool:
    """Say whether `path` has the size and, where it is known, the hash of `file`."""
    try:
        if path.stat().st_size != file.size:
            return False
        digest = _digest(file)
        _feed(digest, path)
    except OSError:
        return False
    return _is_right(digest, file, path)


def disk_failed(error: OSError) -> StartupError:
    reason = shorten(error.strerror or type(error).__name__)
    if error.errno not in _FULL:
        where = shorten(str(error.filename or "the download"), 160)
        return StartupError(
            f"Cannot write {where}: {reason}. What has come is kept; look at the disk and its "
            "permissions, and run the command again.",
            code="pull_write",
            values={"file": where, "reason": reason},
        )
    return StartupError(
        f"Writing failed: {reason}. What has come is kept; free some space and run the command "
        "again.",
        code="pull_disk",
        values={"reason": reason},
    )


def _append(
    hub: Hub, listing: Listing, file: RemoteFile, part: Path, report: Report, stop: Event
) -> None:
    """Take `part` from where it ends to the end. Raises _Damaged if it is not the file then."""
    offset = _size(part)
    digest = _digest(file)
    if offset > file.size:
        raise _Damaged
    with part.open("ab") as output:
        _feed(digest, part)
        report(offset)
        if offset < file.size:
            with hub.open(listing, file, offset) as stream:
                if stream.start not in (0, offset):
                    raise _Damaged
                if stream.length not in (None, file.size - stream.start):
                    raise _another_answer(hub, file)
                is_anew = stream.start == 0
                told, told_at = offset, 0.0
                is_weights = file.name.endswith(WEIGHT_SUFFIXES)
                for chunk in stream.chunks:
                    if stop.is_set():
                        raise Stopped
                    if is_anew:
                        # Only now: what is here is worth more than a login page.
                        if is_weights and _PAGE.match(chunk):
                            raise _another_answer(hub, file)
                        output.truncate(0)
                        digest, offset, is_anew = _digest(file), 0, False
                    output.write(chunk)
                    # What is counted as here is here, even if this process is killed now.
                    output.flush()
                    digest.update(chunk)
                    offset += len(chunk)
                    now = time.monotonic()
                    if offset - told >= REPORT_BYTES or now - told_at >= REPORT_S:
                        report(offset)
                        told, told_at = offset, now
                    if offset > file.size:
                        raise _Damaged
                report(offset)
        if offset < file.size:
            raise HubFailed(
                f"{hub.name}: {file.name} ended after {offset} of {file.size} bytes.",
                code="hub_stopped",
                values={
                    "hub": hub.name,
                    "file": file.name,
                    "found": offset,
                    "expected": file.size,
                },
                is_passing=True,
            )
        os.fsync(output.fileno())
    if not _is_right(digest, file, part):
        raise _Damaged


def _another_answer(hub: Hub, file: RemoteFile) -> HubFailed:
    subject = f"{hub.name}: {shorten(file.name)}"
    return HubFailed(
        f"{subject}: the answer is not the file that was listed{hub.way}; is a login page or a "
        "proxy in between?",
        code="hub_another_answer",
        values={"subject": subject, "way": hub.way},
        is_passing=True,
    )


def _digest(file: RemoteFile) -> _Digest:
    if file.sha256 is None and file.git_sha1 is not None:
        return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    return hashlib.sha256()


def _is_right(digest: _Digest, file: RemoteFile, path: Path) -> bool:
    expected = file.sha256 or file.git_sha1
    return has_its_form(path, file.name) if expected is None else digest.hexdigest() == expected


def _feed(digest: _Digest, path: Path) -> None:
    with path.open("rb") as opened:
        while piece := opened.read(READ_BYTES):
            digest.update(piece)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0

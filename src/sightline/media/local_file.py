"""Files that requests may name: those inside one folder that the operator chose."""

import os
import stat
from pathlib import Path

from sightline.core.errors import RequestError, StartupError
from sightline.core.limits import Limits
from sightline.media import refusals


class MediaRoot:
    """A folder; `read` lets nothing outside of it be seen, not even whether it exists."""

    def __init__(self, folder: Path) -> None:
        """Raises `StartupError` if `folder` is none."""
        self._root = folder.resolve()
        if not self._root.is_dir():
            raise StartupError(f"--media-root: {folder} is not a folder.", code="media_root")

    def read(self, path: str, limits: Limits) -> bytes:
        """Return the bytes of a regular file, links resolved first. Blocks: call it in a thread.

        Raises `RequestError`: `invalid_image_url`, `image_file_too_large`.
        """
        try:
            resolved = (self._root / path).resolve()
        except (OSError, RuntimeError, ValueError):
            raise _no_such_file() from None
        if not resolved.is_relative_to(self._root):
            raise refusals.invalid_url("The file is not inside the folder given to --media-root.")
        try:
            # Non-blocking, so that opening a named pipe does not wait for a writer.
            fd = os.open(resolved, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            raise _no_such_file() from None
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise _no_such_file()
            with open(fd, "rb", closefd=False) as file:
                data = file.read(limits.max_image_bytes + 1)
        except OSError:
            raise _no_such_file() from None
        finally:
            os.close(fd)
        if len(data) > limits.max_image_bytes:
            raise refusals.file_too_large(len(data), limits)
        return data


def _no_such_file() -> RequestError:
    return refusals.invalid_url("There is no such readable file in the media folder.")

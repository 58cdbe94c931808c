"""Pictures as a person names them: files, addresses, standard input."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.cli import catalogue
from sightline.core.errors import StartupError
from sightline.core.limits import Limits

STDIN = "-"
ADDRESSES = ("http://", "https://", "data:image/")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})


@dataclass(frozen=True, slots=True)
class Picture:
    """An address, which the server fetches, or the bytes of a file, which the client uploads."""

    name: str
    source: str | bytes = field(repr=False)


def looks_like_picture(argument: str) -> bool:
    """Say whether `argument` names a picture rather than asking something."""
    if argument == STDIN or argument.lower().startswith(ADDRESSES):
        return True
    if _is_file(argument):
        return True
    # A missing cat.png is a mistake to report, not a question to ask.
    return Path(argument).suffix.lower() in SUFFIXES and not any(c.isspace() for c in argument)


def read_picture(argument: str, limits: Limits) -> Picture:
    """Read what `argument` names. Raises StartupError, in the person's language, if it cannot."""
    if argument == STDIN:
        name = catalogue.text("image.stdin")
        data = sys.stdin.buffer.read(limits.max_image_bytes + 1)
        return Picture(name, _checked(name, data, limits))
    if argument.lower().startswith(ADDRESSES):
        name = "data URI" if argument.lower().startswith("data:") else argument
        return Picture(name, argument)
    path = Path(argument).expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(limits.max_image_bytes + 1)
    except FileNotFoundError:
        raise _unusable("image.missing", path=path) from None
    except OSError as error:
        raise _unusable("image.unreadable", path=path, reason=error.strerror) from None
    return Picture(path.name, _checked(str(path), data, limits))


def _checked(name: str, data: bytes, limits: Limits) -> bytes:
    if not data:
        raise _unusable("image.empty", path=name)
    if len(data) > limits.max_image_bytes:
        raise _unusable("image.too_large", path=name, limit=limits.max_image_bytes)
    return data


def _unusable(key: str, **values: Any) -> StartupError:
    return StartupError(catalogue.text(key, **values), code="picture_unusable")


def _is_file(argument: str) -> bool:
    try:
        return Path(argument).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False

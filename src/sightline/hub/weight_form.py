"""Whether a file of weights has the form that its name promises. No torch, and little is read.

A file that is cut, or another, is so not taken for weights: where a hub tells no hash, and in
folders that came in another way.
"""

import json
import zipfile
from pathlib import Path

from sightline.core.errors import StartupError, shorten
from sightline.models.hub_files import what_it_looks_like

# As the format itself bounds it.
MAX_HEADER_BYTES = 100_000_000
_ZIP_START = b"PK\x03\x04"
_PICKLE_START = b"\x80"


def require_form(path: Path, name: str) -> None:
    """Raise StartupError if `path` cannot be the file `name`; of others than weights none is known.

    Looks at header and size only. Raises OSError, too.
    """
    if name.endswith(".safetensors"):
        _require_safetensors(path, name)
    elif name.endswith(".bin") and not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            start = file.read(512)
        if start.startswith(_ZIP_START):
            raise _broken(name, "cut off: the table at its end is missing")
        old = "; save it again with a torch from 1.6 on" if start.startswith(_PICKLE_START) else ""
        raise _broken(name, what_it_looks_like(start), f", not weights in torch's zip format{old}")


def has_its_form(path: Path, name: str) -> bool:
    """Say whether `path` could be the file `name`. Raises OSError."""
    try:
        require_form(path, name)
    except StartupError:
        return False
    return True


def _require_safetensors(path: Path, name: str) -> None:
    """Raise StartupError unless the tensors of the header end where the file does."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(512)
        length = int.from_bytes(start[:8], "little")
        if not 2 <= length <= MAX_HEADER_BYTES:
            raise _broken(name, what_it_looks_like(start), ", not a safetensors file")
        if length > size - 8:
            raise _of_another_size(name, size, 8 + length, "at least ")
        file.seek(8)
        try:
            header = json.loads(file.read(length))
            ends = [row["data_offsets"][1] for key, row in header.items() if key != "__metadata__"]
            expected = 8 + length + max(ends, default=0)
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError, IndexError):
            raise _broken(name, "broken: its header is none of safetensors") from None
    if size != expected:
        raise _of_another_size(name, size, expected)


def _of_another_size(name: str, size: int, expected: int, about: str = "") -> StartupError:
    what = "cut off" if size < expected else "not what it was"
    values = {"file": shorten(name), "found": f"{size:,}", "expected": f"{about}{expected:,}"}
    return StartupError(
        "{file} is {what}: it has {found} bytes, its header tells of {expected}; fetch it "
        "again.".format(what=what, **values),
        code="weights_cut",
        values=values,
    )


def _broken(name: str, what: str, instead: str = "") -> StartupError:
    """`instead` ends the sentence with what the file should be."""
    values = {"file": shorten(name), "what": what}
    return StartupError(
        f"{values['file']} is {what}{instead}; fetch it again.",
        code="weights_broken",
        values=values,
    )

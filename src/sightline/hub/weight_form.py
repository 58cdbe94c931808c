"""Whether a file of weights has the form that its name promises. No torch, and little is read.

Asked where a hub tells no hash: a file that is cut, or another, is then still not taken for it.
"""

import json
import zipfile
from pathlib import Path

# As the format itself bounds it.
MAX_HEADER_BYTES = 100_000_000


def has_its_form(path: Path, name: str) -> bool:
    """Say whether `path` could be the file `name`; of other files than weights nothing is known.

    Raises OSError.
    """
    if name.endswith(".safetensors"):
        return _is_safetensors(path)
    if name.endswith(".bin"):
        return zipfile.is_zipfile(path)
    return True


def _is_safetensors(path: Path) -> bool:
    """Say whether the tensors of the header end where the file does."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            return False
        try:
            header = json.loads(file.read(length))
            ends = [row["data_offsets"][1] for key, row in header.items() if key != "__metadata__"]
            return 8 + length + max(ends, default=0) == size
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError, IndexError):
            return False

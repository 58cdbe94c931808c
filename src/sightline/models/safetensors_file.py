"""Reading a safetensors file straight into tensors.

Everything the header claims is checked against the file before a byte of data is read: names,
types, shapes, and that the tensors fill the file exactly. Data is read, not mapped, into the
memory where it will stay: there is never a second copy, and a file that changes meanwhile cannot
kill the process. Tensors whose CRC-32 stands in the header's metadata are checked against it.
"""

import json
import math
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor

from sightline.core.errors import StartupError, shorten
from sightline.models.hub_files import what_it_looks_like

MAX_HEADER_BYTES = 100 * 1024 * 1024
MAX_DIMENSIONS = 8
READ_BYTES = 16 * 1024 * 1024
CHECKSUM_PREFIX = "crc32."

Named = TypeVar("Named")

DTYPES = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """A tensor's type and shape, and its bytes [start, end) in the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size_bytes(self) -> int:
        return self.end - self.start


class SafetensorsFile:
    """An open, checked file. `entries` are its tensors by name, in the file's order.

    Opening raises StartupError, naming file, tensor, what was expected and what was found.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        try:
            self._file = path.open("rb", buffering=0)
        except OSError:
            raise StartupError(f"{self.name} cannot be read; check its permissions.") from None
        try:
            size = os.fstat(self._file.fileno()).st_size
            header, data_start = self._read_header(size)
            metadata = header.pop("__metadata__", None)
            self._metadata = metadata if isinstance(metadata, dict) else {}
            self.entries = _entries(self.name, header, data_start, size)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "SafetensorsFile":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def rename(self, called: Callable[[str], str]) -> None:
        """Know every tensor by another name. Raises StartupError if two get the same one."""
        self.entries = renamed(self.entries, called, self.name)

    def read(self, name: str) -> Tensor:
        """Return one tensor, on the CPU. Raises StartupError as `read_into` does."""
        entry = self.entries[name]
        tensor = torch.empty(entry.shape, dtype=entry.dtype)
        self.read_into(tensor, name)
        return tensor

    def read_into(
        self, tensor: Tensor, name: str, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        """Fill a contiguous CPU tensor of the entry's type and shape.

        `on_bytes` hears the size of every piece that was read. Raises StartupError if the file
        has become shorter, cannot be read, or holds something else than its checksum says.
        """
        entry = self.entries[name]
        if not entry.size_bytes:
            return
        memory = tensor.view(-1).view(torch.uint8).numpy().data
        self._read_at(entry.start, memory, name, on_bytes)
        expected = self._metadata.get(CHECKSUM_PREFIX + name)
        if expected is not None and expected != checksum(memory):
            raise StartupError(
                f"{self.name}: tensor {shorten(name, 128)} is damaged, its checksum does not "
                "match; make or download the file again."
            )

    def _read_at(
        self,
        start: int,
        memory: memoryview,
        name: str,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        done = 0
        while done < len(memory):
            try:
                # From where it says and not from where the file stands: threads read at once.
                count = os.preadv(
                    self._file.fileno(), [memory[done : done + READ_BYTES]], start + done
                )
            except OSError:
                raise StartupError(f"{self.name}: reading {shorten(name)!r} failed.") from None
            if not count:
                raise StartupError(
                    f"{self.name}: {shorten(name)!r} ends after {done} of {len(memory)} bytes; "
                    "the file changed while it was read."
                )
            done += count
            if on_bytes is not None:
                on_bytes(count)

    def _read_header(self, size: int) -> tuple[dict[str, Any], int]:
        """Return the header and where the data after it begins."""
        start = bytearray(min(512, size))
        self._read_at(0, memoryview(start), "header")
        length = int.from_bytes(start[:8], "little")
        if len(start) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            found = what_it_looks_like(bytes(start))
            if found == "broken":
                found = f"cut off or broken (header of {length} bytes in a file of {size})"
            raise StartupError(f"{self.name} is {found}, not a safetensors file.")
        content = bytearray(length)
        self._read_at(8, memoryview(content), "header")
        try:
            header = json.loads(content)
        except (ValueError, RecursionError):
            raise StartupError(
                f"{self.name}: its header is not JSON; the file is broken."
            ) from None
        if not isinstance(header, dict):
            raise StartupError(f"{self.name}: its header is not a JSON object.")
        return header, 8 + length


def renamed(
    tensors: Mapping[str, Named], called: Callable[[str], str], file: str
) -> dict[str, Named]:
    """Return `tensors` by other names. Raises StartupError if two get the same one."""
    known = {called(name): tensor for name, tensor in tensors.items()}
    if len(known) < len(tensors):
        names = sorted(tensors, key=called)
        one, other = next(pair for pair in pairwise(names) if len({*map(called, pair)}) == 1)
        raise StartupError(
            f"{file}: {shorten(one, 128)} and {shorten(other, 128)} are two names of one tensor."
        )
    return known


def checksum(content: memoryview) -> str:
    """Return the CRC-32 as it stands in a header's metadata."""
    return f"{zlib.crc32(content):08x}"


def _entries(
    file: str, header: dict[str, Any], data_start: int, size: int
) -> dict[str, TensorEntry]:
    entries = {name: _entry(file, name, row, data_start) for name, row in header.items()}
    end = data_start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != end:
            raise StartupError(
                f"{file}: {shorten(name)!r} begins at byte {entry.start}, expected {end}."
            )
        end = entry.end
    if end != size:
        problem = "is cut off" if end > size else "has bytes after its last tensor"
        raise StartupError(f"{file} {problem}: expected {end} bytes, found {size}.")
    return entries


def _entry(file: str, name: str, row: object, data_start: int) -> TensorEntry:
    if not isinstance(row, dict):
        raise StartupError(f"{file}: the header's row for {shorten(name)!r} is not an object.")
    dtype, shape, offsets = (row.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise StartupError(
            f"{file}: {shorten(name)!r} has dtype {shorten(str(dtype))}; "
            f"supported: {', '.join(DTYPES)}."
        )
    if not _is_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        raise StartupError(f"{file}: {shorten(name)!r} has no valid shape.")
    if not _is_sizes(offsets) or len(offsets) != 2:
        raise StartupError(f"{file}: {shorten(name)!r} has no valid data offsets.")
    expected = math.prod(shape) * DTYPES[dtype].itemsize
    if offsets[1] - offsets[0] != expected:
        raise StartupError(
            f"{file}: {shorten(name)!r} of shape {shorten(str(shape))} needs {expected} bytes, "
            f"its offsets give {offsets[1] - offsets[0]}."
        )
    return TensorEntry(
        dtype=DTYPES[dtype],
        shape=tuple(shape),
        start=data_start + offsets[0],
        end=data_start + offsets[1],
    )


def _is_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item < 1 << 48 for item in value
    )

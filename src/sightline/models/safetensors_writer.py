"""Writing a safetensors file tensor by tensor, with a CRC-32 of each in the header.

The header's length does not depend on the checksums, so it is written twice: first with zeros to
keep its place, and at the end as it must be. A file that was not finished does not match its own
header.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from sightline.models.quantized import StoredTensor
from sightline.models.safetensors_file import CHECKSUM_PREFIX, DTYPES, checksum

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_NO_CHECKSUM = "0" * 8
_ALIGNMENT = 8


class SafetensorsWriter:
    """An open file that takes the tensors of `layout`, in its order. Raises OSError."""

    def __init__(self, path: Path, layout: Mapping[str, StoredTensor]) -> None:
        self._layout = dict(layout)
        self._checksums = dict.fromkeys(layout, _NO_CHECKSUM)
        self._waiting = list(layout)
        self._file = path.open("wb")
        self._file.write(self._header())

    def __enter__(self) -> "SafetensorsWriter":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._file:
            if exc_type is None:
                assert not self._waiting
                self._file.seek(0)
                self._file.write(self._header())

    def write(self, name: str, tensor: Tensor) -> None:
        """Write the next tensor of the layout."""
        expected = self._layout[name]
        assert name == self._waiting.pop(0)
        assert (tensor.dtype, tuple(tensor.shape)) == (expected.dtype, expected.shape)
        content = tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data
        self._checksums[name] = checksum(content)
        self._file.write(content)

    def _header(self) -> bytes:
        metadata = {CHECKSUM_PREFIX + name: sum_ for name, sum_ in self._checksums.items()}
        rows: dict[str, Any] = {"__metadata__": {"format": "pt"} | metadata}
        start = 0
        for name, tensor in self._layout.items():
            end = start + tensor.num_bytes
            rows[name] = {
                "dtype": _NAMES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [start, end],
            }
            start = end
        content = json.dumps(rows, separators=(",", ":")).encode()
        content += b" " * (-len(content) % _ALIGNMENT)
        return len(content).to_bytes(8, "little") + content

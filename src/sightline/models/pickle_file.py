"""Reading weights that were pickled by torch.save, as older checkpoints are: tensors, never code.

torch's restricted unpickler builds tensors and the containers around them and refuses all else.
The file is mapped, not read: a shard costs memory only tensor by tensor, as its values are copied
to where they will stay.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from sightline.core.errors import StartupError, shorten
from sightline.models.hub_files import what_it_looks_like
from sightline.models.safetensors_file import TensorEntry, renamed

ZIP_START = b"PK\x03\x04"


class PickleFile:
    """A file of named tensors. `entries` are their types and shapes, in the file's order.

    `start` and `end` of an entry count from the first tensor, as if they lay one after another.
    Opening raises StartupError for everything but a flat mapping of names to dense tensors in
    torch's zip format.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._tensors = _load(path)
        self.entries: dict[str, TensorEntry] = {}
        done = 0
        for name, tensor in self._tensors.items():
            self.entries[name] = TensorEntry(
                dtype=tensor.dtype,
                shape=tuple(tensor.shape),
                start=done,
                end=done + tensor.numel() * tensor.element_size(),
            )
            done = self.entries[name].end

    def __enter__(self) -> "PickleFile":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tensors = {}

    def rename(self, called: Callable[[str], str]) -> None:
        """Know every tensor by another name. Raises StartupError if two get the same one."""
        self.entries = renamed(self.entries, called, self.name)
        self._tensors = renamed(self._tensors, called, self.name)

    def read_into(
        self, tensor: Tensor, name: str, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        """Fill a CPU tensor of the entry's type and shape; `on_bytes` hears how much it was."""
        # Dropped once it is copied, so that the system may take its pages back.
        tensor.copy_(self._tensors.pop(name))
        if on_bytes is not None:
            on_bytes(self.entries[name].size_bytes)


def _load(path: Path) -> dict[str, Tensor]:
    name = path.name
    try:
        with path.open("rb") as file:
            start = file.read(512)
        if not start.startswith(ZIP_START):
            found = what_it_looks_like(start)
            hint = "; save it again with a torch from 1.6 on" if start.startswith(b"\x80") else ""
            raise StartupError(f"{name} is {found}, not weights in torch's zip format{hint}.")
        values = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise StartupError(
            f"{name} holds more than tensors: loading it could run code; refused."
        ) from None
    except OSError:
        raise StartupError(f"{name} cannot be read; check its permissions.") from None
    except (RuntimeError, ValueError, KeyError, EOFError, AttributeError, TypeError):
        raise StartupError(f"{name} is cut off or broken, not weights of torch.") from None
    if not isinstance(values, dict) or not values:
        raise StartupError(f"{name} holds {type(values).__name__}, not named tensors.")
    for key, value in values.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise StartupError(f"{name}: {shorten(str(key))!r} is not a named tensor.")
        if value.layout is not torch.strided or value.is_quantized:
            raise StartupError(f"{name}: {shorten(key)!r} is not a dense tensor.")
    return values

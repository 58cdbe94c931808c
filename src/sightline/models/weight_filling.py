"""Giving a model's parameters their values, tensor by tensor, from the files that hold them."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sightline.core.errors import StartupError
from sightline.core.limits import MIB
from sightline.models.cores import on_each_core
from sightline.models.cpu.huge_pages import empty_in_huge_pages
from sightline.models.host_memory import return_freed
from sightline.models.linear import Linear
from sightline.models.packing import settle, tell_rows
from sightline.models.paged_model import PagedModel
from sightline.models.quantization import SCALES_SUFFIX, Scheme
from sightline.models.quantized import QuantizedWeight, quantize
from sightline.models.safetensors_file import TensorEntry
from sightline.models.weight_match import WeightFile

# So many threads read faster than disks give, and each of them has memory for the largest tensor.
READERS = 4
_SHORTAGE = re.compile("memory|alloc", re.IGNORECASE)

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in total) while weights are read."""


class WeightFilling:
    """Quantises where `schemes` says so; what is `packed`, on a CPU, is settled as it comes.

    For `packed` see `loading.load_model`.
    """

    def __init__(
        self,
        model: nn.Module,
        places: Mapping[str, WeightFile],
        schemes: Mapping[str, Scheme],
        dtype: torch.dtype,
        device: torch.device,
        progress: Progress | None,
        packed: bool,
    ) -> None:
        self._model, self._places, self._schemes = model, places, schemes
        self._dtype, self._device, self._packed = dtype, device, packed
        self._table = model.token_table if isinstance(model, PagedModel) else None
        self._row_dtype = tell_rows(model, dtype) if packed else dtype
        if packed and isinstance(model, PagedModel):
            model.row_dtype = dtype
        self._room = _Room()
        self._progress = progress
        self._done, self._turn = 0, threading.Lock()
        self._total = sum(file.entries[name].size_bytes for name, file in places.items())

    def run(self) -> None:
        """Fill every parameter. Raises StartupError."""
        if not self._schemes and (self._packed or self._leaves_the_host):
            readers = READERS if self._leaves_the_host else None
            on_each_core(self._fill, self._places, most=readers)
            return
        # To quantise takes all cores, and memory for one more tensor.
        for name in self._places:
            self._fill(name)

    def _fill(self, name: str) -> None:
        owner_name, _, attribute = name.rpartition(".")
        owner = self._model.get_submodule(owner_name)
        with _memory_shortage_named(self._device, self._total):
            if name in self._schemes:
                assert isinstance(owner, Linear)
                self._fill_quantized(name, owner)
            elif name.removesuffix(SCALES_SUFFIX) in self._schemes:
                pass  # it is read with the matrix
            elif self._packed and isinstance(owner, Linear) and attribute == "weight":
                self._fill_and_settle(name, owner)
            else:
                may_stay = self._packed and owner is self._table
                values = self._in_format(self._read_on_its_way(name), may_stay=may_stay)
                setattr(owner, attribute, _parameter(values))

    def _fill_quantized(self, name: str, layer: Linear) -> None:
        values = self._read_on_its_way(name).to(self._device)
        if values.is_floating_point():
            layer.quantize(quantize(values, self._schemes[name]))
            del values
            return_freed()
        else:
            scales = self._read_on_its_way(name + SCALES_SUFFIX).to(self._device)
            layer.quantize(QuantizedWeight(values, scales))

    def _fill_and_settle(self, name: str, layer: Linear) -> None:
        values = self._read(name, self._room.take(self._places[name].entries[name]))
        layer.weight = _parameter(self._in_format(values, may_stay=True))
        settle(layer, self._row_dtype)
        if not layer.is_streamed:
            self._room.leave()  # whatever it is, it may still use what was read

    @property
    def _leaves_the_host(self) -> bool:
        return self._device.type != "cpu"

    def _read_on_its_way(self, name: str) -> Tensor:
        """Return a tensor of the CPU, to be copied to the device before the next one is read."""
        if not self._leaves_the_host:
            return self._read(name)
        return self._read(name, self._room.take(self._places[name].entries[name]))

    def _read(self, name: str, room: Tensor | None = None) -> Tensor:
        entry = self._places[name].entries[name]
        values = torch.empty(entry.shape, dtype=entry.dtype) if room is None else room
        self._places[name].read_into(values, name, self._advance)
        return values

    def _in_format(self, values: Tensor, *, may_stay: bool) -> Tensor:
        """Return what was read in the format wanted; if it `may_stay`, in one that this holds."""
        if may_stay and torch.promote_types(values.dtype, self._dtype) == self._dtype:
            return values
        return values.to(device=self._device, dtype=self._dtype)

    def _advance(self, count: int) -> None:
        with self._turn:
            self._done += count
            if self._progress is not None:
                self._progress(self._done, self._total)


class _Room(threading.local):
    """Each thread's memory for one tensor after another: fresh pages cost more than reading."""

    def __init__(self) -> None:
        self._bytes = torch.empty(0, dtype=torch.uint8)

    def take(self, entry: TensorEntry) -> Tensor:
        """Return memory for a tensor; what was there before is gone."""
        if self._bytes.nbytes < entry.size_bytes:
            self.leave()
            self._bytes = empty_in_huge_pages(entry.size_bytes, torch.uint8)
        return self._bytes[: entry.size_bytes].view(entry.dtype).view(entry.shape)

    def leave(self) -> None:
        """Let whoever uses it keep it."""
        self._bytes = torch.empty(0, dtype=torch.uint8)


def _parameter(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)


@contextmanager
def _memory_shortage_named(device: torch.device, total: int) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # The CPU's allocator raises a plain RuntimeError, the GPU's a kind of it.
        if not isinstance(error, MemoryError) and not _SHORTAGE.search(str(error)):
            raise
        raise StartupError(
            f"Not enough memory on {device} for {total // MIB} MiB of weights; "
            "free some, or choose dtype bfloat16, quantization int8 or int4, or another device."
        ) from None

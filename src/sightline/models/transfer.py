"""Between host and device without making either wait.

A copy from ordinary host memory makes the host wait for everything the device still has to do; a
copy from or to pinned memory is only queued. On the CPU there is nothing to copy.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def to_device(
    values: Sequence[int] | Sequence[float], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return the numbers as a tensor on `device`; the copy is queued behind what is queued."""
    if device.type != "cuda":
        return torch.tensor(values, dtype=dtype, device=device)
    return torch.tensor(values, dtype=dtype, pin_memory=True).to(device, non_blocking=True)


def pinned(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU in memory from which `device` can copy by itself."""
    return values.pin_memory() if device.type == "cuda" else values


def send(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on `device`; as `to_device`."""
    return pinned(values, device).to(device, non_blocking=True)


def record_graph(
    work: Callable[[], T], *, memory: Any = None, stream: torch.cuda.Stream | None = None
) -> tuple[torch.cuda.CUDAGraph, T]:
    """Return a CUDA graph of `work` on the current device, and what `work` returned.

    Graphs of one `memory`, which is `CUDAGraph.pool`'s, share it; they have to share the stream.
    """
    current = torch.cuda.current_stream()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, pool=memory, stream=stream, capture_error_mode="thread_local"):
            return graph, work()
    except BaseException:
        torch.cuda.set_stream(current)  # torch stays on its own where recording fails
        raise


class DeviceClock:
    """Times what is queued on a GPU's stream between its creation and `stop`."""

    def __init__(self, stream: torch.cuda.Stream | None = None) -> None:
        self._stream = stream or torch.cuda.current_stream()
        self._began = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self._ended = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self._began.record(self._stream)

    def stop(self) -> None:
        self._ended.record(self._stream)

    def seconds(self) -> float:
        """Return the time between the two; the device must have got there."""
        return float(self._began.elapsed_time(self._ended)) / 1000

    def wait(self) -> float:
        """Stop, wait for the device, return the time in seconds."""
        self.stop()
        self._ended.synchronize()
        return self.seconds()


class Fetch:
    """Collects results on their way to the host, so that a step waits for all of them at once."""

    def __init__(self, device: torch.device) -> None:
        self._is_async = device.type == "cuda"
        self._device = device

    def add(self, values: Tensor) -> Tensor:
        """Queue a copy; what is returned may be read after `wait`."""
        if not self._is_async:
            return values
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        return host.copy_(values, non_blocking=True)

    def wait(self) -> None:
        """Wait until everything that was queued so far has arrived."""
        if self._is_async:
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record(torch.cuda.current_stream(self._device))
            arrived.synchronize()

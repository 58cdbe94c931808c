"""Between host and device without making either wait.

A copy from ordinary host memory makes the host wait for everything the device still has to do; a
copy from or to pinned memory is only queued. On the CPU there is nothing to copy.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
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


def send_bytes(parts: Sequence[bytes], device: torch.device) -> Tensor:
    """Return parts of equal length as uint8 `[number, bytes]` on `device`; as `to_device`.

    They are copied once on the host: the pixels of a picture are megabytes, and its first token
    waits for them.
    """
    shape = len(parts), len(parts[0])
    whole = torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    for row, part in zip(whole.numpy(), parts, strict=True):
        row[:] = np.frombuffer(part, dtype=np.uint8)
    return whole.to(device, non_blocking=True)


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

    def since(self, earlier: "DeviceClock") -> float:
        """Return the time from the end of `earlier` to the beginning; the device must be there."""
        return float(earlier._ended.elapsed_time(self._began)) / 1000

    def wait(self) -> float:
        """Stop, wait for the device, return the time in seconds."""
        self.stop()
        self._ended.synchronize()
        return self.seconds()


def device_clock(device: torch.device) -> DeviceClock | None:
    """Return a clock that runs; none on a CPU, where the host's own tells the same."""
    return DeviceClock() if device.type == "cuda" else None


class Fetch:
    """Collects results on their way to the host, so that a step waits for all of them at once."""

    def __init__(self, device: torch.device) -> None:
        self._is_async = device.type == "cuda"
        self._device = device
        self._arrived: torch.cuda.Event | None = None

    def add(self, values: Tensor) -> Tensor:
        """Queue a copy; what is returned may be read after `wait`."""
        if not self._is_async:
            return values
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        return host.copy_(values, non_blocking=True)

    def close(self) -> None:
        """Note that this is all. What is queued from now on is not waited for."""
        if self._is_async:
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record(torch.cuda.current_stream(self._device))

    def wait(self) -> None:
        """Wait until everything that was queued until `close` has arrived."""
        if self._is_async:
            if self._arrived is None:
                self.close()
            assert self._arrived is not None
            self._arrived.synchronize()

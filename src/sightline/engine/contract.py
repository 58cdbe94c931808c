"""What the loop needs of whatever computes."""

from typing import Protocol

from torch import Tensor

from sightline.engine.sequence import Sequence


class DeviceLost(Exception):
    """The device cannot be used any more; only a new process can help."""


class Runner(Protocol):
    """Owns the tensors of running sequences. Every method runs on the loop's thread.

    A method that raises has spoiled at most the sequence it was called for, unless the device
    itself is lost; `check_device` tells.
    """

    def start(self, sequence: Sequence) -> None:
        """Reserve the memory of `sequence`, for as many slots as it says."""
        ...

    def encode(self, sequence: Sequence, start: int, end: int) -> None:
        """Compute the embeddings of the images that overlap prompt slots [start, end)."""
        ...

    def prefill(self, sequence: Sequence, start: int, end: int) -> Tensor | None:
        """Compute prompt slots [start, end); at the prompt's end, return the logits [V]."""
        ...

    def decode(self, sequence: Sequence) -> Tensor:
        """Compute the newest token of the answer; return the logits [V] after it."""
        ...

    def release(self, sequence: Sequence) -> None:
        """Free everything that `sequence` holds; harmless if it holds nothing."""
        ...

    def check_device(self) -> None:
        """Raise `DeviceLost` if the device does not compute any more."""
        ...

"""Memory for passes over one large matrix after another.

A buffer of its own for every matrix would have to be taken from the system and cleared each time.
"""

import threading

import torch
from torch import Tensor


class Scratch(threading.local):
    """fp32 numbers, other ones for each thread; given back when the thread ends."""

    def __init__(self) -> None:
        self._numbers = torch.empty(0, dtype=torch.float32, device="cpu")

    def take(self, count: int) -> Tensor:
        """Return `count` numbers with any values; the thread's next call returns the same ones."""
        self._hold(count)
        return self._numbers[:count]

    def address(self, count: int) -> int:
        """Return where those numbers lie, for a kernel that the thread calls next."""
        self._hold(count)
        return self._numbers.data_ptr()

    def _hold(self, count: int) -> None:
        if self._numbers.numel() >= count:
            return
        with torch.inference_mode(mode=False):  # inside and outside of it can be written to
            self._numbers = torch.empty(0)
            self._numbers = torch.empty(count, dtype=torch.float32, device="cpu")

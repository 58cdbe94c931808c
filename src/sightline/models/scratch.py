"""Memory for passes over one large matrix after another.

It lies in pages of 2 MiB where the system has them: a pass down the columns of a matrix goes to
another small page with every step.
"""

import mmap
import threading

import torch
from torch import Tensor

_PAGE = 2 * 1024 * 1024
_FLOAT = 4


class Scratch(threading.local):
    """fp32 numbers, other ones for each thread; given back when the thread ends."""

    def __init__(self) -> None:
        self._numbers = torch.empty(0)

    def take(self, count: int) -> Tensor:
        """Return `count` numbers with any values; the thread's next call returns the same ones."""
        if len(self._numbers) < count:
            self._numbers = torch.empty(0)
            size = -(-count * _FLOAT // _PAGE) * _PAGE
            # The system gives large pages to private memory only.
            memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                memory.madvise(mmap.MADV_HUGEPAGE)
            with torch.inference_mode(mode=False):  # inside and outside of it can be written to
                self._numbers = torch.frombuffer(memory, dtype=torch.float32)
        return self._numbers[:count]

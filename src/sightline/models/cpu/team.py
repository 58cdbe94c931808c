"""Keeping threads together for work that calls our kernels many times."""

import ctypes
from collections.abc import Callable
from typing import TypeVar

import torch

from sightline.models.cpu.compiled import kernels

T = TypeVar("T")

_LEAD = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def as_team(work: Callable[[], T]) -> T:
    """Return what `work` returns, or raise what it raises; it runs on the calling thread.

    The other threads stay at hand for our kernels, and one whose core has other work to do is not
    waited for at each of them. Torch's own operations take one thread meanwhile.
    """
    library, num_threads = kernels(), torch.get_num_threads()
    if library is None or num_threads == 1:
        return work()
    results: list[T] = []
    failures: list[BaseException] = []

    def lead(_: object) -> None:
        try:
            results.append(work())
        except BaseException as failure:  # C knows no exceptions
            failures.append(failure)

    library.as_team(num_threads, _LEAD(lead), None)
    if failures:
        raise failures.pop()  # held here, it would keep what its frames hold
    return results[0]

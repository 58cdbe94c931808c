"""Memory of this process that the C library holds although nobody uses it."""

import ctypes
from collections.abc import Callable
from functools import lru_cache


def return_freed() -> None:
    """Give freed memory back to the system, where the C library is glibc; else do nothing.

    glibc keeps freed blocks of up to 32 MiB for later, in holes that the next matrix often does
    not fit: without this, loading a model takes up to twice its size, and keeps it.
    """
    _trim()(0)


@lru_cache
def _trim() -> Callable[[int], object]:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda kept: None

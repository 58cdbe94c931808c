"""Asking the C library to keep what large bodies have freed, for the next one.

What is given back to the system has to be mapped and cleared again page by page, and for a picture
of some MiB that takes longer than to read it.
"""

import ctypes
import sys

from sightline.core.limits import MIB

KEPT_BYTES = 32 * MIB
# A larger block is given back at once.
MAX_BLOCK_BYTES = 16 * MIB
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Keep up to `KEPT_BYTES`. For the whole process; without effect where there is no glibc."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, MAX_BLOCK_BYTES)

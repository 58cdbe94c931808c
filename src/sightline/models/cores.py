"""Work that is done item by item, on all cores.

torch divides each operator over its threads and waits for the last of them: for small ones that is
most of the time, and beside a busy process nearly all of it.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def on_each_core(
    work: Callable[[T], object], items: Iterable[T], *, most: int | None = None
) -> None:
    """Do `work` for each item, as many at a time as torch has threads, each on one of them.

    At most `most` at a time, if that is said. Raises what the first of them does that fails; what
    has not begun by then is left.
    """
    has_failed = threading.Event()

    def do(item: T) -> None:
        if has_failed.is_set():
            return
        try:
            work(item)
        except BaseException:
            has_failed.set()
            raise

    num_threads = torch.get_num_threads()
    at_once = num_threads if most is None else min(num_threads, most)
    try:
        with ThreadPoolExecutor(at_once, "core", torch.set_num_threads, (1,)) as pool:
            for _ in pool.map(do, items):
                pass
    finally:
        torch.set_num_threads(num_threads)

"""How long the pictures of one request took, told apart from those of all others.

The meter is called in the context of the request it measures, so a context variable finds its
times; what is counted for the whole server goes on to the metrics.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from sightline.service.metrics import Metrics


@dataclass(slots=True)
class MediaTimes:
    """`fetch_s` is the slowest fetch, as all are fetched at once; `cached` are the digests of the
    pictures that were decoded already.
    """

    fetch_s: float = 0.0
    cached: set[bytes] = field(default_factory=set)


_current: ContextVar[MediaTimes | None] = ContextVar("media_times", default=None)


@contextmanager
def measured_media() -> Iterator[MediaTimes]:
    """Measure what is loaded within the block."""
    times = MediaTimes()
    token = _current.set(times)
    try:
        yield times
    finally:
        _current.reset(token)


class RequestMeter:
    """The loader's meter: tells the request that waits, and the server's metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def fetched(self, seconds: float, num_bytes: int) -> None:
        self._metrics.fetched(seconds, num_bytes)
        if (times := _current.get()) is not None:
            times.fetch_s = max(times.fetch_s, seconds)

    def decoded(self, seconds: float) -> None:
        self._metrics.decoded(seconds)

    def looked_up(self, found: bytes | None) -> None:
        self._metrics.looked_up(hit=found is not None)
        if found is not None and (times := _current.get()) is not None:
            times.cached.add(found)

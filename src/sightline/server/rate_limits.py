"""What a key may use in a minute, and how much of it is left.

Each limit is a bucket that fills evenly, up to one minute's worth. Requests are paid in advance;
tokens and images when their number is known. A budget may be overdrawn by the requests that run,
and the next ones wait until the debt is paid, so the mean rate is kept whatever comes.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sightline.core.errors import Overloaded

SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How much one key may use per minute; None: as much as it likes."""

    requests: int | None = None
    tokens: int | None = None
    images: int | None = None

    def filled_up(self, other: "Rates") -> "Rates":
        """Return these rates, and those of `other` where these are None."""
        return Rates(
            requests=other.requests if self.requests is None else self.requests,
            tokens=other.tokens if self.tokens is None else self.tokens,
            images=other.images if self.images is None else self.images,
        )


class Bucket:
    """Holds at most `per_minute` units and gains them evenly. Below zero it is in debt."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._level = float(per_minute)
        self._at = clock()

    @property
    def level(self) -> float:
        now = self._clock()
        gained = (now - self._at) * self.per_minute / SECONDS
        self._level = min(self._level + gained, float(self.per_minute))
        self._at = now
        return self._level

    def take(self, amount: float) -> None:
        self._level = self.level - amount

    def seconds_until(self, level: float) -> float:
        """Return how long it takes until the bucket holds `level`, if nobody takes from it."""
        return max(0.0, level - self.level) * SECONDS / self.per_minute


class Budget:
    """The buckets of one key, named as in the `x-ratelimit-*` headers. Event loop only."""

    def __init__(self, rates: Rates, clock: Callable[[], float] = time.monotonic) -> None:
        self.rates = rates
        self._buckets = {
            name: Bucket(per_minute, clock)
            for name, per_minute in (
                ("requests", rates.requests),
                ("tokens", rates.tokens),
                ("images", rates.images),
            )
            if per_minute is not None
        }

    def take_request(self) -> None:
        """Pay for one request. Raises `Overloaded` (`rate_limit_exceeded`) when it cannot be."""
        self.require("requests")
        self.require("tokens")
        self.take("requests", 1)

    def require(self, name: str) -> None:
        """Raise `Overloaded` (`rate_limit_exceeded`) unless one unit of `name` is left."""
        bucket = self._buckets.get(name)
        # A bucket that fills evenly is never exactly full again: forgive what rounding took.
        if bucket is None or bucket.level >= 1 - 1e-6:
            return
        wait_s = max(1, math.ceil(bucket.seconds_until(1)))
        raise Overloaded(
            f"Rate limit of this key: {bucket.per_minute} {name} per minute; retry in {wait_s} s.",
            code="rate_limit_exceeded",
            retry_after_s=wait_s,
        )

    def take(self, name: str, amount: int) -> None:
        bucket = self._buckets.get(name)
        if bucket is not None and amount:
            bucket.take(amount)

    def headers(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield limit, rest and time until full of every bucket, as OpenAI names them."""
        for name, bucket in self._buckets.items():
            values = {
                "limit": str(bucket.per_minute),
                "remaining": str(max(0, math.floor(bucket.level + 1e-6))),
                "reset": _duration(bucket.seconds_until(bucket.per_minute)),
            }
            for kind, value in values.items():
                yield f"x-ratelimit-{kind}-{name}".encode("ascii"), value.encode("ascii")


def _duration(seconds: float) -> str:
    """Return a time as OpenAI writes it: `120ms`, `6s`, `1m30s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"

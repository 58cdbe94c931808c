"""The gate: how many requests are worked on, how many wait, and who is turned away.

A permit is taken before any work and covers the request until its answer has ended. Tenants, which
are the API keys, take turns, whoever has many waiting; those of one tenant are served in the order
of arrival. The books: `num_running` permits are out, `num_waiting` callers wait,
`num_tokens_in_line` prompt tokens are on their way to a first token; all are exactly zero when the
server is idle.
"""

import asyncio
import math
import random
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from sightline.core.errors import Overloaded, Unavailable

MIN_RETRY_S = 1
MAX_RETRY_S = 60
JITTER = 0.25
# Weight of the newest request in the running mean of how long a permit is held.
RECENT = 0.2


class Admission:
    """Permits for at most `max_running` requests; at most `max_waiting` more may wait.

    Every method runs on the event loop. `uniform(a, b)` spreads Retry-After, so that clients
    turned away together do not come back together.
    """

    def __init__(
        self,
        *,
        max_running: int,
        max_waiting: int,
        queue_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._queue_timeout_s = queue_timeout_s
        self._clock = clock
        self._uniform = uniform
        self._num_running = 0
        self._num_waiting = 0
        # By tenant, the one whose turn is next in front; nobody is there with nothing waiting.
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._mean_held_s = 0.0
        self._draining = False
        self.num_tokens_in_line = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def num_running(self) -> int:
        return self._num_running

    @property
    def num_waiting(self) -> int:
        return self._num_waiting

    @property
    def is_draining(self) -> bool:
        return self._draining

    @asynccontextmanager
    async def permit(self, tenant: str = "") -> AsyncIterator[None]:
        """Hold a permit for the length of the block, after waiting for it if need be.

        Raises `Overloaded` (`queue_full`) when the queue is full: at once, or later when `tenant`
        has the most waiting and another needs the place. Raises `Unavailable` (`draining`) at once
        during a drain, `Unavailable` (`overloaded`) when the wait was too long.
        """
        await self._acquire(tenant)
        since = self._clock()
        try:
            yield
        finally:
            held_s = self._clock() - since
            self._mean_held_s += (held_s - self._mean_held_s) * (RECENT if self._mean_held_s else 1)
            self._release()

    @contextmanager
    def line(self, num_tokens: int, *, max_tokens: int) -> Iterator["Place"]:
        """Stand in line with a prompt until its first token, or to the end of the block.

        Raises `Overloaded` (`queue_full`) at once when more than `max_tokens` would stand there:
        what few long prompts cost, a number of requests does not tell.
        """
        if self.num_tokens_in_line and self.num_tokens_in_line + num_tokens > max_tokens:
            retry_after_s = self._retry_after_s()
            raise Overloaded(
                f"Queue is full: {self.num_tokens_in_line} tokens waiting, limit {max_tokens}; "
                f"retry in {retry_after_s} s.",
                retry_after_s=retry_after_s,
            )
        place = Place(self, num_tokens)
        try:
            yield place
        finally:
            place.leave()

    def drain(self) -> None:
        """Turn new requests away from now on. Those that run or wait already are served."""
        self._draining = True

    async def wait_idle(self) -> None:
        """Return once nothing runs and nothing waits."""
        await self._idle.wait()

    async def _acquire(self, tenant: str) -> None:
        if self._draining:
            raise Unavailable(
                "The server is shutting down; retry elsewhere or later.",
                code="draining",
                retry_after_s=self._retry_after_s(),
            )
        if self._num_running < self._max_running:
            self._num_running += 1
            self._idle.clear()
            return
        if self._num_waiting >= self._max_waiting:
            self._make_room(tenant)
        await self._wait_for_turn(tenant)

    def _make_room(self, tenant: str) -> None:
        """Turn away the newest of the tenant that has the most waiting; that may be `tenant`."""
        most = max(self._waiting, key=lambda name: len(self._waiting[name]), default=tenant)
        own = len(self._waiting.get(tenant, ()))
        if most == tenant or len(self._waiting[most]) <= own + 1:
            raise self._full()
        turn = self._waiting[most][-1]
        self._forget(most, turn)
        turn.set_exception(self._full())

    def _full(self) -> Overloaded:
        retry_after_s = self._retry_after_s()
        return Overloaded(
            f"Queue is full: {self._max_waiting} waiting, limit {self._max_waiting}; "
            f"retry in {retry_after_s} s.",
            retry_after_s=retry_after_s,
        )

    async def _wait_for_turn(self, tenant: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        self._num_waiting += 1
        try:
            async with asyncio.timeout(self._queue_timeout_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._release()  # the turn came in the very moment the caller gave up
            elif turn in self._waiting.get(tenant, ()):
                self._forget(tenant, turn)
            if not isinstance(error, TimeoutError):
                raise
            retry_after_s = self._retry_after_s()
            raise Unavailable(
                f"Waited in the queue for the limit of {self._queue_timeout_s:g} s; "
                f"retry in {retry_after_s} s.",
                code="overloaded",
                retry_after_s=retry_after_s,
            ) from None

    def _forget(self, tenant: str, turn: asyncio.Future[None]) -> None:
        self._waiting[tenant].remove(turn)
        self._num_waiting -= 1
        if not self._waiting[tenant]:
            del self._waiting[tenant]

    def _release(self) -> None:
        """Pass a permit on to the tenant whose turn it is, or take it back."""
        while self._waiting:
            tenant, turns = next(iter(self._waiting.items()))
            turn = turns[0]
            self._waiting.move_to_end(tenant)
            self._forget(tenant, turn)
            if not turn.done():
                turn.set_result(None)
                return
        self._num_running -= 1
        if self._num_running == 0:
            self._idle.set()

    def _retry_after_s(self) -> int:
        """Return how long the queue of now needs to drain, in whole seconds, spread a little."""
        drain_s = self._mean_held_s * (self._num_waiting + 1) / self._max_running
        spread_s = drain_s * self._uniform(1 - JITTER, 1 + JITTER)
        return min(max(math.ceil(spread_s), MIN_RETRY_S), MAX_RETRY_S)


class Place:
    """A prompt's place in line; leaving twice is leaving once."""

    def __init__(self, admission: Admission, num_tokens: int) -> None:
        self._admission = admission
        self._num_tokens = num_tokens
        admission.num_tokens_in_line += num_tokens

    def leave(self) -> None:
        self._admission.num_tokens_in_line -= self._num_tokens
        self._num_tokens = 0

"""A small pool of disposable decode workers."""

import asyncio
import logging

from sightline.core.errors import Unavailable
from sightline.core.image_policy import ImagePolicy
from sightline.core.limits import Limits
from sightline.media.decode_process import Decoded, DecodeProcess, WorkerStartError

# Fresh processes now and then, so that nothing a picture may have left behind lives long.
MAX_DECODED_PER_WORKER = 256
MAX_RESTART_DELAY_S = 5.0

logger = logging.getLogger(__name__)


class DecodePool:
    """`limits.decode_workers` workers, each replaced as soon as it ends. Event loop only."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._idle: asyncio.Queue[DecodeProcess] = asyncio.Queue()
        self._slots: list[asyncio.Task[None]] = []
        self._workers: set[DecodeProcess] = set()
        self._is_closed = False

    @property
    def pids(self) -> frozenset[int]:
        """The workers that are up, idle or not."""
        return frozenset(worker.pid for worker in self._workers if worker.is_alive)

    def start(self) -> None:
        """Begin to start the workers, and return at once. Does nothing when called again."""
        if not self._slots and not self._is_closed:
            self._slots = [
                asyncio.create_task(self._keep_slot(), name=f"decode worker {i}")
                for i in range(self._limits.decode_workers)
            ]

    async def decode(self, data: bytes, target: ImagePolicy) -> Decoded:
        """Decode one picture in the next worker that is free.

        Raises `RequestError` for the picture, and `Unavailable` when no worker was free in time
        (`overloaded`) or the pool is closed (`draining`). Cancelling ends the work at once.
        """
        if self._is_closed:
            raise Unavailable("The server is shutting down.", code="draining")
        self.start()
        worker = await self._take()
        try:
            return await worker.decode(data, target)
        finally:
            if worker.is_alive and worker.num_decoded < MAX_DECODED_PER_WORKER:
                self._idle.put_nowait(worker)
            else:
                worker.kill()

    async def close(self) -> None:
        """End all workers. Pictures that are being decoded are refused."""
        self._is_closed = True
        for slot in self._slots:
            slot.cancel()
        await asyncio.gather(*self._slots, return_exceptions=True)
        self._slots = []

    async def _take(self) -> DecodeProcess:
        try:
            async with asyncio.timeout(self._limits.queue_timeout_s):
                while True:
                    worker = await self._idle.get()
                    if worker.is_alive:
                        return worker
        except TimeoutError:
            raise Unavailable("Too many images are waiting.", code="overloaded") from None

    async def _keep_slot(self) -> None:
        """Keep one worker running, for ever."""
        delay_s = 0.1
        while True:
            try:
                worker = await DecodeProcess.start(self._limits)
            except WorkerStartError as error:
                logger.error("a decode worker did not start: %s", error)
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, MAX_RESTART_DELAY_S)
                continue
            delay_s = 0.1
            self._workers.add(worker)
            self._idle.put_nowait(worker)
            try:
                await worker.wait()
            finally:
                self._workers.discard(worker)
                await worker.end()

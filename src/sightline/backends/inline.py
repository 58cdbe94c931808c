"""The engine in a thread of this process: for tests, debugging, and programs without a server.

A crash of the engine is a crash of the program here, and a hung step stays hung.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

from sightline.backends import refusals
from sightline.backends.ledger import Ledger
from sightline.core.engine import EngineInfo, EngineStats, TokenDelta
from sightline.core.errors import InternalError, SightlineError
from sightline.core.prompt import Prompt
from sightline.core.sampling import SamplingParams
from sightline.core.wire import Generate, StepOutput

logger = logging.getLogger(__name__)

OnLoading = Callable[[int, int], None]


class LocalEngine(Protocol):
    """What `sightline.engine.loop.EngineLoop` offers, in the words of the wire.

    All but `run` may be called from any thread.
    """

    @property
    def info(self) -> EngineInfo: ...

    @property
    def stats(self) -> EngineStats: ...

    def submit(self, message: Generate, pixels: Sequence[bytes | memoryview] = ()) -> None: ...

    def abort(self, request_id: str) -> None: ...

    def stop(self) -> None: ...

    def run(self, deliver: Callable[[StepOutput], None]) -> None: ...


class InlineEngine:
    """Implements `core.engine.Engine` around an engine that `factory` builds.

    `factory` gets a function to report loading progress to, (bytes done, bytes in total), and may
    raise `StartupError`. It runs on the engine's own thread, and so does `on_loading`.
    """

    def __init__(
        self,
        factory: Callable[[OnLoading], LocalEngine],
        *,
        on_loading: OnLoading = lambda done, total: None,
    ) -> None:
        self._factory = factory
        self._on_loading = on_loading
        self._ledger = Ledger()
        self._engine: LocalEngine | None = None
        self._thread: threading.Thread | None = None
        # Why nothing can be asked of the engine; None once it works.
        self._refusal: Callable[[], SightlineError] | None = refusals.loading

    async def start(self) -> None:
        """Load the model. Raises `StartupError`."""
        loop = asyncio.get_running_loop()
        loaded: asyncio.Future[LocalEngine] = loop.create_future()
        self._thread = threading.Thread(
            target=self._main, args=(loop, loaded), name="engine", daemon=True
        )
        self._thread.start()
        self._engine = await loaded
        if self._refusal is refusals.draining:  # closed meanwhile
            self._engine.stop()
        else:
            self._refusal = None

    @property
    def info(self) -> EngineInfo:
        if self._engine is None:
            raise refusals.loading()
        return self._engine.info

    @property
    def is_ready(self) -> bool:
        return self._refusal is None

    async def generate(
        self, prompt: Prompt, params: SamplingParams, request_id: str
    ) -> AsyncGenerator[TokenDelta, None]:
        if self._refusal is not None:
            raise self._refusal()
        assert self._engine is not None
        wire_id, request = self._ledger.open(prompt, params)
        logger.debug("request %s is %s in the engine", request_id, wire_id)
        try:
            assert request.message is not None
            self._engine.submit(request.message, request.pixels)
            while True:
                delta = await request.stream.next()
                yield delta
                if delta.finish_reason is not None:
                    return
        finally:
            self._ledger.close(wire_id)
            if not request.stream.is_finished:
                self._engine.abort(wire_id)

    async def stats(self) -> EngineStats:
        if self._engine is None:
            return EngineStats()
        stats = self._engine.stats
        # Whoever died runs nothing and holds nothing any more.
        return EngineStats().behind(stats) if self._refusal is InternalError else stats

    async def close(self) -> None:
        """End live requests with `draining` and stop the engine when its turn ends."""
        self._refusal = refusals.draining
        self._ledger.fail_all(refusals.draining)
        if self._engine is not None and self._thread is not None:
            self._engine.stop()
            await asyncio.to_thread(self._thread.join)

    def _main(self, loop: asyncio.AbstractEventLoop, loaded: "asyncio.Future[LocalEngine]") -> None:
        try:
            engine = self._factory(self._on_loading)
        except BaseException as error:
            loop.call_soon_threadsafe(_fail, loaded, error)
            return
        loop.call_soon_threadsafe(_succeed, loaded, engine)
        try:
            engine.run(lambda output: _call(loop, lambda: self._ledger.dispatch(output)))
        except Exception:
            logger.exception("the engine has stopped")
            _call(loop, self._die)

    def _die(self) -> None:
        self._refusal = InternalError
        self._ledger.fail_all(InternalError)


def _succeed(future: "asyncio.Future[LocalEngine]", engine: LocalEngine) -> None:
    if future.done():  # nobody waits any more
        engine.stop()
    else:
        future.set_result(engine)


def _fail(future: "asyncio.Future[LocalEngine]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
        loop.call_soon_threadsafe(function)

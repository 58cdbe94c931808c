"""The only module that knows every room: settings in, a running server out.

    listen -> plan -> House (engine, media, service, app, server) -> run -> drain -> close

The port is taken and the model folder is looked at before anything heavy, and the server answers
`model_loading` while the weights are read. Heavy rooms are imported where they are built.
"""

import asyncio
import contextlib
import gc
import importlib
import logging
import secrets
import signal
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.core.engine import Engine, EngineInfo
from sightline.core.engine_options import EngineOptions
from sightline.core.held_bytes import HeldBytes
from sightline.plan import (
    Listener,
    OnProgress,
    Plan,
    chosen_quantization,
    listen,
    plan,
)
from sightline.settings import Settings

if TYPE_CHECKING:
    from sightline.backends.inline import LocalEngine
    from sightline.media.loader import MediaOptions
    from sightline.server.keys import KeyRing
    from sightline.server.serve import Server

KEY_FILE_EVERY_S = 1.0

OnReady = Callable[[EngineInfo, tuple[str, ...]], None]


class House:
    """One server with everything behind it. `run` once; `stop` from any thread."""

    def __init__(
        self,
        plan: Plan,
        *,
        on_progress: OnProgress,
        waiting: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self._plan = plan
        self._waiting = waiting
        self._on_progress = on_progress
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: Server | None = None
        self._is_stopping = threading.Event()

    async def run(
        self, *, on_ready: OnReady, on_stopping: Callable[[], None] = lambda: None
    ) -> None:
        """Serve until a signal or `stop`, drain, and take everything down in order.

        Raises StartupError when the model cannot be loaded.
        """
        from sightline.media.known_base64 import KnownBase64
        from sightline.media.loader import MediaLoader
        from sightline.models.tokenizer_files import load_tokenizer
        from sightline.playground.site import Site
        from sightline.server.app import create_app
        from sightline.server.freed_memory import keep_freed_memory
        from sightline.server.lifecycle import Lifecycle
        from sightline.server.options import ServerOptions
        from sightline.server.serve import Server
        from sightline.service.chat import ChatOptions, ChatService
        from sightline.service.media_times import RequestMeter
        from sightline.service.metrics import Metrics

        plan, settings = self._plan, self._plan.settings
        keep_freed_memory()
        async with AsyncExitStack() as resources:
            metrics = Metrics(plan.model_id)
            held_bytes = HeldBytes(settings.limits.max_held_bytes)
            known = KnownBase64()
            media = MediaLoader(
                settings.limits,
                _media_options(settings, plan.listener),
                meter=RequestMeter(metrics),
                held_bytes=held_bytes,
                known=known,
            )
            engine, start_engine = _make_engine(plan, self._on_progress, self._waiting)
            resources.push_async_callback(engine.close)
            await media.start()
            resources.push_async_callback(media.close)
            service = ChatService(
                engine,
                media,
                load_tokenizer=lambda file: load_tokenizer(Path(file)),
                limits=settings.limits,
                options=ChatOptions(
                    served_name=plan.model_id,
                    aliases=plan.aliases,
                    extra_images=settings.server.extra_images,
                    low_detail_pixels=settings.server.low_detail_pixels,
                    default_max_tokens=settings.server.max_output_tokens,
                ),
                metrics=metrics,
            )
            resources.push_async_callback(service.close)
            lifecycle = Lifecycle()
            key_ring = _key_ring(plan)
            resources.push_async_callback(_end, asyncio.create_task(_watch_key_file(key_ring)))
            options = ServerOptions(
                bind_host=plan.listener.host,
                key_ring=key_ring,
                allowed_hosts=settings.server.allow_host,
                allowed_origins=settings.server.allow_origin,
                held_bytes=held_bytes,
                known=known,
                strict=settings.server.strict,
                inspect_content=settings.server.inspect_content,
                limits=settings.limits,
            )
            app = create_app(service, options=options, lifecycle=lifecycle, site=Site())
            self._server = Server(
                app, lifecycle=lifecycle, options=options, on_stopping=on_stopping
            )
            self._loop = asyncio.get_running_loop()
            if self._is_stopping.is_set():
                return

            async def load() -> None:
                await start_engine()
                await service.prepare()
                # What is there now stays: no collection has to look at it again, and hold up all.
                gc.collect()
                gc.freeze()
                _collect_little_at_a_time()
                model = service.model
                if not lifecycle.draining:  # else the port may be closed already
                    on_ready(model.info, (model.id, *model.aliases))

            await _serve_while_loading(self._server, plan.listener, load)

    def stop(self) -> None:
        """End `run` as a signal would."""
        self._is_stopping.set()
        if self._loop is not None and self._server is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._server.start_drain)


def _collect_little_at_a_time() -> None:
    """Let connections that have ended be swept up by the hundred, not by the thousand.

    Each is a ring of some forty objects, and while they are swept nobody is served. Python waits
    with that until there is a quarter of what it last saw, or as much as its thresholds say.
    """
    gc.collect()  # it sees nothing of what is frozen
    youngest, middle, _ = gc.get_threshold()
    gc.set_threshold(youngest, middle, 1)


async def _serve_while_loading(
    server: "Server", listener: Listener, load: Callable[[], Awaitable[None]]
) -> None:
    """Serve until the server has drained; a `load` that fails ends it and is raised."""
    serving = asyncio.ensure_future(server.serve([listener.socket]))
    loading = asyncio.ensure_future(load())
    try:
        await asyncio.wait((serving, loading), return_when=asyncio.FIRST_COMPLETED)
        if loading.done() and loading.exception() is not None:
            server.start_drain()
        await serving
    finally:
        loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loading


def _make_engine(
    plan: Plan, on_progress: OnProgress, waiting: subprocess.Popen[bytes] | None
) -> tuple[Engine, Callable[[], Awaitable[None]]]:
    """Return the engine that the settings ask for, and what starts it."""
    settings = plan.settings
    if plan.folder is None:
        from sightline.backends.fake import FakeEngine, fake_info

        info = fake_info(model_id=plan.model_id)

        async def start_nothing() -> None: ...

        # As many as can be live at once; a fake that runs for weeks forgets the others.
        num_live = settings.limits.max_running + settings.limits.max_waiting
        return FakeEngine(info=info, max_remembered=num_live), start_nothing
    options = _engine_options(plan, plan.folder)
    if settings.model.engine == "inline":
        from sightline.backends.inline import InlineEngine

        def factory(on_loading: OnProgress) -> "LocalEngine":
            # By name: it imports torch, which this process otherwise never does.
            build = importlib.import_module("sightline.engine.build")
            engine: LocalEngine = build.build_engine(options, on_loading)
            return engine

        inline = InlineEngine(factory, on_loading=on_progress)
        return inline, inline.start
    from sightline.backends.process import ProcessEngine

    process = ProcessEngine(options, on_loading=on_progress, waiting=waiting)
    return process, process.start


def _key_ring(plan: Plan) -> "KeyRing":
    from sightline.server.key_file import is_private
    from sightline.server.keys import KeyRing
    from sightline.server.rate_limits import Rates

    chosen = plan.settings.server
    if plan.key_file is not None and plan.key_file.is_file() and not is_private(plan.key_file):
        logging.getLogger("sightline.server").warning(
            "The key file %s can be read by others; chmod 600 it.", plan.key_file
        )
    rates = Rates(
        requests=chosen.requests_per_minute,
        tokens=chosen.tokens_per_minute,
        images=chosen.images_per_minute,
    )
    return KeyRing(plan.api_keys, file=plan.key_file, rates=rates)


async def _watch_key_file(keys: "KeyRing") -> None:
    """Take over what `sightline keys` changes. Never returns."""
    while True:
        await asyncio.sleep(KEY_FILE_EVERY_S)
        await asyncio.to_thread(keys.try_refresh)


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _media_options(settings: Settings, listener: Listener) -> "MediaOptions":
    from sightline.media.loader import MediaOptions

    return MediaOptions(
        allow_fetch=settings.media.fetch,
        allow_hosts=settings.media.allow_media_host,
        media_root=settings.media.media_root,
        cache_bytes=settings.media.image_cache_bytes,
        forbidden_endpoints=((listener.address, listener.port),),
    )


def _engine_options(plan: Plan, folder: Path) -> EngineOptions:
    chosen = plan.settings.model
    language, vision = chosen_quantization(plan.settings)
    return EngineOptions(
        model=str(folder),
        model_id=plan.model_id,
        aliases=plan.aliases,
        device=chosen.device,
        dtype=chosen.dtype,
        quantization=language,
        quantization_vision=vision,
        num_threads=chosen.threads,
        max_model_len=chosen.max_model_len,
        max_num_seqs=chosen.max_num_seqs or plan.settings.limits.max_running,
        max_num_batched_tokens=chosen.max_num_batched_tokens,
        block_size=chosen.block_size,
        kv_cache_memory=chosen.kv_cache_memory,
        gpu_memory_utilization=chosen.gpu_memory_utilization,
        prefix_caching=chosen.prefix_caching,
        overlap_steps=chosen.overlap_steps,
        num_speculative_tokens=chosen.num_speculative_tokens,
        attention_backend=chosen.attention_backend,
        cuda_graphs=chosen.cuda_graphs,
        without_kernels=chosen.without_kernels,
        debug_engine=chosen.debug_engine,
    )


@contextmanager
def engine_ahead(settings: Settings) -> "Iterator[subprocess.Popen[bytes] | None]":
    """Start the engine's process before it is known what it has to do, if it has one of its own.

    It loads torch meanwhile. It does not outlive the block.
    """
    waiting = None
    if settings.model.engine == "process":
        from sightline.backends.launch import launch_ahead

        with contextlib.suppress(OSError):  # it is tried again, and then said
            waiting = launch_ahead(settings.model.threads)
    try:
        yield waiting
    finally:
        if waiting is not None:
            waiting.kill()
            waiting.wait()


def serve(
    plan: Plan,
    *,
    on_progress: OnProgress,
    on_ready: OnReady,
    on_stopping: Callable[[], None],
    waiting: subprocess.Popen[bytes] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then drain. Raises StartupError if the model cannot start.

    `waiting` is a process of `engine_ahead`.
    """
    _log_to_stderr()
    house = House(plan, on_progress=on_progress, waiting=waiting)
    # A signal must not raise anything while the event loop is being made; uvicorn takes over then.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: house.stop())
    asyncio.run(house.run(on_ready=on_ready, on_stopping=on_stopping))


def _log_to_stderr() -> None:
    """Log one line per event; the access log's lines are JSON already and stay as they are."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    access, handler = logging.getLogger("sightline.access"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    access.addHandler(handler)
    access.propagate = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadServer:
    """How to reach a server that runs for this program alone."""

    url: str
    api_key: str
    model_id: str


@contextmanager
def server_in_thread(
    settings: Settings,
    *,
    on_progress: OnProgress = lambda done, total: None,
    waiting: subprocess.Popen[bytes] | None = None,
) -> Iterator[ThreadServer]:
    """Run a server for this program alone: a free loopback port and a key that nobody else knows.

    `waiting` is a process of `engine.probe` that is to be its engine.

    Returns when it is ready; raises StartupError if it cannot be. Leaving the block stops it.
    """
    key = secrets.token_urlsafe(32)
    private = replace(
        settings.server,
        host="127.0.0.1",
        port=0,
        api_key=(key,),
        requests_per_minute=None,
        tokens_per_minute=None,
        images_per_minute=None,
    )
    own = replace(settings, server=private)
    ready: Future[str] = Future()
    with listen(own) as listener:
        house = House(
            replace(plan(own, listener), key_file=None), on_progress=on_progress, waiting=waiting
        )

        def run() -> None:
            try:
                asyncio.run(house.run(on_ready=lambda info, names: ready.set_result(names[0])))
            except BaseException as error:
                if not ready.done():
                    ready.set_exception(error)
                    return
                raise

        thread = threading.Thread(target=run, name="server")
        thread.start()
        try:
            yield ThreadServer(url=listener.url, api_key=key, model_id=ready.result())
        finally:
            house.stop()
            thread.join()

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
import socket
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.core.engine import Engine, EngineInfo
from sightline.core.engine_options import EngineOptions
from sightline.core.errors import StartupError, shorten
from sightline.core.held_bytes import HeldBytes
from sightline.demo import MODEL_DIR, MODEL_ID
from sightline.hub import LocalModel, check_folder, resolve_model
from sightline.hub.facts import NamedFacts, facts_of
from sightline.hub.names import REPOSITORY, KnownModel, find_model, split_quantisation
from sightline.settings import Settings, cache_dir, default_key_file

if TYPE_CHECKING:
    from sightline.backends.inline import LocalEngine
    from sightline.media.loader import MediaOptions
    from sightline.server.keys import KeyRing
    from sightline.server.serve import Server

FAKE_ID = "sightline-fake"
KEY_FILE_EVERY_S = 1.0
# What clients of GLM-4V ask for; only the default demo stands in for it.
DEMO_ALIASES = ("glm-4v", "glm-4v-9b")

OnProgress = Callable[[int, int], None]
OnReady = Callable[[EngineInfo, tuple[str, ...]], None]


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound socket, and how a client on this machine reaches it."""

    socket: socket.socket
    host: str

    @property
    def address(self) -> str:
        """The address in numbers, as the socket has it."""
        return str(self.socket.getsockname()[0])

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be served and to whom, decided before anything is loaded.

    `folder` is None for the fake engine. `new_api_key` was made because the server is open to the
    network and no key was given; it is one of `api_keys`. `key_file` holds further keys; None
    when there is no such file.
    """

    settings: Settings
    listener: Listener
    folder: Path | None
    model_id: str
    aliases: tuple[str, ...]
    api_keys: tuple[str, ...] = field(repr=False)
    new_api_key: str | None = field(repr=False)
    key_file: Path | None = None

    @property
    def wants_key(self) -> bool:
        return bool(self.api_keys) or self.key_file is not None


def bundled_model() -> LocalModel | None:
    """Return the model that ships with sightline; None when the package lacks it."""
    try:
        found = check_folder(MODEL_DIR)
    except StartupError:
        return None
    return LocalModel(
        name=MODEL_ID,
        path=found.path,
        model_type=found.model_type,
        size_bytes=found.size_bytes,
    )


def named_facts(name: str, settings: Settings) -> NamedFacts:
    """Tell what a model is from its small files: the bundled one, one that is here, a known one.

    Raises StartupError, also for a folder whose config.json no family supports.
    """
    if split_quantisation(name)[0] in ("", MODEL_ID):
        return replace(facts_of(str(MODEL_DIR), ()), name=MODEL_ID, spelled=MODEL_ID)
    return facts_of(name, model_folders(settings))


def model_folders(settings: Settings) -> list[Path]:
    """Return the folders that are searched for models by name."""
    named = [Path(folder).expanduser() for folder in settings.model.model_dir]
    return [*named, Path("models"), cache_dir() / "models"]


def missing_model(settings: Settings) -> KnownModel | None:
    """Return the model that must be downloaded before it can be served, None if there is none.

    That is one with a known name, or OWNER/NAME where there is no folder OWNER.
    """
    name, _ = split_quantisation(settings.model.model)
    if settings.model.engine == "fake" or name in ("", MODEL_ID):
        return None
    try:
        resolve_model(name, model_folders(settings))
    except StartupError as error:
        is_repository = REPOSITORY.fullmatch(name) and not Path(name).parent.exists()
        if error.code == "model_not_here" or (error.code == "model_nowhere" and is_repository):
            return find_model(name)
    return None


def quantization_behind(name: str) -> str | None:
    """Return int8 or int4 of NAME:int8, NAME:int4; a folder of that very name has none."""
    return None if Path(name).expanduser().exists() else split_quantisation(name)[1]


def chosen_quantization(settings: Settings) -> tuple[str | None, str | None]:
    """Return what is asked for language and vision: none, int8, int4; None leaves it to the model.

    Raises StartupError when the model's name and the option say different things.
    """
    chosen, behind = settings.model.quantization, quantization_behind(settings.model.model)
    if chosen is not None and behind is not None and chosen != behind:
        raise StartupError(
            f"{shorten(settings.model.model)} asks for {behind}, --quantization for {chosen}; "
            "leave one of them off.",
            code="quantization_twice",
            values={"name": shorten(settings.model.model), "behind": behind, "chosen": chosen},
        )
    return chosen or behind, settings.model.quantization_vision


def quantize(settings: Settings, target: Path, on_progress: OnProgress) -> LocalModel:
    """Write the model of the settings into the new folder `target`, int8 unless they say otherwise.

    Raises StartupError.
    """
    from sightline.models.quantization import choose_quantization

    name, _ = split_quantisation(settings.model.model)
    bundled = bundled_model() if name in ("", MODEL_ID) else None
    source = bundled or check_folder(resolve_model(settings.model.model, model_folders(settings)))
    language, vision = chosen_quantization(settings)
    chosen = choose_quantization(language or ("int8" if vision is None else None), vision)
    if not chosen:
        raise StartupError("Nothing to do: both parts are left as they are.", code="quantize_none")
    # By name: it imports torch.
    writer = importlib.import_module("sightline.models.quantize_folder")
    writer.quantize_folder(source.path, target.expanduser(), chosen, progress=on_progress)
    return check_folder(target.expanduser())


@contextmanager
def listen(settings: Settings) -> Iterator[Listener]:
    """Take the port. Raises StartupError at once if that is impossible."""
    from sightline.server.serve import bind

    with bind(settings.server.host, settings.server.port) as bound:
        yield Listener(bound, settings.server.host)


def plan(settings: Settings, listener: Listener) -> Plan:
    """Decide what is served. Raises StartupError for a model folder that cannot be one."""
    from sightline.server.host_guard import is_loopback

    chosen_quantization(settings)
    served = settings.model.served_model_name
    folder: Path | None = None
    names: tuple[str, ...]
    if settings.model.engine == "fake":
        names = (FAKE_ID, *DEMO_ALIASES)
    elif split_quantisation(settings.model.model)[0] in ("", MODEL_ID):
        bundled = bundled_model()
        if bundled is None:
            raise StartupError(
                "The bundled model is missing from this installation; install sightline again, "
                "or name a model folder.",
                code="model_not_bundled",
            )
        folder = bundled.path
        names = (MODEL_ID, *DEMO_ALIASES) if not settings.model.model else (MODEL_ID,)
    else:
        found = check_folder(resolve_model(settings.model.model, model_folders(settings)))
        folder = found.path
        behind = quantization_behind(settings.model.model)
        names = (found.name, f"{found.name}:{behind}") if behind else (found.name,)
    model_id, *aliases = served or names
    api_keys, new_api_key = settings.server.api_key, None
    key_file = settings.server.key_file
    if key_file is None and default_key_file().is_file():
        key_file = default_key_file()
    if not api_keys and key_file is None and not is_loopback(settings.server.host):
        new_api_key = "sl-" + secrets.token_urlsafe(32)
        api_keys = (new_api_key,)
    return Plan(
        settings=settings,
        listener=listener,
        folder=folder,
        model_id=model_id,
        aliases=tuple(aliases),
        api_keys=api_keys,
        new_api_key=new_api_key,
        key_file=key_file,
    )


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
        attention_backend=chosen.attention_backend,
        cuda_graphs=chosen.cuda_graphs,
        debug_engine=chosen.debug_engine,
    )


def serve(
    plan: Plan,
    *,
    on_progress: OnProgress,
    on_ready: OnReady,
    on_stopping: Callable[[], None],
) -> None:
    """Serve until SIGINT or SIGTERM, then drain. Raises StartupError if the model cannot start."""
    _log_to_stderr()
    house = House(plan, on_progress=on_progress)
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

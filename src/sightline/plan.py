"""What will be served and to whom, decided before anything heavy is imported.

The port is taken and the model folder is looked at first, so that what cannot be is said at once.
"""

import importlib
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sightline.core.errors import StartupError, shorten
from sightline.demo import MODEL_DIR, MODEL_ID
from sightline.hub import LocalModel, check_folder, resolve_model
from sightline.hub.caches import cached_model
from sightline.hub.facts import NamedFacts, facts_of
from sightline.hub.local import existing_path, spelled_path
from sightline.hub.names import REPOSITORY, KnownModel, find_model, plain_name, split_quantisation
from sightline.settings import Settings, cache_dir, default_key_file, hub_caches

FAKE_ID = "sightline-fake"
# What clients of GLM-4V ask for; only the default demo stands in for it.
DEMO_ALIASES = ("glm-4v", "glm-4v-9b")

OnProgress = Callable[[int, int], None]


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
    cached = _cached(name, settings)
    if cached is not None:
        return replace(facts_of(str(cached), ()), spelled=split_quantisation(name)[0])
    return facts_of(name, model_folders(settings))


def find_folder(name: str, settings: Settings) -> Path:
    """Return the folder of a model on this machine. Raises StartupError."""
    return _cached(name, settings) or resolve_model(name, model_folders(settings))


def _cached(name: str, settings: Settings) -> Path | None:
    """Return where the hubs' own tools keep a model that is in no folder of ours."""
    try:
        resolve_model(name, model_folders(settings))
    except StartupError as error:
        if error.code in ("model_not_here", "model_nowhere"):
            return cached_model(name, hub_caches())
    return None


def model_folders(settings: Settings) -> list[Path]:
    """Return the folders that are searched for models by name."""
    named = [spelled_path(folder) for folder in settings.model.model_dir]
    return [*named, Path("models"), cache_dir() / "models"]


def missing_model(settings: Settings) -> KnownModel | None:
    """Return the model that must be downloaded before it can be served, None if there is none.

    That is one with a known name, or OWNER/NAME where there is no folder OWNER.
    """
    name, _ = split_quantisation(settings.model.model)
    if settings.model.engine == "fake" or name in ("", MODEL_ID):
        return None
    try:
        find_folder(name, settings)
    except StartupError as error:
        written, name = name, plain_name(name)
        could_be_path = written == name and Path(name).parent.exists()
        is_repository = REPOSITORY.fullmatch(name) and not could_be_path
        if error.code == "model_not_here" or (error.code == "model_nowhere" and is_repository):
            return find_model(name)
    return None


def quantization_behind(name: str) -> str | None:
    """Return int8 or int4 of NAME:int8, NAME:int4; a folder of that very name has none."""
    return split_quantisation(name)[1] if existing_path(name) is None else None


def chosen_quantization(settings: Settings) -> tuple[str | None, str | None]:
    """Return what is asked for language and vision: none, int8, int4; None leaves it to the model.

    What is typed behind the model's name goes before what the environment or a file says. Raises
    StartupError when name and option say different things.
    """
    chosen: str | None = settings.model.quantization
    behind = quantization_behind(settings.model.model)
    if behind is not None and settings.is_typed("model") and not settings.is_typed("quantization"):
        chosen = behind
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
    source = bundled or check_folder(find_folder(settings.model.model, settings))
    language, vision = chosen_quantization(settings)
    chosen = choose_quantization(language or ("int8" if vision is None else None), vision)
    # By name: it imports torch.
    writer = importlib.import_module("sightline.models.quantize_folder")
    target = spelled_path(str(target))
    writer.quantize_folder(source.path, target, chosen, progress=on_progress)
    return check_folder(target)


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
        found = check_folder(find_folder(settings.model.model, settings))
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

"""Every option of sightline in one tree, and where each value came from.

Flags win over the environment (SIGHTLINE_*), which wins over a file (sightline.toml), which wins
over the defaults. A setting is a row: name, type, default, one sentence. Names are unique over the
whole tree, so `port` is `--port`, `SIGHTLINE_PORT` and `port` in the file's `[server]` table.
Unknown names are errors everywhere. This is the only module that reads the environment.
"""

# ruff: noqa: RUF009 -- the defaults of these rows are immutable

import dataclasses
import difflib
import math
import os
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal

from sightline.core.engine_options import KernelName
from sightline.core.errors import StartupError, shorten
from sightline.core.limits import MIB, Limits

ENV_PREFIX = "SIGHTLINE_"
# No settings: which file to read, and what `hatch_build.py` reads when the package is installed.
OTHER_VARIABLES = ("SIGHTLINE_CONFIG", "SIGHTLINE_KERNELS")
DEFAULT_FILE = "sightline.toml"
DEFAULT_PORT = 8888
LIMITS_THAT_MAY_BE_ZERO = frozenset({"max_images", "max_redirects", "max_waiting"})

HUB_HOMES = {"huggingface": "https://huggingface.co", "modelscope": "https://modelscope.cn"}
# Mirrors of the hubs, by the names that the hubs' own tools use; the first that is set counts.
ENDPOINT_VARIABLES = {
    "huggingface": ("HF_ENDPOINT",),
    "modelscope": ("MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"),
}

Dtype = Literal["auto", "bfloat16", "float16", "float32"]
AttentionBackend = Literal["auto", "triton", "varlen", "sdpa"]
EngineKind = Literal["process", "inline", "fake"]
ExtraImages = Literal["latest", "error"]
Language = Literal["en", "zh"]
Scheme = Literal["none", "int8", "int4"]


def _row(
    default: Any,
    what: str,
    *,
    secret: bool = False,
    least: float | None = None,
    most: float | None = None,
    in_file: bool = True,
) -> Any:
    """A setting: its default, one sentence, and what bounds it.

    `secret` values are masked wherever settings are shown. `in_file=False` keeps a setting out of
    files: a sightline.toml that lies in the current folder must not redirect private pictures.
    """
    metadata = {"what": what, "secret": secret, "least": least, "most": most, "in_file": in_file}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    host: str = _row("127.0.0.1", "Address to listen on; 0.0.0.0 opens the server to the network.")
    port: int = _row(DEFAULT_PORT, "Port to listen on; 0 takes a free one.", least=0, most=65535)
    api_key: tuple[str, ...] = _row(
        (), "Keys that may use the API; a client sends the first one.", secret=True
    )
    key_file: Path | None = _row(
        None,
        "File of named keys, made by `sightline keys`; unset: keys.json of the configuration "
        "folder, if there is one.",
    )
    requests_per_minute: int | None = _row(
        None, "Requests per minute of each key without a rate of its own; unset: any.", least=1
    )
    tokens_per_minute: int | None = _row(
        None, "Tokens per minute, prompts and answers, of each such key; unset: any.", least=1
    )
    images_per_minute: int | None = _row(
        None, "Pictures per minute of each such key; unset: any.", least=1
    )
    allow_origin: tuple[str, ...] = _row(
        (), "Web sites whose pages may use the API, for example https://chat.example.org."
    )
    allow_host: tuple[str, ...] = _row(
        (), "Further names a browser may use for a server that listens on loopback."
    )
    strict: bool = _row(False, "Refuse requests with fields that would be ignored.")
    inspect_content: bool = _row(
        False, "Keep the text of the last requests in memory, and show it on the page /status."
    )
    max_output_tokens: int = _row(
        1024, "Tokens of an answer when the request sets no max_tokens.", least=1
    )
    extra_images: ExtraImages = _row(
        "latest", "Pictures of earlier turns with a one-image model: keep the latest, or refuse."
    )
    low_detail_pixels: int | None = _row(
        None,
        "Most pixels of a picture sent with `detail: low`, for models that take pictures of any "
        "size; unset: as many as of any other.",
        least=1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    model: str = _row(
        "",
        "Model folder, or a name of `sightline models` or `models --all`, which is downloaded if "
        "it is not here; empty: the bundled model.",
    )
    served_model_name: tuple[str, ...] = _row(
        (), "Names the model answers to; the first is the one it gives itself."
    )
    model_dir: tuple[str, ...] = _row((), "Folders whose subfolders are searched for models.")
    offline: bool = _row(
        False, "Ask no hub: a model that is not here is an error instead of a download."
    )
    engine: EngineKind = _row(
        "process", "Where the model runs: its own process, this one, or a fake that only echoes."
    )
    device: str = _row("auto", "Device of the model: auto, cpu, cuda, or cuda:N.")
    dtype: Dtype = _row(
        "auto",
        "Number format of the weights; auto takes the checkpoint's, or float32 on processors "
        "without bfloat16 arithmetic.",
    )
    quantization: Scheme | None = _row(
        None,
        "Weights of the language model in 8 or 4 bits, made while loading; unset: as they are "
        "stored, or what stands behind MODEL (:int8, :int4).",
    )
    quantization_vision: Scheme | None = _row(
        None, "The same for the vision part; unset: int8 beside int4, else as they are stored."
    )
    max_model_len: int | None = _row(
        None, "Longest conversation in tokens, pictures and answer included.", least=1
    )
    threads: int | None = _row(None, "CPU threads of the engine; unset: one per core.", least=1)
    kv_cache_memory: int | None = _row(
        None,
        "Memory for keys and values, in bytes or like 2GiB or 2GB; unset: what suits the machine.",
        least=MIB,
    )
    gpu_memory_utilization: float = _row(
        0.9,
        "Share of a GPU's memory that may be full, that of other programs included.",
        least=0.05,
        most=1,
    )
    force: bool = _row(False, "Load the model even if it does not seem to fit the memory.")
    max_num_seqs: int | None = _row(
        None, "Answers that are computed at once; unset: as many as `max_running`.", least=1
    )
    max_num_batched_tokens: int | None = _row(
        None, "Tokens computed in one step; more is faster for prompts, slower for others.", least=1
    )
    block_size: int = _row(
        16, "Tokens of one block, the unit in which KV memory is given out.", least=1, most=1024
    )
    prefix_caching: bool = _row(True, "Compute what prompts have in common only once.")
    overlap_steps: bool | None = _row(
        None, "Plan a step while the one before is computed; unset: on a GPU only."
    )
    num_speculative_tokens: int = _row(
        7,
        "Tokens of an answer guessed from what was said before and checked in one step; "
        "on a CPU only; 0: none.",
        least=0,
        most=15,
    )
    attention_backend: AttentionBackend = _row(
        "auto", "Attention on a GPU; auto takes the first that works: triton, varlen, sdpa."
    )
    cuda_graphs: bool = _row(True, "Replay recorded steps on a GPU, which saves launching them.")
    without_kernels: tuple[KernelName, ...] = _row(
        (),
        "Kernels that are not tried on a GPU; own: all of ours. What the engine dies of while it "
        "starts is left out by itself.",
    )
    debug_engine: bool = _row(False, "Log a line for every step of the engine: what and why.")


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaSettings:
    fetch: bool = _row(True, "Fetch pictures by http and https URL.")
    allow_media_host: tuple[str, ...] = _row(
        (), "Hosts (host or host:port) that may be private addresses or use any port."
    )
    media_root: Path | None = _row(None, "Folder whose files requests may name; unset: none.")
    image_cache_bytes: int = _row(
        32 * MIB, "Memory for decoded pictures that may be asked about again.", least=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    url: str = _row(
        f"http://127.0.0.1:{DEFAULT_PORT}",
        "Server that `ask` and `chat` use when it answers.",
        in_file=False,
    )
    lang: Language | None = _row(
        None, "Language of the command line: zh or en; unset: the locale's.", in_file=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All options. `origins` has, for every name, where its value came from.

    `config` is the file of settings that was named by a flag.
    """

    server: ServerSettings = ServerSettings()
    model: ModelSettings = ModelSettings()
    media: MediaSettings = MediaSettings()
    client: ClientSettings = ClientSettings()
    limits: Limits = Limits()
    origins: Mapping[str, str] = field(default_factory=dict)
    config: Path | None = None

    def value(self, row: "Row") -> Any:
        return getattr(getattr(self, row.section), row.name)

    def origin(self, name: str) -> str:
        return self.origins.get(name, "default")

    def is_typed(self, name: str) -> bool:
        return self.origin(name).startswith("flag")

    def typed(self, **values: Any) -> "Settings":
        """Return these settings with some of the model as if they had been typed."""
        return dataclasses.replace(
            self,
            model=dataclasses.replace(self.model, **values),
            origins={**self.origins, **dict.fromkeys(values, "flag")},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is known of a setting without its value. `code` is the error when a limit is passed."""

    section: str
    name: str
    type: Any
    default: Any
    what: str
    code: str = ""
    secret: bool = False
    least: float | None = None
    most: float | None = None
    in_file: bool = True

    @property
    def is_size(self) -> bool:
        """It counts bytes, and may be written with a unit."""
        return self.name.endswith(("_bytes", "_memory"))

    @property
    def env(self) -> str:
        return ENV_PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


SECTIONS: Mapping[str, type] = {
    "server": ServerSettings,
    "model": ModelSettings,
    "media": MediaSettings,
    "client": ClientSettings,
    "limits": Limits,
}


@cache
def rows() -> Mapping[str, Row]:
    """Every setting by its name, in the order of the tree."""
    return {row.name: row for row in _rows()}


def _rows() -> Iterator[Row]:
    for section, group in SECTIONS.items():
        hints = typing.get_type_hints(group)
        for item in dataclasses.fields(group):
            known = dict(item.metadata)
            if section == "limits":
                least = 0 if item.name in LIMITS_THAT_MAY_BE_ZERO else 1
                known |= {
                    "least": least if hints[item.name] is int else 0.001,
                }
            yield Row(
                section=section,
                name=item.name,
                type=hints[item.name],
                default=item.default,
                **known,
            )


def resolve(
    flags: Mapping[str, Any] | None = None,
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Build the settings from `flags` (None values are unset), the environment and the file.

    `config` names the file; without it SIGHTLINE_CONFIG does, and else sightline.toml of the
    current folder is read if it exists. Raises StartupError for an unknown name, a value of the
    wrong type or out of bounds, and for a file that cannot be read.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}

    def put(name: str, value: Any, origin: str) -> None:
        values[name], origins[name] = _checked(rows()[name], value, origin), origin

    path, is_required = _config_file(config, environ)
    if path is not None:
        for name, value in _read_file(path, is_required=is_required).items():
            put(name, value, f"file {path}")
    for variable, text in environ.items():
        if variable.startswith(ENV_PREFIX) and variable not in OTHER_VARIABLES:
            name = variable.removeprefix(ENV_PREFIX).lower()
            _must_exist(name, variable, "environment variable")
            if text:  # an empty variable is an unset one
                put(name, text, f"environment {variable}")
    for name, value in (flags or {}).items():
        if value is not None:
            _must_exist(name, name, "option")
            put(name, value, f"flag {rows()[name].flag}")

    sections: dict[str, Any] = {}
    for section, group in SECTIONS.items():
        own = {name: value for name, value in values.items() if rows()[name].section == section}
        sections[section] = group(**own)
    return Settings(**sections, origins=origins, config=config)


def language(flag: str | None = None, environ: Mapping[str, str] | None = None) -> Language:
    """Language of messages: `flag`, SIGHTLINE_LANG, then the locale; English unless it is Chinese.

    Never fails, because it is needed to say what failed.
    """
    environ = os.environ if environ is None else environ
    asked = flag or environ.get(ENV_PREFIX + "LANG")
    if asked is None:
        for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
            if environ.get(variable):
                asked = environ[variable]
                break
    return "zh" if (asked or "").lower().startswith("zh") else "en"


def cache_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Folder for what sightline keeps between runs; it need not exist."""
    environ = os.environ if environ is None else environ
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "sightline"


def hub_endpoints(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Mirrors of the model hubs, by the names that the hubs' own tools use."""
    environ = os.environ if environ is None else environ
    named = {
        hub: next((environ[name] for name in names if environ.get(name)), "")
        for hub, names in ENDPOINT_VARIABLES.items()
    }
    return {
        hub: url.rstrip("/") if "://" in url else f"https://{url}"
        for hub, url in named.items()
        if url
    }


def hub_caches(environ: Mapping[str, str] | None = None) -> dict[str, list[Path]]:
    """Folders in which the hubs' own tools keep what they download; they need not exist."""
    environ = os.environ if environ is None else environ
    kept = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    huggingface = Path(environ.get("HF_HOME") or kept / "huggingface") / "hub"
    modelscope = Path(environ.get("MODELSCOPE_CACHE") or Path.home() / ".cache" / "modelscope")
    return {
        "huggingface": [Path(environ.get("HF_HUB_CACHE") or huggingface)],
        # Where releases of its tool have put them.
        "modelscope": [modelscope / "hub" / "models", modelscope / "models", modelscope / "hub"],
    }


def hub_variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Say which variables decide how each hub is reached: `HF_ENDPOINT=http://mirror`.

    A name and a password in them are left out. Hubs that no variable concerns are left out, too.
    """
    environ = os.environ if environ is None else environ
    found = {}
    for hub, url in (HUB_HOMES | hub_endpoints(environ)).items():
        mirror, proxy = mirror_variable(hub, environ), proxy_variable(url, environ)
        names = [name for name in (mirror, proxy) if name is not None]
        if names:
            found[hub] = ", ".join(f"{name}={without_login(environ[name])}" for name in names)
    return found


def mirror_variable(hub: str, environ: Mapping[str, str] | None = None) -> str | None:
    """Return the name of the variable that names a mirror of `hub`, None if none does."""
    environ = os.environ if environ is None else environ
    return next((name for name in ENDPOINT_VARIABLES[hub] if environ.get(name)), None)


def proxy_variable(url: str, environ: Mapping[str, str] | None = None) -> str | None:
    """Return the name of the variable whose proxy is asked for `url`, None if none is."""
    from urllib.parse import urlsplit
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

    environ = os.environ if environ is None else environ
    past = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    try:
        parts = urlsplit(url)
        if proxy_bypass_environment(parts.netloc.rpartition("@")[2], {"no": past}):
            return None
    except ValueError:
        return None
    names = (f"{parts.scheme}_proxy".lower(), "all_proxy")
    spelled = [spelling for name in names for spelling in (name, name.upper())]
    return next((name for name in spelled if environ.get(name)), None)


def without_login(url: str) -> str:
    """Return an address without the name and the password that may stand in it."""
    return re.sub(r"^([a-z0-9+.-]*://)?[^/?#]*@", r"\1", url, flags=re.IGNORECASE)


def hubs_are_offline(environ: Mapping[str, str] | None = None) -> bool:
    """HF_HUB_OFFLINE forbids asking any hub."""
    environ = os.environ if environ is None else environ
    return environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "yes", "true")


def variables(*names: str, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return those of the variables that are set, in either case of letters, by their own name."""
    environ = os.environ if environ is None else environ
    spelled = [spelling for name in names for spelling in (name, name.lower())]
    return {name: environ[name] for name in spelled if environ.get(name)}


def visible_gpus(environ: Mapping[str, str] | None = None) -> str | None:
    """CUDA_VISIBLE_DEVICES: which GPUs CUDA shows, and in which order; None: all of them."""
    environ = os.environ if environ is None else environ
    return environ.get("CUDA_VISIBLE_DEVICES")


def default_key_file(environ: Mapping[str, str] | None = None) -> Path:
    """The file of keys when none is named; it need not exist."""
    environ = os.environ if environ is None else environ
    base = environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "sightline" / "keys.json"


def _config_file(config: Path | None, environ: Mapping[str, str]) -> tuple[Path | None, bool]:
    """Return the file to read, and whether it must exist."""
    if config is not None:
        return config, True
    if named := environ.get(ENV_PREFIX + "CONFIG"):
        return Path(named), True
    path = Path(DEFAULT_FILE)
    return (path, False) if path.is_file() else (None, False)


def _read_file(path: Path, *, is_required: bool) -> dict[str, Any]:
    """Return the file's values by name; tables are the sections."""
    import tomllib  # not needed by `--help`

    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        if not is_required and isinstance(error, FileNotFoundError):
            return {}
        raise StartupError(
            f"Cannot read the settings file {path}: {error.strerror}.", code="config_unreadable"
        ) from None
    except ValueError:
        raise StartupError(
            f"The settings file {path} is not valid TOML in UTF-8.", code="config_invalid"
        ) from None
    found: dict[str, Any] = {}
    for section, table in tables.items():
        if section not in SECTIONS or not isinstance(table, dict):
            raise StartupError(
                f"{path}: no table [{shorten(section)}]; known: {', '.join(SECTIONS)}.",
                code="config_invalid",
            )
        for key, value in table.items():
            name = key.replace("-", "_")
            _must_exist(name, f"{section}.{key}", f"{path}: setting", section=section)
            if not rows()[name].in_file:
                raise StartupError(
                    f"{path}: {section}.{name} cannot be set in a file; use {rows()[name].flag} "
                    f"or {rows()[name].env}.",
                    code="config_invalid",
                )
            found[name] = value
    return found


def _must_exist(name: str, shown: str, kind: str, *, section: str | None = None) -> None:
    known = [row.name for row in rows().values() if section in (None, row.section)]
    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise StartupError(f"Unknown {kind} {shorten(shown)}{hint}", code="config_invalid")


def _checked(row: Row, value: Any, origin: str) -> Any:
    """Return `value` in the row's type. Text is read as that type; nothing else is converted."""
    accepted = [kind for kind in _alternatives(row.type) if kind is not types.NoneType]
    try:
        if row.is_size and isinstance(value, str):
            value = _size(value)
        result = _converted(accepted[0], value)
    except ValueError as error:
        told = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        shown = "" if row.secret else f" {shorten(told)!r}"
        raise StartupError(
            f"{row.name}:{shown} is not {error} (from {origin}).", code="config_invalid"
        ) from None
    if (row.least is not None and result is not None and result < row.least) or (
        row.most is not None and result is not None and result > row.most
    ):
        bounds = f"at least {row.least}" if row.most is None else f"{row.least} to {row.most}"
        raise StartupError(
            f"{row.name}: {result} is out of range, {bounds} (from {origin}).",
            code="config_invalid",
        )
    return result


def _alternatives(kind: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(kind) in (types.UnionType, typing.Union)
    return typing.get_args(kind) if is_union else (kind,)


def _converted(kind: Any, value: Any) -> Any:
    """Return `value` as `kind`; raise ValueError with the name of what was expected."""
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if value in choices:
            return value
        raise ValueError(f"one of {', '.join(choices)}")
    if typing.get_origin(kind) is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(i, str) for i in items):
            raise ValueError("a list of texts")
        named = tuple(item.strip() for item in items if item.strip())
        choices = typing.get_args(typing.get_args(kind)[0])  # none of a text
        if choices and not {*named} <= {*choices}:
            raise ValueError(f"a list out of {', '.join(choices)}")
        return named
    if kind is bool:
        known = {"1": True, "true": True, "yes": True, "on": True}
        known |= {"0": False, "false": False, "no": False, "off": False}
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in known:
            return known[value.lower()]
        raise ValueError("true or false")
    if kind in (int, float):
        return _number(kind, value)
    if kind is Path:
        if isinstance(value, str | Path) and str(value):
            return Path(value)
        raise ValueError("a path")
    if isinstance(value, str):
        return value
    raise ValueError("a text")


def parse_size(text: str) -> int | None:
    """Return a size in bytes that was written like `24GB` or `512 MiB`; None if it is none."""
    found = re.fullmatch(r"[0-9]{1,24}", _size(text.strip()))
    return None if found is None else int(found[0])


def _size(text: str) -> str:
    """Return `text` in bytes: `24GB` (10^9 each), `1.5GiB` or `1.5g` (2^30 each).

    Whatever else is left as it is.
    """
    match = re.fullmatch(
        r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*([KMGT])(i?B)?", text.strip(), re.IGNORECASE
    )
    if match is None:
        return text
    base = 1000 if (match[3] or "").upper() == "B" else 1024
    return str(int(Decimal(match[1]) * base ** ("KMGT".index(match[2].upper()) + 1)))


def _number(kind: type[int] | type[float], value: Any) -> int | float:
    expected = "a whole number" if kind is int else "a number"
    is_number = isinstance(value, kind | int) and not isinstance(value, bool)
    if not is_number and not isinstance(value, str):
        raise ValueError(expected)
    try:
        number = kind(value)
    except (ValueError, OverflowError):
        raise ValueError(expected) from None
    if not math.isfinite(number):
        raise ValueError(expected)
    return number

"""Messages between the front and an engine process: plain dataclasses, sent as msgpack.

Both sides give these types to msgspec; nothing is pickled. A message is a frame with its kind (a
key of `COMMANDS` or `REPORTS`), a frame with its fields, and for a `Generate` one raw frame of
pixels per image in order, so the message names them only by size and digest.
"""

from dataclasses import dataclass, field
from typing import Any

from sightline.core.engine import EngineInfo, EngineStats, TokenDelta
from sightline.core.image_policy import ImagePolicy, image_policy_of
from sightline.core.sampling import SamplingParams

# The first argument of an engine's process that gets its others later, as a line of JSON.
AHEAD = "--ahead"
# Begins the line of the journal that names kernels which the process may not survive.
ON_TRIAL = "on trial: "


@dataclass(frozen=True, slots=True, kw_only=True)
class WireSpan:
    """An `ImageSpan` without its pixels; frame i holds the pixels of span i."""

    start: int
    length: int
    width: int
    height: int
    digest: bytes
    original_width: int
    original_height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    request_id: str
    token_ids: tuple[int, ...]
    spans: tuple[WireSpan, ...]
    cache_salt: bytes
    params: SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """Progress while weights load; `done` and `total` count bytes."""

    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    info: EngineInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFailed:
    """The model cannot be loaded; `message` is one line for the operator."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFailed:
    """One request failed; the others go on."""

    request_id: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutput:
    """Everything one step produced: a delta per sequence, and the engine's books after it.

    An engine that idles or makes progress inside a long step sends one with no deltas every
    second, so silence means a hung process.
    """

    deltas: dict[str, TokenDelta] = field(default_factory=dict)
    failed: tuple[RequestFailed, ...] = ()
    stats: EngineStats = field(default_factory=EngineStats)


Command = Generate | Abort | Shutdown
Report = Loading | Ready | StartFailed | StepOutput

COMMANDS: dict[bytes, type[Command]] = {
    b"generate": Generate,
    b"abort": Abort,
    b"shutdown": Shutdown,
}
REPORTS: dict[bytes, type[Report]] = {
    b"loading": Loading,
    b"ready": Ready,
    b"start_failed": StartFailed,
    b"step": StepOutput,
}


def decode_hook(kind: type, value: Any) -> Any:
    """Tell msgspec how to read the one type of these messages that it cannot: an image policy."""
    if kind is ImagePolicy and isinstance(value, dict):
        return image_policy_of(value)
    raise NotImplementedError(kind.__name__)

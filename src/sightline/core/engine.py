"""The seam: what the front knows of an engine, and the one protocol between them."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, fields, replace
from typing import Literal, Protocol

from sightline.core.chat import BoxUnits
from sightline.core.image_policy import ImagePolicy
from sightline.core.prompt import Prompt
from sightline.core.sampling import SamplingParams

FinishReason = Literal["stop", "length"]
TokenLogprob = tuple[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """Plain data about the loaded model, published once by the engine.

    `max_model_len` counts KV slots: prompt, images and answer together. `prompt_format` names a
    file of `service/formats/`; `tokenizer_file` is the path the front loads its tokenizer from.
    In `box_units` the model says where something is in a picture.
    `device`, `dtype`, `num_parameters` are for display, and so is memory in bytes: of the weights,
    of keys and values (for `kv_slots` tokens), and all that the engine holds on its device.
    """

    model_id: str
    prompt_format: str
    tokenizer_file: str
    max_model_len: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    image_policy: ImagePolicy | None = None
    box_units: BoxUnits = "thousandths"
    aliases: tuple[str, ...] = ()
    default_temperature: float = 1.0
    default_top_p: float = 1.0
    default_top_k: int = 0
    default_repetition_penalty: float = 1.0
    device: str = "cpu"
    dtype: str = "bfloat16"
    num_parameters: int = 0
    weight_bytes: int = 0
    kv_bytes: int = 0
    kv_slots: int = 0
    held_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprobs:
    """The log-probability of a token of an answer, and the likeliest ids in its place."""

    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDelta:
    """Tokens that a sequence gained in one step, or in several if the reader is slower than steps.

    `logprobs` has one entry for each of `token_ids` if they were asked for, else none. The last
    delta of a request, and only it, has a `finish_reason`. A stop token is part of the last
    delta's `token_ids` (it is counted in usage, never shown). The timings are on the first delta
    that carries tokens; None elsewhere.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: FinishReason | None = None
    num_cached_tokens: int = 0
    queue_s: float | None = None
    encode_s: float | None = None
    prefill_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How often values fell where: `counts[i]` of them were at most `bounds[i]`, and no less.

    The last count is of those above every bound. `total` is the sum of the values.
    """

    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    total: float = 0.0

    @property
    def count(self) -> int:
        return sum(self.counts)

    def __add__(self, other: "Histogram") -> "Histogram":
        """Return both together; their bounds are the same, or one of them is empty."""
        if not (self.counts and other.counts):
            return self if self.counts else other
        counts = map(sum, zip(self.counts, other.counts, strict=True))
        return Histogram(bounds=self.bounds, counts=tuple(counts), total=self.total + other.total)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """A snapshot of an engine's books; counters and histograms only grow.

    Times are in seconds. `kv_slots_cached` hold keys and values of the past that nobody uses now:
    they are given up when there is need. `prefix_*` count prompt tokens, `embedding_*` images,
    looked for and found in the caches. `idle_gap_s` is the time between the end of a step and
    the beginning of the next when there was work: what planning costs. `num_guessed` counts tokens
    that were computed before anybody knew whether they would be said. `batch_seqs` and
    `batch_tokens` are what one step computed.
    """

    num_running: int = 0
    num_waiting: int = 0
    num_steps: int = 0
    num_restarts: int = 0
    kv_slots_used: int = 0
    kv_slots_cached: int = 0
    kv_slots_total: int = 0
    embedding_bytes_used: int = 0
    embedding_bytes_total: int = 0
    num_embedding_leases: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    embedding_queries: int = 0
    embedding_hits: int = 0
    num_preemptions: int = 0
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    num_guessed: int = 0
    num_guessed_right: int = 0
    num_stopped: int = 0
    num_cut: int = 0
    num_aborted: int = 0
    num_failed: int = 0
    step_time_s: Histogram = Histogram()
    idle_gap_s: Histogram = Histogram()
    batch_seqs: Histogram = Histogram()
    batch_tokens: Histogram = Histogram()
    queue_time_s: Histogram = Histogram()
    time_to_first_token_s: Histogram = Histogram()
    inter_token_s: Histogram = Histogram()
    pid: int | None = None
    rss_bytes: int = 0

    def behind(self, past: "EngineStats") -> "EngineStats":
        """Return these numbers of an engine that took the place of one that ended with `past`.

        What only grows goes on from there.
        """
        grown = {
            field.name: getattr(past, field.name) + getattr(self, field.name)
            for field in fields(self)
            if field.name not in MOMENTARY
        }
        return replace(self, **grown)


# Of `EngineStats`, what tells of the moment; everything else only grows.
MOMENTARY = frozenset(
    {
        "num_running",
        "num_waiting",
        "num_restarts",
        "kv_slots_used",
        "kv_slots_cached",
        "kv_slots_total",
        "embedding_bytes_used",
        "embedding_bytes_total",
        "num_embedding_leases",
        "pid",
        "rss_bytes",
    }
)


class Engine(Protocol):
    """Turns prompts into tokens.

    `generate` may be called from the event loop only. Closing its iterator aborts the request
    within one step. It raises `Unavailable` (`model_loading`, `engine_restarting`) when the
    engine is not up or dies meanwhile, `InternalError` when this request alone failed.
    """

    @property
    def info(self) -> EngineInfo:
        """Raises `Unavailable` (`model_loading`) before the model has been loaded once."""
        ...

    @property
    def is_ready(self) -> bool: ...

    def generate(
        self, prompt: Prompt, params: SamplingParams, request_id: str
    ) -> AsyncGenerator[TokenDelta, None]: ...

    async def stats(self) -> EngineStats: ...

    async def close(self) -> None: ...

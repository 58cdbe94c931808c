"""The seam: what the front knows of an engine, and the one protocol between them."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, Protocol

from sightline.core.prompt import Prompt
from sightline.core.sampling import SamplingParams

FinishReason = Literal["stop", "length"]
TokenLogprob = tuple[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SquareImagePolicy:
    """Every image is resized to `size` x `size` pixels and costs `num_tokens` slots.

    `num_tokens` includes the begin and end rows (GLM-4V: 1602 for 1120 pixels). Resampling is
    bicubic; the aspect ratio is not kept, as the model was trained.
    """

    size: int
    num_tokens: int
    max_images: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """Plain data about the loaded model, published once by the engine.

    `max_model_len` counts KV slots: prompt, images and answer together. `prompt_format` names a
    file of `service/formats/`; `tokenizer_file` is the path the front loads its tokenizer from.
    `device`, `dtype`, `num_parameters` are for display.
    """

    model_id: str
    prompt_format: str
    tokenizer_file: str
    max_model_len: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    image_policy: SquareImagePolicy | None = None
    aliases: tuple[str, ...] = ()
    default_temperature: float = 1.0
    default_top_p: float = 1.0
    device: str = "cpu"
    dtype: str = "bfloat16"
    num_parameters: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprobs:
    """The log-probability of a token of an answer, and the likeliest ids in its place."""

    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDelta:
    """Tokens that a sequence gained in one step.

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
class EngineStats:
    """A snapshot of an engine's books. `num_steps` only grows while the process lives."""

    num_running: int = 0
    num_waiting: int = 0
    num_steps: int = 0
    num_restarts: int = 0
    kv_slots_used: int = 0
    kv_slots_total: int = 0
    pid: int | None = None
    rss_bytes: int = 0


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

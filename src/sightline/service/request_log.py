"""What one chat request cost and how long each part took, never what it said.

The facts go into a mapping of the caller's, who writes the one line that a request gets; the same
numbers are counted in the server's metrics and charged to the key.
"""

import asyncio
import time
from collections.abc import Mapping, MutableMapping, Sequence

from sightline.core.chat import ChatDelta, ChatRequest, FinishReason, Usage
from sightline.core.engine import TokenDelta
from sightline.core.errors import Overloaded, RequestError, shorten
from sightline.core.prompt import Image
from sightline.service.caller import ANYONE, Caller
from sightline.service.media_times import MediaTimes
from sightline.service.metrics import Metrics
from sightline.service.transcript import current_transcript

DIGEST_PREFIX_BYTES = 4
# So many tokens, or so long, may go by before metrics and budgets hear of them.
MAX_UNCOUNTED = 32
MAX_UNCOUNTED_S = 1.0

Facts = MutableMapping[str, str | int | float | None]

# What callers are told of the times of a request, and under which name it is noted.
_TIMINGS = {
    "queue_s": "queue_s",
    "layout_s": "layout_s",
    "fetch_s": "fetch_s",
    "decode_image_s": "decode_image_s",
    "engine_queue_s": "engine_queue_s",
    "encode_s": "engine_encode_s",
    "prefill_s": "engine_prefill_s",
    "decode_s": "decode_s",
    "first_token_s": "ttft_s",
    "total_s": "total_s",
}


def timings(facts: Mapping[str, object]) -> dict[str, object]:
    """Return the seconds that each part of a request took, as far as they were noted."""
    return {name: facts[noted] for name, noted in _TIMINGS.items() if noted in facts}


class RequestLog:
    """Notes the facts of one request as they become known, counts them, charges its caller.

    `_s` values are seconds: `queue_s` waiting for a permit, `layout_s` tokenising, `media_s`
    fetching and decoding, which `fetch_s` and `decode_image_s` tell apart, `ttft_s` until the
    engine's first token, `decode_s` from there to the last one; `engine_*_s` are the engine's own
    account of its queue, the vision tower and the prefill.
    """

    def __init__(self, facts: Facts, metrics: Metrics, caller: Caller = ANYONE) -> None:
        self._facts = facts
        self._metrics = metrics
        self._caller = caller
        self._started = self._last = time.monotonic()
        self._queue_s = self._media_s = 0.0
        self._first_token = self._last_token = 0.0  # 0: there was none yet
        self._num_uncounted = 0
        self._gaps_s: list[float] = []
        self._last_count = 0.0
        self._transcript = current_transcript.get()
        metrics.used_by(caller.name, requests=1)

    def lap(self, name: str) -> None:
        """Note the time since the last lap as `name`."""
        now = time.monotonic()
        passed_s = now - self._last
        self._note_time(name, passed_s)
        self._last = now
        if name == "queue_s":
            self._queue_s = passed_s
        elif name == "media_s":
            self._media_s = passed_s

    def asked(self, request: ChatRequest) -> None:
        if self._transcript is not None:
            self._transcript.ask(request.messages)

    def said(self, delta: ChatDelta) -> None:
        if self._transcript is not None:
            self._transcript.hear(delta)

    def model(self, model_id: str) -> None:
        self._facts["model"] = shorten(model_id)

    def prompt(self, *, text_tokens: int, image_tokens: int) -> None:
        self._facts.update(text_tokens=text_tokens, image_tokens=image_tokens)
        num_tokens = text_tokens + image_tokens
        self._caller.charge(tokens=num_tokens)
        metrics = self._metrics
        metrics.prompt_tokens.inc(num_tokens)
        metrics.image_tokens.inc(image_tokens)
        metrics.request_prompt_tokens.observe(num_tokens)
        metrics.used_by(self._caller.name, prompt_tokens=num_tokens)

    def images(self, images: Sequence[Image], times: MediaTimes) -> None:
        if images:
            self._note_time("fetch_s", times.fetch_s)
            self._note_time("decode_image_s", max(0.0, self._media_s - times.fetch_s))
            self._caller.charge(images=len(images))
            self._metrics.images.inc(len(images))
            self._metrics.media_time.observe(self._media_s)
            self._metrics.used_by(self._caller.name, images=len(images))
            prefixes = (image.digest[:DIGEST_PREFIX_BYTES].hex() for image in images)
            self._facts.update(images=len(images), digests=",".join(prefixes))

    def tokens(self, delta: TokenDelta) -> None:
        """Count the tokens of a step; with the first ones come an engine's timings."""
        now = time.monotonic()
        self._num_uncounted += len(delta.token_ids)
        if self._first_token:
            self._gaps_s.append(now - self._last_token)
            self._last_token = now
            if (
                self._num_uncounted >= MAX_UNCOUNTED
                or now - self._last_count >= MAX_UNCOUNTED_S
                or delta.finish_reason is not None
            ):
                self._count(now)
            return
        self._count(now)
        metrics = self._metrics
        self._first_token = self._last_token = now
        self._note_time("ttft_s", now - self._started)
        metrics.time_to_first_token.observe(now - self._started)
        metrics.queue_time.observe(self._queue_s + (delta.queue_s or 0.0))
        if delta.prefill_s is not None:
            metrics.prefill_time.observe(delta.prefill_s)
        if delta.encode_s:
            metrics.image_encode.observe(delta.encode_s)
        for name in ("queue_s", "encode_s", "prefill_s"):
            if (value := getattr(delta, name)) is not None:
                self._note_time(f"engine_{name}", value)

    def _count(self, now: float) -> None:
        """Tell metrics and budgets of the tokens since the last call."""
        num_tokens, self._num_uncounted = self._num_uncounted, 0
        gaps_s, self._gaps_s = self._gaps_s, []
        self._last_count = now
        self._caller.charge(tokens=num_tokens)
        self._metrics.generation_tokens.inc(num_tokens)
        self._metrics.used_by(self._caller.name, generated_tokens=num_tokens)
        for gap_s in gaps_s:
            self._metrics.inter_token_latency.observe(gap_s)

    def finish(self, finish_reason: FinishReason, usage: Usage) -> None:
        now, metrics = time.monotonic(), self._metrics
        self._count(now)
        metrics.finished(finish_reason)
        metrics.e2e_latency.observe(now - self._started)
        if self._first_token:
            metrics.decode_time.observe(now - self._first_token)
            self._note_time("decode_s", now - self._first_token)
        self._note_time("total_s", now - self._started)
        metrics.request_generation_tokens.observe(usage.completion_tokens)
        metrics.cached_tokens.inc(usage.cached_tokens)
        self._facts.update(
            finish_reason=finish_reason,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
        )

    def fail(self, error: BaseException) -> None:
        """Note that nobody waited for the end, if that is what `error` means.

        What else went wrong is raised to the caller, who can name it; a refusal is no answer.
        """
        self._count(time.monotonic())
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            self.abandon()
        elif not isinstance(error, RequestError | Overloaded):
            self._metrics.finished("error")

    def abandon(self) -> None:
        self._count(time.monotonic())
        self._facts["abandoned"] = True
        self._metrics.finished("abort")

    def _note_time(self, name: str, seconds: float) -> None:
        self._facts[name] = round(seconds, 4)

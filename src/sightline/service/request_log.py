"""One line per chat request: what it cost and how long each part took, never what it said."""

import asyncio
import logging
import time
from collections.abc import Sequence

from sightline.core.chat import Usage
from sightline.core.engine import FinishReason, TokenDelta
from sightline.core.errors import SightlineError, shorten
from sightline.core.prompt import Image

logger = logging.getLogger("sightline.chat")

DIGEST_PREFIX_BYTES = 4


class RequestLog:
    """Gathers the facts of one request and writes them once, when it is over.

    `_s` values are seconds: `queue_s` waiting for a permit, `layout_s` tokenising, `media_s`
    fetching and decoding, `ttft_s` until the engine's first token, `total_s` until the end;
    `engine_*_s` are the engine's own account of its queue, the vision tower and the prefill.
    """

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._started = self._last = time.monotonic()
        self._facts: dict[str, object] = {}
        self._is_written = False

    def lap(self, name: str) -> None:
        """Record the time since the last lap as `name`."""
        now = time.monotonic()
        self._facts[name] = now - self._last
        self._last = now

    def model(self, model_id: str) -> None:
        self._facts["model"] = shorten(model_id)

    def prompt(self, *, text_tokens: int, image_tokens: int) -> None:
        self._facts.update(text_tokens=text_tokens, image_tokens=image_tokens)

    def images(self, images: Sequence[Image]) -> None:
        if images:
            prefixes = (image.digest[:DIGEST_PREFIX_BYTES].hex() for image in images)
            self._facts.update(images=len(images), digests=",".join(prefixes))

    def tokens(self, delta: TokenDelta) -> None:
        """Note the timings that come with an engine's first tokens."""
        if "ttft_s" in self._facts:
            return
        self._facts["ttft_s"] = time.monotonic() - self._started
        for name in ("queue_s", "encode_s", "prefill_s"):
            if (value := getattr(delta, name)) is not None:
                self._facts[f"engine_{name}"] = value

    def finish(self, finish_reason: FinishReason, usage: Usage) -> None:
        self._facts.update(
            completion_tokens=usage.completion_tokens, cached_tokens=usage.cached_tokens
        )
        self._write(finish_reason)

    def fail(self, error: BaseException) -> None:
        """Write the line of a request that was refused, failed or was cancelled."""
        if isinstance(error, SightlineError):
            self._write(error.code)
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            self.abandon()
        else:
            self._write(type(error).__name__)

    def abandon(self) -> None:
        """Write the line of a request whose client did not wait for the end."""
        self._write("abandoned")

    def _write(self, outcome: str) -> None:
        if self._is_written:
            return
        self._is_written = True
        self._facts["total_s"] = time.monotonic() - self._started
        facts = " ".join(f"{name}={_brief(value)}" for name, value in self._facts.items())
        logger.info("chat id=%s outcome=%s %s", shorten(self._request_id), outcome, facts)


def _brief(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)

"""What one chat request cost and how long each part took, never what it said.

The facts go into a mapping of the caller's, who writes the one line that a request gets.
"""

import asyncio
import time
from collections.abc import MutableMapping, Sequence

from sightline.core.chat import FinishReason, Usage
from sightline.core.engine import TokenDelta
from sightline.core.errors import shorten
from sightline.core.prompt import Image
from sightline.service.caller import ANYONE, Caller

DIGEST_PREFIX_BYTES = 4

Facts = MutableMapping[str, str | int | float | None]


class RequestLog:
    """Notes the facts of one request as they become known, and charges its caller.

    `_s` values are seconds: `queue_s` waiting for a permit, `layout_s` tokenising, `media_s`
    fetching and decoding, `ttft_s` until the engine's first token; `engine_*_s` are the engine's
    own account of its queue, the vision tower and the prefill.
    """

    def __init__(self, facts: Facts, caller: Caller = ANYONE) -> None:
        self._facts = facts
        self._caller = caller
        self._started = self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """Note the time since the last lap as `name`."""
        now = time.monotonic()
        self._note_time(name, now - self._last)
        self._last = now

    def model(self, model_id: str) -> None:
        self._facts["model"] = shorten(model_id)

    def prompt(self, *, text_tokens: int, image_tokens: int) -> None:
        self._facts.update(text_tokens=text_tokens, image_tokens=image_tokens)
        self._caller.charge(tokens=text_tokens + image_tokens)

    def images(self, images: Sequence[Image]) -> None:
        if images:
            self._caller.charge(images=len(images))
            prefixes = (image.digest[:DIGEST_PREFIX_BYTES].hex() for image in images)
            self._facts.update(images=len(images), digests=",".join(prefixes))

    def tokens(self, delta: TokenDelta) -> None:
        """Note the timings that come with an engine's first tokens."""
        self._caller.charge(tokens=len(delta.token_ids))
        if "ttft_s" in self._facts:
            return
        self._note_time("ttft_s", time.monotonic() - self._started)
        for name in ("queue_s", "encode_s", "prefill_s"):
            if (value := getattr(delta, name)) is not None:
                self._note_time(f"engine_{name}", value)

    def finish(self, finish_reason: FinishReason, usage: Usage) -> None:
        self._facts.update(
            finish_reason=finish_reason,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
        )

    def fail(self, error: BaseException) -> None:
        """Note that nobody waited for the end, if that is what `error` means.

        What else went wrong is raised to the caller, who can name it.
        """
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            self.abandon()

    def abandon(self) -> None:
        self._facts["abandoned"] = True

    def _note_time(self, name: str, seconds: float) -> None:
        self._facts[name] = round(seconds, 4)

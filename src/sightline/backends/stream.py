"""One request's tokens on their way from an engine to the reader."""

import asyncio

from sightline.core.engine import TokenDelta
from sightline.core.errors import SightlineError


class TokenStream:
    """Deltas of one request, from an engine to a single reader.

    The engine never waits for a slow reader: deltas that pile up merge into one, so a stream
    holds at most one answer's worth of tokens. An error comes after what arrived before it.
    Every method runs on the event loop.
    """

    def __init__(self) -> None:
        self.is_finished = False
        self._pending: TokenDelta | None = None
        self._error: SightlineError | None = None
        self._arrived = asyncio.Event()

    def push(self, delta: TokenDelta) -> None:
        """Add what one step produced; nothing is added to a finished stream."""
        if self.is_finished:
            return
        self.is_finished = delta.finish_reason is not None
        self._pending = delta if self._pending is None else _merge(self._pending, delta)
        self._arrived.set()

    def fail(self, error: SightlineError) -> None:
        """End with `error`, unless the stream has finished already."""
        if self.is_finished:
            return
        self.is_finished = True
        self._error = error
        self._arrived.set()

    async def next(self) -> TokenDelta:
        """Return everything that arrived since the last call, waiting for it if need be.

        Not to be called again after a delta with a finish reason, or after an error.
        """
        await self._arrived.wait()
        if self._pending is not None:
            delta, self._pending = self._pending, None
            if self._error is None:
                self._arrived.clear()
            return delta
        assert self._error is not None
        raise self._error


def _merge(first: TokenDelta, second: TokenDelta) -> TokenDelta:
    return TokenDelta(
        token_ids=first.token_ids + second.token_ids,
        logprobs=first.logprobs + second.logprobs,
        finish_reason=second.finish_reason,
        num_cached_tokens=first.num_cached_tokens,
        queue_s=first.queue_s,
        encode_s=first.encode_s,
        prefill_s=first.prefill_s,
    )

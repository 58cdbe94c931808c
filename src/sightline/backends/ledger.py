"""The front's book of requests that an engine is working on, or will be."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

from sightline.backends.stream import TokenStream
from sightline.core.errors import InternalError, RequestError, SightlineError
from sightline.core.prompt import Prompt
from sightline.core.sampling import SamplingParams
from sightline.core.wire import Generate, RequestFailed, StepOutput, WireSpan


@dataclass(slots=True, eq=False)
class LiveRequest:
    """A request from `Ledger.open` to `Ledger.close`.

    `message` and `pixels` are kept until the first tokens arrive: until then the request can be
    given to another engine without anybody noticing.
    """

    message: Generate | None
    pixels: tuple[bytes, ...]
    fingerprint: bytes
    stream: TokenStream = field(default_factory=TokenStream)
    is_open: bool = True
    is_sent: bool = False
    _expiry: asyncio.TimerHandle | None = None

    @property
    def has_output(self) -> bool:
        return self.message is None

    @property
    def awaits_tokens(self) -> bool:
        """Somebody is still waiting for the first of them."""
        return self.is_open and not self.has_output and not self.stream.is_finished

    def forget_prompt(self) -> None:
        self.message, self.pixels = None, ()

    def expire_in(self, delay_s: float, error: SightlineError) -> None:
        """Fail with `error` after `delay_s`; an earlier appointment stands."""
        if self._expiry is None:
            loop = asyncio.get_running_loop()
            self._expiry = loop.call_later(delay_s, self.stream.fail, error)

    def do_not_expire(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None


class Ledger:
    """Live requests by the id they have on the wire, oldest first.

    Wire ids are our own: two clients may choose the same request id.
    """

    def __init__(self) -> None:
        self.live: dict[str, LiveRequest] = {}
        self._ids = (f"{number:x}" for number in itertools.count(1))

    def open(self, prompt: Prompt, params: SamplingParams) -> tuple[str, LiveRequest]:
        """Enter a request; the caller must `close` its id in any case."""
        wire_id = next(self._ids)
        spans = tuple(
            WireSpan(
                start=span.start,
                length=span.length,
                width=span.image.width,
                height=span.image.height,
                digest=span.image.digest,
                original_width=span.image.original_width,
                original_height=span.image.original_height,
            )
            for span in prompt.images
        )
        message = Generate(
            request_id=wire_id,
            token_ids=prompt.token_ids,
            spans=spans,
            cache_salt=prompt.cache_salt,
            params=params,
        )
        pixels = tuple(span.image.pixels for span in prompt.images)
        request = LiveRequest(message, pixels, fingerprint(message))
        self.live[wire_id] = request
        return wire_id, request

    def close(self, wire_id: str) -> None:
        request = self.live.pop(wire_id)
        request.is_open = False
        request.do_not_expire()

    def dispatch(self, output: StepOutput) -> None:
        """Give everyone what a step produced for them; whoever has left is skipped."""
        for wire_id, delta in output.deltas.items():
            if request := self.live.get(wire_id):
                request.forget_prompt()
                request.stream.push(delta)
        for failure in output.failed:
            if request := self.live.get(failure.request_id):
                request.stream.fail(_error(failure))

    def fail_all(self, error: Callable[[], SightlineError]) -> None:
        for request in self.live.values():
            request.stream.fail(error())


def fingerprint(message: Generate) -> bytes:
    """Return what identifies a prompt: its tokens and its images, whoever sends it."""
    digest = blake2b(digest_size=16)
    digest.update(msgspec.msgpack.encode((message.token_ids, message.spans)))
    return digest.digest()


def _error(failure: RequestFailed) -> SightlineError:
    if failure.code == "context_length_exceeded":
        return RequestError(
            "The prompt does not fit this model's context.", code=failure.code, param="messages"
        )
    return InternalError()

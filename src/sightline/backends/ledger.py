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
    fingerprint: str
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

    Wire ids are our own, since two clients may choose the same request id: a number and the
    prompt's fingerprint, so that an engine's journal says which prompts were on the device even
    when their clients have left.
    """

    def __init__(self) -> None:
        self.live: dict[str, LiveRequest] = {}
        self._numbers = itertools.count(1)

    def open(self, prompt: Prompt, params: SamplingParams) -> tuple[str, LiveRequest]:
        """Enter a request; the caller must `close` its id in any case."""
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
        fingerprint = fingerprint_of(prompt.token_ids, spans)
        wire_id = f"{next(self._numbers):x}.{fingerprint}"
        message = Generate(
            request_id=wire_id,
            token_ids=prompt.token_ids,
            spans=spans,
            cache_salt=prompt.cache_salt,
            params=params,
        )
        pixels = tuple(span.image.pixels for span in prompt.images)
        request = LiveRequest(message, pixels, fingerprint)
        self.live[wire_id] = request
        return wire_id, request

    def sent(self) -> set[str]:
        """Return the ids of what an engine has got and not finished."""
        live = self.live.items()
        return {i for i, request in live if request.is_sent and not request.stream.is_finished}

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


def fingerprint_of(token_ids: tuple[int, ...], spans: tuple[WireSpan, ...]) -> str:
    """Return what identifies a prompt, its tokens and its images, whoever sends it."""
    return blake2b(msgspec.msgpack.encode((token_ids, spans)), digest_size=16).hexdigest()


def fingerprint_in(wire_id: str) -> str:
    """Return the fingerprint of the prompt that was sent under `wire_id`."""
    return wire_id.partition(".")[2]


def _error(failure: RequestFailed) -> SightlineError:
    if failure.code == "context_length_exceeded":
        return RequestError(
            "The prompt does not fit this model's context.", code=failure.code, param="messages"
        )
    if failure.code == "schema_too_complex":
        return RequestError(
            "The schemas of this request are too complex together.", code=failure.code
        )
    if failure.code == "invalid_schema":
        return RequestError(
            "A schema of this request leads to where no value satisfies it.", code=failure.code
        )
    if failure.code == "out_of_memory":
        return InternalError(code=failure.code)
    return InternalError()

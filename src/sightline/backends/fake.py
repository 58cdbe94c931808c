"""An engine without a model: it says what it is told to say, or repeats what it was asked.

For tests, documentation and trying the API where no model is wanted. Its vocabulary is one token
per byte, then GLM-4's special tokens, so scripted text crosses the seam as real token ids and a
Chinese character is cut into three of them.

    engine = FakeEngine()
    engine.enqueue(Reply(["It is ", "a cat."]))         # the next request: two deltas, then stop
    engine.enqueue(Reply(["Half an ans"], error=InternalError()))
    gate = asyncio.Event()
    engine.enqueue(Reply(["Wait", gate, "ed."]))        # a gate is awaited: no sleeping in tests
    # Once the queue of replies is empty, every request is answered with an echo of its last
    # user message, token by token.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sightline.backends import refusals
from sightline.core.engine import (
    EngineInfo,
    EngineStats,
    FinishReason,
    TokenDelta,
    TokenLogprobs,
)
from sightline.core.errors import SightlineError
from sightline.core.image_policy import ImagePolicy, SquareImagePolicy
from sightline.core.prompt import Prompt
from sightline.core.sampling import SamplingParams

TOKENIZER_FILE = Path(__file__).parent / "fake_tokenizer" / "tokenizer.model"
END_OF_TEXT = 256
USER = 263
ASSISTANT = 264
OBSERVATION = 265
NUM_TOKENS = 270

_IMAGE_POLICY = SquareImagePolicy(size=112, num_tokens=18)

Piece = str | bytes | Sequence[int] | asyncio.Event
Outcome = Literal["waiting", "running", "finished", "aborted", "failed"]


def fake_info(
    *,
    model_id: str = "sightline-fake",
    aliases: tuple[str, ...] = (),
    max_model_len: int = 4096,
    image_policy: ImagePolicy | None = _IMAGE_POLICY,
) -> EngineInfo:
    """Describe a small GLM-4V-like model with a tokenizer of bytes. Greedy by default."""
    return EngineInfo(
        model_id=model_id,
        prompt_format="glm4",
        tokenizer_file=str(TOKENIZER_FILE),
        max_model_len=max_model_len,
        vocab_size=NUM_TOKENS + 2,
        eos_token_ids=(END_OF_TEXT, USER, OBSERVATION),
        image_policy=image_policy,
        aliases=aliases,
        default_temperature=0.0,
    )


@dataclass(frozen=True, slots=True)
class Reply:
    """The script of one answer.

    Each piece is one delta: text (as UTF-8), bytes (one token each), or token ids as they are; a
    plain string is a delta per character. A piece that is an `asyncio.Event` is awaited instead.
    `delay_s` passes before every delta. At the end comes `error`, if there is one, else the
    finish: `stop` adds the stop token, `length` adds nothing. The request's `max_tokens` and its
    stop token ids cut the script short, as they would a model.
    """

    pieces: Sequence[Piece] = ()
    finish_reason: FinishReason = field(default="stop", kw_only=True)
    error: SightlineError | None = field(default=None, kw_only=True)
    delay_s: float = field(default=0.0, kw_only=True)


@dataclass(slots=True, kw_only=True)
class FakeRequest:
    """What a `FakeEngine` was asked, and what became of it."""

    request_id: str
    prompt: Prompt
    params: SamplingParams
    outcome: Outcome = "waiting"
    num_tokens: int = 0


class FakeEngine:
    """Implements `core.engine.Engine`; see the module for how to script it.

    `requests` keeps the requests in order of arrival: all of them, pictures included, or the last
    `max_remembered`. At most `max_num_seqs` run at once; the others wait. With `loading=True` it
    behaves like an engine whose model is still loading until `finish_loading` is called. Every
    method runs on the event loop.
    """

    def __init__(
        self,
        replies: Sequence[Reply] = (),
        *,
        info: EngineInfo | None = None,
        max_num_seqs: int = 256,
        step_s: float = 0.0,
        loading: bool = False,
        max_remembered: int | None = None,
    ) -> None:
        self.requests: deque[FakeRequest] = deque(maxlen=max_remembered)
        self._info = info or fake_info()
        self._replies = deque(replies)
        self._slots = asyncio.Semaphore(max_num_seqs)
        self._step_s = step_s
        self._state: Literal["loading", "ready", "closed"] = "loading" if loading else "ready"
        self._crash: asyncio.Event = asyncio.Event()
        self._num_steps = 0
        self._num_restarts = 0

    @property
    def info(self) -> EngineInfo:
        if self._state == "loading":
            raise refusals.loading()
        return self._info

    @property
    def is_ready(self) -> bool:
        return self._state == "ready"

    def enqueue(self, *replies: Reply) -> None:
        """Script the next requests, one reply each."""
        self._replies.extend(replies)

    def finish_loading(self) -> None:
        self._state = "ready"

    def crash(self) -> None:
        """End every live request with `engine_restarting`, as when an engine process dies."""
        self._crash.set()
        self._crash = asyncio.Event()
        self._num_restarts += 1

    async def generate(
        self, prompt: Prompt, params: SamplingParams, request_id: str
    ) -> AsyncGenerator[TokenDelta, None]:
        if self._state == "loading":
            raise refusals.loading()
        if self._state == "closed":
            raise refusals.draining()
        crash = self._crash
        request = FakeRequest(request_id=request_id, prompt=prompt, params=params)
        self.requests.append(request)
        reply = self._replies.popleft() if self._replies else _echo(prompt)
        outcome: Outcome = "aborted"
        try:
            await self._take_slot(crash)
            try:
                request.outcome = "running"
                for step in _plan(reply, params):
                    if isinstance(step, asyncio.Event):
                        await _unless(crash, step.wait())
                        continue
                    if delay_s := reply.delay_s or self._step_s:
                        await _unless(crash, asyncio.sleep(delay_s))
                    else:
                        await asyncio.sleep(0)
                        if crash.is_set():
                            raise refusals.restarting()
                    self._num_steps += 1
                    if isinstance(step, SightlineError):
                        raise step
                    request.num_tokens += len(step.token_ids)
                    if step.finish_reason is not None:
                        outcome = "finished"
                    yield step
            finally:
                self._slots.release()
        except SightlineError:
            outcome = "failed"
            raise
        finally:
            request.outcome = outcome

    async def _take_slot(self, crash: asyncio.Event) -> None:
        if not self._slots.locked():
            await self._slots.acquire()  # at once
            return
        acquiring = asyncio.ensure_future(self._slots.acquire())
        try:
            await _unless(crash, acquiring)
        except BaseException:
            # The slot may have come in the very turn in which the caller left.
            if acquiring.done() and not acquiring.cancelled():
                self._slots.release()
            raise

    async def stats(self) -> EngineStats:
        outcomes = [request.outcome for request in self.requests]
        return EngineStats(
            num_running=outcomes.count("running"),
            num_waiting=outcomes.count("waiting"),
            num_steps=self._num_steps,
            num_restarts=self._num_restarts,
        )

    async def close(self) -> None:
        self._state = "closed"
        self.crash()


async def _unless(crash: asyncio.Event, awaitable: Awaitable[object]) -> None:
    """Await `awaitable`; raise `engine_restarting` if `crash` is set before it is done."""
    done = asyncio.ensure_future(awaitable)
    crashed = asyncio.ensure_future(crash.wait())
    try:
        if crash.is_set():
            raise refusals.restarting()
        await asyncio.wait((done, crashed), return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise refusals.restarting()
        done.result()
    finally:
        done.cancel()
        crashed.cancel()


def _plan(
    reply: Reply, params: SamplingParams
) -> Iterator[TokenDelta | asyncio.Event | SightlineError]:
    """Yield what happens, step by step, up to and including the delta or error that ends it."""
    left = params.max_tokens
    time_s: float | None = 0.0
    for piece in reply.pieces:
        if isinstance(piece, asyncio.Event):
            yield piece
            continue
        token_ids = _token_ids(piece)[:left]
        stop = next((i for i, t in enumerate(token_ids) if t in params.stop_token_ids), None)
        finish_reason: FinishReason | None = None
        if stop is not None:
            token_ids, finish_reason = token_ids[: stop + 1], "stop"
        elif len(token_ids) == left:
            finish_reason = "length"
        left -= len(token_ids)
        yield _delta(token_ids, finish_reason, time_s, params.logprobs)
        if finish_reason is not None:
            return
        time_s = None
    if reply.error is not None:
        yield reply.error
    else:
        token_ids = (END_OF_TEXT,) if reply.finish_reason == "stop" else ()
        yield _delta(token_ids, reply.finish_reason, time_s, params.logprobs)


def _delta(
    token_ids: tuple[int, ...],
    finish_reason: FinishReason | None,
    time_s: float | None,
    num_top: int | None,
) -> TokenDelta:
    """Return a delta; likelihoods are those of a model that is always sure of the next byte."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    if num_top is not None:
        logprobs = tuple(
            TokenLogprobs(
                logprob=-0.5,
                top=tuple(((token_id + i) % NUM_TOKENS, -0.5 - i) for i in range(num_top)),
            )
            for token_id in token_ids
        )
    return TokenDelta(
        token_ids=token_ids,
        logprobs=logprobs,
        finish_reason=finish_reason,
        queue_s=time_s,
        encode_s=time_s,
        prefill_s=time_s,
    )


def _token_ids(piece: str | bytes | Sequence[int]) -> tuple[int, ...]:
    return tuple(piece.encode() if isinstance(piece, str) else piece)


def _echo(prompt: Prompt) -> Reply:
    """Repeat the last user message, naming its images by the beginning of their digests.

    Like GLM-4, it begins with a newline, and it says one token at a time.
    """
    slots = list(prompt.token_ids)
    for span in prompt.images:
        slots[span.start : span.start + span.length] = [END_OF_TEXT] * span.length
    while slots and slots[-1] == ASSISTANT:
        slots.pop()
    begin = max((i for i, t in enumerate(slots) if t == USER), default=-1) + 1
    message = bytes(t for t in slots[begin:] if t < END_OF_TEXT).removeprefix(b"\n")
    names = "".join(
        f"[image {span.image.digest[:4].hex()}] " for span in prompt.images if span.start >= begin
    )
    return Reply([(token,) for token in b"\n" + names.encode() + message])

"""The engine's one loop: take commands, plan a turn, compute it, say what came of it.

The thread that calls `run` owns the device; `submit`, `abort` and `stop` may be called from any
thread and never wait. A turn gives every running sequence its step, so a long answer blocks
nobody, and what was aborted is gone when the turn ends. A sequence whose computation raises fails
alone.
"""

import logging
import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from sightline.core.engine import EngineInfo, EngineStats, TokenDelta, TokenLogprobs
from sightline.core.prompt import Image, ImageSpan
from sightline.core.wire import Abort, Generate, RequestFailed, StepOutput
from sightline.engine.contract import Runner
from sightline.engine.pulse import Pulse
from sightline.engine.sampler import SamplingRow, sample_rows
from sightline.engine.scheduler import PrefillChunk, Scheduler, Turn
from sightline.engine.sequence import Sequence as EngineSequence
from sightline.engine.uniform import fresh_seed

logger = logging.getLogger(__name__)

IDLE_S = 0.5

Deliver = Callable[[StepOutput], None]
Note = Callable[[Sequence[str]], None]


@dataclass(frozen=True, slots=True)
class _Submission:
    message: Generate
    pixels: tuple[bytes | memoryview, ...]
    arrived_at: float


class EngineLoop:
    """See the module. `num_tokens` is how many ids the tokenizer knows; others are never said."""

    def __init__(
        self,
        *,
        info: EngineInfo,
        runner: Runner,
        scheduler: Scheduler,
        num_tokens: int,
        pulse: Pulse,
    ) -> None:
        self.info = info
        self.pulse = pulse
        self.stats = EngineStats(kv_slots_total=scheduler.num_slots)
        self._runner = runner
        self._scheduler = scheduler
        self._num_tokens = num_tokens
        self._inbox: queue.SimpleQueue[_Submission | Abort | None] = queue.SimpleQueue()
        self._num_steps = 0
        self._failed: list[RequestFailed] = []

    def submit(self, message: Generate, pixels: Sequence[bytes | memoryview] = ()) -> None:
        """Take a request; its first output comes through `deliver`, be it a failure."""
        self._inbox.put(_Submission(message, tuple(pixels), time.monotonic()))

    def abort(self, request_id: str) -> None:
        """Drop a request at the end of this turn at the latest; unknown ids are ignored."""
        self._inbox.put(Abort(request_id=request_id))

    def stop(self) -> None:
        """Let `run` return at the end of this turn."""
        self._inbox.put(None)

    def run(self, deliver: Deliver, note: Note = lambda running: None) -> None:
        """Work until `stop`. Raises `DeviceLost` when no work is possible any more.

        Before a turn whose running requests are not those of the turn before, `note` gets their
        ids: should the process die, they are who was on the device.
        """
        noted: tuple[str, ...] = ()
        turn = Turn((), (), ())
        deliver(self._output({}))
        while True:
            stopped, changed = self._receive(wait=not turn)
            if stopped:
                return
            self.pulse.beat()
            turn = self._scheduler.plan()
            if self._scheduler.running != noted:
                noted = self._scheduler.running
                note(noted)
            if turn:
                self._compute(turn, deliver)
            elif changed:
                self._audit()
                deliver(self._output({}))

    def _receive(self, *, wait: bool) -> tuple[bool, bool]:
        """Take in all commands; return whether to stop and whether there were any.

        With nothing to compute, wait for a command, but not for ever: an idle engine has a pulse.
        """
        changed = False
        while True:
            try:
                command = self._inbox.get(timeout=IDLE_S) if wait else self._inbox.get_nowait()
            except queue.Empty:
                return False, changed
            if command is None:
                return True, changed
            wait, changed = False, True
            if isinstance(command, Abort):
                self._drop(command.request_id)
            else:
                self._accept(command)

    def _accept(self, submission: _Submission) -> None:
        message = submission.message
        if code := self._refusal(submission):
            self._failed.append(RequestFailed(request_id=message.request_id, code=code))
            return
        seed = message.params.seed
        self._scheduler.add(
            EngineSequence(
                request_id=message.request_id,
                prompt=message.token_ids,
                images=_images(submission),
                params=message.params,
                seed=fresh_seed() if seed is None else seed,
                max_model_len=self.info.max_model_len,
                arrived_at=submission.arrived_at,
                cache_salt=message.cache_salt,
            )
        )

    def _refusal(self, submission: _Submission) -> str | None:
        """Return the code for a request that must not reach the device, or None.

        The front has checked all this; the engine does not depend on it.
        """
        message, policy = submission.message, self.info.image_policy
        if not 0 < len(message.token_ids) < self.info.max_model_len:
            return "context_length_exceeded"
        if not all(0 <= token_id < self.info.vocab_size for token_id in message.token_ids):
            return "internal_error"
        if message.params.max_tokens < 1 or len(submission.pixels) != len(message.spans):
            return "internal_error"
        end = 0
        for span, pixels in zip(message.spans, submission.pixels, strict=True):
            if policy is None or span.length != policy.num_tokens or span.start < end:
                return "internal_error"
            end = span.start + span.length
            sizes = (span.width, span.height, len(pixels))
            if sizes != (policy.size, policy.size, 3 * policy.size**2):
                return "internal_error"
        return None if end <= len(message.token_ids) else "internal_error"

    def _drop(self, request_id: str) -> None:
        if sequence := self._scheduler.remove(request_id):
            self._runner.release(sequence)

    def _compute(self, turn: Turn, deliver: Deliver) -> None:
        now = time.monotonic()
        for sequence in turn.admitted:
            sequence.admitted_at = now
        deltas: dict[str, TokenDelta] = {}
        for sequence in turn.decodes:
            self._attempt(sequence, partial(self._runner.decode, sequence), deltas)
        for chunk in turn.prefills:
            self._attempt(chunk.sequence, partial(self._prefill, chunk), deltas)
        self._num_steps += 1
        deliver(self._output(deltas))

    def _attempt(
        self,
        sequence: EngineSequence,
        compute: Callable[[], Tensor | None],
        deltas: dict[str, TokenDelta],
    ) -> None:
        """Compute for one sequence and sample; whatever goes wrong ends this sequence only."""
        try:
            logits = compute()
            if logits is not None:
                deltas[sequence.request_id] = self._extend(sequence, logits)
        except Exception:
            logger.exception("request %s failed in a step", sequence.request_id)
            self._drop(sequence.request_id)
            self._failed.append(
                RequestFailed(request_id=sequence.request_id, code="internal_error")
            )
            self._runner.check_device()
        self.pulse.beat()

    def _prefill(self, chunk: PrefillChunk) -> Tensor | None:
        sequence = chunk.sequence
        if chunk.start == 0:
            self._runner.start(sequence)
        began = time.monotonic()
        self._runner.encode(sequence, chunk.start, chunk.end)
        encoded = time.monotonic()
        logits = self._runner.prefill(sequence, chunk.start, chunk.end)
        sequence.num_computed = chunk.end
        if sequence.is_prefilled:
            sequence.images = ()  # megabytes of pixels that nobody needs any more
        sequence.encode_s += encoded - began
        sequence.prefill_s += time.monotonic() - encoded
        return logits

    def _extend(self, sequence: EngineSequence, logits: Tensor) -> TokenDelta:
        position = len(sequence.answer)
        row = SamplingRow(
            params=sequence.params,
            seed=sequence.seed,
            prompt=sequence.prompt,
            answer=sequence.answer,
        )
        sampled = sample_rows(logits[None], [row], num_tokens=self._num_tokens)[0]
        if isinstance(sampled, Exception):
            raise sampled
        token_id = sampled.token_id
        sequence.answer.append(token_id)
        finish_reason = sequence.finish_reason()
        if finish_reason is not None:
            self._drop(sequence.request_id)
        logprobs: tuple[TokenLogprobs, ...] = ()
        if sampled.logprob is not None:
            logprobs = (TokenLogprobs(logprob=sampled.logprob, top=sampled.top_logprobs),)
        delta = TokenDelta(token_ids=(token_id,), logprobs=logprobs, finish_reason=finish_reason)
        if position > 0:
            return delta
        assert sequence.admitted_at is not None
        return replace(
            delta,
            queue_s=sequence.admitted_at - sequence.arrived_at,
            encode_s=sequence.encode_s,
            prefill_s=sequence.prefill_s,
        )

    def _output(self, deltas: dict[str, TokenDelta]) -> StepOutput:
        self.stats = EngineStats(
            num_running=self._scheduler.num_running,
            num_waiting=self._scheduler.num_waiting,
            num_steps=self._num_steps,
            kv_slots_used=self._scheduler.num_slots_used,
            kv_slots_total=self._scheduler.num_slots,
        )
        failed, self._failed = tuple(self._failed), []
        return StepOutput(deltas=deltas, failed=failed, stats=self.stats)

    def _audit(self) -> None:
        try:
            self._scheduler.check_integrity()
        except AssertionError:
            logger.exception("the books of reserved slots do not add up")


def _images(submission: _Submission) -> tuple[ImageSpan, ...]:
    return tuple(
        ImageSpan(
            image=Image(
                pixels=bytes(pixels),
                width=span.width,
                height=span.height,
                digest=span.digest,
                original_width=span.original_width,
                original_height=span.original_height,
            ),
            start=span.start,
            length=span.length,
        )
        for span, pixels in zip(submission.message.spans, submission.pixels, strict=True)
    )

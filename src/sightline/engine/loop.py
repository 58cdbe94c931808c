"""The engine's loop: take commands, plan a step, compute it, say what came of it.

The thread that calls `run` owns the device; `submit`, `abort` and `stop` may be called from any
thread and never wait. What was aborted is gone when the step ends. A step that raises is computed
again by halves, so that only the guilty sequence fails.

There are two loops with one result. The plain one does one thing after another. The overlapped
one delivers the last step, takes commands and plans the next step on a second thread while a step
is being computed. Where the runner can, the next step is queued before that one has ended, so that
the device finds it there; what it computes for a sequence that ended meanwhile is not looked at.
Else the sequences that ended are struck from the next plan. Tests compare the two.
"""

import logging
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import torch

from sightline.core.engine import EngineInfo, FinishReason, TokenDelta, TokenLogprobs
from sightline.core.wire import Abort, Generate, RequestFailed, StepOutput
from sightline.engine.contract import Runner, StepResult
from sightline.engine.grammar import (
    Grammar,
    GrammarDeadEnd,
    GrammarError,
    Grammars,
    GrammarTooComplex,
)
from sightline.engine.intake import refusal, sequence_of
from sightline.engine.meter import Meter
from sightline.engine.plan import Chunk, Plan
from sightline.engine.pulse import Pulse
from sightline.engine.sampler import Sampled
from sightline.engine.scheduler import Scheduler
from sightline.engine.sequence import Sequence as EngineSequence
from sightline.engine.steps import Begun, Note, Steps

logger = logging.getLogger(__name__)

IDLE_S = 0.5
# The books are looked at when idle, and now and then when there is no end of work.
AUDIT_STEPS = 1024

Deliver = Callable[[StepOutput], None]


@dataclass(frozen=True, slots=True)
class _Submission:
    message: Generate
    pixels: tuple[bytes | memoryview, ...]
    arrived_at: float
    grammar: Grammar | Exception | None = None


class _Ahead:
    """Work on the second thread that waits for its start.

    Two threads of Python take turns: what is prepared must not hold up what is launched.
    """

    def __init__(
        self, planner: ThreadPoolExecutor, work: "Callable[[], tuple[bool, Plan]]"
    ) -> None:
        self._planner = planner
        self._work = work
        self._future: Future[tuple[bool, Plan]] | None = None

    def start(self) -> None:
        if self._future is None:
            self._future = self._planner.submit(self._work)

    def result(self) -> tuple[bool, Plan]:
        """Start the work, if nobody has, and wait for it."""
        self.start()
        assert self._future is not None
        return self._future.result()


class EngineLoop:
    """See the module. `log_steps` writes a line for every step.

    After a step with the first token of a request the plain loop rests for `first_token_pause_s`.
    """

    def __init__(
        self,
        *,
        info: EngineInfo,
        runner: Runner,
        scheduler: Scheduler,
        pulse: Pulse,
        overlap: bool = False,
        log_steps: bool = False,
        grammars: Grammars | None = None,
        first_token_pause_s: float = 0.0,
    ) -> None:
        self.info = info
        self.pulse = pulse
        self.meter = Meter()
        self.stats = self.meter.stats(scheduler)
        self._runner = runner
        self._scheduler = scheduler
        self._overlap = overlap
        self._steps = Steps(runner, scheduler, self.meter, pulse, log_steps=log_steps)
        self._grammars = grammars
        self._first_token_pause_s = first_token_pause_s
        self._has_first_token = False
        self._compiling: set[str] = set()
        self._inbox: queue.SimpleQueue[_Submission | Abort | None] = queue.SimpleQueue()
        self._failed: list[RequestFailed] = []
        self._ended: list[EngineSequence] = []

    def submit(self, message: Generate, pixels: Sequence[bytes | memoryview] = ()) -> None:
        """Take a request; its first output comes through `deliver`, be it a failure."""
        self._inbox.put(_Submission(message, tuple(pixels), time.monotonic()))

    def abort(self, request_id: str) -> None:
        """Drop a request at the end of this step at the latest; unknown ids are ignored."""
        self._inbox.put(Abort(request_id=request_id))

    def stop(self) -> None:
        """Let `run` return at the end of this step."""
        self._inbox.put(None)

    def run(self, deliver: Deliver, note: Note = lambda running: None) -> None:
        """Work until `stop`. Raises `DeviceLost` when no work is possible any more.

        Before a step whose running requests are not those of the step before, `note` gets their
        ids: should the process die, they are who was on the device.
        """
        deliver(self._output({}))
        if self._overlap:
            with ThreadPoolExecutor(1, thread_name_prefix="planner") as planner:
                self._run_overlapped(deliver, note, planner)
        else:
            self._run_plain(deliver, note)

    def _run_plain(self, deliver: Deliver, note: Note) -> None:
        plan = Plan()
        while True:
            stopped, changed = self._receive(wait=not plan)
            if stopped:
                return
            plan = self._scheduler.plan()
            self._release_ended()
            if plan:
                deliver(self._output(self._settle(plan, self._steps.compute(plan, note))))
                self._let_first_token_out()
            else:
                self._rest(deliver, note, changed=changed)

    def _let_first_token_out(self) -> None:
        """Leave the cores alone while a first token is on its way to the client.

        Where the next step takes all of them, the front would get one only after some milliseconds.
        """
        if self._has_first_token and self._first_token_pause_s:
            time.sleep(self._first_token_pause_s)
        self._has_first_token = False

    def _run_overlapped(self, deliver: Deliver, note: Note, planner: ThreadPoolExecutor) -> None:
        plan, output, rested = Plan(), None, True
        begun: Begun | None = None
        while True:
            if not plan:
                stopped, changed = self._receive(wait=rested)
                if stopped:
                    return
                plan = self._scheduler.plan().behind(plan)
            self._release_ended()
            rested = not plan
            if rested:
                self._rest(deliver, note, changed=changed)
                continue
            ahead = _Ahead(planner, partial(self._prepare, deliver, output))
            self._runner.when_queued = ahead.start
            if begun is None:
                begun = self._steps.begin(plan, note)
            stopped, following = ahead.result()
            behind = None if stopped else self._steps.begin_behind(following, begun)
            output = self._output(self._settle(plan, self._steps.end(begun)))
            if behind is not None and begun.is_as_queued:
                plan, begun = following, behind
                self._steps.draw(begun)
                self._steps.tell(plan, note)
            else:
                plan, begun = following.without_ended(), None
            if stopped or not plan:
                deliver(output)
                output = None
            if stopped:
                return

    def _prepare(self, deliver: Deliver, output: StepOutput | None) -> tuple[bool, Plan]:
        """On the second thread: deliver the step before, take commands, plan the step after."""
        if output is not None:
            deliver(output)
        stopped, _ = self._receive(wait=False)
        return stopped, self._scheduler.plan()

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
                self._compiling.discard(command.request_id)
                if self._end(command.request_id):
                    self.meter.num_aborted += 1
            else:
                self._accept(command)

    def _accept(self, submission: _Submission) -> None:
        message, grammar = submission.message, submission.grammar
        code = refusal(message, submission.pixels, self.info)
        if code is None and message.params.grammar is not None and grammar is None:
            self._compile(submission, message.params.grammar)
            return
        if grammar is not None and message.request_id not in self._compiling:
            return  # aborted meanwhile
        self._compiling.discard(message.request_id)
        if isinstance(grammar, GrammarError):
            # The front has compiled each of its schemas: what is too much is all of them together.
            logger.warning("the grammar of %s cannot be compiled", message.request_id)
            self._fail(message.request_id, "schema_too_complex")
            return
        if isinstance(grammar, Exception):
            logger.error("no grammar could be made for %s", message.request_id, exc_info=grammar)
            self._fail(message.request_id, _code_of(grammar))
            return
        if code is None:
            sequence = sequence_of(
                message,
                submission.pixels,
                self.info.max_model_len,
                submission.arrived_at,
                grammar,
            )
            if self._scheduler.fits(sequence):
                self._scheduler.add(sequence)
                return
            code = "context_length_exceeded"
        self._fail(message.request_id, code)

    def _compile(self, submission: _Submission, grammar: str) -> None:
        """Let others be computed meanwhile; the request comes in again when that is done."""
        request_id = submission.message.request_id
        if self._grammars is None:
            self._fail(request_id, "internal_error")
            return
        self._compiling.add(request_id)
        self._grammars.compile(
            grammar, lambda result: self._inbox.put(replace(submission, grammar=result))
        )

    def _settle(self, plan: Plan, result: StepResult) -> dict[str, TokenDelta]:
        """Take the results into the books; return what every sequence gained."""
        now = time.monotonic()
        deltas: dict[str, TokenDelta] = {}
        for chunk in plan.chunks:
            sequence = chunk.sequence
            if sequence.is_ended:
                continue
            outcome = result.outcomes[sequence]
            if isinstance(outcome, Exception):
                logger.error("request %s failed: %s", sequence.request_id, type(outcome).__name__)
                self._end(sequence.request_id, is_damaged=True)
                self._fail(sequence.request_id, _code_of(outcome))
                continue
            if chunk.images:
                sequence.encode_s += result.encode_s
            if outcome:
                deltas[sequence.request_id] = self._extend(chunk, outcome, now)
            else:
                self._scheduler.settle(chunk)
        if self.meter.num_steps % AUDIT_STEPS == 0:
            self._audit()
        return deltas

    def _extend(self, chunk: Chunk, sampled: list[Sampled], now: float) -> TokenDelta:
        sequence = chunk.sequence
        said, finish_reason = _say(sequence, sampled)
        sequence.num_promised -= 1
        self._scheduler.settle(chunk, num_right=len(said) - 1)
        if finish_reason is not None:
            self._end(sequence.request_id)
            self.meter.count_end(finish_reason)
        self.meter.num_output_tokens += len(said)
        self.meter.num_guessed += len(chunk.guessed)
        self.meter.num_guessed_right += len(said) - 1
        delta = TokenDelta(
            token_ids=tuple(token.token_id for token in said),
            logprobs=tuple(
                TokenLogprobs(logprob=token.logprob, top=token.top_logprobs)
                for token in said
                if token.logprob is not None
            ),
            finish_reason=finish_reason,
        )
        last_token_at, sequence.last_token_at = sequence.last_token_at, now
        if last_token_at is not None:
            for _ in said:
                self.meter.inter_token_s.add((now - last_token_at) / len(said))
            return delta
        assert sequence.admitted_at is not None
        self._has_first_token = True
        self.meter.time_to_first_token_s.add(now - sequence.arrived_at)
        self.meter.num_prompt_tokens += len(sequence.prompt)
        return replace(
            delta,
            num_cached_tokens=sequence.num_cached or 0,
            queue_s=sequence.admitted_at - sequence.arrived_at,
            encode_s=sequence.encode_s,
            prefill_s=max(0.0, now - sequence.admitted_at - sequence.encode_s),
        )

    def _end(self, request_id: str, *, is_damaged: bool = False) -> bool:
        """Take a sequence out of the books; say whether it was in them."""
        sequence = self._scheduler.remove(request_id, is_damaged=is_damaged)
        if sequence is None:
            return False
        sequence.is_ended = True
        self._ended.append(sequence)
        return True

    def _release_ended(self) -> None:
        """On the thread that owns the device, and never while it computes."""
        for sequence in self._ended:
            self._runner.release(sequence)
        self._ended.clear()

    def _fail(self, request_id: str, code: str) -> None:
        self.meter.num_failed += 1
        self._failed.append(RequestFailed(request_id=request_id, code=code))

    def _rest(self, deliver: Deliver, note: Note, *, changed: bool) -> None:
        """There is nothing to compute: look after the books."""
        if self._steps.rest(note) or changed:
            self._audit()
            deliver(self._output({}))

    def _output(self, deltas: dict[str, TokenDelta]) -> StepOutput:
        self.stats = self.meter.stats(self._scheduler)
        failed, self._failed = tuple(self._failed), []
        return StepOutput(deltas=deltas, failed=failed, stats=self.stats)

    def _audit(self) -> None:
        try:
            self._scheduler.check_integrity()
        except AssertionError:
            logger.exception("the books of blocks and leases do not add up")


def _say(
    sequence: EngineSequence, sampled: list[Sampled]
) -> tuple[list[Sampled], FinishReason | None]:
    """Add tokens to an answer up to the one that ends it; return those, and why it ended."""
    for number, token in enumerate(sampled, 1):
        sequence.answer.append(token.token_id)
        if (reason := sequence.finish_reason()) is not None:
            return sampled[:number], reason
    return sampled, None


def _code_of(failure: Exception) -> str:
    match failure:
        case GrammarTooComplex():
            return "schema_too_complex"
        case GrammarDeadEnd():
            return "invalid_schema"
        case torch.OutOfMemoryError() | MemoryError():
            return "out_of_memory"
        case _:
            return "internal_error"
